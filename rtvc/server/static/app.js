// @ts-check
// Wires the microphone, the session, the player and the page together.

import { Conversation } from "./conversation.js";
import { helpFor, waitingHelp } from "./help.js";
import { drawKeyForm } from "./key.js";
import { levelDbfs, Microphone, MicrophoneError, microphoneIsReachable, openAudioContext } from "./microphone.js";
import { Player } from "./player.js";
import { readable } from "./readable.js";
import { fetchReadiness, Session, SessionListener } from "./session.js";
import { wireThemeButton } from "./theme-button.js";
import * as view from "./view.js";
import { formatMs } from "./waterfall.js";
import { fromBase64, SERVER, WIRE_RATE_HZ } from "./wire.js";

/** @typedef {import("./wire.js").Readiness} Readiness */
/** @typedef {import("./wire.js").WireEvent} WireEvent */

const SELF_TEST_HINT =
  "This server runs the self-test model: it understands rtvc's built-in synthetic voices, not " +
  "people. To talk yourself, start it with a real one: rtvc serve --model base.en";

const NO_PARTIALS = ["no-partials", "refusing"];
const NO_PARTIALS_NOTICE = "The server is overloaded: text appears only after you have finished.";

export class Page extends SessionListener {
  constructor() {
    super();
    this.session = new Session(this);
    this.turnsView = new view.ConversationView();
    this.conversation = new Conversation((turn) => this.turnsView.draw(turn));
    /** @type {AudioContext | null} */
    this.context = null;
    /** @type {Player | null} */
    this.player = null;
    /** @type {Microphone | null} */
    this.microphone = null;
    /** @type {Readiness | null} */
    this.readiness = null;
    /** @type {string | null} the problem whose help is shown */
    this.problem = null;
    this.starting = false;
    this.sessions = 0;
    this.bargeIns = 0;
    /** @type {number | null} */
    this.truncatedAtMs = null;
    this.playedBeforeMs = 0;
    this.underrunsBefore = 0;
    /** @type {Map<string, number>} by item id, so that a turn's two reports count once */
    this.delays_ms = new Map();
    this.level_dbfs = -90;
    this.announcedPhase = "idle";
  }

  get phase() {
    if (this.problem !== null) return "failed";
    if (this.session.phase === "open") return this.microphone ? "live" : "microphone";
    return this.starting && this.session.phase === "idle" ? "preparing" : this.session.phase;
  }

  get isRunning() {
    return this.starting || !["idle", "failed"].includes(this.session.phase);
  }

  // --- from the person -----------------------------------------------------------------------

  toggle() {
    if (this.isRunning) this.stop();
    else void this.start();
  }

  async start() {
    this.#clearProblem();
    if (!microphoneIsReachable()) return this.fail("insecure");
    this.starting = true;
    this.draw();
    const context = (this.context = openAudioContext());
    try {
      await this.#openSound(context);
    } catch (error) {
      if (this.context === context) this.fail("sound", String(error));
    }
    if (this.context === context) this.session.start(); // else stopped meanwhile
  }

  stop() {
    this.starting = false;
    this.session.stop();
    void this.#closeSound();
    this.conversation.beginSession();
    view.show("loading", false);
    this.#clearProblem();
    this.draw();
  }

  /** @param {string} problem @param {string} [detail] */
  fail(problem, detail = "") {
    this.stop();
    this.problem = problem;
    view.drawHelp(helpFor(problem, detail), () => void this.start());
    this.draw();
  }

  toggleMute() {
    if (this.microphone === null) return;
    this.microphone.muted = !this.microphone.muted;
    this.draw();
  }

  // --- sound ---------------------------------------------------------------------------------

