"""The log reader, held to logs whose every instant is known."""

import io
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.cli import main
from rtvc.errors import UsageError
from rtvc.profile.logs.alerts import Alert, Watch, parse_alert
from rtvc.profile.logs.command import followed_lines, stream_lines
from rtvc.profile.logs.lines import Kind, Server, parse_line
from rtvc.profile.logs.reader import CHUNK_S, HIDDEN_CHUNK_S, LogReader
from rtvc.profile.logs.summary import LoggedTurn, LogSummary, Observation, Samples
from rtvc.stats import Quantile
from tests.acceptance import log_speed
from tests.voice_log_writer import (
    RESOLUTIONS_S,
    LogWriter,
    Stamper,
    WhisperLiveTruth,
    asctime,
    boot,
    connect,
    docker_alone,
    fault,
    hourless,
    leave,
    load,
    one_speaker,
    one_turn,
    queue_full,
    timeless,
    whisperlive_session,
)


def read(log: bytes, server: Server | None = None) -> LogSummary:
    reader = LogReader(server)
    for raw in stream_lines(io.BytesIO(log)):
        reader.feed(raw)
    reader.finish()
    return reader.summary()


def near(value: float | None, truth: float, within: float) -> bool:
    return value is not None and abs(value - truth) <= within + 2e-4


def same_quantiles(
    found: tuple[Quantile, Quantile] | None, truth_s: Sequence[float], within_s: float
) -> None:
    assert found is not None
    for quantile in found:
        expected = Quantile.of(truth_s, quantile.q)
        assert quantile.n == expected.n
        assert expected.maximum is not None
        assert near(quantile.maximum, expected.maximum, within_s)
        if expected.value is None:
            assert quantile.value is None
        else:
            assert near(quantile.value, expected.value, within_s)


# RealtimeVoiceChat, one client.


@pytest.mark.parametrize("colours", [True, False])
@pytest.mark.parametrize("stamp", RESOLUTIONS_S, ids=lambda stamp: stamp.__name__)
def test_every_figure_is_within_the_logs_resolution(stamp: Stamper, colours: bool) -> None:
    writer = one_speaker(seed=7, turns=130)
    truth, within_s = writer.truth, RESOLUTIONS_S[stamp]
    summary = read(writer.realtimevoicechat(stamp, colours=colours))
    turns = truth.turns
    expected = {
        "policy_wait": [turn.policy_wait_s for turn in turns],
        "endpoint_wait": [turn.endpoint_s - turn.speech_end_s for turn in turns],
        "final": [turn.final_s - turn.endpoint_s for turn in turns],
        "speech_to_final": [turn.final_s - turn.speech_end_s for turn in turns],
        "ttft": truth.ttfts_s,
        "ttfa": [turn.ttfa_s for turn in turns],
        "total": [turn.total_s for turn in turns],
        "partial_gap": truth.partial_gaps_s,
        "abort": truth.aborts_s,
        "model_load": truth.loads_s,
    }
    for name, values_s in expected.items():
        same_quantiles(summary.figures[name], values_s, within_s)
    assert {name for name, pair in summary.figures.items() if pair} == set(expected)
    assert summary.resolution_s is not None
    assert summary.resolution_s <= within_s
    assert near(summary.span_s, truth.last_s, within_s)


@pytest.mark.parametrize("seed", range(5))
def test_every_turn_is_within_the_logs_resolution(seed: int) -> None:
    writer = one_speaker(seed, turns=40)
    summary = read(writer.realtimevoicechat())
    assert summary.turns == len(summary.last_turns) == 40
    assert summary.mixed_turns == 0
    for turn, truth in zip(summary.last_turns, writer.truth.turns, strict=True):
        assert turn.policy_wait_s == truth.policy_wait_s
        assert near(turn.endpoint_wait_s, truth.endpoint_s - truth.speech_end_s, 0.01)
        assert near(turn.final_s, truth.final_s - truth.endpoint_s, 0.01)
        assert near(turn.speech_to_final_s, truth.final_s - truth.speech_end_s, 0.01)
        assert turn.ttft_s == truth.ttft_s
        assert turn.ttfa_s == truth.ttfa_s
        assert near(turn.total_s, truth.total_s, 0.01)
        assert turn.partials == len(truth.partials_s)
        assert near(turn.at_s, truth.endpoint_s, 0.01)


