"""What waited is told, from samples, from a server, and from turns where there is nothing else."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from rtvc.cli import build_app
from rtvc.clock import FakeClock
from rtvc.errors import RecordError, RtvcError, UsageError
from rtvc.profile.queues.backlog import (
    WAITS,
    QueueHistory,
    Reading,
    from_samples,
    from_sessions,
    from_turns,
    histories,
    sentence,
    sparkline,
    to_json,
    watch,
)
from rtvc.profile.target import http_address, is_url
from rtvc.record import RunWriter, SampleRow, load_run
from tests.synthetic_run import a_manifest, a_turn, server_turn


def backlog(*values: float, name: str = "inference", **more: Any) -> QueueHistory:
    """One reading a second."""
    readings = [
        Reading(float(at), name, backlog_s=value, **more) for at, value in enumerate(values)
    ]
    return QueueHistory(name, tuple(readings))


@pytest.mark.parametrize(
    ("name", "queue", "field"),
    [
        ("queue_depth", "queue", "depth"),
        ("inference_queue_depth", "inference", "depth"),
        ("rtvc_engine_queued_jobs", "inference", "depth"),
        ("rtvc_engine_backlog_seconds", "inference", "backlog_s"),
        ("rtvc_inbox_backlog_seconds", "inbox", "backlog_s"),
        ("rtvc_inbox_backlog_max_seconds", "inbox, worst session", "backlog_s"),
        ("rtvc_unsent_messages", "outbox", "depth"),
        ("session_audio_oldest_age_s", "session_audio", "oldest_age_s"),
        ("session_audio_dropped_total", "session_audio", "dropped"),
        ('rtvc_queue_backlog_seconds{queue="inbox"}', "inbox", "backlog_s"),
    ],
)
def test_gauges_of_queues_are_known_by_their_names(name: str, queue: str, field: str) -> None:
    (reading,) = from_samples([SampleRow(2.0, "server", name, 1.5)])
    assert (reading.at_s, reading.queue) == (2.0, queue)
    told = {
        "depth": reading.depth,
        "backlog_s": reading.backlog_s,
        "oldest_age_s": reading.oldest_age_s,
        "dropped": reading.dropped,
    }
    assert {what: value for what, value in told.items() if value is not None} == {field: 1.5}


@pytest.mark.parametrize(
    "name",
    ["gpu_busy_percent", "late_finals_count", "rtvc_engine_queue_wait_seconds_sum", "cpu_ratio"],
)
def test_other_gauges_are_not_queues(name: str) -> None:
    assert from_samples([SampleRow(1.0, "server", name, 1.0)]) == []


def test_readings_of_one_instant_belong_together() -> None:
    rows = [
        SampleRow(at_s, source, f"engine_{what}", value)
        for at_s in (1.0, 2.0)
        for source in ("server", "generator")
        for what, value in (("queued_jobs", 3.0), ("backlog_seconds", 4.5))
    ]
    found = histories(from_samples(rows))
    assert [queue.name for queue in found] == ["inference", "generator inference"]
    assert found[0].told("depth") == [3.0, 3.0]
    assert found[0].line == [(1.0, 4.5), (2.0, 4.5)]


def body(*backlogs_s: float, depth: int = 2) -> dict[str, Any]:
    """As the server's /v1/sessions."""
    return {
        "sessions": [{"audio_backlog_s": each, "unsent_messages": 1} for each in backlogs_s],
        "queues": [{"name": "inference", "depth": depth, "backlog_s": 3.5, "outcomes": {}}],
    }


def test_a_servers_answer_is_read() -> None:
    readings = {reading.queue: reading for reading in from_sessions(body(0.25, 1.0), 4.0)}
    assert (readings["inference"].depth, readings["inference"].backlog_s) == (2, 3.5)
    assert readings["inbox"].backlog_s == 1.25
    assert readings["inbox, worst session"].backlog_s == 1.0
    assert readings["outbox"].depth == 2
    assert {reading.at_s for reading in readings.values()} == {4.0}
    assert from_sessions(body(), 0.0)[2].backlog_s == 0.0


