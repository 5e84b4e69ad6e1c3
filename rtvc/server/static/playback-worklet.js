// @ts-check
// A ring of samples that plays, counts its underruns, and says how far it got.

/** Seconds of audio the ring holds; the page keeps the rest until there is room. */
const RING_S = 20;

/** Seconds gathered before playing starts, and again after an underrun. */
const PREBUFFER_S = 0.06;

/** Quanta between two reports: 43 ms at 24 kHz. */
const REPORT_QUANTA = 8;

class PlaybackProcessor extends AudioWorkletProcessor {
  constructor() {
    super();
    this.ring = new Float32Array(Math.round(RING_S * sampleRate));
    this.prebuffer = Math.round(PREBUFFER_S * sampleRate);
    this.read = 0;
    this.stored = 0;
    this.playing = false;
    this.complete = true; // no more samples are coming for what is stored
    this.quanta = 0;
    this.report = { kind: "report", played: 0, underruns: 0, capacity: this.ring.length };
    this.port.onmessage = ({ data }) => this.take(data);
  }

  /** @param {{kind: string, samples?: Float32Array, token?: number}} message */
  take(message) {
    if (message.kind === "write" && message.samples) this.write(message.samples);
    if (message.kind === "complete") this.complete = true;
    if (message.kind === "flush") this.flush(message.token ?? 0);
  }

  /** @param {Float32Array} samples never more than there is room for: the page counts */
  write(samples) {
    const from = (this.read + this.stored) % this.ring.length;
    const head = Math.min(samples.length, this.ring.length - from);
    this.ring.set(samples.subarray(0, head), from);
    this.ring.set(samples.subarray(head), 0);
    this.stored += samples.length;
    this.complete = false;
  }

  /** @param {number} token comes back with the position, so that late reports are told apart */
  flush(token) {
    this.stored = 0;
    this.playing = false;
    this.complete = true;
    this.port.postMessage({ kind: "flushed", token, played: this.report.played });
  }

  /** @param {Float32Array[][]} _inputs @param {Float32Array[][]} outputs */
  process(_inputs, outputs) {
    const output = outputs[0][0];
    if (!this.playing) {
      this.playing = this.stored >= this.prebuffer || (this.complete && this.stored > 0);
    }
    if (this.playing) this.play(output); // else the output is silence already
    if (++this.quanta % REPORT_QUANTA === 0) this.port.postMessage(this.report);
    return true;
  }

  /** @param {Float32Array} output */
  play(output) {
    const count = Math.min(output.length, this.stored);
    for (let i = 0; i < count; i++) {
      output[i] = this.ring[this.read];
      this.read = this.read + 1 === this.ring.length ? 0 : this.read + 1;
    }
    this.stored -= count;
    this.report.played += count;
    if (this.stored > 0) return;
    this.playing = false;
    if (!this.complete) this.report.underruns += 1;
  }
}

registerProcessor("rtvc-playback", PlaybackProcessor);