def test_counts_are_exact() -> None:
    writer = one_speaker(seed=3, turns=60)
    summary, truth = read(writer.realtimevoicechat()), writer.truth
    assert truth.drops
    assert truth.wasted
    assert truth.errors
    assert summary.counts["drops"] == truth.drops
    assert summary.dropped_s == pytest.approx(truth.drops * CHUNK_S)
    assert summary.backlog_s == pytest.approx(max(truth.queue_lengths) * HIDDEN_CHUNK_S)
    assert summary.counts["wasted"] == summary.counts["aborts"] == truth.wasted
    assert summary.counts["errors"] == sum(summary.faults.values()) == truth.errors
    assert summary.counts["model_loads"] == 1
    assert summary.counts["clients"] == 1
    assert [moment.clients for moment in summary.clients] == [1, 0]
    assert summary.boot_latency_s == pytest.approx(0.8125)
    assert summary.loaded_per_session is False


def test_what_is_absent_is_none() -> None:
    writer = LogWriter(1)
    connect(writer, 0)
    summary = read(writer.realtimevoicechat())
    assert set(summary.figures.values()) == {None}
    assert summary.counts["drops"] == 0
    assert summary.backlog_s is None
    assert summary.loaded_per_session is None
    assert summary.boot_latency_s is None
    assert summary.turns == 0
    nothing = read(b"hello\n")
    assert nothing.server is None
    assert nothing.turns is nothing.span_s is nothing.dropped_s is None
    assert set(nothing.counts.values()) == {None}


def test_lines_without_a_time_are_counted_and_not_timed() -> None:
    writer = one_speaker(seed=2, turns=20)
    summary = read(writer.realtimevoicechat(timeless))
    assert summary.turns == 20
    assert summary.figures["endpoint_wait"] is summary.figures["total"] is None
    assert summary.span_s is None
    # What stands in the line itself needs no stamp.
    same_quantiles(summary.figures["ttft"], writer.truth.ttfts_s, 1e-6)
    assert any("no line bears a time" in note for note in summary.unknown)


def test_a_log_that_begins_in_the_middle_shows_what_it_can() -> None:
    writer = one_speaker(seed=5, turns=30)
    lines = writer.realtimevoicechat(noise=False).splitlines(keepends=True)
    ends = [n for n, raw in enumerate(lines) if "⏹️ Recording stopped.".encode() in raw]
    summary = read(b"".join(lines[ends[3] :]))
    assert summary.turns == 27
    first = summary.last_turns[0]
    assert first.endpoint_wait_s is first.total_s is first.partials is None
    assert near(
        first.final_s, writer.truth.turns[3].final_s - writer.truth.turns[3].endpoint_s, 0.01
    )
    assert any("1 sessions were open before" in note for note in summary.unknown)


def test_a_reply_that_is_interrupted_still_ends_its_turn() -> None:
    writer = LogWriter(1)
    connect(writer, 0)
    over_s = one_turn(writer, 1, answer=1)
    lines = [raw for raw in _lines(writer) if b"cycle finished" not in raw]
    writer = LogWriter(2)
    one_turn(writer, over_s + 5, answer=2)
    summary = read(b"".join(lines + _lines(writer)))
    assert [turn.number for turn in summary.last_turns] == [1, 2]
    assert all(turn.total_s for turn in summary.last_turns)


def test_an_answer_keeps_its_turn_when_the_next_one_has_begun() -> None:
    log = _log(
        "00:00.00 server INFO ✅ Client connected via WebSocket.",
        "00:01.00 transcribe INFO 👂▶️ Recording started.",
        "00:02.00 transcribe INFO 👂🤫 Silence state changed: ACTIVE",
        "00:02.10 speech_pip INFO 🧠🚀 [Gen 1] Calling LLM generate...",
        "00:02.50 transcribe INFO 👂⏹️ Recording stopped.",
        "00:02.90 transcribe INFO 👂✅ Final user text: Hi.",
        "00:04.00 transcribe INFO 👂▶️ Recording started.",
        "00:04.10 speech_pip INFO 🧠⏱️ [Gen 1] LLM Worker: TTFT: 2.0000s",
        "00:04.60 audio_modu INFO 👄🚀 [Gen 1] Quick audio start. TTFA: 0.30s. Text: Hi...",
    )
    turn = read(log).last_turns[0]
    assert (turn.ttft_s, turn.ttfa_s) == (2.0, 0.3)
    assert turn.total_s == pytest.approx(2.6)


