"""A trace says what was recorded, and bars of a lane never cross."""

import json
import subprocess
import sys
import threading
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.clock import FakeClock
from rtvc.errors import RecordError
from rtvc.instruments.chrome_trace import (
    HIDDEN,
    SERVER,
    SPEECH,
    Mark,
    in_lanes,
    marks_of_spans,
    marks_of_turns,
    save_spans,
    trace,
    write_trace,
)
from rtvc.instruments.recorder import Recorder
from tests.synthetic_run import a_turn, server_turn


def complete(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [event for event in content["traceEvents"] if event["ph"] == "X"]


def track_names(content: dict[str, Any]) -> dict[tuple[int, int], str]:
    return {
        (event["pid"], event["tid"]): event["args"]["name"]
        for event in content["traceEvents"]
        if event["name"] == "thread_name"
    }


def test_recorded_spans_are_bars_in_microseconds(tmp_path: Path) -> None:
    clock = FakeClock(100.0)
    recorder = Recorder(clock, keep=2)
    for name, length_s in (("dropped", 1.0), ("encode", 0.25), ("decode", 0.0005)):
        with recorder.turn("call-1/1") if name == "encode" else recorder.stage(name):
            clock.advance(length_s)
    path = tmp_path / "trace.json"
    save_spans(path, recorder)
    content = json.loads(path.read_text("utf-8"))
    first, second = complete(content)
    assert (first["name"], first["ts"], first["dur"]) == ("turn", 0, 250_000)
    assert (second["name"], second["ts"], second["dur"]) == ("decode", 250_000, 500)
    assert first["args"] == {"self_ms": 250.0, "turn": "call-1/1"}
    assert content["otherData"] == {"dropped": "1"}
    assert list(track_names(content).values()) == [threading.current_thread().name]


def test_hidden_work_and_other_threads_have_tracks_of_their_own() -> None:
    recorder = Recorder(FakeClock())

    def work() -> None:
        with recorder.stage("elsewhere"):
            pass

    with recorder.stage("outer"), recorder.stage("ahead", hidden=True):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    marks = marks_of_spans(recorder.spans(), {threading.get_ident(): "main"})
    tracks = {mark.name: mark.track for mark in marks}
    assert tracks["outer"] == "main"
    assert tracks["ahead"] == f"main: {HIDDEN}"
    assert tracks["elsewhere"].startswith("thread ")


def test_turns_of_a_run_have_a_group_for_each_speaker() -> None:
    turns = [a_turn(0), a_turn(1, start=1.5)]
    rows = [row for turn in turns for row in server_turn(turn, 0.28, 0.8)]
    content = trace(marks_of_turns(turns, rows), run="r")
    groups = {
        event["pid"]: event["args"]["name"]
        for event in content["traceEvents"]
        if event["name"] == "process_name"
    }
    assert list(groups.values()) == ["speaker 0", "speaker 1"]
    assert sorted(track_names(content).values()) == sorted([SPEECH, SERVER, HIDDEN] * 2)
    names = [event["name"] for event in complete(content) if event["pid"] == 1]
    assert names.count("endpoint_wait") == 1, "a reply repeats its transcript's segments"
    assert {"llm_ttft", "tts_ttfb", "send"} <= set(names)


def test_a_transcript_leaves_the_server_when_the_client_has_it() -> None:
    turn = a_turn(transcription_delay_s=0.4)
    marks = marks_of_turns([turn], server_turn(turn, 0.3, None))
    server = [mark for mark in marks if mark.track == SERVER]
    assert turn.final_at_s is not None
    assert max(mark.end_s for mark in server) == pytest.approx(turn.final_at_s)
    assert min(mark.start_s for mark in server) == pytest.approx(turn.speech_end_at_s + 0.1)


def test_a_turn_without_a_final_or_server_times_is_drawn_too() -> None:
    lost = a_turn(transcription_delay_s=None, item_id=None)
    (mark,) = marks_of_turns([lost], [])
    assert (mark.track, mark.end_s) == (SPEECH, lost.speech_end_at_s)
    kept = a_turn(transcription_delay_s=None)
    marks = marks_of_turns([kept], server_turn(kept, 0.3, None))
    starts = [mark.start_s for mark in marks if mark.track == SERVER]
    assert min(starts) == pytest.approx(kept.speech_end_at_s)


marks_drawn = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 8)).map(
        lambda at: Mark("g", "t", f"{at}", at[0], at[0] + at[1])
    ),
    max_size=20,
)


@settings(deadline=None)
@given(marks_drawn)
def test_bars_of_a_lane_nest_or_stand_apart(marks: list[Mark]) -> None:
    lanes = in_lanes(marks)
    assert sorted(str(mark) for lane in lanes for mark in lane) == sorted(map(str, marks))
    for lane in lanes:
        for one, other in combinations(lane, 2):
            apart = one.end_s <= other.start_s or other.end_s <= one.start_s
            nested = (one.start_s <= other.start_s and other.end_s <= one.end_s) or (
                other.start_s <= one.start_s and one.end_s <= other.end_s
            )
            assert apart or nested


@given(st.lists(st.floats(0, 1000), min_size=2, max_size=20))
def test_what_touches_still_touches_in_the_file(cuts: list[float]) -> None:
    cuts.sort()
    marks = [Mark("g", "t", "m", start, end) for start, end in pairwise(cuts)]
    content = trace(marks)
    json.dumps(content, allow_nan=False)
    events = sorted(complete(content), key=lambda event: (event["ts"], event["dur"]))
    assert events[0]["ts"] == 0
    for earlier, later in pairwise(events):
        assert earlier["ts"] + earlier["dur"] == pytest.approx(later["ts"], abs=1e-3)
    assert {event["tid"] for event in events} == {1}


def test_nothing_recorded_is_an_empty_trace() -> None:
    assert trace([])["traceEvents"] == []


def test_a_trace_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"cannot write .*nowhere"):
        write_trace(tmp_path / "nowhere" / "trace.json", trace([]))


def test_spans_are_saved_when_the_program_ends(tmp_path: Path) -> None:
    program = (
        "from rtvc.instruments.chrome_trace import save_spans_at_exit\n"
        "from rtvc.instruments.recorder import stage\n"
        "save_spans_at_exit('trace.json')\n"
        "with stage('last'): pass\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=60)
    content = json.loads((tmp_path / "trace.json").read_text("utf-8"))
    assert [event["name"] for event in complete(content)] == ["last"]
