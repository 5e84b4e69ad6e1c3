// @ts-check
// Draws the page; decides nothing.

import { element, formatMs, totalsText, waterfall } from "./waterfall.js";

/** @typedef {import("./conversation.js").Turn} Turn */
/** @typedef {import("./help.js").Help} Help */
/** @typedef {import("./wire.js").Readiness} Readiness */

/** Turns kept on the page; older ones are taken off the top. */
const KEPT_TURNS = 200;

/** Within so many pixels of the end the page follows the conversation. */
const FOLLOW_PX = 160;

/** @template {HTMLElement} [T=HTMLElement] @param {string} id @returns {T} */
export function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`expected an element #${id}, found none`);
  return /** @type {T} */ (found);
}

/** Sets only what differs, so that screen readers and selections are left alone. @param {string} id @param {string} text */
export function write(id, text) {
  const node = byId(id);
  if (node.textContent !== text) node.textContent = text;
}

/** @param {string} id @param {boolean} visible */
export function show(id, visible) {
  byId(id).hidden = !visible;
}

/** Read out once, politely: finals and what changed, never partials. @param {string} text */
export function announce(text) {
  byId("announcer").textContent = text;
}

/** @param {string} text @param {string} stable @returns {[string, string]} */
function split(text, stable) {
  if (text.startsWith(stable)) return [stable, text.slice(stable.length)];
  const words = text.split(" ");
  const count = stable.split(" ").filter(Boolean).length;
  return [words.slice(0, count).join(" "), ` ${words.slice(count).join(" ")}`];
}

/** @param {Turn} turn @returns {(Node | string)[]} */
function saidNodes(turn) {
  if (turn.final !== null) return [turn.final ? turn.final : element("i", "", "(no words)")];
  const [stable, unstable] = split(turn.hypothesis, turn.stableText);
  const nodes = [element("span", "stable", stable), element("span", "unstable", unstable)];
  if (turn.speaking) nodes.push(element("span", "caret"));
  return nodes;
}

/** @param {Turn} turn @returns {(Node | string)[]} */
function replyNodes(turn) {
  const spoken = turn.replyText.slice(0, turn.spokenCharacters);
  const rest = turn.replyText.slice(turn.spokenCharacters);
  if (turn.cutAtMs === null) return [element("span", "", spoken), element("span", "ahead", rest)];
  const how = turn.interrupted ? "interrupted" : "cut off";
  const flag = element("span", "cut-flag", `${how} after ${(turn.cutAtMs / 1000).toFixed(1)} s`);
  return [element("span", "", spoken), element("del", "unheard", rest), " ", flag];
}

class TurnView {
  /** @param {number} number */
  constructor(number) {
    this.said = element("p", "said");
    this.reply = element("p", "reply");
    this.problem = element("p", "problem");
    this.timings = element("div", "timings");
    this.root = element(
      "li",
      "turn",
      element("div", "who", "You"),
      this.said,
      element("div", "who reply-who", "Reply"),
      this.reply,
      this.problem,
      this.timings,
    );
    this.root.setAttribute("aria-label", `Turn ${number}`);
    /** @type {unknown} the timings that are drawn */
    this.drawn = null;
    this.drawnSaid = "";
    this.drawnReply = "";
  }

  /** @param {Turn} turn */
  draw(turn) {
    this.#drawSaid(turn);
    this.root.classList.toggle("live", turn.final === null && turn.problem === null);
    this.root.classList.toggle("replied", turn.replyText !== "");
    this.#drawReply(turn);
    this.problem.textContent = turn.problem ?? "";
    if (turn.timings !== this.drawn) this.#drawTimings(turn);
  }

  /** @param {Turn} turn */
  #drawSaid(turn) {
    const key = `${turn.final}|${turn.hypothesis}|${turn.stableText}|${turn.speaking}`;
    if (key === this.drawnSaid) return;
    this.drawnSaid = key;
    this.said.replaceChildren(...saidNodes(turn));
  }

  /** @param {Turn} turn */
  #drawReply(turn) {
    const key = `${turn.replyText}|${turn.spokenCharacters}|${turn.cutAtMs}`;
    if (key === this.drawnReply) return;
    this.drawnReply = key;
    this.reply.replaceChildren(...replyNodes(turn));
  }

  /** @param {Turn} turn */
  #drawTimings(turn) {
    if (turn.timings === null) return;
    this.drawn = turn.timings;
    const open = this.timings.querySelector("details")?.open ?? false;
    this.timings.replaceChildren(waterfall(turn.timings, open));
  }
}

export class ConversationView {
  constructor() {
    this.list = byId("turns");
    /** @type {Map<Turn, TurnView>} */
    this.views = new Map();
  }

  /** @param {Turn} turn */
  draw(turn) {
    const follow = isAtEnd();
    let view = this.views.get(turn);
    if (view === undefined) {
      view = new TurnView(turn.number);
      this.views.set(turn, view);
      this.list.append(view.root);
      this.#trim();
    }
    view.draw(turn);
    if (follow) window.scrollTo({ top: document.documentElement.scrollHeight });
  }

  /** @param {string} text */
  divide(text) {
    this.list.append(element("li", "divider", text));
  }

