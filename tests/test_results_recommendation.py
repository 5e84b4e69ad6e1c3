"""Which cell to run: the sentence, the rules, and what no rule may do."""

import inspect
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.errors import UsageError
from rtvc.results.cells import Cell, Heard, Held, Memory, RoundResult
from rtvc.results.pareto import beats, front
from rtvc.results.recommendation import Recommendation, misses, recommend
from rtvc.results.summary import BenchSummary
from rtvc.results.targets import Targets, parse_targets
from rtvc.results.yardstick import (
    SEED_BASELINE,
    SETTING,
    is_seed_baseline,
    ratio,
    round_ratios,
    summarize_bench,
)
from rtvc.server.command import serve
from tests.bench_run import (
    MEDIUM,
    MIB,
    SKIPPED,
    SMALL,
    TINY,
    a_bench,
    a_round,
    a_turn,
    rounds,
    turns,
    usual_rounds,
)

BASE = Cell("faster-whisper", "base.en", compute_type="int8")


def measured(cell: Cell, delay_s: float, wrong: int, held: int, memory_mib: int) -> RoundResult:
    return a_round(
        cell,
        heard=turns(delay_s, wrong),
        held=Held(held, held + 2, 0.5, 0.4, 120),
        memory=Memory(50 * MIB, memory_mib * MIB),
    )


def summed(*results: RoundResult) -> BenchSummary:
    return summarize_bench(a_bench(results))


# What no other beats.

costs = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3),
    st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 2)),
    max_size=12,
)


@given(costs)
def test_none_on_the_front_is_beaten_and_all_others_are(known: dict[str, tuple[int, ...]]) -> None:
    best = front(known)
    assert bool(best) == bool(known)
    for name, cost in known.items():
        beaten_by = [other for other in best if beats(known[other], cost)]
        assert bool(beaten_by) == (name not in best)


@given(costs)
def test_nothing_beats_itself_and_two_never_each_other(known: dict[str, tuple[int, ...]]) -> None:
    for one in known.values():
        assert not beats(one, one)
        for other in known.values():
            assert not (beats(one, other) and beats(other, one))


def test_costs_that_are_not_as_many_are_no_costs() -> None:
    with pytest.raises(ValueError, match="argument"):
        front({"a": (1.0,), "b": (1.0, 2.0)})


# The yardstick.


def test_the_preset_is_the_yardstick_where_it_was_measured() -> None:
    summary = summarize_bench(a_bench())
    assert (summary.yardstick, summary.yardstick_is) == (MEDIUM.key, SEED_BASELINE)
    synthetic = replace(MEDIUM, model="synthetic:medium.en")
    assert is_seed_baseline(synthetic)
    for other in (
        replace(MEDIUM, beam=1),
        replace(MEDIUM, vad_filter=False),
        replace(MEDIUM, batch=8),
        replace(MEDIUM, engine="openai-whisper"),
        replace(MEDIUM, model="medium"),
    ):
        assert not is_seed_baseline(other)


def test_without_the_preset_the_slowest_is() -> None:
    results = [measured(SMALL, 0.2, 0, 14, 500), measured(BASE, 0.1, 1, 30, 300)]
    summary = summed(*results)
    assert (summary.yardstick, summary.yardstick_is) == (SMALL.key, "slowest here")
    assert summarize_bench(a_bench([])).yardstick is None


def test_a_cell_may_be_named_as_the_yardstick() -> None:
    for name in (SMALL.key, "small.en int8 beam 1"):
        summary = summarize_bench(a_bench(settings={SETTING: name}))
        assert (summary.yardstick, summary.yardstick_is) == (SMALL.key, "named")
    asked = summarize_bench(a_bench(), SMALL.key)
    assert asked.yardstick == SMALL.key


def test_a_yardstick_without_a_result_is_told() -> None:
    summary = summarize_bench(a_bench(), "large-v3 beam 5")
    assert summary.yardstick == MEDIUM.key
    assert any("large-v3 beam 5, has no result" in note for note in summary.notes)
    assert not any("has no result" in note for note in summarize_bench(a_bench()).notes)


