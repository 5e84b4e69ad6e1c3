"""The protocols that simulated speakers know."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.errors import UsageError
from rtvc.loadtest.plan import Wish, make_spec
from rtvc.loadtest.wire.client import ProtocolClient
from rtvc.loadtest.wire.detect import detect
from rtvc.loadtest.wire.messages import protocol_of
from rtvc.loadtest.wire.wires import AUTO, WIRES, Wire, wire_for, wire_of_path
from rtvc.summary.observable import OBSERVABLE

URL = "ws://127.0.0.1:8000"

EVERY_WIRE = pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES.keys())


def client_of(wire: Wire, tmp_path: Path) -> ProtocolClient:
    spec = make_spec(Wish(URL, protocol=wire.name), tmp_path, tmp_path)
    return wire.new_client(spec)


@EVERY_WIRE
def test_a_frame_holds_whole_samples(wire: Wire) -> None:
    for frame_ms in wire.frames_ms:
        samples = wire.rate_hz * wire.frame_s(frame_ms)
        assert samples == pytest.approx(round(samples), abs=1e-6)
    assert wire.frame_s(None) == wire.frames_ms[0] / 1000


@EVERY_WIRE
def test_a_run_of_it_can_be_planned(wire: Wire, tmp_path: Path) -> None:
    wish = Wish(URL, protocol=wire.name)
    spec = make_spec(wish, tmp_path, tmp_path)
    assert spec.protocol == wire.name
    assert spec.conversation == wire.conversation
    assert spec.url.partition("?")[0] == URL + wire.path
    assert spec.scenario == ("conversation" if wire.conversation else "dictation")
    assert wish.not_observable == wire.not_observable


@EVERY_WIRE
def test_what_cannot_be_observed_has_a_name_that_objectives_use(wire: Wire) -> None:
    assert wire.not_observable <= OBSERVABLE
    assert wire.conversation or {"response_latency", "replies_missing"} <= wire.not_observable


@EVERY_WIRE
def test_every_call_has_a_client_of_its_own(wire: Wire, tmp_path: Path) -> None:
    first, second = client_of(wire, tmp_path), client_of(wire, tmp_path)
    assert first is not second
    if wire.append is not None:
        assert wire.append(bytes(640)) == first.append(bytes(640)) == second.append(bytes(640))


@EVERY_WIRE
def test_nobody_takes_another_protocols_first_word_for_its_own(wire: Wire, tmp_path: Path) -> None:
    for name, words in FIRST_WORDS.items():
        seen = client_of(wire, tmp_path).receive(words, 1.0)
        failure = getattr(seen, "failure", None)
        assert (failure == "wrong_protocol") == (name != wire.name), (name, seen)


FIRST_WORDS = {
    "openai-realtime": '{"type":"session.created","session":{"id":"s"}}',
    "realtimevoicechat": '{"type":"partial_user_request","content":"hello"}',
    "realtimestt": '{"type":"hello","sessionId":"s"}',
    "whisperlive": '{"uid":"u","message":"SERVER_READY"}',
}


@settings(deadline=None, max_examples=100)
@given(
    event=st.dictionaries(
        st.sampled_from(["type", "uid", "content", "sessionId", "where", "error"]),
        st.none()
        | st.integers()
        | st.sampled_from(["error", "hello", "final", "tts_chunk", "session.created"]),
    )
)
def test_whose_a_message_is_is_never_an_error(event: dict[str, object]) -> None:
    assert protocol_of(event) in (None, *WIRES)


def test_whisperlive_callers_have_ids_of_their_own(tmp_path: Path) -> None:
    wire = WIRES["whisperlive"]
    greetings = {str(client_of(wire, tmp_path).greeting()) for _ in range(20)}
    assert len(greetings) == 20


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/realtime", "openai-realtime"),
        ("/box/v1/realtime/", "openai-realtime"),
        ("/ws", "realtimevoicechat"),
        ("/ws/transcribe", "realtimestt"),
        ("/", None),
        ("", None),
        ("/asr", None),
    ],
)
def test_a_path_tells_whose_it_is(path: str, name: str | None) -> None:
    wire = wire_of_path(path)
    assert (wire.name if wire else None) == name


def test_what_the_path_tells_need_not_be_asked() -> None:
    nobody = "ws://127.0.0.1:1"
    for name in ("realtimevoicechat", "realtimestt", "openai-realtime"):
        url = nobody + WIRES[name].path
        assert detect(url, client=None, clock=None).name == name  # type: ignore[arg-type]
        assert wire_for(AUTO, url).name == name


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (Wish(URL, protocol="realtimevoicechat", transcription=True), "always replies"),
        (Wish(URL, protocol="realtimevoicechat", storm_rounds=2), "no word for ready"),
        (Wish(URL, protocol="realtimevoicechat", frame_ms=256), "--frame-ms of 42.67, 20, 40"),
        (Wish(URL, protocol="whisperlive", frame_ms=30), "--frame-ms of 256, 20"),
        (Wish(URL, protocol="whisperlive", scenario="conversation"), "nobody replies"),
        (Wish(URL, protocol="telex"), "auto, openai-realtime, realtimevoicechat, realtimestt"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_protocol_cannot_do_is_said_at_once(
    wish: Wish, expected: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=expected):
        make_spec(wish, tmp_path, tmp_path)


def test_a_page_sends_2048_samples_at_a_time(tmp_path: Path) -> None:
    wire = WIRES["realtimevoicechat"]
    assert round(wire.rate_hz * wire.frame_s(None)) == 2048
    assert wire.frame_s(42.67) == wire.frame_s(None)


def test_only_a_transcription_session_hides_what_nobody_says() -> None:
    wish = Wish(URL, protocol="openai-realtime")
    assert not wish.not_observable
    asked = Wish(URL, protocol="openai-realtime", transcription=True)
    assert "response_latency" in asked.not_observable
