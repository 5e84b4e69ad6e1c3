"""Service times: what is fitted to measurements, and where they are taken from."""

import random
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.clock import FakeClock
from rtvc.errors import RecordError, UsageError
from rtvc.plan.service import ServiceTimes, fit, growth, line
from rtvc.plan.sources import chosen, from_bench, from_live, load_sources
from rtvc.record import Run, ServerTurnRow, TurnRow, new_manifest
from rtvc.results.cells import Batch, Cell
from rtvc.results.reading import BenchRun, load_bench, write_round
from rtvc.stt.headroom import BatchCost
from tests.plan_worlds import CPU, GPU, round_result, write_bench

TINY = Cell("faster-whisper", "tiny.en")


@given(base_s=st.floats(0.001, 1.0), each_s=st.floats(0.001, 1.0))
@settings(deadline=None, max_examples=80)
def test_a_line_is_found_again(base_s: float, each_s: float) -> None:
    found = fit([Batch(n, 3.0, base_s + n * each_s) for n in (1, 2, 4, 8)])
    assert found.cost.base_s == pytest.approx(base_s, abs=1e-6)
    assert found.cost.each_s == pytest.approx(each_s, abs=1e-6)
    assert found.variation == pytest.approx(0.0, abs=1e-6)
    assert (found.n, found.most_jobs) == (4, 8)


@given(seconds=st.lists(st.floats(0.001, 2.0), min_size=1, max_size=30), data=st.data())
@settings(deadline=None, max_examples=80)
def test_no_part_of_a_cost_is_ever_below_zero(seconds: list[float], data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 16), min_size=len(seconds), max_size=len(seconds)))
    found = line(list(zip(sizes, seconds, strict=True)))
    assert found.base_s >= 0
    assert found.each_s >= 0
    assert found.batch_s(1) > 0


def test_one_size_alone_promises_no_cheaper_batches() -> None:
    assert line([(1, 0.2), (1, 0.4)]).base_s == 0.0


def test_scatter_keeps_its_tail() -> None:
    rows = [Batch(1, 3.0, 0.1) for _ in range(95)] + [Batch(1, 3.0, 1.0) for _ in range(5)]
    found, rng = fit(rows), random.Random(0)
    drawn = [found.draw_s(1, 3.0, rng) for _ in range(4000)]
    assert max(drawn) == pytest.approx(1.0)
    assert fmean(drawn) == pytest.approx(fmean(row.seconds for row in rows), rel=0.1)


def test_longer_audio_takes_longer_where_single_turns_say_so() -> None:
    turns = [(float(s), 0.1 + 0.02 * s) for s in range(1, 10)]
    found = fit([Batch(1, 5.0, 0.2), Batch(2, 5.0, 0.4)], turns)
    assert found.mean_s(1, 10.0) == pytest.approx(0.3)
    assert found.mean_s(1) == pytest.approx(0.2)
    assert growth(turns[:3], 5.0) == 0.0
    assert growth([(3.0, 0.1)] * 20, 3.0) == 0.0


def test_inferences_at_once_slow_each_other_down_as_measured() -> None:
    alone = [Batch(n, 3.0, 0.1 * n) for n in (1, 2)]
    two = [Batch(n, 3.0, 0.15 * n, workers=2) for n in (1, 2)]
    first, second = fit(alone + two).contention
    assert first == (1, 1.0)
    assert second[0] == 2
    assert second[1] == pytest.approx(1.5)
    quicker = [Batch(1, 3.0, 0.05, workers=2)]
    assert fit(alone + quicker).contention == ((1, 1.0), (2, 1.0))


def test_a_machine_twice_as_fast_takes_half_as_long() -> None:
    slow = ServiceTimes(BatchCost(0.2, 0.1))
    assert slow.faster(2.0).mean_s(3) == pytest.approx(slow.mean_s(3) / 2)


def test_nothing_measured_is_said_so() -> None:
    with pytest.raises(RecordError, match="batches or single turns"):
        fit([])


# From a bench


def test_cells_that_differ_in_threads_and_batch_are_one_source(tmp_path: Path) -> None:
    cells = [TINY, replace(TINY, threads=2), replace(TINY, batch=4), replace(TINY, beam=3)]
    found, left_out = from_bench(load_bench(write_bench(tmp_path / "b", cells)), "b")
    assert [source.name for source in found] == ["tiny.en beam 1", "tiny.en beam 3"]
    assert left_out == []
    first = found[0]
    assert sorted(first.model.times) == [1, 2]
    assert first.model.times[1].cost.each_s == pytest.approx(0.08, rel=0.05)
    assert first.model.times[1].most_jobs == 4
    assert first.load_s == pytest.approx(0.5)
    assert first.memory_bytes == 200 * 2**20
    assert (first.cores, first.gpu) == (2, None)
    assert "--beam" in first.serve_flags