@given(
    st.lists(st.tuples(st.floats(0.01, 9), st.floats(0.01, 9)), min_size=1, max_size=12),
    st.floats(0.1, 10),
)
@settings(deadline=None)
def test_a_ratio_is_the_other_way_round_what_it_is_this_way(
    pairs: list[tuple[float, float]], factor: float
) -> None:
    one = a_round(MEDIUM, heard=tuple(a_turn(n, slow) for n, (slow, _) in enumerate(pairs)))
    other = a_round(SMALL, heard=tuple(a_turn(n, fast) for n, (_, fast) in enumerate(pairs)))
    there, back = ratio([one], [other]), ratio([other], [one])
    assert there is not None
    assert back == pytest.approx(1 / there)
    slower = replace(
        one, heard=tuple(replace(turn, delay_s=turn.delay_s * factor) for turn in one.heard)
    )
    assert ratio([slower], [other]) == pytest.approx(there * factor)


def test_only_clips_that_both_heard_make_a_ratio() -> None:
    one = a_round(MEDIUM, heard=(a_turn(0, 0.8), a_turn(1, 99.0)))
    other = a_round(SMALL, heard=(a_turn(0, 0.2), a_turn(2, 55.0)))
    assert ratio([one], [other]) == pytest.approx(4.0)
    strange = a_round(SMALL, heard=(a_turn(7, 0.2),))
    assert ratio([one], [strange]) is None


def test_what_slows_both_in_one_round_leaves_the_ratio_of_that_round() -> None:
    slow = [a_round(MEDIUM, n, heard=turns(0.8 * (1 + 4 * (n == 1)))) for n in range(3)]
    fast = [a_round(SMALL, n, heard=turns(0.2 * (1 + 4 * (n == 1)))) for n in range(3)]
    found = round_ratios(slow, fast)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((4.0, 4.0))
    assert found.rounds == 3
    assert round_ratios(slow[:1], fast[1:]) is None


def test_memory_of_a_gpu_is_not_compared_with_that_of_a_process() -> None:
    on_gpu = replace(SMALL, device="cuda")
    memory = Memory(50 * MIB, 600 * MIB, 10 * MIB, 500 * MIB)
    summary = summed(measured(MEDIUM, 0.8, 0, 3, 1800), a_round(on_gpu, memory=memory))
    gpu = summary.of(on_gpu.key)
    assert gpu is not None
    assert gpu.against is not None
    assert gpu.against.memory is None
    assert gpu.against.faster > 1


# The recommendation.


def test_the_sentence_says_what_it_gains_and_what_it_costs() -> None:
    found = recommend(summarize_bench(a_bench()), Targets(0.5, 0.2))
    assert found.sentence == (
        "small.en int8 beam 1: 4.1× faster than medium.en beam 3, VAD filter, +9.1 points WER, "
        "holds 14 instead of 3."
    )
    assert found.because == (
        "It is the only one within delay p95 ≤ 500 ms, WER ≤ 20 % "
        "(weights that were never trained left aside)."
    )
    assert found.serve == (
        "rtvc serve --model small.en --device cpu --compute-type int8 --beam 1 "
        "--encoder-context full"
    )
    assert (found.cell, found.met) == (SMALL.key, True)


def test_the_yardstick_itself_is_told_by_its_own_figures() -> None:
    found = recommend(summarize_bench(a_bench()), Targets(2.0))
    assert found.cell == MEDIUM.key, "the most right of those that are fast enough"
    assert found.sentence == (
        "medium.en beam 3, VAD filter: delay max 910 ms, WER 9.09 %, holds 3, 1.76 GiB."
    )
    assert found.because.startswith("It has the lowest word error rate of 2")
    assert found.runners_up == (SMALL.key,)


def test_within_a_point_of_the_best_the_one_that_holds_most_wins() -> None:
    """One error more among 1,320 words."""
    worse = (*turns(0.1, 1, count=119), a_turn(119, 0.1, wrong=2))
    light = a_round(BASE, heard=worse, held=Held(30, 32, 0.5, 0.4, 120))
    right = a_round(SMALL, heard=turns(0.2, 1, count=120), held=Held(14, 16, 0.5, 0.4, 120))
    found = recommend(summed(light, right), Targets(1.0))
    assert found.cell == BASE.key
    assert "holds most sessions of the 2 within a point" in found.because


def test_who_holds_nobody_is_recommended_with_a_warning() -> None:
    nobody = a_round(SMALL, heard=turns(0.2, 0, count=120), held=Held(0, 1, 0.5, None, 0))
    assert "not even one session" in recommend(summed(nobody), Targets(1.0)).note
    one = replace(nobody, held=Held(1, 2, 0.5, 0.4, 100))
    assert recommend(summed(one), Targets(1.0)).note == ""


