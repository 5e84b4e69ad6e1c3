"""The page in a real browser against the real server: it hears, answers, and is interrupted."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import rtvc.server
from rtvc.server.access.keys import entry
from rtvc.transcript import word_errors

pytest.importorskip("playwright.sync_api", reason="needs playwright (the dev extra)")

from playwright.sync_api import ConsoleMessage, Page

from tests import browser_driver as driver
from tests.servers import running_server

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(
        driver.find_chromium() is None,
        reason="needs Chromium at /usr/bin/chromium or on PATH",
    ),
]

FIRST = "I need you to check the weather in Madrid."
SECOND = "Stop, and set a timer for ten minutes."
THIRD = "If we need the purple letter, tell me a joke."
STATIC = Path(rtvc.server.__file__).parent / "static"
TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


@pytest.fixture
def screenshots() -> Path | None:
    """Where pictures of the conversation go; None: nowhere."""
    folder = os.environ.get("RTVC_SCREENSHOTS")  # noqa: TID251 (a switch of the test run alone)
    return Path(folder) if folder else None


def watch(page: Page) -> list[str]:
    """Collects what a developer would see in red."""
    complaints: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    page.on("console", on_console)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return complaints


def within_one_word(said: str, heard: str | None) -> bool:
    return heard is not None and word_errors(said, heard).errors <= 1


def test_a_conversation_with_an_interruption(
    server_url: str, tmp_path: Path, screenshots: Path | None
) -> None:
    said = [driver.Said(FIRST, 2.0), driver.Said(SECOND, 3.0), driver.Said(THIRD, 12.0)]
    microphone = driver.write_microphone(tmp_path / "microphone.wav", said)
    with driver.chromium(microphone) as browser:
        page = browser.new_page(viewport={"width": 1180, "height": 920})
        complaints = watch(page)
        page.goto(server_url)
        page.get_by_role("button", name="Start talking").click()

        partial = driver.wait_for(page, "rtvcPage.turns[0]?.hypothesis")
        assert partial["phase"] == "live"
        heard = driver.wait_for(page, "rtvcPage.turns[0]?.final != null")
        assert within_one_word(FIRST, heard["turns"][0]["final"])

        driver.wait_for(page, "rtvcPage.playedMs > 500")
        cut = driver.wait_for(page, "rtvcPage.bargeIns === 1")
        assert cut["turns"][0]["interrupted"]
        assert 0 < cut["truncatedAtMs"] <= cut["playedMs"]
        assert not cut["playing"]
        assert page.locator(".turn").first.locator(".cut-flag").inner_text().startswith("interr")

        driver.wait_for(page, "rtvcPage.turns[1]?.final != null")
        ended = driver.wait_for(page, "rtvcPage.turns[1]?.heardWhole")
        assert within_one_word(SECOND, ended["turns"][1]["final"])
        assert ended["turns"][1]["heardMs"] > 500
        assert ended["bargeIns"] == 1
        assert ended["underruns"] <= 2
        assert complaints == []
        check_waterfall(page, ended["turns"][1]["timings"])
        if screenshots is not None:
            take_pictures(page, screenshots)


def check_waterfall(page: Page, timings: dict[str, Any]) -> None:
    """The bars stand end to end, and the totals are the server's."""
    turn = page.locator(".turn").nth(1)
    boxes = [bar.bounding_box() for bar in turn.locator(".bar > .segment").all()]
    assert len(boxes) == len(timings["segments"])
    for left, right in pairwise(boxes):
        assert left is not None
        assert right is not None
        assert right["x"] == pytest.approx(left["x"] + left["width"], abs=1.5)
    assert f"{round(timings['transcription_delay_ms'])} ms" in turn.locator(".totals").inner_text()
    turn.locator("summary").click()
    assert turn.locator("tbody tr").count() == (
        len(timings["segments"]) + len(timings["hidden"]) + 1
    )
    turn.locator("summary").click()


def take_pictures(page: Page, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    loud = "document.getElementById('meter').ariaValueNow > -35"
    driver.wait_for(page, f"rtvcPage.turns[2]?.hypothesis.split(' ').length > 3 && {loud}")
    page.screenshot(path=folder / "page-light.png")
    driver.wait_for(page, "rtvcPage.turns[2]?.heardMs > 1500")
    page.emulate_media(color_scheme="dark")
    page.screenshot(path=folder / "page-dark.png")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 360, "height": 740})
    page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")
    page.screenshot(path=folder / "page-narrow.png")