def test_threads_that_wait_for_each_other_keep_fewer_cores_busy(tmp_path: Path) -> None:
    two = replace(TINY, threads=2)
    folder = write_bench(tmp_path / "b", [TINY, two])
    for number, (cpu_s, measured_s) in enumerate([(12.0, 10.0), (20.0, 10.0)]):
        timed = replace(round_result(two, number), cpu_s=cpu_s, measured_s=measured_s)
        write_round(folder, timed)
    (source,), _ = from_bench(load_bench(folder), "b")
    assert source.model.times[2].cores(2) == pytest.approx(1.6)
    # Without a clue all threads count.
    assert source.model.times[1].busy_cores is None
    assert source.model.times[1].cores(1) == 1


@given(cpu_s=st.floats(0.0, 1e3), measured_s=st.floats(0.01, 1e3), threads=st.integers(1, 8))
@settings(deadline=None, max_examples=60)
def test_an_inference_keeps_no_more_cores_busy_than_it_has_threads(
    cpu_s: float, measured_s: float, threads: int
) -> None:
    cell = replace(TINY, threads=threads)
    timed = replace(round_result(cell), cpu_s=cpu_s, measured_s=measured_s)
    manifest = new_manifest(["rtvc", "bench"], FakeClock(), machine=CPU)
    run = BenchRun(manifest, [timed], [])
    (source,), _ = from_bench(run, "b")
    assert 0 < source.model.times[threads].cores(threads) <= threads


def test_what_a_server_cannot_run_is_left_out_with_its_reason(tmp_path: Path) -> None:
    cells = [TINY, replace(TINY, vad_filter=True), Cell("openai-whisper", "tiny.en")]
    found, left_out = from_bench(load_bench(write_bench(tmp_path / "b", cells)), "b")
    assert len(found) == 1
    assert any("VAD filter" in line for line in left_out)
    assert any("openai-whisper" in line for line in left_out)
    useless = write_bench(tmp_path / "c", cells[1:])
    with pytest.raises(RecordError, match="a cell that a server can run"):
        from_bench(load_bench(useless), "c")


def test_a_gpu_is_named_only_where_it_was_used(tmp_path: Path) -> None:
    cells = [TINY, replace(TINY, device="cuda")]
    found, _ = from_bench(load_bench(write_bench(tmp_path / "b", cells, machine=GPU)), "b")
    assert [source.gpu for source in found] == [None, "NVIDIA L4"]


def test_pocketsphinx_is_served_one_by_one(tmp_path: Path) -> None:
    found, _ = load_sources([write_bench(tmp_path / "b", [Cell("pocketsphinx", "en-us")])])
    assert found[0].model.one_by_one


def test_only_models_that_were_measured_can_be_asked_about(tmp_path: Path) -> None:
    found, _ = load_sources([write_bench(tmp_path / "b", [TINY, Cell("faster-whisper", "b.en")])])
    assert [source.model_name for source in chosen(found, ("b.en",))] == ["b.en"]
    assert chosen(found, ()) == found
    with pytest.raises(UsageError, match="a model that was measured"):
        chosen(found, ("large-v3",))


# From a live run


def live_run(folder: Path, turns: int = 30, wait_s: float = 0.0) -> Run:
    """Turns of 2 s whose inference took 0.2 s, half of it hidden in the wait."""
    manifest = new_manifest(["rtvc", "loadtest"], FakeClock(), machine=CPU, model="tiny.en")
    segments = {"queue_wait": wait_s, "features": 0.02, "encode": 0.08, "decode": 0.1}
    rows = [
        ServerTurnRow("s", f"i{n}", "transcript", name, 0.0, seconds, hidden=name == "encode")
        for n in range(turns)
        for name, seconds in segments.items()
    ]
    return Run(folder, manifest, [], [_turn(n) for n in range(turns)], rows, [], [])


def _turn(number: int) -> TurnRow:
    blank: dict[str, Any] = {name: None for name in TurnRow.__dataclass_fields__}
    known: dict[str, Any] = {
        "speaker": 0,
        "session_id": "s",
        "item_id": f"i{number}",
        "utterance": number,
        "speech_start_at_s": 10.0 * number,
        "first_word_end_at_s": 10.0 * number + 0.3,
        "speech_end_at_s": 10.0 * number + 2.0,
    }
    return TurnRow(**{**blank, **known})


def test_a_live_run_tells_what_its_server_timed(tmp_path: Path) -> None:
    found = from_live(live_run(tmp_path))
    times = found.model.times[1]
    assert times.cost.base_s == 0.0
    assert times.cost.each_s == pytest.approx(0.2)
    assert times.n == 30
    assert found.speech_s == (2.0,) * 30
    assert found.serve_flags == ("--model", "tiny.en")
    assert any("under load" in note for note in found.notes)


def test_turns_that_waited_are_left_aside_where_enough_did_not(tmp_path: Path) -> None:
    quick, slow = live_run(tmp_path), live_run(tmp_path, turns=10, wait_s=0.5)
    slow_rows = [
        replace(row, session_id="t", duration_s=2 * row.duration_s) for row in slow.server_turns
    ]
    both = replace(quick, server_turns=quick.server_turns + slow_rows)
    assert from_live(both).model.times[1].cost.each_s == pytest.approx(0.2)
    assert from_live(replace(quick, server_turns=slow_rows)).model.times[1].n == 10


def test_a_run_whose_server_timed_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"server_turns\.csv"):
        from_live(replace(live_run(tmp_path), server_turns=[]))
