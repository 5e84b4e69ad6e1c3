// @ts-check
// What tests and the curious may read of the page, at `window.rtvcPage`.

/** @param {import("./app.js").Page} page */
export function readable(page) {
  return Object.freeze({
    get phase() {
      return page.phase;
    },
    get problem() {
      return page.problem;
    },
    get turns() {
      return page.conversation.turns.map((turn) => ({
        final: turn.final,
        hypothesis: turn.hypothesis,
        reply: turn.replyText,
        heardMs: turn.heardMs,
        heardWhole: turn.heardWhole,
        interrupted: turn.interrupted,
        timings: turn.timings,
      }));
    },
    get playing() {
      return page.player?.isPlaying ?? false;
    },
    get playedMs() {
      return page.playedMs;
    },
    get underruns() {
      return page.underruns;
    },
    get bargeIns() {
      return page.bargeIns;
    },
    get truncatedAtMs() {
      return page.truncatedAtMs;
    },
    get connectionMs() {
      return page.session.connectionMs;
    },
    get framesSent() {
      return page.session.framesSent;
    },
    get framesDropped() {
      return page.session.framesDropped;
    },
    get sessions() {
      return page.sessions;
    },
  });
}
