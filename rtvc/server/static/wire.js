// @ts-check
// The names of the wire and how bytes become text: OpenAI Realtime events plus our `rtvc.*` extras.

/** The only sample rate of the wire, both ways: 16-bit mono. */
export const WIRE_RATE_HZ = 24000;

export const CLIENT = Object.freeze({
  APPEND: "input_audio_buffer.append",
  TRUNCATE: "conversation.item.truncate",
});

export const SERVER = Object.freeze({
  ERROR: "error",
  SESSION_CREATED: "session.created",
  SPEECH_STARTED: "input_audio_buffer.speech_started",
  SPEECH_STOPPED: "input_audio_buffer.speech_stopped",
  TRANSCRIPT_DELTA: "conversation.item.input_audio_transcription.delta",
  TRANSCRIPT_COMPLETED: "conversation.item.input_audio_transcription.completed",
  TRANSCRIPT_FAILED: "conversation.item.input_audio_transcription.failed",
  RESPONSE_ITEM_ADDED: "response.output_item.added",
  REPLY_TEXT: "response.output_audio_transcript.delta",
  REPLY_TEXT_DONE: "response.output_audio_transcript.done",
  REPLY_AUDIO: "response.output_audio.delta",
  REPLY_AUDIO_DONE: "response.output_audio.done",
  RESPONSE_DONE: "response.done",
  STATUS: "rtvc.status",
  HYPOTHESIS: "rtvc.hypothesis",
  TURN: "rtvc.turn",
});

/**
 * @typedef {{name: string, start_ms: number, duration_ms: number}} Segment
 * @typedef {{
 *   item_id: string, response_id: string | null, stage: "transcript" | "reply",
 *   transcription_delay_ms: number, response_latency_ms: number | null, audio_ms: number,
 *   segments: Segment[], hidden: Segment[], unaccounted_ms: number,
 *   batch_size: number, model: string,
 * }} TurnTimings
 * @typedef {{name: string, state: string, progress: number, detail: string}} ReadyTask
 * @typedef {{
 *   state: string, progress: number, detail: string, tasks: ReadyTask[], model: string,
 *   model_kind: string, notice: string | null, full: boolean, retry_after_s: number | null,
 *   sessions: number, max_sessions: number, version: string, needs_key?: boolean,
 *   degradation: string,
 * }} Readiness
 * @typedef {{type: string, [field: string]: any}} WireEvent
 */

/** Addresses beside the page, so that a path prefix in front of it keeps working. */
export function endpoints(base = document.baseURI) {
  const realtime = new URL("v1/realtime?rtvc=1", base);
  realtime.protocol = realtime.protocol === "https:" ? "wss:" : "ws:";
  const secrets = new URL("v1/realtime/client_secrets", base).href;
  return { realtime: realtime.href, readyz: new URL("readyz", base).href, secrets };
}

/**
 * @param {unknown} message
 * @returns {WireEvent | null} null for anything that is not an event; it is not ours to guess.
 */
export function decodeEvent(message) {
  if (typeof message !== "string") return null;
  try {
    const event = JSON.parse(message);
    return typeof event?.type === "string" ? event : null;
  } catch {
    return null;
  }
}

/** @param {Int16Array} samples */
export function encodeAppend(samples) {
  return `{"type":"${CLIENT.APPEND}","audio":"${toBase64(samples)}"}`;
}

/** @param {string} itemId @param {number} playedMs */
export function encodeTruncate(itemId, playedMs) {
  return JSON.stringify({
    type: CLIENT.TRUNCATE,
    item_id: itemId,
    content_index: 0,
    audio_end_ms: Math.floor(playedMs),
  });
}

/** @param {Int16Array} samples little-endian, as every browser's machine is */
export function toBase64(samples) {
  const bytes = new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength);
  let text = "";
  // fromCharCode takes its arguments on the stack: 8 KiB at a time is safe everywhere.
  for (let at = 0; at < bytes.length; at += 8192) {
    text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  }
  return btoa(text);
}

/** @param {string} text @returns {Float32Array} samples between -1 and 1 */
export function fromBase64(text) {
  const binary = atob(text);
  const samples = new Float32Array(binary.length >> 1);
  for (let i = 0; i < samples.length; i++) {
    const word = binary.charCodeAt(2 * i) | (binary.charCodeAt(2 * i + 1) << 8);
    samples[i] = ((word << 16) >> 16) / 32768;
  }
  return samples;
}
