// @ts-check
// The button that goes through: as the system, light, dark.

import { byId, write } from "./view.js";

const THEMES = /** @type {const} */ (["system", "light", "dark"]);
const STORED_AS = "rtvc-theme";

/** @typedef {typeof THEMES[number]} Theme */

/** @returns {Theme} */
function current() {
  return /** @type {Theme} */ (document.documentElement.dataset.theme ?? "system");
}

/** @param {Theme} theme */
function choose(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  draw();
  remember(theme);
}

/** @param {Theme} theme */
function remember(theme) {
  try {
    localStorage.setItem(STORED_AS, theme);
  } catch {
    // Storage is blocked: chosen for this visit only.
  }
}

function draw() {
  write("theme", `Theme: ${current()}`);
}

export function wireThemeButton() {
  byId("theme").onclick = () => choose(THEMES[(THEMES.indexOf(current()) + 1) % THEMES.length]);
  draw();
}
