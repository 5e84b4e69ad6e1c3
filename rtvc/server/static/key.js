// @ts-check
// The key of a server that wants one: asked for once, kept in this tab, and never put on the wire of
// a WebSocket, which gets a short-lived token instead.

import { endpoints } from "./wire.js";

const STORED = "rtvc-key";
const TOKEN_TIMEOUT_MS = 5_000;
const SUBPROTOCOL = "openai-insecure-api-key.";

/** The server does not know the key. */
export class WrongKeyError extends Error {}

function stored() {
  try {
    return sessionStorage.getItem(STORED);
  } catch {
    return null; // storage is forbidden: a server without keys works all the same
  }
}

export function hasKey() {
  return stored() !== null;
}

export function forgetKey() {
  if (hasKey()) sessionStorage.removeItem(STORED);
}

/** @returns {Record<string, string>} headers of a request; none without a key */
export function authorization() {
  const key = stored();
  return key === null ? {} : { Authorization: `Bearer ${key}` };
}

/**
 * What to offer when the WebSocket is opened; nothing without a key.
 * @param {AbortSignal} signal @returns {Promise<string[]>}
 */
export async function subprotocols(signal) {
  if (!hasKey()) return [];
  const response = await fetch(endpoints().secrets, {
    method: "POST",
    cache: "no-store",
    headers: { ...authorization(), "Content-Type": "application/json" },
    body: JSON.stringify({ session: { type: "realtime" } }),
    signal: AbortSignal.any([signal, AbortSignal.timeout(TOKEN_TIMEOUT_MS)]),
  });
  if (response.status === 401 || response.status === 403) throw new WrongKeyError();
  if (!response.ok) throw new Error(`no token: ${response.status}`);
  const { value } = await response.json();
  return ["realtime", SUBPROTOCOL + value];
}

/** Headers hold Latin-1 only, and a key has no spaces. @param {string} text */
function plausible(text) {
  return /^[\x21-\x7e]+$/.test(text);
}

/** A form in place of the section's button. @param {HTMLElement} section @param {() => void} then */
export function drawKeyForm(section, then) {
  const form = document.createElement("form");
  const input = document.createElement("input");
  input.type = "password";
  input.autocomplete = "current-password";
  input.ariaLabel = "Key";
  input.required = true;
  const button = section.querySelector("button") ?? document.createElement("button");
  button.type = "submit";
  button.onclick = null;
  form.className = "key-form";
  form.append(input, button);
  form.onsubmit = (event) => {
    event.preventDefault();
    const key = input.value.trim();
    if (!plausible(key)) return input.focus();
    sessionStorage.setItem(STORED, key);
    then();
  };
  section.append(form);
  input.focus();
}