def _log(*lines: str) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def _lines(writer: LogWriter) -> list[bytes]:
    return writer.realtimevoicechat(noise=False).splitlines(keepends=True)


# RealtimeVoiceChat, several clients.


def two_speakers(seed: int) -> LogWriter:
    writer = LogWriter(seed)
    at_s = boot(writer) + 1
    connect(writer, at_s)
    connect(writer, at_s + 1)
    for speaker in (0, 1):
        begin_s = at_s + 2 + 0.7 * speaker
        for number in range(10):
            begin_s = one_turn(writer, begin_s, 1 + 10 * speaker + number) + 0.5
    leave(writer, 10_000)
    leave(writer, 10_001)
    return writer


def test_of_interleaved_sessions_only_what_one_line_tells_is_known() -> None:
    writer = two_speakers(seed=4)
    # A pause so long would be lost without a date.
    summary = read(writer.realtimevoicechat(docker_alone))
    assert summary.turns == summary.mixed_turns == 20
    for name in (
        "policy_wait",
        "endpoint_wait",
        "final",
        "speech_to_final",
        "total",
        "partial_gap",
    ):
        assert summary.figures[name] is None
    same_quantiles(summary.figures["ttft"], writer.truth.ttfts_s, 1e-6)
    for turn in summary.last_turns:
        assert turn.mixed
        assert turn.final_s is turn.total_s is turn.ttft_s is turn.policy_wait_s is None
    assert summary.counts["clients"] == 2
    assert any("20 turns came while several clients" in note for note in summary.unknown)


def test_two_recorders_of_clients_unseen_are_not_paired() -> None:
    log = _log(
        "00:01.00 transcribe INFO 👂▶️ Recording started.",
        "00:01.50 transcribe INFO 👂▶️ Recording started.",
        "00:02.00 transcribe INFO 👂🤫 Silence state changed: ACTIVE",
        "00:02.50 transcribe INFO 👂⏹️ Recording stopped.",
        "00:02.90 transcribe INFO 👂✅ Final user text: Hi.",
    )
    summary = read(log)
    assert summary.mixed_turns == 1
    assert summary.figures["final"] is None


def test_turns_are_timed_again_when_one_client_is_left() -> None:
    writer = two_speakers(seed=4)
    connect(writer, 10_010)
    one_turn(writer, 10_012, answer=30)
    summary = read(writer.realtimevoicechat(docker_alone))
    assert summary.turns == 21
    assert summary.mixed_turns == 20
    assert near(summary.last_turns[-1].total_s, writer.truth.turns[-1].total_s, 0.001)


# Models and clients.


def test_models_loaded_per_session_are_found() -> None:
    writer = LogWriter(6)
    at_s = boot(writer) + 1
    for _ in range(3):
        connect(writer, at_s)
        at_s = load(writer, at_s + 0.01) + 5
    summary = read(writer.realtimevoicechat())
    assert summary.loaded_per_session is True
    assert summary.counts["model_loads"] == 4
    same_quantiles(summary.figures["model_load"], writer.truth.loads_s, 0.01)
    assert [model.clients for model in summary.loads] == [0, 1, 2, 3]
    assert {model.process for model in summary.loads} == {1}


def test_a_restart_is_no_second_load() -> None:
    writer = LogWriter(6)
    connect(writer, boot(writer) + 1)
    connect(writer, boot(writer, 100) + 1)
    summary = read(writer.realtimevoicechat())
    assert summary.loaded_per_session is False
    assert summary.counts["model_loads"] == 1
    assert [model.process for model in summary.loads] == [1, 2]
    # The process that ended took its client with it.
    assert summary.counts["clients"] == 1


def test_loads_that_overlap_are_counted_and_not_timed() -> None:
    writer = LogWriter(6)
    load(writer, 0)
    load(writer, 1)
    ends = load(writer, 60)
    summary = read(writer.realtimevoicechat())
    assert [model.took_s is None for model in summary.loads] == [True, True, False]
    assert near(summary.loads[2].took_s, ends - 60, 0.01)
    assert any("2 model loads overlapped" in note for note in summary.unknown)


