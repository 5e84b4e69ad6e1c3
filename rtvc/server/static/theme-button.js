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
  if (theme === "system") {
    delete document.documentElement.dataset.theme;
    localStorage.removeItem(STORED_AS);
  } else {
    document.documentElement.dataset.theme = theme;
    localStorage.setItem(STORED_AS, theme);
  }
  draw();
}

function draw() {
  write("theme", `Theme: ${current()}`);
}

export function wireThemeButton() {
  byId("theme").onclick = () => choose(THEMES[(THEMES.indexOf(current()) + 1) % THEMES.length]);
  draw();
}