def test_a_browser_that_refuses_24_khz_hears_and_speaks_all_the_same(
    server_url: str, tmp_path: Path
) -> None:
    microphone = driver.write_microphone(tmp_path / "microphone.wav", [driver.Said(FIRST, 1.0)])
    with driver.chromium(microphone) as browser:
        page = browser.new_page()
        page.add_init_script("""
            window.rates = [];
            window.AudioContext = class extends AudioContext {
                constructor({ sampleRate, ...rest }) {
                    if (sampleRate !== undefined) throw new DOMException("", "NotSupportedError");
                    super({ ...rest, sampleRate: 44100 });
                    window.rates.push(this.sampleRate);
                }
            };""")
        page.goto(server_url)
        page.get_by_role("button", name="Start talking").click()
        state = driver.wait_for(page, "rtvcPage.turns[0]?.heardWhole")
        assert page.evaluate("window.rates") == [44100]
        assert within_one_word(FIRST, state["turns"][0]["final"])
        assert state["playedMs"] == pytest.approx(state["turns"][0]["heardMs"], rel=0.05)


def test_a_refused_microphone_is_explained(server_url: str) -> None:
    with driver.chromium(None, allow=False) as browser:
        page = browser.new_page()
        page.goto(server_url)
        page.get_by_role("button", name="Start talking").click()
        page.get_by_role("heading", name="The microphone was refused").wait_for()
        assert "Set Microphone to Allow" in page.locator("#help").inner_text()
        assert driver.state_of(page)["phase"] == "failed"
        assert page.get_by_role("button", name="Start talking").is_enabled()


def test_a_missing_microphone_is_explained(server_url: str) -> None:
    with driver.chromium(None) as browser:
        page = browser.new_page()
        page.add_init_script("""
            navigator.mediaDevices.getUserMedia = () =>
                Promise.reject(new DOMException("Requested device not found", "NotFoundError"));
        """)
        page.goto(server_url)
        page.get_by_role("button", name="Start talking").click()
        page.get_by_role("heading", name="No microphone was found").wait_for()


def test_plain_http_from_elsewhere_is_explained() -> None:
    with running_server("--open", model="scripted") as url, driver.chromium(None) as browser:
        page = browser.new_page()
        page.goto(url.replace("127.0.0.1", "voice.example"))
        page.get_by_role("heading", name="The browser hides the microphone").wait_for()
        assert "--tls self-signed" in page.locator("#help").inner_text()


def test_a_server_with_keys_is_talked_to_with_one(tmp_path: Path) -> None:
    """The page asks for the key, keeps it in the tab, and never shows it to a WebSocket."""
    key = "rtvc_" + "k" * 43
    (tmp_path / "keys.toml").write_text(entry("ada", key))
    microphone = driver.write_microphone(tmp_path / "silence.wav", [])
    keys_file = ("--keys-file", str(tmp_path / "keys.toml"))
    with (
        running_server(*keys_file, model="scripted") as url,
        driver.chromium(microphone) as browser,
    ):
        page = browser.new_page()
        complaints, offered = watch(page), []
        page.on("request", lambda request: offered.append(request.url))
        page.on("websocket", lambda wire: offered.append(wire.url))
        page.goto(url)
        page.get_by_role("button", name="Start talking").click()
        page.get_by_role("heading", name="This server wants a key").wait_for()
        page.get_by_label("Key").fill("not this one")
        page.get_by_role("button", name="Talk", exact=True).click()
        page.get_by_label("Key").fill("rtvc_wrong")
        page.keyboard.press("Enter")
        page.locator("#help").get_by_text("The key is not known here").wait_for()
        page.get_by_label("Key").fill(key)
        page.get_by_role("button", name="Talk", exact=True).click()
        driver.wait_for(page, "rtvcPage.phase === 'live'")
        assert not page.locator("#help").is_visible()
        assert page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 1]
        assert any(one.startswith("ws:") for one in offered)
        assert not [one for one in offered if key in one or "ek_" in one]

        page.get_by_role("button", name="Stop").click()
        page.reload()
        page.get_by_role("button", name="Start talking").click()
        driver.wait_for(page, "rtvcPage.phase === 'live'")
        assert complaints == []


