// @ts-check
// One conversation with the server: readiness, WebSocket, reconnecting. Knows no sound, no page.

import { authorization, forgetKey, hasKey, WrongKeyError, subprotocols } from "./key.js";
import { decodeEvent, encodeAppend, encodeTruncate, endpoints, SERVER } from "./wire.js";

/** @typedef {import("./wire.js").Readiness} Readiness */
/** @typedef {import("./wire.js").WireEvent} WireEvent */

/** @typedef {"idle" | "preparing" | "connecting" | "open" | "waiting" | "failed"} Phase */

/** Why we wait before trying again. @typedef {"lost" | "unreachable" | "full" | "aside"} WaitReason */

/** @type {Record<Phase, Phase[]>} */
const NEXT = {
  idle: ["preparing"],
  preparing: ["connecting", "waiting", "failed", "idle"],
  connecting: ["open", "preparing", "waiting", "failed", "idle"],
  open: ["waiting", "failed", "idle"],
  waiting: ["preparing", "idle"],
  failed: ["preparing", "idle"],
};

const POLL_EVERY_MS = 400;
const CONNECT_TIMEOUT_MS = 10_000;
const READYZ_TIMEOUT_MS = 5_000;

/** Waits between attempts; the last one repeats. */
const BACKOFF_S = [1, 2, 4, 8, 15];
/** By then a load balancer sends us elsewhere, or has nobody else: who stands aside lets us in. */
const ASIDE_ATTEMPTS = 3;

/** Four seconds of audio as base64: a network that far behind gets no more until it caught up. */
const MAX_UNSENT_BYTES = 256 * 1024;

/** Codes with which a server says that coming back will not help. */
const CLOSED_FOR_GOOD = new Set([1002, 1003, 1007, 1008, 1009]);

/** Everything the page is told; each may be replaced. */
export class SessionListener {
  /** @param {Phase} _phase */
  phaseChanged(_phase) {}
  /** @param {Readiness} _readiness */
  serverPreparing(_readiness) {}
  /** @param {WaitReason} _reason @param {number} _seconds */
  retryIn(_reason, _seconds) {}
  /** @param {string} _detail */
  failed(_detail) {}
  /** @param {string} _detail */
  keyNeeded(_detail) {}
  /** @param {WireEvent} _event */
  received(_event) {}
}

export class Session {
  /** @param {SessionListener} listener */
  constructor(listener) {
    this.listener = listener;
    /** @type {Phase} */
    this.phase = "idle";
    /** @type {WebSocket | null} */
    this.socket = null;
    /** @type {number | null} milliseconds from opening the socket to session.created */
    this.connectionMs = null;
    this.framesSent = 0;
    this.framesDropped = 0;
    this.attempt = 0;
    /** Aborts the poll, the socket and the countdown of the current attempt together. */
    this.abort = new AbortController();
  }

  start() {
    this.attempt = 0;
    void this.#prepare();
  }

  stop() {
    this.#leave();
    if (this.phase !== "idle") this.#enter("idle");
  }

  /** Does not wait for the countdown. */
  retryNow() {
    if (this.phase === "waiting" || this.phase === "failed") void this.#prepare();
  }

  /** @param {Int16Array} samples @returns {boolean} false if the frame was dropped */
  sendAudio(samples) {
    if (this.phase !== "open" || this.socket === null) return false;
    if (this.socket.bufferedAmount > MAX_UNSENT_BYTES) {
      this.framesDropped += 1;
      return false;
    }
    this.socket.send(encodeAppend(samples));
    this.framesSent += 1;
    return true;
  }

  /** @param {string} itemId @param {number} playedMs */
  truncate(itemId, playedMs) {
    if (this.phase === "open") this.socket?.send(encodeTruncate(itemId, playedMs));
  }

