// @ts-check
// Where a turn's time went: contiguous segments to scale, the target, hidden work underneath.

/** @typedef {import("./wire.js").Segment} Segment */
/** @typedef {import("./wire.js").TurnTimings} TurnTimings */

/** Transcription delay that a turn should stay within. */
export const TARGET_MS = 500;

/** Ends of the axis: few, so that most turns share one scale and can be compared by eye. */
const SCALES_MS = [700, 1000, 1500, 2500, 4000, 6000, 10_000, 20_000, 60_000];

/** Share of the axis that two labels must stand apart. */
const LABEL_SHARE = 0.22;

/**
 * What every segment is, by its name on the wire.
 * @type {Record<string, {label: string, kind: "wait" | "work", means: string}>}
 */
const SEGMENTS = {
  vad_delay: { label: "silence", kind: "wait", means: "until the detector is sure of silence" },
  endpoint_wait: { label: "turn end", kind: "wait", means: "silence the turn policy asks for" },
  turn_model: { label: "turn model", kind: "work", means: "model that judges whether the turn is over" },
  queue_wait: { label: "queue", kind: "wait", means: "waiting for the model" },
  features: { label: "features", kind: "work", means: "spectrogram" },
  encode: { label: "encode", kind: "work", means: "model, encoder" },
  decode: { label: "decode", kind: "work", means: "model, decoder" },
  emit: { label: "emit", kind: "work", means: "transcript onto the wire" },
  llm_ttft: { label: "LLM", kind: "work", means: "language model, until its first token" },
  llm_sentence: { label: "sentence", kind: "work", means: "language model, until its first sentence" },
  tts_ttfb: { label: "speech", kind: "work", means: "until the first audio of the reply" },
  send: { label: "send", kind: "work", means: "reply onto the wire" },
};

/** @param {string} name */
function describe(name) {
  return SEGMENTS[name] ?? { label: name.replaceAll("_", " "), kind: "work", means: "" };
}