def test_controls_have_names_and_work_by_keyboard(server_url: str, tmp_path: Path) -> None:
    microphone = driver.write_microphone(tmp_path / "silence.wav", [])
    with driver.chromium(microphone) as browser:
        page = browser.new_page(viewport={"width": 360, "height": 740})
        complaints = watch(page)
        page.goto(server_url)
        controls = page.locator("button, a[href], input, select, summary, [role=meter]").all()
        assert len(controls) >= 4
        for control in controls:
            assert control.evaluate("e => e.ariaLabel || e.innerText.trim()"), control
        assert page.evaluate("document.documentElement.scrollWidth") == 360

        page.get_by_role("button", name="Start talking").focus()
        page.keyboard.press("Enter")
        driver.wait_for(page, "rtvcPage.phase === 'live'")
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        assert page.get_by_role("button", name="Unmute").get_attribute("aria-pressed") == "true"
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Space")
        driver.wait_for(page, "rtvcPage.phase === 'idle'")
        assert complaints == []


def test_the_theme_is_kept(server_url: str) -> None:
    with driver.chromium(None) as browser:
        page = browser.new_page(color_scheme="light")
        page.goto(server_url)
        paper = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(paper)
        page.get_by_role("button", name="Theme").click()
        assert page.evaluate(paper) == light
        page.get_by_role("button", name="Theme").click()
        dark = page.evaluate(paper)
        assert dark != light
        page.reload()
        assert page.evaluate(paper) == dark


def test_a_tone_survives_the_resampler(server_url: str) -> None:
    """For browsers that refuse a 24 kHz context: right pitch and level, no aliases."""
    script = """async ([fromHz, toneHz]) => {
        const { Resampler } = await import("./static/resampler.js");
        const resampler = new Resampler(fromHz, 24000);
        const out = [];
        const piece = new Float32Array(128);
        const room = new Float32Array(resampler.capacityFor(128));
        for (let at = 0; at < fromHz; at += 128) {
            for (let i = 0; i < 128; i++) {
                piece[i] = Math.sin((2 * Math.PI * toneHz * (at + i)) / fromHz);
            }
            out.push(...room.slice(0, resampler.feed(piece, room)));
        }
        const steady = out.slice(2000, 22000);
        const power = steady.reduce((sum, x) => sum + x * x, 0) / steady.length;
        const crossings = steady.filter((x, i) => i > 0 && steady[i - 1] < 0 && x >= 0).length;
        return { count: out.length, rms: Math.sqrt(power), hz: (crossings * 24000) / 20000 };
    }"""
    with driver.chromium(None) as browser:
        page = browser.new_page()
        page.goto(server_url)
        for rate_hz in (16_000, 44_100, 48_000):
            tone = page.evaluate(script, [rate_hz, 1000])
            assert tone["count"] == pytest.approx(24_000, abs=250)
            assert tone["rms"] == pytest.approx(0.7071, rel=0.01)
            assert tone["hz"] == pytest.approx(1000, rel=0.01)
        assert page.evaluate(script, [48_000, 15_000])["rms"] < 0.003


