"""WhisperLive's messages as observations, and the other way."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.loadtest.wire.observations import (
    ErrorReported,
    Garbage,
    SessionUsable,
    SpansHeard,
    TextSpan,
    TurnedAway,
)
from rtvc.loadtest.wire.whisperlive import END_OF_AUDIO, WhisperLiveClient

READY = {"uid": "me", "message": "SERVER_READY", "backend": "faster_whisper"}


def client(*, ready: bool = True) -> WhisperLiveClient:
    made = WhisperLiveClient("me", "ws://box:9090/?model=base.en&same_output_threshold=3")
    if ready:
        made.receive(json.dumps(READY), 0.5)
    return made


def segment(start_s: float, end_s: float, text: str, *, done: bool) -> dict[str, Any]:
    return {"start": f"{start_s:.3f}", "end": f"{end_s:.3f}", "text": text, "completed": done}


def told(made: WhisperLiveClient, at_s: float, *segments: dict[str, Any]) -> object:
    return made.receive(json.dumps({"uid": "me", "segments": list(segments)}), at_s)


def test_the_first_message_is_the_options_and_the_query_may_choose_some() -> None:
    (first,) = client().greeting()
    options = json.loads(first)
    assert {"uid", "language", "task", "model", "use_vad"} <= options.keys()
    assert (options["uid"], options["model"], options["same_output_threshold"]) == (
        "me",
        "base.en",
        3,
    )
    (plain,) = WhisperLiveClient("me", "ws://box:9090/").greeting()
    assert json.loads(plain)["model"] == "small"
    assert client().opening() == []
    assert client().goodbye() == [END_OF_AUDIO]


def test_audio_is_float32_of_the_same_samples() -> None:
    pcm16 = np.array([0, 1, -32768, 32767], "<i2")
    sent = np.frombuffer(WhisperLiveClient.append(pcm16.tobytes()), "<f4")
    assert (np.rint(sent * 32768) == pcm16).all()
    assert np.abs(sent).max() <= 1.0


def test_ready_full_and_broken_are_told_apart() -> None:
    made = client(ready=False)
    assert made.receive(json.dumps(READY), 1.0) == SessionUsable(1.0, "me")
    full = made.receive('{"uid":"me","status":"WAIT","message":4.25}', 2.0)
    assert full == TurnedAway(
        2.0, "refused", "refused_by_message", "WAIT: the server is full for 4.2 min"
    )
    broken = made.receive('{"uid":"me","status":"ERROR","message":"no model"}', 3.0)
    assert broken == TurnedAway(3.0, "failed", "ended_by_message", "ERROR: no model")
    warned = made.receive('{"uid":"me","status":"WARNING","message":"took another"}', 4.0)
    assert warned == ErrorReported(4.0, "WARNING: took another")
    over = made.receive('{"uid":"me","message":"DISCONNECT"}', 5.0)
    assert isinstance(over, TurnedAway)
    assert over.outcome == "lost"


def test_only_what_is_new_is_told() -> None:
    made = client()
    first = segment(0.1, 0.6, " could you", done=False)
    assert told(made, 1.0, first) == SpansHeard(1.0, (TextSpan(0.1, 0.6, "could you", False),))
    longer = segment(0.1, 0.9, " could  you", done=False)
    assert told(made, 1.5, longer) is None, "the same words"
    done = segment(0.0, 2.0, " could you show me", done=True)
    assert told(made, 2.0, done) == SpansHeard(
        2.0, (TextSpan(0.0, 2.0, "could you show me", True),)
    )
    assert told(made, 2.5, done) is None, "repeated with every message"
    more = segment(3.0, 4.0, " and now", done=False)
    assert told(made, 3.0, done, more) == SpansHeard(3.0, (TextSpan(3.0, 4.0, "and now", False),))


def test_a_text_that_is_said_again_later_is_new() -> None:
    made = client()
    one, two = segment(0, 1, "yes", done=True), segment(4, 5, "yes", done=True)
    assert told(made, 1.0, one) is not None
    assert told(made, 5.0, one, two) == SpansHeard(5.0, (TextSpan(4, 5, "yes", True),))


def test_segments_without_text_and_other_news_say_nothing() -> None:
    made = client()
    assert told(made, 1.0, segment(0, 1, " ", done=True)) is None
    assert told(made, 1.0) is None
    assert made.receive('{"uid":"me","language":"en","language_prob":0.9}', 1.0) is None
    assert made.receive('{"uid":"me","translated_segments":[]}', 1.0) is None


@pytest.mark.parametrize(
    ("message", "name"),
    [
        (b"\xff", "garbage_not_json"),
        ("[]", "garbage_not_object"),
        ("{}", "garbage_fields"),
        ('{"uid":7,"message":"SERVER_READY"}', "garbage_fields"),
        ('{"uid":"you","segments":[]}', "garbage_foreign_session"),
        ('{"uid":"me","segments":7}', "garbage_fields"),
        ('{"uid":"me","segments":[{"text":"x","start":"soon","end":1}]}', "garbage_fields"),
        ('{"uid":"me","segments":[{"text":"x","start":NaN,"end":1}]}', "garbage_fields"),
        ('{"uid":"me","segments":[{"text":1,"start":0,"end":1}]}', "garbage_fields"),
        ('{"uid":"me","status":"WAIT","message":null}', "garbage_fields"),
    ],
    ids=str,
)
def test_garbage_has_a_name(message: str | bytes, name: str) -> None:
    assert client().receive(message, 1.0) == Garbage(1.0, name)


def test_another_protocol_is_named_before_the_session_is_usable() -> None:
    hello = '{"type":"session.created","session":{"id":"s"}}'
    seen = client(ready=False).receive(hello, 1.0)
    assert isinstance(seen, TurnedAway)
    assert (seen.outcome, seen.failure) == ("failed", "wrong_protocol")
    assert "speaks openai-realtime, not whisperlive" in seen.reason


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
SEGMENTS = st.lists(
    st.dictionaries(st.sampled_from(["start", "end", "text", "completed"]), JSON_VALUES), max_size=3
)
FIELDS = st.dictionaries(st.sampled_from(["uid", "status", "message", "segments"]), JSON_VALUES)


@settings(deadline=None, max_examples=200)
@given(fields=FIELDS, segments=SEGMENTS, ours=st.booleans(), ready=st.booleans())
def test_nothing_a_server_sends_raises(
    fields: dict[str, Any], segments: list[dict[str, Any]], ours: bool, ready: bool
) -> None:
    made = client(ready=ready)
    made.receive(json.dumps(fields), 1.0)
    mine = {**fields, "uid": "me"} if ours else fields
    made.receive(json.dumps({**mine, "segments": segments}), 1.0)


@settings(deadline=None, max_examples=100)
@given(message=st.binary(max_size=40) | st.text(max_size=40))
def test_no_bytes_raise(message: str | bytes) -> None:
    client().receive(message, 1.0)
