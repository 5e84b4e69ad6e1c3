"""The figures of a bench: what each is made of, and what cannot be known."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.errors import RecordError
from rtvc.results.bench_file import BENCH_FILE, load_bench_summary, write_bench
from rtvc.results.cells import Batch, Cell, Held, LongFile, Memory, Quiet, RoundResult
from rtvc.results.naming import label, labels, model_size, serve_flags, serve_note
from rtvc.results.recommendation import recommend
from rtvc.results.spread import Delay, Spread, by_length, typical_delay
from rtvc.results.summary import CellSummary, rtfx, services, summarize_cell
from rtvc.results.targets import Targets
from rtvc.results.yardstick import summarize_bench
from rtvc.stats import quantile
from tests.bench_run import (
    MEDIUM,
    MIB,
    SKIPPED,
    SMALL,
    TINY,
    a_bench,
    a_round,
    a_streamed,
    a_turn,
    rounds,
    turns,
)

delays = st.floats(0.001, 100)


def summed(*results: RoundResult) -> CellSummary:
    return summarize_cell("a cell", results)


# Delays.


@given(st.lists(delays, min_size=1, max_size=30))
def test_a_spread_lies_between_the_least_and_the_most(values: list[float]) -> None:
    found = Spread.of(values)
    assert found is not None
    assert min(values) <= found.low <= found.median <= found.high <= max(values)
    assert found.rounds == len(values)


def test_of_nothing_there_is_no_spread_and_no_delay() -> None:
    assert Spread.of([]) is None
    assert Delay.of([]) == Delay(0)
    assert Delay.of([]).slow is None


@pytest.mark.parametrize(("n", "name"), [(99, "max"), (100, "p95")])
def test_too_few_are_judged_by_the_largest(n: int, name: str) -> None:
    values = [number / 1000 for number in range(n)]
    found = Delay.of(values)
    assert found.slow_name == name
    assert found.slow == (max(values) if name == "max" else quantile(values, 0.95))


def test_a_delay_is_filed_under_the_length_of_its_turn() -> None:
    heard = [a_turn(n, 0.1 * n, audio_s=length) for n, length in enumerate((0.1, 2.0, 4.9, 31.0))]
    found = {each.name: each.delay.n for each in by_length(heard)}
    assert found == {"0–2 s": 1, "2–5 s": 2, "10 s and more": 1}


@given(st.lists(delays, min_size=1, max_size=20), st.floats(0.1, 10))
@settings(deadline=None)
def test_a_machine_so_much_slower_has_typical_delays_so_much_longer(
    values: list[float], factor: float
) -> None:
    heard = [a_turn(n, value) for n, value in enumerate(values)]
    slower = [replace(turn, delay_s=turn.delay_s * factor) for turn in heard]
    before, after = typical_delay(heard), typical_delay(slower)
    assert before is not None
    assert after == pytest.approx(before * factor)


@given(st.lists(delays, min_size=1, max_size=8), st.floats(2, 50))
def test_one_round_of_three_that_was_disturbed_changes_nothing(
    values: list[float], factor: float
) -> None:
    calm = [a_turn(n, value) for n, value in enumerate(values)]
    disturbed = [replace(turn, delay_s=turn.delay_s * factor) for turn in calm]
    assert typical_delay([*calm, *disturbed, *calm]) == typical_delay(calm)


def test_the_same_clip_in_noise_is_another_one() -> None:
    clean, noisy = a_turn(0, 0.1), a_turn(0, 0.3, condition="babble 10 dB")
    assert typical_delay([clean, noisy]) == pytest.approx(0.2)


# Throughput, loading, batches, memory.


def test_rtfx_is_pooled_and_no_mean_of_ratios() -> None:
    files = [LongFile("a", 10.0, 1.0, "", None), LongFile("b", 90.0, 99.0, "", None)]
    assert rtfx(files) == pytest.approx(1.0)
    assert rtfx([]) is None


def test_the_first_load_is_kept_apart() -> None:
    found = summed(*rounds(SMALL))
    assert found.load_cold_s == 2.0
    assert found.load_warm == Spread(0.5, 0.5, 0.5, 2)
    only = summed(a_round())
    assert (only.load_cold_s, only.load_warm) == (2.0, None)


def test_inferences_of_the_same_size_are_one_row() -> None:
    found = services([Batch(4, 3.0, 0.5), Batch(1, 2.0, 0.2), Batch(1, 4.0, 0.4)])
    assert [(each.jobs, each.n, each.audio_s) for each in found] == [(1, 2, 3.0), (4, 1, 3.0)]
    assert found[0].seconds.median == pytest.approx(0.3)
    assert found[1].jobs_per_s == pytest.approx(8.0)
    both = services([Batch(1, 3.0, 0.2), Batch(1, 3.0, 0.4, workers=2)])
    assert [each.jobs_per_s for each in both] == pytest.approx([5.0, 5.0])


def test_memory_is_the_most_of_any_round_and_unknown_is_not_nothing() -> None:
    memory = [Memory(100, 400), Memory(None, 500), Memory()]
    found = summed(*(a_round(number=n, memory=each) for n, each in enumerate(memory)))
    assert found.footprint.host_peak_bytes == 500
    assert found.footprint.host_added_bytes == 300
    assert found.footprint.device_added_bytes is None
    assert summed(a_round(memory=Memory())).memory_bytes is None


def test_on_a_gpu_memory_is_what_the_device_held_more() -> None:
    memory = Memory(10 * MIB, 900 * MIB, 200 * MIB, 700 * MIB)
    on_gpu = a_round(replace(SMALL, device="cuda"), memory=memory)
    assert summed(on_gpu).memory_bytes == 500 * MIB
    assert summed(a_round(memory=memory)).memory_bytes == 900 * MIB


def test_power_is_energy_by_time_and_unknown_without_it() -> None:
    found = summed(a_round(energy_j=600.0, measured_s=10.0, cpu_s=15.0)).footprint
    assert (found.energy_j, found.power_w, found.cores_busy) == (600.0, 60.0, 1.5)
    unknown = summed(a_round(energy_j=None, measured_s=0.0)).footprint
    assert (unknown.energy_j, unknown.power_w, unknown.cores_busy) == (None, None, None)


def test_of_two_rounds_the_one_that_held_fewer_counts() -> None:
    held = [Held(9, 10, 0.5, 0.4, 100), Held(7, 8, 0.5, 0.4, 100)]
    found = summed(*(a_round(number=n, held=each) for n, each in enumerate(held)))
    assert found.held == held[1]
    assert found.held_rounds == (9, 7)
    assert summed(a_round(held=None)).held is None


# Words.


def test_the_rate_is_that_of_clean_speech_and_noise_stands_beside_it() -> None:
    noisy = [a_turn(n, wrong=5, condition="babble 10 dB") for n in range(4)]
    found = summed(a_round(heard=(*turns(count=4), *noisy)))
    assert found.wer == 0.0
    assert found.conditions["babble 10 dB"].wer == pytest.approx(5 / 11)


def test_where_nothing_is_clean_all_of_it_counts() -> None:
    first = [a_turn(n, wrong=0, condition="pink 5 dB") for n in range(2)]
    second = [a_turn(n, wrong=2, condition="room") for n in range(2)]
    assert summed(a_round(heard=(*first, *second))).wer == pytest.approx(4 / 44)


def test_hearing_clips_again_leaves_the_rate_and_the_number_of_clips() -> None:
    once = summed(a_round(heard=turns(wrong=1)))
    thrice = summed(*rounds(SMALL, heard=turns(wrong=1)))
    assert once.accuracy is not None
    assert thrice.accuracy is not None
    assert thrice.wer == once.wer == pytest.approx(1 / 11)
    assert thrice.accuracy.clips == once.accuracy.clips == 12


@pytest.mark.parametrize("kind", ["synthetic weights", "random weights"])
def test_text_that_means_nothing_has_no_accuracy_anywhere(kind: str) -> None:
    found = summed(a_round(model_kind=kind))
    assert found.streaming is not None
    assert (found.accuracy, found.long_accuracy, found.quiet, found.wer) == (None,) * 4
    assert (found.streaming.finals, found.streaming.last_partials) == (None, None)
    assert found.streaming.corrections is None
    assert found.streaming.word_latency == Delay(0)
    assert found.conditions == {}
    assert found.delay.n == 12, "but its delays are real"


def test_clips_without_a_reference_leave_the_rate_open() -> None:
    found = summed(a_round(heard=(a_turn(reference=None),)))
    assert found.wer is None
    assert found.delay.n == 1


def test_words_out_of_nothing_are_counted() -> None:
    quiet = (Quiet("silence", 10.0, ""), Quiet("pink", 20.0, "Thank you so much."))
    found = summed(a_round(quiet=quiet)).quiet
    assert found is not None
    assert (found.words, found.clips, found.clips_with_words) == (4, 2, 1)
    assert summed(a_round(quiet=())).quiet is None


def test_a_text_that_changes_from_round_to_round_is_noticed() -> None:
    results = [a_round(number=n, heard=turns(wrong=n > 0)) for n in range(3)]
    assert summed(*results).unsteady_clips == 12
    assert summed(*rounds(SMALL)).unsteady_clips == 0


def test_a_final_that_never_came_is_infinite() -> None:
    found = summed(a_round(streamed=(a_streamed(0), a_streamed(1, final_delay_s=None)))).streaming
    assert found is not None
    assert found.final_delay.max == math.inf
    assert found.last_partials is not None
    assert found.last_partials.wer == pytest.approx(7 / 11), "what is still to come is lost"
    assert summed(a_round(streamed=())).streaming is None


def test_turns_in_which_a_guard_fired_are_counted() -> None:
    guarded = (a_turn(0, guards=("repetition", "silence")), a_turn(1))
    assert summed(a_round(heard=guarded)).guarded_turns == 1


# The file.


def test_the_figures_come_back_from_their_file(tmp_path: Path) -> None:
    lost = (a_streamed(0, final_delay_s=None),)
    long = (a_turn(0, audio_s=30.0),)
    run = a_bench([a_round(SMALL, heard=long, streamed=lost), a_round(TINY)], [SKIPPED])
    summary = summarize_bench(run)
    path = write_bench(tmp_path, summary, recommend(summary, Targets()), Targets())
    assert path == tmp_path / BENCH_FILE
    assert "Infinity" not in path.read_text("utf-8")
    assert load_bench_summary(tmp_path) == summary


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / BENCH_FILE).write_text('{"schema_version": 2}')
    with pytest.raises(RecordError, match="expected schema version 1, got 2"):
        load_bench_summary(tmp_path)


# Names, and what to give the server.


def test_what_differs_is_in_the_name() -> None:
    others = [SMALL, replace(SMALL, threads=2), replace(SMALL, device="cuda"), MEDIUM]
    names = labels(others)
    assert len(set(names.values())) == 4
    assert names[MEDIUM.key] == "medium.en beam 3, VAD filter"
    assert names[others[2].key] == "small.en int8 beam 1, on cuda, 1 thread"


@given(
    st.lists(
        st.builds(
            Cell,
            engine=st.sampled_from(["faster-whisper", "faster-whisper-batched", "transformers"]),
            model=st.sampled_from(["tiny.en", "small.en"]),
            device=st.sampled_from(["cpu", "cuda"]),
            compute_type=st.sampled_from(["auto", "int8"]),
            beam=st.integers(1, 2),
            batch=st.integers(1, 2),
            context=st.sampled_from(["full", "short"]),
            vad_filter=st.booleans(),
            threads=st.integers(1, 2),
        ),
        max_size=12,
    )
)
def test_no_two_cells_have_the_same_name(cells: list[Cell]) -> None:
    names = labels(cells)
    assert len(set(names.values())) == len(set(cells)) == len(names)


def test_only_what_the_server_can_run_has_flags_for_it() -> None:
    batched = Cell("faster-whisper-batched", "small.en", "cuda", "float16", 1, 8, threads=4)
    assert serve_flags(batched)[-2:] == ("--max-batch", "8")
    assert serve_flags(Cell("pocketsphinx", "pocketsphinx")) == ("--model", "pocketsphinx")
    for engine in ("openai-whisper", "transformers", "whisperx"):
        other = Cell(engine, "small.en")
        assert serve_flags(other) == ()
        assert engine in serve_note(other, "whisper")


def test_who_copies_synthetic_weights_is_told_what_they_are() -> None:
    assert "serve tiny.en once" in serve_note(TINY, "synthetic weights")
    assert "VAD filter" in serve_note(MEDIUM, "whisper")
    assert serve_note(SMALL, "whisper") == ""


def test_models_are_ranked_by_size() -> None:
    names: tuple[str, ...] = (
        "selftest",
        "synthetic:tiny.en",
        "base",
        "distil-small.en",
        "small.en",
    )
    names += ("distil-medium.en", "medium", "large-v3-turbo", "large-v3")
    sizes = [model_size(name) for name in names]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == len(names)


def test_a_label_leaves_out_what_is_usual() -> None:
    assert label(Cell("faster-whisper", "tiny.en")) == "tiny.en beam 1"