# WhisperLive.


@pytest.mark.parametrize("stamp", [docker_alone, asctime], ids=lambda stamp: stamp.__name__)
def test_whisperlive_with_stamps(stamp: Stamper) -> None:
    writer, truth, at_s = LogWriter(8), WhisperLiveTruth(), 0.0
    for _ in range(12):
        at_s = whisperlive_session(writer, truth, at_s + 1, inferences=20)
    summary = read(writer.whisperlive(stamp))
    assert summary.server is Server.WHISPERLIVE
    same_quantiles(summary.figures["ready"], truth.readies_s, 0.001)
    same_quantiles(summary.figures["model_load"], truth.loads_s, 0.001)
    same_quantiles(summary.figures["partial_gap"], truth.gaps_s, 0.001)
    same_quantiles(summary.figures["inference_audio"], truth.audio_s, 1e-6)
    assert summary.loaded_per_session is True
    assert summary.counts["model_loads"] == 12
    assert summary.counts["clients"] == 1
    assert summary.turns is summary.dropped_s is summary.counts["drops"] is None


def test_whisperlive_as_it_is_writes_no_time() -> None:
    writer, truth = LogWriter(8), WhisperLiveTruth()
    end_s = whisperlive_session(writer, truth, 0, inferences=20)
    writer.line(end_s, "root", "[ERROR]: Failed to transcribe audio chunk: CUDA", "ERROR")
    summary = read(writer.whisperlive())
    assert summary.figures["ready"] is summary.figures["model_load"] is None
    same_quantiles(summary.figures["inference_audio"], truth.audio_s, 1e-6)
    assert summary.counts["errors"] == 1
    assert summary.faults == {"[ERROR]: Failed to transcribe audio chunk: CUDA": 1}
    assert any("rtvc profile tap" in note for note in summary.unknown)


def test_a_client_that_whisperlive_refused_spoils_no_figure() -> None:
    log = _log(
        "2026-11-22 10:00:00,000 INFO:root:New client connected",
        "2026-11-22 10:00:01,000 INFO:root:New client connected",
        "2026-11-22 10:00:02,000 INFO:root:Running faster_whisper backend.",
        "2026-11-22 10:00:10,000 INFO:root:New client connected",
        "2026-11-22 10:00:10,500 INFO:root:Running faster_whisper backend.",
    )
    summary = read(log)
    same_quantiles(summary.figures["ready"], [0.5], 1e-6)
    assert summary.counts["clients"] == 2


# Noise.

MARKED = ["Recording stopped.", "Final user text: x", "LLM Worker: TTFT: 9.0s", "ERROR", "INFO"]

garbage = st.one_of(
    st.binary(max_size=60),
    st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")),
    st.sampled_from(MARKED).map(str.encode),
    st.sampled_from(MARKED).map(lambda text: f"59:59.99 server INFO said: he {text}".encode()),
    st.sampled_from(MARKED).map(lambda text: f"\x1b[9m 99:99 {text}".encode()),
)

CLEAN = one_speaker(seed=11, turns=8).realtimevoicechat(noise=False)
CLEAN_JSON = read(CLEAN).as_json()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 10_000), garbage), max_size=40))
def test_garbage_never_raises_and_never_changes_a_figure(
    insertions: list[tuple[int, bytes]],
) -> None:
    lines = CLEAN.splitlines(keepends=True)
    for place, junk in insertions:
        lines.insert(place % (len(lines) + 1), junk.replace(b"\n", b" ") + b"\n")
    found = read(b"".join(lines)).as_json()
    assert {**found, "lines": 0} == {**CLEAN_JSON, "lines": 0}


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read(raw: bytes) -> None:
    parse_line(raw)
    read(raw)


def test_what_people_say_is_no_event() -> None:
    for said in (
        "Recording stopped.",
        "Client connected via WebSocket.",
        "Audio queue full (50/50)",
    ):
        event = parse_line(f"00:01.00 transcribe INFO 👂📝 Partial transcription: {said}".encode())
        assert event is not None
        assert event.kind is Kind.PARTIAL
        sent = f"00:01.00 server     INFO 🖥️📤 →→Client: {{'content': '{said}'}}"
        assert parse_line(sent.encode()) is None


# Samples.


