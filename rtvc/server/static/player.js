// @ts-check
// Plays reply audio, and knows to the sample what of which item was heard.

import { Resampler } from "./resampler.js";
import { WIRE_RATE_HZ } from "./wire.js";

/**
 * What was heard of an item when playback was cut.
 * @typedef {{itemId: string, playedMs: number, whole: boolean}} Cut
 * @typedef {{itemId: string, start: number, length: number,
 *   heardMs: number, complete: boolean}} PlayingItem
 */

/** The most samples that go to the ring at once. */
const PIECE_SAMPLES = WIRE_RATE_HZ;

export class Player {
  /** @param {AudioContext} context */
  constructor(context) {
    this.context = context;
    this.samplesPerMs = context.sampleRate / 1000;
    this.resampler =
      context.sampleRate === WIRE_RATE_HZ
        ? null
        : new Resampler(WIRE_RATE_HZ, context.sampleRate);
    /** @type {AudioWorkletNode | null} */
    this.node = null;
    /** @type {PlayingItem[]} items not yet heard to their end, in order */
    this.items = [];
    /** @type {Float32Array[]} pieces that wait for room in the ring */
    this.waiting = [];
    this.capacity = 0;
    this.sent = 0; // samples given to the ring
    this.offered = 0; // samples taken by feed, on the ring's time line
    this.played = 0;
    this.underruns = 0;
    this.toldComplete = false;
    this.flushToken = 0;
    /** @type {((played: number) => void) | null} */
    this.onFlushed = null;
    /** @type {(item: PlayingItem, playedMs: number) => void} */
    this.onProgress = () => {};
    /** @type {(itemId: string) => void} */
    this.onFinished = () => {};
  }

  /** @param {AudioContext} context */
  static async open(context) {
    const player = new Player(context);
    await context.audioWorklet.addModule(new URL("playback-worklet.js", import.meta.url).href);
    const node = new AudioWorkletNode(context, "rtvc-playback", {
      numberOfInputs: 0,
      outputChannelCount: [1],
    });
    node.port.onmessage = ({ data }) => player.#take(data);
    node.connect(context.destination);
    player.node = node;
    return player;
  }

  get isPlaying() {
    return this.items.length > 0;
  }

  /** Milliseconds played since the page was started, over all replies. */
  get playedMs() {
    return this.played / this.samplesPerMs;
  }

  /** @param {string} itemId @param {Float32Array} samples at the wire's rate */
  feed(itemId, samples) {
    const piece = this.#atContextRate(samples);
    let item = this.items.at(-1);
    if (item?.itemId !== itemId) {
      item = { itemId, start: this.offered, length: 0, heardMs: 0, complete: false };
      this.items.push(item);
    }
    item.length += piece.length;
    this.offered += piece.length;
    for (let at = 0; at < piece.length; at += PIECE_SAMPLES) {
      this.waiting.push(piece.slice(at, at + PIECE_SAMPLES));
    }
    this.#pump();
  }

  /** The item's last sample was fed. @param {string} itemId */
  complete(itemId) {
    const item = this.items.find((one) => one.itemId === itemId);
    if (item === undefined) return;
    item.complete = true;
    this.#pump();
    this.#settle();
  }

  /**
   * Silence at once.
   * @returns {Promise<Cut | null>} what was heard of the item that was cut, null if none played
   */
  async flush() {
    if (!this.isPlaying || this.node === null) return null;
    const [item] = this.items;
    this.items = [];
    this.waiting = [];
    const token = ++this.flushToken;
    const played = await new Promise((resolve) => {
      this.onFlushed = resolve;
      this.node?.port.postMessage({ kind: "flush", token });
    });
    const whole = item.complete && played >= item.start + item.length;
    return { itemId: item.itemId, playedMs: this.#heardMs(item, played), whole };
  }

  close() {
    this.onProgress = this.onFinished = () => {};
    this.items = [];
    this.waiting = [];
    this.onFlushed?.(this.played);
    this.node?.disconnect();
  }

  /** @param {Float32Array} samples */
  #atContextRate(samples) {
    if (this.resampler === null) return samples;
    const output = new Float32Array(this.resampler.capacityFor(samples.length));
    return output.slice(0, this.resampler.feed(samples, output));
  }

  #pump() {
    if (this.onFlushed !== null) return; // how much room there is will be known in a moment
    let room = this.capacity - (this.sent - this.played);
    while (this.waiting.length > 0 && this.waiting[0].length <= room) {
      const samples = /** @type {Float32Array} */ (this.waiting.shift());
      room -= samples.length;
      this.sent += samples.length;
      this.node?.port.postMessage({ kind: "write", samples }, [samples.buffer]);
    }
    const complete = this.waiting.length === 0 && (this.items.at(-1)?.complete ?? false);
    if (complete && !this.toldComplete) this.node?.port.postMessage({ kind: "complete" });
    this.toldComplete = complete;
  }

  /** @param {{kind: string, played: number, underruns: number, capacity: number, token: number}} message */
  #take(message) {
    if (message.kind === "flushed") this.#flushed(message);
    else this.#reported(message);
  }

  /** @param {{token: number, played: number}} message */
  #flushed({ token, played }) {
    if (token !== this.flushToken) return;
    this.played = played;
    this.onFlushed?.(played);
    this.onFlushed = null;
    // The ring is empty: what was written but not played is gone from the time line. Anything
    // fed while the answer was on its way keeps its length and starts now.
    this.sent = played;
    let start = played;
    for (const item of this.items) {
      item.start = start;
      start += item.length;
    }
    this.offered = start;
    this.#pump();
  }

  /** @param {{played: number, underruns: number, capacity: number}} message */
  #reported({ played, underruns, capacity }) {
    if (this.onFlushed !== null) return; // a position from before the flush
    this.played = played;
    this.underruns = underruns;
    this.capacity = capacity;
    this.#pump();
    const item = this.items[0];
    if (item !== undefined) {
      item.heardMs = this.#heardMs(item, played);
      this.onProgress(item, item.heardMs);
    }
    this.#settle();
  }

  #settle() {
    for (let item = this.items[0]; item !== undefined; item = this.items[0]) {
      if (!item.complete || this.played < item.start + item.length) return;
      this.items.shift();
      this.onFinished(item.itemId);
    }
  }

  /** What left the speaker, which is later than what left the ring. @param {PlayingItem} item @param {number} played */
  #heardMs(item, played) {
    const latencyMs = (this.context.outputLatency || 0) * 1000;
    const positionMs = (played - item.start) / this.samplesPerMs - latencyMs;
    return Math.max(0, Math.min(item.length / this.samplesPerMs, positionMs));
  }
}