  /** @param {AudioContext} context */
  async #openSound(context) {
    await context.resume();
    const player = await Player.open(context);
    if (this.context !== context) return player.close();
    player.onProgress = (item, heardMs) => this.conversation.heard(item.itemId, heardMs);
    player.onFinished = (itemId) => this.#replyFinished(itemId);
    this.player = player;
  }

  async #closeSound() {
    this.playedBeforeMs = this.playedMs;
    this.underrunsBefore = this.underruns;
    const { context, player, microphone } = this;
    const playing = player?.items[0];
    if (playing) this.conversation.cut(playing.itemId, playing.heardMs, false);
    this.context = this.player = this.microphone = null;
    microphone?.close();
    player?.close();
    await context?.close();
  }

  async #openMicrophone() {
    const { context } = this;
    if (this.microphone !== null || context === null) return;
    try {
      const microphone = await Microphone.open(context, (samples) => this.#frame(samples));
      if (this.context !== context) return microphone.close(); // stopped meanwhile
      microphone.onEnded = () => this.fail("missing");
      this.microphone = microphone;
      this.draw();
    } catch (error) {
      if (this.context !== context) return;
      if (error instanceof MicrophoneError) this.fail(error.problem, error.message);
      else this.fail("sound", String(error));
    }
  }

  /** @param {Int16Array} samples */
  #frame(samples) {
    this.level_dbfs = levelDbfs(samples);
    this.session.sendAudio(samples);
  }

  get playedMs() {
    return this.playedBeforeMs + (this.player?.playedMs ?? 0);
  }

  get underruns() {
    return this.underrunsBefore + (this.player?.underruns ?? 0);
  }

  // --- from the session ----------------------------------------------------------------------

  /** @override @param {import("./session.js").Phase} phase */
  phaseChanged(phase) {
    this.starting = false;
    if (phase === "open") this.#opened();
    if (phase === "waiting") void this.#interrupt(false);
    if (phase === "connecting" || phase === "idle") view.show("loading", false);
    if (phase !== "waiting" && phase !== "failed") view.hideHelp();
    this.draw();
  }

  #opened() {
    this.sessions += 1;
    this.conversation.beginSession();
    if (this.sessions > 1 && this.conversation.turns.length > 0) {
      this.turnsView.divide("New connection: the server does not know what was said above.");
    }
    void this.#openMicrophone();
  }

  /** @override @param {Readiness} readiness */
  serverPreparing(readiness) {
    this.#known(readiness);
    const preparing = !["ready", "aside", "failed"].includes(readiness.state);
    view.show("loading", preparing);
    if (preparing) view.drawLoading(readiness);
    this.draw();
  }

  /** @override @param {import("./session.js").WaitReason} reason @param {number} seconds */
  retryIn(reason, seconds) {
    view.show("loading", false);
    view.drawHelp(waitingHelp(reason, seconds, this.readiness), () => this.session.retryNow());
    this.draw();
  }

  /** @override @param {string} detail */
  failed(detail) {
    this.fail("failed", detail);
  }

  /** @override @param {string} detail */
  keyNeeded(detail) {
    this.fail("key", detail);
    drawKeyForm(view.byId("help"), () => void this.start());
  }

  /** @override @param {WireEvent} event */
  received(event) {
    if (event.type === SERVER.SPEECH_STARTED) void this.#interrupt(true);
    if (event.type === SERVER.REPLY_AUDIO) this.#replyAudio(event);
    this.conversation.received(event);
    if (event.type === SERVER.REPLY_AUDIO_DONE) this.player?.complete(event.item_id);
    if (event.type === SERVER.TRANSCRIPT_COMPLETED) this.#announceFinal(event.item_id);
    if (event.type === SERVER.STATUS) this.#status(event);
    if (event.type === SERVER.TURN) this.delays_ms.set(event.item_id, event.transcription_delay_ms);
    if (event.type === SERVER.ERROR) this.turnsView.divide(`Server: ${event.error?.message}`);
    if (event.type !== SERVER.REPLY_AUDIO) this.draw();
  }

  /** @param {WireEvent} event */
  #replyAudio(event) {
    if (this.player === null || !this.conversation.wants(event.item_id)) return;
    const samples = fromBase64(event.delta);
    this.conversation.replyAudio(event.item_id, (1000 * samples.length) / WIRE_RATE_HZ);
    this.player.feed(event.item_id, samples);
  }

  /** @param {boolean} byPerson false when the connection went */
  async #interrupt(byPerson) {
    const playing = this.player?.items[0];
    if (this.player === null || playing === undefined) return;
    this.conversation.cut(playing.itemId, playing.heardMs, byPerson);
    const cut = await this.player.flush();
    if (cut === null) return;
    if (cut.whole) return this.conversation.heardWhole(cut.itemId);
    this.conversation.cut(cut.itemId, cut.playedMs, byPerson);
    if (byPerson) this.#bargedIn(cut.itemId, cut.playedMs);
  }

  /** @param {string} itemId @param {number} playedMs */
  #bargedIn(itemId, playedMs) {
    this.bargeIns += 1;
    this.truncatedAtMs = playedMs;
    this.session.truncate(itemId, playedMs);
    this.draw();
  }

  /** @param {string} itemId */
  #replyFinished(itemId) {
    this.conversation.heardWhole(itemId);
    const turn = this.conversation.byItem.get(itemId);
    if (turn) view.announceReply(turn);
    this.draw();
  }

  /** @param {string} itemId */
  #announceFinal(itemId) {
    const turn = this.conversation.byItem.get(itemId);
    if (turn) view.announceFinal(turn);
  }

  /** @param {WireEvent} event */
  #status(event) {
    view.drawModel(/** @type {any} */ (event));
    // Standing aside is no trouble to who is inside.
    const well = event.state === "ready" || event.state === "aside";
    const trouble = well ? null : `${event.state}: ${event.detail}`;
    const busy = NO_PARTIALS.includes(event.degradation) ? NO_PARTIALS_NOTICE : null;
    this.#notice(trouble ?? ([busy, event.notice].filter(Boolean).join(" · ") || null));
  }

  // --- onto the page -------------------------------------------------------------------------

  /** Before anything is started: who is there? */
  async greet() {
    if (!microphoneIsReachable()) this.fail("insecure");
    const readiness = await fetchReadiness(AbortSignal.timeout(5000));
    if (readiness !== null && this.readiness === null) this.#known(readiness);
    this.draw();
  }

  /** @param {Readiness} readiness */
  #known(readiness) {
    if (readiness.needs_key) return; // it tells strangers nothing of itself
    if (this.readiness === null) view.drawModel(readiness);
    this.readiness = readiness;
    this.#notice(readiness.notice);
    const selfTest = readiness.model_kind === "self-test model";
    view.write("hint", selfTest ? SELF_TEST_HINT : "");
    view.show("hint", selfTest);
  }

  /** @param {string | null} text */
  #notice(text) {
    view.write("notice", text ?? "");
    view.show("notice", Boolean(text));
  }

  #clearProblem() {
    this.problem = null;
    view.hideHelp();
  }

  #statusText() {
    const { phase, player } = this;
    if (phase === "live") {
      if (this.microphone?.muted) return "Muted";
      if (this.conversation.turns.at(-1)?.speaking) return "Hearing you";
      return player?.isPlaying ? "Replying; speak to interrupt" : "Listening";
    }
    return {
      idle: "Ready when you are",
      open: "Connected",
      preparing: "Getting ready",
      connecting: "Connecting",
      microphone: "Allow the microphone",
      waiting: "Waiting to try again",
      failed: "Stopped",
    }[phase];
  }

  draw() {
    const { phase } = this;
    document.body.dataset.phase = phase;
    const replying = phase === "live" && (this.player?.isPlaying ?? false);
    document.body.classList.toggle("replying", replying);
    view.drawStart(phase === "live" ? "on" : this.isRunning ? "busy" : "off");
    view.drawMute(this.microphone?.muted ?? false, phase === "live");
    view.write("status", this.#statusText());
    this.#announcePhase(phase);
    this.#drawEmpty();
    this.#drawStats();
  }

  /** Within a conversation the finals are read out, not every change. @param {string} phase */
  #announcePhase(phase) {
    if (phase === this.announcedPhase) return;
    this.announcedPhase = phase;
    if (phase !== "waiting" && phase !== "failed") view.announce(this.#statusText());
  }

  #drawEmpty() {
    const shown = ["loading", "help"].some((id) => !view.byId(id).hidden);
    view.show("empty", this.conversation.turns.length === 0 && !shown);
    view.show("legend", this.conversation.turns.length > 0 || !shown);
  }

  #drawStats() {
    const { connectionMs } = this.session;
    if (connectionMs !== null) view.write("stat-connection", formatMs(connectionMs));
    view.drawDelay([...this.delays_ms.values()]);
    const finals = this.conversation.turns.filter((turn) => turn.final !== null);
    view.write("stat-turns", String(finals.length));
    view.write("stat-interruptions", String(this.bargeIns));
    view.write("stat-underruns", String(this.underruns));
  }

  drawLevel() {
    const on = this.microphone !== null && !this.microphone.muted;
    view.drawLevel(this.level_dbfs, on);
  }
}

const page = new Page();

Object.defineProperty(window, "rtvcPage", { value: readable(page) });

view.byId("start").onclick = () => page.toggle();
view.byId("mute").onclick = () => page.toggleMute();
window.addEventListener("online", () => page.session.retryNow());
wireThemeButton();

function drawFrame() {
  page.drawLevel();
  requestAnimationFrame(drawFrame);
}
requestAnimationFrame(drawFrame);
page.draw();
void page.greet();
