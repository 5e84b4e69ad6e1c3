// @ts-check
// What went wrong in words, and exactly what to do about it.

/**
 * @typedef {{title: string, text: string, steps?: {what: string, command?: string}[], action: string}} Help
 */

function port() {
  return location.port || (location.protocol === "https:" ? "443" : "80");
}

/** @returns {Help} */
function insecure() {
  const here = port();
  return {
    title: "The browser hides the microphone on this address",
    text:
      `${location.origin} is plain http from another machine. Browsers offer the microphone only ` +
      "over https or from localhost. Do one of these:",
    steps: [
      {
        what: "Serve https, then open this page with https://",
        command: `rtvc serve --host 0.0.0.0 --port ${here} --tls self-signed --keys-file keys.toml`,
      },
      {
        what: `Or forward the port, then open http://localhost:${here}`,
        command: `ssh -L ${here}:localhost:${here} ${location.hostname}`,
      },
    ],
    action: "Check again",
  };
}

/** @returns {Help} */
function refused() {
  return {
    title: "The microphone was refused",
    text: "Nothing is wrong with the server: this browser does not let the page listen.",
    steps: [
      { what: "Open the site settings: the icon left of the address." },
      { what: "Set Microphone to Allow. Check that the system lets the browser use it, too." },
      { what: "Press Try again." },
    ],
    action: "Try again",
  };
}

/** @returns {Help} */
function missing() {
  return {
    title: "No microphone was found",
    text: "Connect one, or choose one in the system's sound settings, then try again.",
    action: "Try again",
  };
}

/** @param {string} detail @returns {Help} */
function busy(detail) {
  return {
    title: "The microphone could not be opened",
    text: `Another program may hold it; close that one and try again. The browser says: ${detail}`,
    action: "Try again",
  };
}

/** @param {string} detail @returns {Help} */
function failed(detail) {
  return {
    title: "The server could not get ready",
    text: detail || "It gave no reason; its log will.",
    steps: [{ what: "Correct it where the server runs, start it again, then press Try again." }],
    action: "Try again",
  };
}

/** @param {string} detail @returns {Help} */
function key(detail) {
  return {
    title: "This server wants a key",
    text: detail || "Ask whoever runs it for one; it stays in this tab until you close it.",
    action: "Talk",
  };
}

/** @param {string} detail @returns {Help} */
function sound(detail) {
  return {
    title: "Sound could not be started",
    text: `This page needs AudioWorklet, which every current browser has. The browser says: ${detail}`,
    action: "Try again",
  };
}

/** @type {Record<string, (detail: string) => Help>} */
const PROBLEMS = { insecure, refused, missing, busy, failed, key, sound };

/** @param {string} problem @param {string} detail @returns {Help} */
export function helpFor(problem, detail) {
  return (PROBLEMS[problem] ?? sound)(detail);
}

/**
 * @param {import("./session.js").WaitReason} reason
 * @param {number} seconds
 * @param {import("./wire.js").Readiness | null} readiness
 * @returns {Help}
 */
export function waitingHelp(reason, seconds, readiness) {
  const again = `Trying again in ${seconds} s.`;
  const action = "Try now";
  if (reason === "full") {
    const title = "The server is full";
    if (readiness && readiness.sessions < readiness.max_sessions) {
      // It keeps the conversations it has quick, and so refuses before all places are taken.
      return { title, text: `One conversation more would slow down the others. ${again}`, action };
    }
    const taken = readiness ? `${readiness.max_sessions} of ${readiness.max_sessions} ` : "All ";
    return { title, text: `${taken}conversations are taken. ${again}`, action };
  }
  if (reason === "aside") {
    const title = "Looking for another server";
    const text = `The group of this one has more than it needs; those who talk here go on. ${again}`;
    return { title, text, action };
  }
  if (reason === "lost") {
    return { title: "The connection was lost", text: `What was said stays here. ${again}`, action };
  }
  return { title: "The server does not answer", text: `Is it running? ${again}`, action };
}