  #trim() {
    if (this.list.children.length <= KEPT_TURNS) return;
    this.list.firstElementChild?.remove();
  }
}

function isAtEnd() {
  const { scrollHeight } = document.documentElement;
  return window.scrollY + window.innerHeight > scrollHeight - FOLLOW_PX;
}

/** @param {Turn} turn */
export function announceFinal(turn) {
  announce(`You: ${turn.final || "no words"}.`);
}

/** @param {Turn} turn */
export function announceReply(turn) {
  const timing = turn.timings ? ` ${totalsText(turn.timings)}.` : "";
  announce(`Reply: ${turn.replyText}.${timing}`);
}

/** @type {Record<string, string>} */
const TASK_WORDS = { waiting: "waiting", loading: "loading", warming: "warming up", ready: "ready", failed: "failed" };

/** @param {import("./wire.js").ReadyTask} task */
function taskRow(task) {
  const bar = element("progress");
  bar.max = 1;
  bar.value = task.state === "ready" ? 1 : task.progress;
  bar.setAttribute("aria-label", task.name);
  const state = element("span", "state", TASK_WORDS[task.state] ?? task.state);
  const made = element("li", "", element("b", "", task.name), state, bar);
  made.dataset.state = task.state;
  if (task.detail && task.state !== "ready") made.append(element("small", "", task.detail));
  return made;
}

/** @param {Readiness} readiness */
export function drawLoading(readiness) {
  const percent = Math.round(100 * readiness.progress);
  write("loading-title", `${readiness.state === "warming" ? "Warming up" : "Getting ready"}, ${percent} %`);
  write("loading-detail", readiness.detail);
  byId("tasks").replaceChildren(...readiness.tasks.map(taskRow));
}

/** @param {{model: string, model_kind: string, llm?: string, tts?: string}} status */
export function drawModel({ model, model_kind, llm, tts }) {
  const kind = model_kind && model_kind !== model ? element("em", "", model_kind) : "";
  const parts = [element("span", "", element("small", "", "speech-to-text "), model, " ", kind)];
  if (llm) parts.push(element("span", "", element("small", "", "language model "), llm));
  if (tts) parts.push(element("span", "", element("small", "", "voice "), tts));
  byId("model").replaceChildren(...parts);
  show("model", true);
}

/** @param {Help} help */
function helpNodes(help) {
  /** @type {Node[]} */
  const nodes = [element("h2", "", help.title), element("p", "", help.text)];
  if (help.steps) nodes.push(element("ol", "", ...help.steps.map(stepRow)));
  return nodes;
}

/** @param {{what: string, command?: string}} step */
function stepRow({ what, command }) {
  const made = element("li", "", what);
  if (command) made.append(element("code", "", command));
  return made;
}

/** @param {Help} help @param {() => void} act */
export function drawHelp(help, act) {
  const section = byId("help");
  const again = section.dataset.title === help.title;
  if (again) {
    // Only the countdown moved: a focused button must stay where it is.
    section.querySelector("p")?.replaceChildren(help.text);
    return;
  }
  section.dataset.title = help.title;
  const button = element("button", "quiet", help.action);
  button.type = "button";
  button.onclick = act;
  section.replaceChildren(...helpNodes(help), button);
  section.hidden = false;
  section.scrollIntoView({ block: "nearest" });
  announce(`${help.title}. ${help.text}`);
}

export function hideHelp() {
  const section = byId("help");
  section.hidden = true;
  delete section.dataset.title;
}

/** @param {number} dbfs @param {boolean} on */
export function drawLevel(dbfs, on) {
  const meter = byId("meter");
  const share = on ? Math.max(0, Math.min(1, (dbfs + 60) / 54)) : 0;
  meter.style.setProperty("--level", share.toFixed(3));
  byId("start").style.setProperty("--level", share.toFixed(3));
  meter.setAttribute("aria-valuenow", String(Math.round(on ? Math.max(-60, dbfs) : -60)));
  meter.setAttribute("aria-valuetext", on ? `${Math.round(dbfs)} decibels` : "off");
}

/** @param {"off" | "busy" | "on"} state */
export function drawStart(state) {
  const button = byId("start");
  button.dataset.state = state;
  button.setAttribute("aria-busy", String(state === "busy"));
  write("start-label", { off: "Start talking", busy: "Cancel", on: "Stop" }[state]);
}

/** @param {boolean} muted @param {boolean} enabled */
export function drawMute(muted, enabled) {
  const button = byId("mute");
  /** @type {HTMLButtonElement} */ (button).disabled = !enabled;
  button.setAttribute("aria-pressed", String(muted));
  write("mute", muted ? "Unmute" : "Mute");
}

/** Medians want ten values (5 on either side); before that the largest is the honest one. @param {number[]} delays_ms */
export function drawDelay(delays_ms) {
  if (delays_ms.length === 0) return;
  const sorted = [...delays_ms].sort((a, b) => a - b);
  const median = sorted.length >= 10;
  const value = median ? sorted[Math.ceil(sorted.length / 2) - 1] : sorted[sorted.length - 1];
  write("stat-delay-name", `transcription ${median ? "p50" : "max"}, n=${sorted.length}`);
  write("stat-delay", formatMs(value));
}
