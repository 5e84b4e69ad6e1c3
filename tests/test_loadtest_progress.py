"""The line that is shown while a run goes on."""

from pathlib import Path

from rtvc.clock import FakeClock
from rtvc.loadtest.progress import read_tally
from rtvc.record import Row, RunWriter
from tests.synthetic_run import a_connection, a_manifest, a_second, a_turn


def line_of(folder: Path, rows: list[Row], **manifest: object) -> str:
    with RunWriter(folder, a_manifest(**manifest), FakeClock()) as writer:
        writer.append(*rows)
    seen = read_tally(folder)
    assert seen is not None
    return seen.line()


def test_before_the_first_row_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert read_tally(tmp_path) is None


def test_few_delays_have_a_maximum_and_no_median(tmp_path: Path) -> None:
    turns = [a_turn(0, i, transcription_delay_s=0.3) for i in range(9)]
    lost = a_turn(0, 9, transcription_delay_s=None)
    line = line_of(tmp_path, [a_connection(), *turns, lost, a_second(12.0, lag_max_s=0.002)])
    assert line == (
        "12 s · 4 speakers · 10 utterances · transcription delay max 300 ms · 1 error "
        "· generator lag 2 ms"
    )


def test_many_delays_have_both(tmp_path: Path) -> None:
    delays = [0.3] * 10 + [0.6]
    turns = [a_turn(0, i, transcription_delay_s=delay) for i, delay in enumerate(delays)]
    line = line_of(tmp_path, [a_connection(), *turns, a_second()])
    assert "transcription delay p50 300 ms, max 600 ms" in line


def test_a_storm_counts_connections(tmp_path: Path) -> None:
    refused = {"outcome": "refused", "connection_s": None}
    rows: list[Row] = [a_connection(i, connection_s=0.02 + i / 1000) for i in range(3)]
    line = line_of(
        tmp_path,
        [*rows, a_connection(3, **refused), a_second(2.0)],
        settings={"scenario": "connect-storm"},
    )
    assert line.startswith("2 s · 4 connections · connection time max 22 ms · 1 error")
