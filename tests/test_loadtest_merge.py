"""Rows of several generators become the rows of one run: all of them, once; sums add up."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.clock import FakeClock
from rtvc.loadtest.scale.merge import CountSum, GeneratorSum, Merger, cross_talk
from rtvc.record import (
    GeneratorRow,
    Manifest,
    Row,
    RunWriter,
    SampleRow,
    load_run,
    new_manifest,
)
from rtvc.stats import Histogram
from rtvc.summary import summarize
from tests.synthetic_run import a_connection, a_second, a_turn


def manifest() -> Manifest:
    return new_manifest(["rtvc"], FakeClock())


def second(at_s: float, speakers: int, lags: Counter[int], process: int = 1) -> GeneratorRow:
    histogram = Histogram()
    for number, count in lags.items():
        histogram.add(number * 1e-4, count)
    return GeneratorRow(
        at_s=at_s,
        process=process,
        speakers=speakers,
        frames=lags.total(),
        late_frames=sum(count for number, count in lags.items() if number > 200),
        lag_max_s=max(lags, default=0) * 1e-4,
        lag_histogram=histogram.text(),
        cpu_ratio=0.5,
        loop_lag_max_s=None,
    )


LAGS = st.dictionaries(st.integers(0, 400), st.integers(1, 50), max_size=4).map(Counter)


@st.composite
def parts_of_a_run(draw: st.DrawFn) -> list[list[GeneratorRow]]:
    """Each part tells about once a second, at its own fraction of it, sometimes late."""
    parts = []
    for process in range(draw(st.integers(1, 4))):
        at_s, rows = 0.0, []
        for _ in range(draw(st.integers(0, 8))):
            at_s += draw(st.floats(0.9, 2.5))
            rows.append(second(at_s, draw(st.integers(0, 9)), draw(LAGS), process))
        parts.append(rows)
    return parts


def total(rows: Sequence[GeneratorRow]) -> tuple[int, int, list[tuple[int, int]]]:
    lags = Histogram()
    for row in rows:
        lags.merge(Histogram.parse(row.lag_histogram))
    return sum(row.frames for row in rows), sum(row.late_frames for row in rows), lags.bins()


@given(parts=parts_of_a_run(), cuts=st.lists(st.integers(0, 3), max_size=20))
def test_what_generators_say_of_themselves_adds_up(
    parts: list[list[GeneratorRow]], cuts: list[int]
) -> None:
    """Whatever the order in which they are heard."""
    told, sums = [], GeneratorSum(len(parts))
    waiting = [list(rows) for rows in parts]
    for cut in cuts:
        part = cut % len(parts)
        if waiting[part]:
            sums.add(part, [waiting[part].pop(0)])
        told += sums.take()
    for part, rows in enumerate(waiting):
        sums.add(part, rows)
        sums.over(part)
        told += sums.take()
    told += sums.take(rest=True)
    assert total(told) == total([row for rows in parts for row in rows])
    instants = [row.at_s for row in told]
    assert instants == sorted(instants)
    assert all(row.lag_max_s <= 0.04 for row in told)


def test_a_second_is_told_once_everybody_has_told_it() -> None:
    sums = GeneratorSum(2)
    sums.add(0, [second(1.2, 3, Counter({1: 10})), second(2.2, 3, Counter({1: 10}))])
    assert sums.take() == []
    sums.add(1, [replace(second(1.4, 2, Counter({5: 5})), cpu_ratio=0.9)])
    (row,) = sums.take()
    assert (row.at_s, row.speakers, row.frames, row.lag_histogram) == (1.4, 5, 15, "1:10 5:5")
    assert (row.cpu_ratio, row.loop_lag_max_s) == (0.9, None)


def test_one_that_hangs_holds_nobody_up_for_long() -> None:
    sums = GeneratorSum(2)
    sums.add(1, [second(1.0, 2, Counter({1: 1}))])
    sums.add(0, [second(at_s + 0.1, 3, Counter({1: 1})) for at_s in range(1, 20)])
    told = sums.take()
    assert 1 < len(told) < 12, "only the last ten seconds are waited for"
    assert told[-1].speakers == 5, "it is not gone"
    sums.add(1, [second(2.0, 2, Counter({3: 7}))])
    sums.over(1)
    told += sums.take()
    assert sum(row.frames for row in told) == 19 + 1 + 7, "what it says late counts still"
    assert told[-1].speakers == 3, "it is gone"


def test_running_counts_add_up_and_gauges_stay() -> None:
    counts = CountSum()

    def row(value: float, name: str = "garbage_count", source: str = "generator") -> SampleRow:
        return SampleRow(1.0, source, name, value)

    said = [(0, row(2)), (1, row(3)), (0, row(4)), (1, row(7, "other_count"))]
    assert [counts.add(part, each).value for part, each in said] == [2, 5, 7, 7]
    assert counts.add(1, row(0.5, "rtvc_turns_count", "server")).value == 0.5


def rows_of(part: int, parts: int, speakers: int, seed: int) -> list[Row]:
    """What a part records of its speakers."""
    mine = range(part, speakers, parts)
    rows: list[Row] = []
    for number in mine:
        rows += [a_connection(number), a_turn(number, 0), a_turn(number, 1 + seed % 3)]
    lags = Counter({seed % 30: 10 * len(mine)}) if mine else Counter[int]()
    return [*rows, second(1.0 + part / 10, len(mine), lags, process=part)]


def whole(folder: Path) -> tuple[set[object], ...]:
    run = load_run(folder)
    return set(run.connections), set(run.turns), set(run.server_turns)


@settings(max_examples=15, deadline=None)
@given(parts=st.integers(1, 4), speakers=st.integers(4, 9), seed=st.integers(0, 99))
def test_rows_of_several_parts_are_the_rows_of_one(parts: int, speakers: int, seed: int) -> None:
    with TemporaryDirectory() as base:
        one, many = Path(base) / "one", Path(base) / "many"
        with RunWriter(one, manifest(), FakeClock()) as writer:
            for part in range(parts):
                writer.append(*rows_of(part, parts, speakers, seed))
        folders = [many / "parts" / str(part) for part in range(parts)]
        merger = Merger(many, manifest(), folders)
        for part, folder in enumerate(folders):
            with RunWriter(folder, manifest(), FakeClock()) as writer:
                rows = rows_of(part, parts, speakers, seed)
                writer.append(*rows[: len(rows) // 2])
                merger.poll()
                writer.append(*rows[len(rows) // 2 :])
            merger.poll()
        merger.finish()
        assert whole(many) == whole(one)
        merged, alone = load_run(many), load_run(one)
        assert total(merged.generator) == total(alone.generator)
        assert len(merged.turns) == len(alone.turns)
        first, second_ = summarize(merged), summarize(alone)
        assert first.metrics == second_.metrics
        assert first.accuracy == second_.accuracy
        assert not (many / "parts").exists()
        assert sorted(path.name for path in many.glob("generator-*.csv")) == [
            f"generator-{part}.csv" for part in range(parts)
        ]


def test_a_lost_part_is_named_and_keeps_its_rows(tmp_path: Path) -> None:
    folders = [tmp_path / "parts" / str(part) for part in range(2)]
    merger = Merger(tmp_path, manifest(), folders)
    with RunWriter(folders[0], manifest(), FakeClock()) as writer:
        writer.append(a_turn(0, 0), a_second(1.0))
    lost = RunWriter(folders[1], manifest(), FakeClock())
    lost.append(a_turn(1, 0), a_second(1.0))
    assert merger.over(1, "generator process 2 of 2 (speaker 1) ended with status -9 after 3 s")
    assert not merger.over(1, "again")
    merger.finish()
    lost.close()
    run = load_run(tmp_path)
    assert {turn.speaker for turn in run.turns} == {0, 1}
    assert not run.cut_off
    assert len(run.manifest.lost_generators) == 1
    summary = summarize(run)
    assert not summary.generator.valid
    assert summary.generator.reason == run.manifest.lost_generators[0]
    assert (tmp_path / "parts" / "1" / "turns.csv").exists(), "a lost part stays as it was"


def test_if_none_came_to_its_end_the_run_is_cut_off(tmp_path: Path) -> None:
    merger = Merger(tmp_path, manifest(), [tmp_path / "parts" / "0"])
    merger.over(0, "it was killed")
    merger.finish()
    assert load_run(tmp_path).cut_off


def test_words_of_a_speaker_in_another_process_are_found() -> None:
    said = a_turn(0, 0, text="please play some jazz tonight", heard="please play some jazz tonight")
    heard = a_turn(1, 0, text="turn on the lights", heard="turn on the play some jazz")
    unheard = replace(heard, speaker=2, heard="turn on the lights")
    later = replace(heard, speaker=3, speech_start_at_s=500.0, speech_end_at_s=502.0)
    later = replace(later, final_at_s=502.3)
    found = cross_talk([said, heard, unheard, later], 2)
    assert [turn.cross_talk_words > 0 for turn in found] == [False, True, False, False]
    # A generator finds those of its own speakers itself, while they speak.
    assert cross_talk([said, replace(heard, speaker=2)], 2)[1].cross_talk_words == 0