  /** @param {Phase} phase */
  #enter(phase) {
    if (!NEXT[this.phase].includes(phase)) {
      throw new Error(`expected one of ${NEXT[this.phase]} after ${this.phase}, got ${phase}`);
    }
    this.phase = phase;
    this.listener.phaseChanged(phase);
  }

  #leave() {
    this.abort.abort();
    this.abort = new AbortController();
    const socket = this.socket;
    this.socket = null;
    if (socket === null) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(1000);
  }

  async #prepare() {
    this.#leave();
    const { signal } = this.abort;
    this.#enter("preparing");
    while (!signal.aborted) {
      const readiness = await fetchReadiness(signal);
      if (signal.aborted) return;
      if (this.#settled(readiness)) return;
      await sleep(POLL_EVERY_MS, signal);
    }
  }

  /** @param {Readiness | null} readiness @returns {boolean} false to keep polling */
  #settled(readiness) {
    if (readiness === null) return this.#retry("unreachable"), true;
    this.listener.serverPreparing(readiness);
    if (readiness.state === "failed") return this.#fail(readiness.detail), true;
    if (readiness.needs_key) return this.#keyNeeded(), true;
    const aside = readiness.state === "aside";
    if (aside && this.attempt < ASIDE_ATTEMPTS)
      return this.#retry("aside", readiness.retry_after_s), true;
    if (readiness.full) return this.#retry("full", readiness.retry_after_s), true;
    if (!aside && readiness.state !== "ready") return false;
    void this.#connect();
    return true;
  }

  async #connect() {
    this.#enter("connecting");
    const startedAt = performance.now();
    const { signal } = this.abort;
    /** @type {string[]} */
    let offered = [];
    try {
      offered = await subprotocols(signal);
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof WrongKeyError) return this.#keyNeeded();
      return this.#retry("unreachable");
    }
    if (signal.aborted) return; // stopped meanwhile
    const socket = new WebSocket(endpoints().realtime, offered);
    this.socket = socket;
    const timer = setTimeout(() => socket.close(), CONNECT_TIMEOUT_MS);
    socket.onmessage = ({ data }) => {
      const event = decodeEvent(data);
      if (event === null) return;
      if (event.type === SERVER.SESSION_CREATED && this.phase === "connecting") {
        clearTimeout(timer);
        this.#opened(performance.now() - startedAt);
      }
      this.listener.received(event);
    };
    socket.onclose = (close) => {
      clearTimeout(timer);
      this.#closed(close);
    };
  }

  /** @param {number} connectionMs */
  #opened(connectionMs) {
    this.connectionMs = connectionMs;
    this.attempt = 0;
    this.#enter("open");
  }

  /** @param {CloseEvent} close */
  #closed({ code, reason }) {
    this.socket = null;
    if (this.phase === "open" && CLOSED_FOR_GOOD.has(code)) {
      this.#fail(reason || `the server closed the connection (code ${code})`);
    } else {
      // A browser never shows why a handshake was refused; /readyz will say it next time.
      this.#retry(this.phase === "open" ? "lost" : "unreachable");
    }
  }

  #keyNeeded() {
    const detail = hasKey() ? "The key is not known here. Ask whoever runs the server." : "";
    forgetKey();
    this.#leave();
    this.#enter("failed");
    this.listener.keyNeeded(detail);
  }

  /** @param {string} detail */
  #fail(detail) {
    this.#leave();
    this.#enter("failed");
    this.listener.failed(detail);
  }

  /** @param {WaitReason} reason @param {number | null} [askedFor_s] */
  #retry(reason, askedFor_s = null) {
    this.#leave();
    const seconds = askedFor_s ?? BACKOFF_S[Math.min(this.attempt, BACKOFF_S.length - 1)];
    this.attempt += 1;
    this.#enter("waiting");
    void this.#countDown(reason, Math.max(1, Math.ceil(seconds)));
  }

  /** @param {WaitReason} reason @param {number} seconds */
  async #countDown(reason, seconds) {
    const { signal } = this.abort;
    for (let left = seconds; left > 0 && !signal.aborted; left--) {
      this.listener.retryIn(reason, left);
      await sleep(1000, signal);
    }
    if (!signal.aborted) void this.#prepare();
  }
}

/** @param {AbortSignal} signal @returns {Promise<Readiness | null>} null if nobody answers */
export async function fetchReadiness(signal) {
  try {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(READYZ_TIMEOUT_MS)]);
    const response = await fetch(endpoints().readyz, {
      cache: "no-store",
      signal: limit,
      headers: authorization(),
    });
    const body = await response.json();
    return typeof body?.state === "string" ? body : null;
  } catch {
    return null;
  }
}

/** @param {number} ms @param {AbortSignal} signal @returns {Promise<void>} early when aborted */
function sleep(ms, signal) {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
