// @ts-check
// The microphone: permission, capture worklet, mute, and errors that say what to do.

import { WIRE_RATE_HZ } from "./wire.js";

/** @typedef {"insecure" | "refused" | "missing" | "busy"} MicrophoneProblem */

/** The microphone cannot be had; `problem` picks the help text. */
export class MicrophoneError extends Error {
  /** @param {MicrophoneProblem} problem @param {string} detail */
  constructor(problem, detail) {
    super(detail);
    this.problem = problem;
  }
}

/** @type {Record<string, MicrophoneProblem>} */
const PROBLEMS = {
  NotAllowedError: "refused",
  SecurityError: "refused",
  NotFoundError: "missing",
  OverconstrainedError: "missing",
  NotReadableError: "busy",
  AbortError: "busy",
};

/** Browsers hide the microphone from pages that came over plain http from another machine. */
export function microphoneIsReachable() {
  return window.isSecureContext && navigator.mediaDevices?.getUserMedia !== undefined;
}

async function openStream() {
  if (!microphoneIsReachable()) throw new MicrophoneError("insecure", "no secure context");
  try {
    return await navigator.mediaDevices.getUserMedia({
      audio: {
        channelCount: 1,
        echoCancellation: true,
        noiseSuppression: true,
        autoGainControl: true,
      },
    });
  } catch (error) {
    const { name, message } = /** @type {DOMException} */ (error);
    throw new MicrophoneError(PROBLEMS[name] ?? "busy", message || name);
  }
}

/** @param {Int16Array} samples @returns {number} decibels below full scale, -90 at the least */
export function levelDbfs(samples) {
  let sum = 0;
  for (let i = 0; i < samples.length; i++) sum += samples[i] * samples[i];
  const power = sum / samples.length / (32768 * 32768);
  return Math.max(-90, 10 * Math.log10(power + 1e-12));
}

/** One open microphone; frames arrive at `onFrame` until it is closed. */
export class Microphone {
  /** @param {MediaStream} stream @param {(samples: Int16Array) => void} onFrame */
  constructor(stream, onFrame) {
    this.stream = stream;
    this.onFrame = onFrame;
    this.muted = false;
    /** @type {() => void} called once if the device goes away by itself */
    this.onEnded = () => {};
    /** @type {AudioContext | null} ours alone, where the shared one refused the device's rate */
    this.ownContext = null;
    /** @type {AudioNode[]} */
    this.nodes = [];
    stream.getAudioTracks()[0].onended = () => this.onEnded();
  }

  /**
   * @param {AudioContext} context at 24 kHz where the browser allows it
   * @param {(samples: Int16Array) => void} onFrame
   */
  static async open(context, onFrame) {
    const microphone = new Microphone(await openStream(), onFrame);
    try {
      await microphone.#connect(context);
    } catch (error) {
      microphone.close();
      throw error;
    }
    return microphone;
  }

  /** @param {AudioContext} shared */
  async #connect(shared) {
    const { context, source } = this.#source(shared);
    await context.audioWorklet.addModule(new URL("capture-worklet.js", import.meta.url).href);
    const worklet = new AudioWorkletNode(context, "rtvc-capture", {
      numberOfInputs: 1,
      numberOfOutputs: 0,
      channelCount: 1,
      channelCountMode: "explicit",
    });
    worklet.port.onmessage = ({ data }) => this.#frame(worklet.port, data);
    source.connect(worklet);
    this.nodes = [source, worklet];
  }

  /** @param {AudioContext} shared */
  #source(shared) {
    try {
      return { context: shared, source: shared.createMediaStreamSource(this.stream) };
    } catch {
      // Firefox joins a device only to a context of its own rate: the worklet resamples then.
      this.ownContext = new AudioContext({ latencyHint: "interactive" });
      return {
        context: this.ownContext,
        source: this.ownContext.createMediaStreamSource(this.stream),
      };
    }
  }

  /** @param {MessagePort} port @param {ArrayBuffer} buffer */
  #frame(port, buffer) {
    const samples = new Int16Array(buffer);
    // Muted still sends silence: the server's clock is the samples it was given.
    if (this.muted) samples.fill(0);
    this.onFrame(samples);
    port.postMessage(buffer, [buffer]);
  }

  close() {
    this.onFrame = () => {};
    this.onEnded = () => {};
    for (const track of this.stream.getTracks()) track.stop();
    for (const node of this.nodes) node.disconnect();
    void this.ownContext?.close();
  }
}

/** A context for both directions, at the wire's rate if the browser lets us choose. */
export function openAudioContext() {
  try {
    return new AudioContext({ sampleRate: WIRE_RATE_HZ, latencyHint: "interactive" });
  } catch {
    return new AudioContext({ latencyHint: "interactive" });
  }
}
