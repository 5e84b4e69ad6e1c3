// @ts-check
// Microphone quanta in, 20 ms frames of 16-bit 24 kHz samples out.

import { Resampler } from "./resampler.js";

const WIRE_RATE_HZ = 24000;
const FRAME_SAMPLES = WIRE_RATE_HZ / 50;
const QUANTUM_SAMPLES = 128;

/** One second of frames; the page hands every buffer back after sending it. */
const POOLED_FRAMES = 50;

class CaptureProcessor extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resampler =
      sampleRate === WIRE_RATE_HZ ? null : new Resampler(sampleRate, WIRE_RATE_HZ);
    this.resampled = new Float32Array(this.resampler?.capacityFor(QUANTUM_SAMPLES) ?? 0);
    /** @type {Int16Array<ArrayBuffer>[]} */
    this.pool = Array.from({ length: POOLED_FRAMES }, () => new Int16Array(FRAME_SAMPLES));
    this.frame = new Int16Array(FRAME_SAMPLES);
    this.filled = 0;
    /** @type {[ArrayBuffer]} */
    this.transfer = [this.frame.buffer];
    this.port.onmessage = ({ data }) => {
      if (this.pool.length < POOLED_FRAMES) this.pool.push(new Int16Array(data));
    };
  }

  /** @param {Float32Array[][]} inputs */
  process(inputs) {
    const channel = inputs[0][0];
    if (channel === undefined) return true; // the track has ended or was never connected
    if (this.resampler === null) {
      this.append(channel, channel.length);
    } else {
      this.append(this.resampled, this.resampler.feed(channel, this.resampled));
    }
    return true;
  }

  /** @param {Float32Array} samples @param {number} count */
  append(samples, count) {
    for (let i = 0; i < count; i++) {
      const clipped = Math.max(-1, Math.min(1, samples[i]));
      this.frame[this.filled++] = Math.round(clipped * 32767);
      if (this.filled === FRAME_SAMPLES) this.post();
    }
  }

  post() {
    this.transfer[0] = this.frame.buffer;
    this.port.postMessage(this.frame.buffer, this.transfer);
    // An empty pool means the page is stalled: a new buffer is better than lost speech.
    this.frame = this.pool.pop() ?? new Int16Array(FRAME_SAMPLES);
    this.filled = 0;
  }
}

registerProcessor("rtvc-capture", CaptureProcessor);