def test_where_a_rate_is_asked_for_more_sessions_win() -> None:
    results = [measured(SMALL, 0.2, 0, 14, 500), measured(BASE, 0.1, 1, 30, 300)]
    assert recommend(summed(*results), Targets(0.5, 0.2)).cell == BASE.key
    assert recommend(summed(*results), Targets(0.5, 0.05)).cell == SMALL.key
    assert recommend(summed(*results), Targets(0.5)).cell == SMALL.key
    assert recommend(summed(*results), Targets(0.5, None, 400 * MIB)).cell == BASE.key


def test_of_synthetic_weights_the_largest_that_keeps_up_is_named() -> None:
    small = replace(TINY, model="synthetic:small.en")
    found = recommend(summed(a_round(TINY, heard=turns(0.04)), a_round(small)), Targets(0.5, 0.1))
    assert found.cell == small.key
    assert "what it understands was not measured" in found.because
    assert "understand nothing" in found.note
    quick = recommend(summed(a_round(TINY, heard=turns(0.04)), a_round(small)), Targets(0.1))
    assert quick.cell == TINY.key
    assert "its accuracy unknown" in quick.sentence


def test_scored_words_come_before_guesses() -> None:
    found = recommend(summed(measured(SMALL, 0.2, 1, 14, 500), a_round(TINY)), Targets())
    assert found.cell == SMALL.key


def test_the_self_test_model_is_only_the_last_resort() -> None:
    selftest = a_round(
        Cell("faster-whisper", "selftest"), model_kind="self-test model", heard=turns(0.01)
    )
    synthetic = a_round(TINY, heard=turns(0.04))
    assert recommend(summed(selftest, synthetic), Targets()).cell == TINY.key
    better = recommend(summed(selftest, synthetic), Targets(delay_p95_s=0.05))
    assert better.because == (
        "It is the only one within delay p95 ≤ 50 ms (the self-test model left aside)."
    )
    assert recommend(summed(selftest), Targets()).cell == selftest.cell.key


def test_none_within_the_targets_names_the_nearest() -> None:
    scored = [result for result in usual_rounds() if result.cell != TINY]
    found = recommend(summed(*scored), Targets(0.1, 0.05))
    assert (found.cell, found.met) == (SMALL.key, False)
    assert found.sentence.startswith(
        "Nothing here keeps delay p95 ≤ 100 ms, WER ≤ 5 %: nearest is small.en int8 beam 1"
    )
    assert "neither" in found.because
    slow = recommend(summed(measured(SMALL, 0.9, 0, 1, 500)), Targets(0.5))
    assert "smaller model" in slow.because
    deaf = recommend(summed(measured(SMALL, 0.2, 3, 1, 500)), Targets(0.5, 0.1))
    assert "larger model" in deaf.because


def test_a_model_that_loses_half_of_the_words_is_never_run() -> None:
    found = recommend(summed(measured(SMALL, 0.1, 6, 99, 100)), Targets())
    assert found == Recommendation(
        None,
        False,
        "Nothing here understands this speech.",
        "The best of 1 is small.en int8 beam 1: delay max 111 ms, WER 54.5 %, holds 99, 100 MiB.",
    )


def test_nothing_measured_says_so() -> None:
    found = recommend(summarize_bench(a_bench([], [SKIPPED])), Targets())
    assert (found.cell, found.met, found.serve) == (None, False, "")
    assert found.because == "1 cell without a result."


def test_what_is_unknown_keeps_no_target() -> None:
    unknown = a_round(heard=turns(), memory=Memory())
    summary = summed(unknown)
    assert misses(summary.cells[0], Targets(0.5, None, 10**9)) == math.inf
    assert misses(summary.cells[0], Targets(0.5)) <= 1


figures = st.tuples(
    st.floats(0.01, 2), st.integers(0, 8), st.integers(0, 40), st.integers(50, 4000)
)
CELLS = (SMALL, BASE, MEDIUM, Cell("faster-whisper", "tiny.en"))


@given(
    st.lists(figures, min_size=1, max_size=4),
    st.floats(0.05, 2),
    st.none() | st.floats(0.01, 0.4),
    st.none() | st.integers(100, 4000),
    st.floats(1, 3),
)
@settings(deadline=None, max_examples=60)
def test_what_is_recommended_keeps_the_targets_and_looser_ones_lose_nothing(
    known: Sequence[tuple[float, int, int, int]],
    delay_s: float,
    wer: float | None,
    memory_mib: int | None,
    looser: float,
) -> None:
    results = [measured(cell, *each) for cell, each in zip(CELLS, known, strict=False)]
    summary = summed(*results)
    memory = None if memory_mib is None else memory_mib * MIB
    targets = Targets(delay_s, wer, memory)
    found = recommend(summary, targets)
    best = summary.of(found.cell)
    if found.met:
        assert best is not None
        assert misses(best, targets) <= 1
        wide = Targets(delay_s * looser, wer and wer * looser, memory and round(memory * looser))
        assert recommend(summary, wide).met
    else:
        assert all(misses(one, targets) > 1 or (one.wer or 0) >= 0.5 for one in summary.cells)