/** @param {number} ms */
export function formatMs(ms) {
  if (ms >= 9950) return `${(ms / 1000).toFixed(1)} s`;
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms).toLocaleString("en")} ms`;
}

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {string} [className]
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function element(tag, className = "", ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/** @param {TurnTimings} turn */
function endOf(turn) {
  const ends = [...turn.segments, ...turn.hidden].map((one) => one.start_ms + one.duration_ms);
  return Math.max(TARGET_MS, ...ends);
}

/** @param {TurnTimings} turn */
function scaleFor(turn) {
  const end = endOf(turn) * 1.02;
  return SCALES_MS.find((scale) => scale >= end) ?? end;
}

/** @param {Segment} segment @param {number} scale_ms @param {string} className */
function block(segment, scale_ms, className) {
  const made = element("div", className);
  // Client clocks may put a hidden start before the last speech sample: the axis begins at 0.
  const start = Math.max(0, segment.start_ms);
  const duration = Math.max(0, segment.start_ms + segment.duration_ms - start);
  made.style.left = `${(100 * start) / scale_ms}%`;
  made.style.width = `${(100 * duration) / scale_ms}%`;
  made.title = `${describe(segment.name).label}: ${formatMs(segment.duration_ms)}`;
  return made;
}

/** @param {Segment} segment @param {number} scale_ms */
function segmentBlock(segment, scale_ms) {
  const { label, kind } = describe(segment.name);
  const made = block(segment, scale_ms, `segment ${kind}`);
  made.append(element("span", "", label)); // the style sheet hides it where it has no room
  return made;
}

/** @param {number} at_ms @param {number} scale_ms @param {string} className @param {string} text */
function mark(at_ms, scale_ms, className, text) {
  const made = element("div", `mark ${className}`, element("span", "", text));
  made.style.left = `${(100 * at_ms) / scale_ms}%`;
  return made;
}

/** @param {TurnTimings} turn */
function chart(turn) {
  const scale_ms = scaleFor(turn);
  const bar = element("div", "bar", ...turn.segments.map((one) => segmentBlock(one, scale_ms)));
  const plot = element("div", "plot", bar);
  if (turn.hidden.length > 0) {
    plot.append(
      element("div", "lane", ...turn.hidden.map((one) => block(one, scale_ms, "hidden-work"))),
    );
  }
  plot.append(mark(TARGET_MS, scale_ms, "target", "500 ms target"));
  if (turn.response_latency_ms !== null) {
    const apart = Math.abs(turn.transcription_delay_ms - TARGET_MS) > LABEL_SHARE * scale_ms;
    const label = apart ? "transcript" : "";
    plot.append(mark(turn.transcription_delay_ms, scale_ms, "transcript", label));
  }
  plot.setAttribute("role", "img");
  plot.setAttribute("aria-label", `Bar from 0 to ${formatMs(scale_ms)}: ${totalsText(turn)}`);
  return plot;
}

/** @param {TurnTimings} turn */
export function totalsText(turn) {
  const within = turn.transcription_delay_ms <= TARGET_MS;
  const transcription = `transcription ${formatMs(turn.transcription_delay_ms)}`;
  const reply =
    turn.response_latency_ms === null
      ? ""
      : `, first reply ${formatMs(turn.response_latency_ms)}`;
  return `${transcription}, ${within ? "within" : "over"} the ${TARGET_MS} ms target${reply}`;
}

/** @param {string} name @param {number} ms */
function total(name, ms) {
  return element("span", "total", `${name} `, element("b", "", formatMs(ms)));
}

/** @param {TurnTimings} turn */
function totals(turn) {
  const made = element("div", "totals", total("transcription", turn.transcription_delay_ms));
  if (turn.response_latency_ms !== null) {
    made.append(element("span", "dot", "·"), total("first reply", turn.response_latency_ms));
  }
  const within = turn.transcription_delay_ms <= TARGET_MS;
  made.append(
    element(
      "span",
      within ? "verdict within" : "verdict over",
      within ? `✓ transcription within ${TARGET_MS} ms` : `▲ transcription over ${TARGET_MS} ms`,
    ),
  );
  return made;
}

/** @param {string[]} cells @param {"td" | "th"} tag */
function row(cells, tag = "td") {
  const made = element("tr");
  cells.forEach((text, i) => {
    const cell = element(tag === "td" && i === 0 ? "th" : tag, "", text);
    cell.scope = tag === "th" ? "col" : i === 0 ? "row" : "";
    made.append(cell);
  });
  return made;
}

/** @param {Segment} segment @param {string} kind */
function segmentRow(segment, kind) {
  const { label, means } = describe(segment.name);
  const cells = [label, means, kind, formatMs(segment.start_ms), formatMs(segment.duration_ms)];
  return row(cells);
}

/** @param {TurnTimings} turn */
function table(turn) {
  const body = element("tbody");
  body.append(
    ...turn.segments.map((one) => segmentRow(one, describe(one.name).kind)),
    ...turn.hidden.map((one) => segmentRow(one, "hidden")),
    row(["unaccounted", "left over, so that the sum is whole", "", "", formatMs(turn.unaccounted_ms)]),
  );
  const head = element("thead", "", row(["stage", "", "kind", "at", "took"], "th"));
  const made = element("table", "", head, body);
  made.createCaption().textContent =
    `Milliseconds from the last speech sample. Batch of ${turn.batch_size}, ` +
    `${(turn.audio_ms / 1000).toFixed(1)} s of audio, model ${turn.model}.`;
  return made;
}

/** @param {TurnTimings} turn @param {boolean} open whether the table was open before an update */
export function waterfall(turn, open = false) {
  const details = element("details", "", element("summary", "", "Stages"), table(turn));
  details.open = open;
  return element("div", "waterfall", totals(turn), chart(turn), details);
}