CONTRASTS = """() => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const luminance = (name) => {
        const probe = document.body.appendChild(document.createElement("i"));
        probe.style.color = `var(--${name})`;
        canvas.fillStyle = getComputedStyle(probe).color;
        probe.remove();
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((byte) => {
            const share = byte / 255;
            return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const pairs = [
        ["on-accent", "accent"], ["on-work", "work"], ["on-wait", "wait"], ["paper", "ink"],
    ];
    for (const text of ["ink", "muted", "over", "within", "target"]) {
        for (const ground of ["paper", "surface", "sunken"]) pairs.push([text, ground]);
    }
    return pairs.map(([text, ground]) => {
        const [dark, light] = [luminance(text), luminance(ground)].sort((a, b) => a - b);
        return [`${text} on ${ground}`, (light + 0.05) / (dark + 0.05)];
    });
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out(server_url: str, theme: str) -> None:
    with driver.chromium(None) as browser:
        page = browser.new_page()
        page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
        page.goto(server_url)
        contrasts = page.evaluate(CONTRASTS)
        assert len(contrasts) == 19
        assert [pair for pair in contrasts if pair[1] < 4.5] == []


class PageStub:
    """The page's files and a /readyz that stands still; the rest is refused."""

    def __init__(self) -> None:
        self.readiness: dict[str, Any] = {
            "state": "loading",
            "progress": 0.4,
            "detail": "speech-to-text: reading weights",
            "tasks": [
                {
                    "name": "speech-to-text",
                    "state": "loading",
                    "progress": 0.4,
                    "detail": "weights",
                },
                {"name": "voice activity", "state": "ready", "progress": 1.0, "detail": ""},
            ],
            "model": "selftest",
            "model_kind": "self-test model",
            "notice": None,
            "sessions": 0,
            "max_sessions": 8,
            "full": False,
            "retry_after_s": None,
            "version": "0",
        }

    def answer(self, path: str) -> tuple[int, str, bytes]:
        if path == "/prefix/readyz":
            return 503, "application/json", json.dumps(self.readiness).encode()
        name = "index.html" if path == "/prefix/" else path.removeprefix("/prefix/static/")
        file = STATIC / name
        if not file.is_file():
            return 404, "text/plain", b""
        return 200, TYPES[file.suffix], file.read_bytes()

    @contextmanager
    def serving(self) -> Iterator[str]:
        stub = self

        class Answer(BaseHTTPRequestHandler):
            """One request."""

            def do_GET(self) -> None:
                status, kind, body = stub.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as http:
            thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            try:
                yield f"http://127.0.0.1:{http.server_port}/prefix/"
            finally:
                http.shutdown()
                thread.join()


def test_loading_full_aside_and_failed_are_shown() -> None:
    """Behind a path prefix, too: the page asks for nothing outside its own folder."""
    stub = PageStub()
    with stub.serving() as url, driver.chromium(None) as browser:
        page = browser.new_page()
        page.goto(url)
        page.get_by_role("button", name="Start talking").click()
        page.get_by_role("heading", name="Getting ready, 40 %").wait_for()
        assert (
            page.get_by_role("progressbar", name="speech-to-text").evaluate("e => e.value") == 0.4
        )
        assert page.locator("#start").get_attribute("aria-busy") == "true"

        stub.readiness |= {"state": "ready", "full": True, "sessions": 8, "retry_after_s": 7.0}
        page.get_by_role("heading", name="The server is full").wait_for()
        assert "8 of 8 conversations are taken" in page.locator("#help").inner_text()
        assert driver.state_of(page)["phase"] == "waiting"

        stub.readiness |= {"state": "aside", "full": False, "sessions": 2, "retry_after_s": 1.0}
        page.get_by_role("button", name="Try now").click()
        page.get_by_role("heading", name="Looking for another server").wait_for()
        assert not page.locator("#loading").is_visible()
        assert driver.state_of(page)["phase"] == "waiting"
        # None is found, so it asks this one for a conversation, which the stub has none of.
        page.get_by_role("heading", name="The server does not answer").wait_for()

        stub.readiness |= {"state": "failed", "full": False, "detail": "no such file: model.bin"}
        page.get_by_role("button", name="Try now").click()
        page.get_by_role("heading", name="The server could not get ready").wait_for()
        assert "no such file: model.bin" in page.locator("#help").inner_text()


def test_a_lost_connection_comes_back_with_the_conversation(tmp_path: Path) -> None:
    said = [driver.Said(FIRST, 1.0)]
    microphone = driver.write_microphone(tmp_path / "microphone.wav", said)
    with driver.chromium(microphone) as browser:
        page = browser.new_page()
        with running_server() as url:
            page.goto(url)
            page.get_by_role("button", name="Start talking").click()
            driver.wait_for(page, "rtvcPage.turns[0]?.final != null")
        waiting = driver.wait_for(page, "rtvcPage.phase === 'waiting'")
        assert within_one_word(FIRST, waiting["turns"][0]["final"])
        assert page.locator("#help button").is_visible()
        with running_server(port=urlsplit(url).port):
            driver.wait_for(page, "rtvcPage.phase === 'live'")
            back = driver.wait_for(page, "rtvcPage.sessions === 2")
            assert len(back["turns"]) == 1
            assert page.locator(".turn .said").first.is_visible()