@given(st.permutations(list(zip(CELLS, ((0.2, 1, 9, 500),) * 4, strict=True))))
@settings(deadline=None, max_examples=20)
def test_the_order_of_the_cells_decides_nothing(
    known: list[tuple[Cell, tuple[float, int, int, int]]],
) -> None:
    shuffled = summed(*(measured(cell, *each) for cell, each in known))
    assert recommend(shuffled, Targets(2.0)).cell == min(cell.key for cell in CELLS)


def test_the_server_knows_every_flag_that_it_is_given() -> None:
    options = {
        name
        for annotation in inspect.get_annotations(serve, eval_str=True).values()
        for option in get_args(annotation)[1:]
        for name in (str(option.default), *(option.param_decls or ()))
    }
    every = Cell("faster-whisper-batched", "small", "cuda", "float16", 3, 8, "short")
    found = recommend(summed(a_round(every)), Targets())
    flags = set(re.findall(r"--[\w-]+", found.serve))
    assert len(flags) == 7
    assert flags <= options


def test_a_model_of_many_languages_is_served_in_the_one_that_it_was_measured_in() -> None:
    german = [replace(turn, language="de-AT") for turn in turns(0.2)]
    both = [*german, replace(turns(0.2)[0], language="en")]

    def command(model: str, heard: list[Heard]) -> str:
        cell = replace(SMALL, model=model)
        return recommend(summed(a_round(cell, heard=tuple(heard))), Targets()).serve

    assert command("small", german).endswith("--language de")
    for unsaid in (command("small.en", german), command("small", both)):
        assert "--model" in unsaid
        assert "--language" not in unsaid


def test_a_folder_with_a_space_is_quoted() -> None:
    spaced = replace(SMALL, model="my models/small")
    assert "--model 'my models/small' " in recommend(summed(a_round(spaced)), Targets()).serve


# Notes.


def test_what_a_reader_must_know_is_noted() -> None:
    notes = " ".join(summarize_bench(a_bench(interrupted=True)).notes)
    assert "interrupted" in notes
    assert "accuracy is left empty" in notes
    assert "self-test" not in notes
    uneven = summed(*rounds(SMALL, 3), *rounds(BASE, 1))
    assert uneven.notes == ("Cells measured in fewer than 3 rounds: 1 of 2.",)
    asked = {"cells": [SMALL.key, BASE.key, MEDIUM.key], "rounds": 2}
    stopped = summarize_bench(a_bench([a_round(SMALL), *rounds(BASE, 2)], settings=asked))
    assert stopped.notes == (
        "Cells not measured yet: 1 of 3.",
        "Cells measured in fewer than 2 rounds: 1 of 2.",
    )
    assert summed(*rounds(SMALL, 2), *rounds(BASE, 2)).notes == ()
    other = summed(a_round(SMALL), a_round(BASE, heard=turns(count=5)))
    assert any("different clips" in note for note in other.notes)


# Targets.


@given(
    st.none() | st.floats(0.001, 100).map(lambda s: round(s, 3)),
    st.none() | st.integers(1, 100).map(lambda share: share / 100),
    st.none() | st.integers(1, 80_000).map(lambda mib: mib * MIB),
)
def test_targets_are_read_as_they_are_written(
    delay_s: float | None, wer: float | None, memory: int | None
) -> None:
    targets = Targets(delay_s, wer, memory)
    read = parse_targets(targets.texts)
    assert read == (targets if targets.texts else Targets())


def test_targets_in_other_units_are_the_same() -> None:
    read = parse_targets(["delay_p95 <= 250 ms", "wer<0.1", "memory<2GB"])
    assert read == Targets(0.25, 0.1, 2_000_000_000)


@pytest.mark.parametrize("text", ["fast", "delay_p95<3", "wer<10ms", "memory>1GiB", "delay<1s"])
def test_a_target_that_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected a target such as delay_p95<500ms"):
        parse_targets([text])