@settings(deadline=None)
@given(st.lists(st.integers(0, 60_000), min_size=1, max_size=300), st.sampled_from([0.5, 0.95]))
def test_samples_have_the_quantiles_of_stats(steps: list[int], q: float) -> None:
    samples = Samples()
    for count in steps:
        samples.add(count / 10_000)
    found, expected = samples.quantile(q), Quantile.of([count / 10_000 for count in steps], q)
    assert found.n == expected.n
    assert found.maximum == pytest.approx(expected.maximum)
    assert found.value == (None if expected.value is None else pytest.approx(expected.value))


def test_memory_does_not_grow_with_the_log() -> None:
    samples = Samples()
    for count in range(20_000):
        samples.add(count % 50 / 100)
    assert len(samples._counts) == 50


# Alerts.


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("final", "final>1s or drops>0"),
        ("final<1s", "final>1s or drops>0"),
        ("final>1", "a limit with s or ms"),
        ("drops>1s", "a number without a unit"),
        ("speed>1s", "final"),
    ],
)
def test_an_alert_that_cannot_be_read_is_explained(text: str, wrong: str) -> None:
    with pytest.raises(UsageError, match=wrong):
        parse_alert(text)


def test_an_alert_fires_beyond_its_limit_only() -> None:
    at_limit, beyond = Observation("final", 1.0, 3.0), Observation("final", 1.5, 4.0)
    strict, inclusive = parse_alert("final>1s"), parse_alert("final>=1000ms")
    watch = Watch([strict, inclusive])
    assert watch.see(at_limit) == [inclusive]
    assert watch.see(beyond) == [strict, inclusive]
    assert watch.see(Observation("ttft", 9.0, 5.0)) == []
    tally = watch.tallies[strict]
    assert (tally.times, tally.worst, tally.first_at_s) == (1, 1.5, 4.0)


def test_a_flood_is_shown_ever_more_rarely() -> None:
    watch = Watch([parse_alert("drops>0")])
    shown = [count for count in range(1, 101) if watch.see(Observation("drops", count, None))]
    assert shown == [1, 2, 4, 8, 16, 32, 64]


def test_the_turns_of_a_log_fire_alerts() -> None:
    writer = one_speaker(seed=3, turns=60)
    alerts = [parse_alert(text) for text in ("final>1s", "total>2s", "drops>0", "model_loads>1")]
    tallies = _tallies(writer, alerts)
    turns = writer.truth.turns
    for alert, values_s in (
        (alerts[0], [turn.final_s - turn.endpoint_s for turn in turns]),
        (alerts[1], [turn.total_s for turn in turns]),
    ):
        limit = 1.0 if alert is alerts[0] else 2.0
        certain = sum(value_s > limit + 0.01 for value_s in values_s)
        assert certain <= tallies[alert] <= sum(value_s > limit - 0.01 for value_s in values_s)
        assert certain
    assert tallies[alerts[2]] == writer.truth.drops
    assert tallies[alerts[3]] == 0


def _tallies(writer: LogWriter, alerts: list[Alert]) -> dict[Alert, int]:
    reader, watch = LogReader(), Watch(alerts)
    for raw in writer.realtimevoicechat().splitlines():
        for news in reader.feed(raw):
            if isinstance(news, Observation):
                watch.see(news)
    return {alert: tally.times for alert, tally in watch.tallies.items()}


# The command.


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    path = tmp_path / "voice.log"
    path.write_bytes(one_speaker(seed=3, turns=60).realtimevoicechat())
    return path


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["profile", "logs", *arguments])
    assert isinstance(end.value.code, int)
    return end.value.code


def test_a_file_is_summed_up(log_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(log_file)) == 0
    out = capsys.readouterr().out
    assert "realtimevoicechat: " in out
    assert "times to within 10 ms" in out
    assert "60 turns" in out
    assert "speech_to_final" in out
    assert "n=60" in out
    assert "ALERT drops>0" in out
    assert "RUNTIME_ERROR" in out


