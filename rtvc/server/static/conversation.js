// @ts-check
// What was said by whom: server events in, turns out. Touches neither sound nor page.

import { SERVER } from "./wire.js";

/** @typedef {import("./wire.js").TurnTimings} TurnTimings */
/** @typedef {import("./wire.js").WireEvent} WireEvent */

/** A synthesizer at its usual speed, used until a reply's whole length is known. */
const CHARACTERS_PER_S = 14;

export class Turn {
  /** @param {string} itemId @param {number} number from 1, over all sessions of the page */
  constructor(itemId, number) {
    this.itemId = itemId;
    this.number = number;
    this.hypothesis = "";
    this.stableText = "";
    this.speaking = true;
    /** @type {string | null} null until the final transcript is there */
    this.final = null;
    /** @type {string | null} why there will be no transcript or no reply */
    this.problem = null;
    /** @type {string | null} */
    this.replyItemId = null;
    this.replyText = "";
    this.replyAudioMs = 0;
    this.replyComplete = false;
    this.heardMs = 0;
    /** The reply's end was reached in playback. */
    this.heardWhole = false;
    /** @type {number | null} milliseconds heard when the reply was cut; null if it was not */
    this.cutAtMs = null;
    /** By the person, not by a lost connection or the Stop button. */
    this.interrupted = false;
    /** @type {TurnTimings | null} */
    this.timings = null;
  }

  /** Of the reply's text, how much has been spoken aloud; whole words. */
  get spokenCharacters() {
    if (this.heardWhole) return this.replyText.length;
    const known = this.replyComplete && this.replyAudioMs > 0;
    const guess = known
      ? (this.replyText.length * this.heardMs) / this.replyAudioMs
      : (CHARACTERS_PER_S * this.heardMs) / 1000;
    if (guess >= this.replyText.length) return this.replyText.length;
    return Math.max(0, this.replyText.lastIndexOf(" ", Math.floor(guess)));
  }
}

export class Conversation {
  /** @param {(turn: Turn) => void} changed called after every change of a turn */
  constructor(changed) {
    this.changed = changed;
    /** @type {Turn[]} of every session since the page was opened */
    this.turns = [];
    /** @type {Map<string, Turn>} of this session, by the item of either side */
    this.byItem = new Map();
    /** @type {Map<string, Turn>} of this session */
    this.byResponse = new Map();
    this.take = this.#routes();
  }

  /** A new connection: the server knows none of the earlier turns. */
  beginSession() {
    for (const turn of this.byItem.values()) this.#closeOpen(turn);
    this.byItem.clear();
    this.byResponse.clear();
  }

  /** @param {WireEvent} event */
  received(event) {
    this.take.get(event.type)?.(event);
  }

