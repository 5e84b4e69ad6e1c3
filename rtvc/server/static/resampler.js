// @ts-check
// A streaming polyphase resampler, for browsers that refuse a 24 kHz AudioContext.

/** Zero crossings of the filter on each side, at the lower of the two rates. */
const ZERO_CROSSINGS = 16;

/** Share of the lower rate's band that passes; the rest is the filter's slope. */
const PASS_BAND = 0.92;

/** @param {number} a @param {number} b @returns {number} */
function greatestCommonDivisor(a, b) {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}

/** @param {number} x in samples of the cut-off */
function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

/** @param {number} x from -1 to 1 */
function blackman(x) {
  return 0.42 + 0.5 * Math.cos(Math.PI * x) + 0.08 * Math.cos(2 * Math.PI * x);
}

/** Exact for every ratio of whole rates: 48000, 44100 and 16000 Hz all land on a phase. */
export class Resampler {
  /** @param {number} fromHz @param {number} toHz */
  constructor(fromHz, toHz) {
    const divisor = greatestCommonDivisor(fromHz, toHz);
    this.phases = toHz / divisor;
    this.step = fromHz / divisor;
    const cutoff = Math.min(1, toHz / fromHz) * PASS_BAND;
    this.reach = Math.ceil(ZERO_CROSSINGS / cutoff);
    this.taps = 2 * this.reach;
    this.filter = this.#designed(cutoff);
    // Written twice, one length apart, so that every window lies in one piece.
    this.history = new Float32Array(2 * this.taps);
    this.at = 0;
    this.phase = 0;
  }

  /** @param {number} cutoff */
  #designed(cutoff) {
    const filter = new Float32Array(this.phases * this.taps);
    for (let phase = 0; phase < this.phases; phase++) {
      for (let tap = 0; tap < this.taps; tap++) {
        const x = tap - this.reach + 1 - phase / this.phases;
        const window = Math.abs(x) < this.reach ? blackman(x / this.reach) : 0;
        filter[phase * this.taps + tap] = cutoff * sinc(cutoff * x) * window;
      }
    }
    return filter;
  }

  /** The most samples that `feed` writes for so many. @param {number} count */
  capacityFor(count) {
    return Math.ceil((count * this.phases) / this.step) + 1;
  }

  /**
   * @param {Float32Array} input
   * @param {Float32Array} output at least `capacityFor(input.length)` long; nothing is allocated
   * @returns {number} samples written
   */
  feed(input, output) {
    let written = 0;
    for (let i = 0; i < input.length; i++) {
      this.history[this.at] = this.history[this.at + this.taps] = input[i];
      this.at = (this.at + 1) % this.taps;
      for (; this.phase < this.phases; this.phase += this.step) {
        output[written++] = this.#sample();
      }
      this.phase -= this.phases;
    }
    return written;
  }

  #sample() {
    const offset = this.phase * this.taps;
    let sum = 0;
    for (let tap = 0; tap < this.taps; tap++) {
      sum += this.filter[offset + tap] * this.history[this.at + tap];
    }
    return sum;
  }
}