def test_json_is_complete(log_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(log_file), "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["schema"] == 1
    assert record["server"] == "realtimevoicechat"
    assert record["figures"]["final_s"]["n"] == len(record["last_turns"]) == 60
    assert record["figures"]["ready_s"] is None
    assert {alert["text"] for alert in record["alerts"]} >= {"final>1s", "drops>0"}


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (["--alert", "drops>0"], 99),
        (["--alert", "drops>100000"], 0),
        (["--alert", "ready>1s"], 3),
        (["--alert", "ready>1s", "--alert", "drops>0"], 99),
        (["--alert", "nonsense"], 2),
        (["--server", "whisperlive"], 2),
        (["--server", "realtimevoicechat"], 0),
        (["--container", "voice"], 2),
    ],
)
def test_exit_codes(log_file: Path, flags: list[str], code: int) -> None:
    assert run(str(log_file), *flags) == code


def test_standard_input_is_read(
    log_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with log_file.open() as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        assert run("-") == 0
    assert "60 turns" in capsys.readouterr().out


def test_a_file_that_is_not_there_and_one_that_is_no_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(str(tmp_path / "none.log")) == 2
    assert "No such file" in capsys.readouterr().err
    other = tmp_path / "other.log"
    other.write_text("hello\n")
    assert run(str(other)) == 2
    assert "got 1 lines and none" in capsys.readouterr().err


def test_live_turns_and_alerts_are_told_as_they_happen(
    log_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rtvc.profile.logs.command._pause", interrupt)
    assert run(str(log_file), "--follow") == 0
    out = capsys.readouterr().out
    assert out.count("  turn ") == 60
    assert "ALERT final>1s: " in out
    assert out.index("  turn 60 ") < out.index("60 turns")
    assert run(str(log_file), "--follow", "--json") == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sum("turn" in record for record in records) == 60
    assert "summary" in records[-1]


def interrupt() -> None:
    raise KeyboardInterrupt


def test_a_file_is_followed_line_by_whole_line_and_when_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "growing.log"
    path.write_bytes(b"one\ntw")
    steps: list[Callable[[], object]] = [
        lambda: _append(path, b"o\nthree\n"),
        lambda: path.write_bytes(b"new\n"),
        interrupt,
    ]
    pauses = iter(steps)
    with path.open("rb") as stream:
        lines = followed_lines(stream, lambda: _take_step(pauses))
        assert list(_until_interrupted(lines)) == [b"one\n", b"two\n", b"three\n", b"new\n"]


def _take_step(steps: Iterator[Callable[[], object]]) -> None:
    next(steps)()


def _append(path: Path, more: bytes) -> None:
    with path.open("ab") as stream:
        stream.write(more)


def _until_interrupted(lines: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from lines
    except KeyboardInterrupt:
        return


def a_docker(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for docker, first on the path."""
    path = folder / "docker"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.defpath}")


def test_a_container_is_read_with_its_times(
    tmp_path: Path,
    log_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = tmp_path / "asked"
    a_docker(tmp_path, f'echo "$@" > {asked}\ncat {log_file} >&2', monkeypatch)
    assert run("--container", "voice") == 0
    assert "60 turns" in capsys.readouterr().out
    assert asked.read_text().split() == ["logs", "--timestamps", "--", "voice"]


def test_a_container_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a_docker(tmp_path, "echo 'No such container: voice' >&2\nexit 1", monkeypatch)
    assert run("--container", "voice") == 2
    assert "docker logs voice failed: No such container: voice" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert run("--container", "voice") == 2
    assert "cannot run docker logs" in capsys.readouterr().err


def test_the_speed_is_measured(tmp_path: Path) -> None:
    measured = log_speed.measure(0.2, tmp_path)
    assert measured["turns"] == measured["turns_written"]
    assert measured["megabytes_per_s"] > 0


def test_fault_messages_are_kept_in_part_only() -> None:
    writer = LogWriter(1)
    connect(writer, 0)
    queue_full(writer, 1)
    fault(writer, 2)
    for number in range(100):
        writer.line(3 + number, "server", f"failure {number} " + "x" * 500, "ERROR")
    summary = read(writer.realtimevoicechat(hourless))
    assert summary.counts["errors"] == 101
    assert len(summary.faults) == 20
    assert max(map(len, summary.faults)) == 120


def test_turns_are_kept_in_part_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtvc.profile.logs.reader.TURNS_KEPT", 5)
    summary = read(one_speaker(seed=1, turns=9).realtimevoicechat())
    assert [turn.number for turn in summary.last_turns] == [5, 6, 7, 8, 9]
    assert summary.turns == 9
    assert isinstance(summary.last_turns[0], LoggedTurn)
