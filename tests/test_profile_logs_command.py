"""Alerts on a log, and the command that reads one."""

import json
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rtvc.cli import main
from rtvc.errors import UsageError
from rtvc.profile.logs.alerts import Alert, Watch, parse_alert
from rtvc.profile.logs.command import followed_lines
from rtvc.profile.logs.lines import EXAMPLES, parse_line
from rtvc.profile.logs.reader import LogReader
from rtvc.profile.logs.summary import Observation
from tests.acceptance import log_speed
from tests.voice_log_writer import (
    LogWriter,
    one_speaker,
)

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
    assert re.search(r"^known: [\d,]+ of [\d,]+ lines", out, re.M)
    assert "speech_to_final" in out
    assert "n=60" in out
    assert "ALERT drops>0" in out
    assert "RUNTIME_ERROR" in out


def test_a_log_it_half_knows_says_how_much_and_what_a_line_looks_like(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "half.log"
    path.write_text("INFO:root:New client connected\n" + "something else\n" * 5, encoding="utf-8")
    assert run(str(path)) == 0
    out = capsys.readouterr().out
    assert "whisperlive: 6 lines, " in out
    assert "known: 1 of 6 lines, hardly any; one looks like '59:58.07 transcribe INFO" in out


def test_one_is_not_a_plural(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "one.log"
    path.write_text("00:01.50 server INFO Recording stopped.\n", encoding="utf-8")
    assert run(str(path), "--alert", "drops>0") == 0
    out = capsys.readouterr().out
    assert "1 line, " in out
    assert "1 turn\n" in out
    assert "known: 1 of 1 line\n" in out
    assert not re.search(r"\b1 (lines|turns|times)", out)


def test_a_log_of_neither_is_shown_a_line_of_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.log"
    path.write_text("hello\n", encoding="utf-8")
    assert run(str(path)) == 2
    err = capsys.readouterr().err
    assert "got 1 line and none that either writes, such as " in err
    for server, example in EXAMPLES.items():
        assert example in err
        event = parse_line(example.encode())
        assert event is not None
        assert event.server is server


def test_times_are_written_as_everywhere_else() -> None:
    alert = parse_alert("final>1s")
    assert (alert.shown(1.5), alert.shown(0.2914)) == ("1.5 s", "291 ms")
    assert parse_alert("drops>0").shown(3) == "3"


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
    assert "got 1 line and none" in capsys.readouterr().err


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