def test_what_a_server_tells_of_its_queues_goes_before_sums_over_sessions() -> None:
    told = body(0.25, 1.0)
    told["queues"] += [
        {"name": "inbox", "depth": 7, "backlog_s": 1.3, "oldest_age_s": 0.9, "dropped": 2},
        {"name": "outbox", "depth": 5},
    ]
    readings = from_sessions(told, 4.0)
    assert [reading.queue for reading in readings].count("inbox") == 1
    by_queue = {reading.queue: reading for reading in readings}
    assert by_queue["inbox"] == Reading(4.0, "inbox", 7, 1.3, 0.9, 2)
    assert by_queue["inbox, worst session"].backlog_s == 1.0
    assert by_queue["outbox"].depth == 5


@pytest.mark.parametrize("answer", [None, [], {"detail": "Not Found"}])
def test_another_servers_answer_is_refused(answer: Any) -> None:
    with pytest.raises(RtvcError, match="expected /v1/sessions of rtvc's own server"):
        from_sessions(answer, 0.0)


def watched(ask: Callable[[], Any], clock: FakeClock, **how: float) -> list[Reading]:
    readings: list[Reading] = []
    watch(ask, clock=clock, sleep=clock.advance, on_readings=readings.extend, **how)
    return readings


def test_a_server_is_asked_at_even_intervals() -> None:
    clock = FakeClock(100.0)
    readings = watched(lambda: body(0.1), clock, duration_s=2.0, interval_s=0.5)
    asked = [reading.at_s for reading in readings if reading.queue == "inference"]
    assert asked == [0.0, 0.5, 1.0, 1.5, 2.0]


def test_a_slow_server_is_not_asked_twice_at_once() -> None:
    clock = FakeClock()

    def ask() -> Any:
        clock.advance(0.8)
        return body(0.1)

    readings = watched(ask, clock, duration_s=2.0, interval_s=0.5)
    asked = [reading.at_s for reading in readings if reading.queue == "inference"]
    assert asked == pytest.approx([0.8, 1.6, 2.4])


def test_a_backlog_that_grows_is_the_finding() -> None:
    growing = backlog(*(0.5 * at for at in range(30)))
    assert growing.growth == pytest.approx(0.5)
    calm = backlog(*[0.0] * 30, name="inbox")
    assert sentence([calm, growing]) == (
        "inference grew by 500 ms a second, up to 14.5 s: more came in than was worked off."
    )


@pytest.mark.parametrize(
    "values",
    [
        [0.0] * 30,
        [3.0, *[0.1] * 29],
        [*[0.0] * 14, 5.0, 5.0, *[0.0] * 14],
        [2.0, 2.1] * 15,
        [0.0, 1.0, 2.0],
        [0.001 * at for at in range(30)],
    ],
)
def test_peaks_plateaus_and_trifles_do_not_grow(values: Sequence[float]) -> None:
    assert backlog(*values).growth is None


def test_a_peak_that_was_worked_off() -> None:
    assert sentence([backlog(0.0, 2.0, 0.1)]) == (
        "At most 2 s waited (inference), and was worked off."
    )
    assert sentence([backlog(2.0, 2.0, 2.0)]) == (
        "At most 2 s waited (inference), and still waits at the end."
    )


def test_nothing_to_speak_of() -> None:
    assert sentence([backlog(0.0, 0.08)]) == ("Nothing piled up: at most 80 ms waited (inference).")


def test_depth_without_seconds_is_not_turned_into_seconds() -> None:
    queue = QueueHistory("outbox", (Reading(0.0, "outbox", depth=4.0),))
    assert sentence([queue]) == "At most 4 items waited; for how long was not told."


def test_drops_are_those_of_the_watch() -> None:
    readings = [Reading(float(at), "inbox", backlog_s=0.0, dropped=7.0 + at) for at in range(3)]
    queue = QueueHistory("inbox", tuple(readings))
    assert queue.dropped == 2.0
    assert sentence([queue]).endswith("inbox dropped 2.")
    assert backlog(0.0).dropped is None


