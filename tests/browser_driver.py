"""A Chromium with a microphone that speaks what it is told, and what its page says of itself."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

from rtvc.audio import write_wav
from rtvc.speech.synthesis import Synthesizer

MICROPHONE_HZ = 48_000
_QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=user-gesture-required",
    "--host-resolver-rules=MAP voice.example 127.0.0.1",
]
_READ_STATE = """() => {
    const state = {};
    for (const name of Object.keys(window.rtvcPage)) state[name] = window.rtvcPage[name];
    return state;
}"""


@dataclass(frozen=True)
class Said:
    """A sentence for the fake microphone."""

    text: str
    """What is said."""
    silence_before_s: float
    """Seconds of silence first."""


def find_chromium() -> str | None:
    """The browser's path; None where there is none."""
    installed = Path("/usr/bin/chromium")
    return str(installed) if installed.exists() else shutil.which("chromium")


def write_microphone(path: Path, said: Sequence[Said], silence_after_s: float = 30.0) -> Path:
    """A WAV for Chromium's fake device: sentences with silence around them."""
    speak = Synthesizer(reproducible=True).say
    pieces: list[Any] = []
    for one in said:
        pieces.append(np.zeros(round(one.silence_before_s * MICROPHONE_HZ), np.float32))
        pieces.append(speak(one.text, rate_hz=MICROPHONE_HZ).audio)
    pieces.append(np.zeros(round(silence_after_s * MICROPHONE_HZ), np.float32))
    write_wav(path, np.concatenate(pieces), MICROPHONE_HZ)
    return path


@contextmanager
def chromium(microphone: Path | None, *, allow: bool = True) -> Iterator[Browser]:
    """A headless Chromium; `allow` answers the microphone prompt."""
    answer = "--use-fake-ui-for-media-stream" if allow else "--deny-permission-prompts"
    arguments = [*_QUIET, answer]
    if microphone is not None:
        arguments.append(f"--use-file-for-fake-audio-capture={microphone}%noloop")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=arguments)
        try:
            yield browser
        finally:
            browser.close()


def state_of(page: Page) -> dict[str, Any]:
    """What the page says of itself."""
    state: dict[str, Any] = page.evaluate(_READ_STATE)
    return state


def wait_for(page: Page, condition: str, timeout_s: float = 60.0) -> dict[str, Any]:
    """Wait for a JavaScript condition over `rtvcPage`; the state then."""
    page.wait_for_function(f"() => {condition}", timeout=timeout_s * 1000, polling=50)
    return state_of(page)