  /** @returns {Map<string, (event: WireEvent) => void>} */
  #routes() {
    return new Map([
      [SERVER.SPEECH_STARTED, (event) => this.#speechStarted(event)],
      [SERVER.SPEECH_STOPPED, (event) => this.#change(event, (turn) => (turn.speaking = false))],
      [SERVER.HYPOTHESIS, (event) => this.#hypothesis(event)],
      [SERVER.TRANSCRIPT_DELTA, (event) => this.#delta(event)],
      [SERVER.TRANSCRIPT_COMPLETED, (event) => this.#completed(event)],
      [SERVER.TRANSCRIPT_FAILED, (event) => this.#failed(event)],
      [SERVER.RESPONSE_ITEM_ADDED, (event) => this.#replyItem(event)],
      [SERVER.REPLY_TEXT, (event) => this.#replyText(event)],
      [SERVER.REPLY_TEXT_DONE, (event) => this.#replyTextDone(event)],
      [SERVER.REPLY_AUDIO_DONE, (event) => this.#change(event, (t) => (t.replyComplete = true))],
      [SERVER.RESPONSE_DONE, (event) => this.#responseDone(event)],
      [SERVER.TURN, (event) => this.#timings(event)],
    ]);
  }

  /** @param {WireEvent} event @param {(turn: Turn) => void} apply */
  #change(event, apply) {
    const turn = this.byItem.get(event.item_id);
    if (turn === undefined) return;
    apply(turn);
    this.changed(turn);
  }

  /** @param {WireEvent} event */
  #speechStarted(event) {
    const before = this.turns.at(-1);
    if (before?.speaking) this.#nothingSaid(before);
    const turn = new Turn(event.item_id, this.turns.length + 1);
    this.turns.push(turn);
    this.byItem.set(turn.itemId, turn);
    this.changed(turn);
  }

  /** Its end was never reported: the server took a noise for speech. @param {Turn} turn */
  #nothingSaid(turn) {
    turn.speaking = false;
    turn.final ??= turn.hypothesis;
    this.changed(turn);
  }

  /** @param {WireEvent} event */
  #hypothesis(event) {
    this.#change(event, (turn) => {
      turn.hypothesis = event.text;
      turn.stableText = event.stable_text;
    });
  }

  /** Servers without `rtvc.hypothesis` send stable words only. @param {WireEvent} event */
  #delta(event) {
    this.#change(event, (turn) => {
      if (turn.hypothesis.length > turn.stableText.length) return;
      turn.stableText = turn.hypothesis = turn.stableText + event.delta;
    });
  }

  /** @param {WireEvent} event */
  #completed(event) {
    this.#change(event, (turn) => {
      turn.final = event.transcript.trim();
      turn.speaking = false;
    });
  }

  /** @param {WireEvent} event */
  #failed(event) {
    this.#change(event, (turn) => {
      turn.problem = event.error?.message ?? "this could not be transcribed";
      turn.speaking = false;
    });
  }

  /** @param {WireEvent} event */
  #replyItem(event) {
    const turn = this.turns.findLast((one) => this.byItem.has(one.itemId) && !one.speaking);
    if (turn === undefined) return;
    turn.replyItemId = event.item.id;
    this.byItem.set(event.item.id, turn);
    this.byResponse.set(event.response_id, turn);
  }

  /** @param {WireEvent} event */
  #replyText(event) {
    this.#change(event, (turn) => {
      if (turn.cutAtMs === null) turn.replyText += event.delta;
    });
  }

  /** @param {WireEvent} event */
  #replyTextDone(event) {
    this.#change(event, (turn) => {
      if (turn.cutAtMs === null) turn.replyText = event.transcript;
    });
  }

  /** @param {WireEvent} event */
  #responseDone({ response }) {
    const turn = this.byResponse.get(response.id);
    if (turn === undefined) return;
    turn.replyComplete = true;
    if (response.status === "cancelled" && turn.cutAtMs === null) {
      turn.cutAtMs = turn.heardMs;
      turn.interrupted = response.status_details?.reason === "turn_detected";
    }
    if (response.status === "failed") {
      turn.problem = response.status_details?.error?.message ?? "the reply failed";
    }
    this.changed(turn);
  }

  /** @param {WireEvent} event */
  #timings(event) {
    this.#change(event, (turn) => {
      turn.timings = /** @type {any} */ (event);
    });
  }

  /** @param {string} itemId @returns {boolean} whether its audio should still be played */
  wants(itemId) {
    const turn = this.byItem.get(itemId);
    return turn !== undefined && turn.cutAtMs === null;
  }

  /** @param {string} itemId @param {number} audioMs more of the reply has arrived */
  replyAudio(itemId, audioMs) {
    const turn = this.byItem.get(itemId);
    if (turn) turn.replyAudioMs += audioMs;
  }

  /** @param {string} itemId @param {number} heardMs */
  heard(itemId, heardMs) {
    this.#change({ type: "", item_id: itemId }, (turn) => (turn.heardMs = heardMs));
  }

  /** @param {string} itemId */
  heardWhole(itemId) {
    this.#change({ type: "", item_id: itemId }, (turn) => {
      turn.heardMs = turn.replyAudioMs;
      turn.heardWhole = true;
      turn.interrupted = false;
      turn.cutAtMs = null; // the end was reached before the cut took hold
    });
  }

  /** @param {string} itemId @param {number} playedMs @param {boolean} byPerson */
  cut(itemId, playedMs, byPerson) {
    this.#change({ type: "", item_id: itemId }, (turn) => {
      turn.heardMs = turn.cutAtMs = playedMs;
      turn.interrupted = byPerson;
    });
  }

  /** @param {Turn} turn */
  #closeOpen(turn) {
    turn.speaking = false;
    if (turn.final === null) turn.problem ??= "the connection ended before this was transcribed";
    this.changed(turn);
  }
}