def test_drops_of_a_session_that_has_ended_are_not_taken_back() -> None:
    counts = [3.0, 5.0, 0.0, 1.0]
    readings = [Reading(float(at), "inbox", dropped=count) for at, count in enumerate(counts)]
    assert QueueHistory("inbox", tuple(readings)).dropped == 3.0


points = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 50)), min_size=1).map(sorted)


@given(points, st.integers(1, 60))
def test_a_sparkline_fits_and_shows_the_peak(line: list[tuple[float, float]], width: int) -> None:
    drawn = sparkline(line, width)
    assert 1 <= len(drawn) <= width
    assert set(drawn) <= set(" ▁▂▃▄▅▆▇█")
    if max(value for _, value in line) > 0:
        assert "█" in drawn


def run_cli(*arguments: str) -> Any:
    words = ["profile", "queues", *arguments]
    return CliRunner().invoke(build_app(words), words, catch_exceptions=True)


def test_a_run_with_samples(tmp_path: Path) -> None:
    with RunWriter(tmp_path, a_manifest(), FakeClock()) as writer:
        for second in range(20):
            at_s, waiting_s = float(second), 0.5 * second
            writer.append(SampleRow(at_s, "server", "rtvc_engine_backlog_seconds", waiting_s))
    done = run_cli(str(tmp_path))
    assert done.exit_code == 0, done.output
    assert done.output.startswith("inference grew by 500 ms a second")
    assert "▁" in done.output
    assert "…" not in done.output
    assert "from samples.csv" in done.output


def test_a_run_without_samples_tells_what_its_turns_waited(tmp_path: Path) -> None:
    turns = [a_turn(0, number, transcription_delay_s=0.4) for number in range(3)]
    with RunWriter(tmp_path, a_manifest(), FakeClock()) as writer:
        for turn in turns:
            writer.append(turn, *server_turn(turn, 0.4, 0.8))
    readings = from_turns(load_run(tmp_path))
    assert [reading.oldest_age_s for reading in readings] == pytest.approx([0.06] * 3)
    assert readings[0].at_s == pytest.approx(turns[0].speech_end_at_s + 0.3)
    done = run_cli(str(tmp_path), "--json")
    said = json.loads(done.output)
    assert (said["origin"], said["queues"][0]["name"]) == ("turns", WAITS)
    assert said["queues"][0]["backlog_max_s"] is None
    assert "this run has no samples of queues" in run_cli(str(tmp_path)).output


def test_a_run_that_tells_nothing_is_told(tmp_path: Path) -> None:
    with RunWriter(tmp_path, a_manifest(), FakeClock()) as writer:
        writer.append(a_turn(), SampleRow(1.0, "server", "gpu_busy_percent", 50.0))
    done = run_cli(str(tmp_path))
    assert isinstance(done.exception, RecordError)
    assert "expected samples of queues" in str(done.exception)


def test_a_server_that_is_not_there_is_told() -> None:
    done = run_cli("127.0.0.1:9")
    assert isinstance(done.exception, RtvcError)
    assert "no server answers at http://127.0.0.1:9/v1/sessions" in str(done.exception)


def test_json_has_no_infinity() -> None:
    json.dumps(to_json([backlog(0.0, 1.0)], "server"), allow_nan=False)


def test_a_folder_is_not_taken_for_a_server(tmp_path: Path) -> None:
    assert not is_url(str(tmp_path))
    assert not is_url("reports/runs/one")
    assert is_url("box:8000/ws")
    with pytest.raises(UsageError, match="expected a URL such as"):
        http_address("ftp://box", "/metrics")


@pytest.mark.slow
def test_our_server_is_watched(server_url: str) -> None:
    done = run_cli(server_url, "--duration", "0.3", "--interval", "0.1", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    named = {queue["name"]: queue for queue in said["queues"]}
    assert list(named) == ["inference", "inbox", "outbox", "inbox, worst session"]
    assert named["inbox"]["dropped"] == 0
    assert said["queues"][0]["n"] >= 2
