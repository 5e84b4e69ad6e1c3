"""Rows of a bench: every combination is one, and one that makes no sense says why."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.bench.grid import (
    ABILITIES,
    POCKETSPHINX,
    Grid,
    Here,
    Wish,
    grid,
    objection,
    seed_baseline,
    with_preset,
)
from rtvc.errors import UsageError
from rtvc.results.cells import Cell
from rtvc.results.yardstick import is_seed_baseline

CPU_ONLY = Here({"cpu": frozenset({"int8", "float32"})})
WITH_GPU = Here({**CPU_ONLY.compute_types, "cuda": frozenset({"float16", "int8_float16"})})


def reason_of(cell: Cell, here: Here = CPU_ONLY) -> str:
    said = objection(cell, here)
    assert said is not None
    return said


def subsets(*values: object) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(st.sampled_from(values), min_size=1, unique=True).map(tuple)


wishes = st.builds(
    Wish,
    models=subsets("tiny.en", "distil-small.en", "selftest", "synthetic:tiny.en", "pocketsphinx"),
    engines=subsets(*ABILITIES),
    devices=subsets("cpu", "cuda"),
    compute_types=subsets("auto", "int8", "float16", "float32", "bfloat16"),
    beams=subsets(1, 3),
    batches=subsets(1, 8),
    contexts=subsets("auto", "full", "short"),
    vad_filters=subsets(False, True),
    threads=subsets(1, 2),
)


@given(wishes, st.sampled_from([CPU_ONLY, WITH_GPU]))
@settings(deadline=None, max_examples=60)
def test_every_combination_is_a_row_once(wish: Wish, here: Here) -> None:
    found = grid(wish, here)
    rows = [*found.cells, *(failure.cell for failure in found.unsupported)]
    assert len(rows) == len(set(rows))
    for engine in set(wish.engines) - {POCKETSPHINX}:
        for model in set(wish.models) - {POCKETSPHINX}:
            own = [row for row in rows if (row.engine, row.model) == (engine, model)]
            assert {row.beam for row in own} == set(wish.beams)
            assert {row.batch for row in own} == set(wish.batches)
            assert {row.compute_type for row in own} == set(wish.compute_types)
            assert {row.device for row in own} == set(wish.devices)
    wanted = POCKETSPHINX in wish.models or POCKETSPHINX in wish.engines
    sphinxes = [row for row in rows if row.engine == POCKETSPHINX]
    assert sphinxes == ([Cell(POCKETSPHINX, POCKETSPHINX)] if wanted else [])


@given(wishes, st.sampled_from([CPU_ONLY, WITH_GPU]))
@settings(deadline=None, max_examples=60)
def test_what_is_measured_has_no_objection_and_what_is_not_has_a_reason(
    wish: Wish, here: Here
) -> None:
    found = grid(wish, here)
    assert all(objection(cell, here) is None for cell in found.cells)
    assert all(failure.kind == "unsupported" and failure.reason for failure in found.unsupported)
    assert all(cell.context in ("full", "short") for cell in found.cells)


def test_keys_of_a_grid_are_all_different() -> None:
    wish = Wish(
        ("tiny.en", "synthetic:tiny.en"),
        tuple(ABILITIES),
        ("cpu", "cuda"),
        ("auto", "int8"),
        (1, 3),
        (1, 8),
        ("full", "short"),
        (False, True),
        (1, 2),
    )
    found = grid(wish, WITH_GPU)
    rows = [*found.cells, *(failure.cell for failure in found.unsupported)]
    assert len({row.key for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (Cell("openai-whisper", "tiny.en", compute_type="int8"), "no int8"),
        (Cell("openai-whisper", "tiny.en", compute_type="float16"), "on a GPU only"),
        (Cell("openai-whisper", "distil-small.en"), "transformers has them"),
        (Cell("openai-whisper", "selftest"), "made for CTranslate2"),
        (Cell("openai-whisper", "tiny.en", beam=3, batch=2), "one utterance at a time"),
        (Cell("transformers", "tiny.en", vad_filter=True), "no VAD filter"),
        (Cell("transformers", "tiny.en", context="short"), "always sees 30 s"),
        (Cell("faster-whisper", "tiny.en", "cuda"), "no CUDA device"),
        (Cell("faster-whisper", "tiny.en", compute_type="float64"), "it has auto, float32, int8"),
        (Cell("faster-whisper", "tiny.en", context="short", vad_filter=True), "30 s context"),
        (Cell("faster-whisper", "tiny.en", batch=8, vad_filter=True), "the batched engine more"),
        (Cell("whisperx", "selftest", vad_filter=True), "self-test model"),
        (Cell("pocketsphinx", "pocketsphinx", "cuda"), "CPU only"),
    ],
)
def test_what_cannot_be_combined_says_why(cell: Cell, words: str) -> None:
    assert words in reason_of(cell)


@pytest.mark.parametrize(
    "cell",
    [
        Cell("faster-whisper", "tiny.en", compute_type="int8", beam=5, batch=8),
        Cell("faster-whisper", "tiny.en", context="short"),
        Cell("faster-whisper", "tiny.en", vad_filter=True),
        Cell("faster-whisper-batched", "tiny.en", batch=8, vad_filter=True),
        Cell("transformers", "distil-small.en", batch=8),
        Cell("openai-whisper", "synthetic:tiny.en", beam=3),
        Cell("whisperx", "tiny.en", batch=8, vad_filter=True),
        Cell("whisperx", "synthetic:tiny.en", vad_filter=True),
    ],
)
def test_what_each_engine_is_made_for_is_measured(cell: Cell) -> None:
    assert objection(cell, CPU_ONLY) is None


def test_float16_is_a_row_on_a_gpu_and_a_reason_on_a_cpu() -> None:
    wish = Wish(("tiny.en",), devices=("cpu", "cuda"), compute_types=("float16",))
    found = grid(wish, WITH_GPU)
    assert [cell.device for cell in found.cells] == ["cuda"]
    assert [failure.cell.device for failure in found.unsupported] == ["cpu"]


def test_the_self_test_model_is_given_the_context_it_was_trained_for() -> None:
    found = grid(Wish(("selftest", "tiny.en")), CPU_ONLY)
    assert [cell.context for cell in found.cells] == ["short", "full"]


def test_whisperx_always_cuts_silence_out() -> None:
    found = grid(Wish(("tiny.en",), ("whisperx",), vad_filters=(False, True)), CPU_ONLY)
    assert [cell.vad_filter for cell in found.cells] == [True]


def test_pocketsphinx_is_one_row_whatever_else_is_asked_for() -> None:
    wish = Wish(("tiny.en", "base.en"), ("pocketsphinx",), beams=(1, 3), batches=(1, 8))
    assert grid(wish, CPU_ONLY) == Grid((Cell("pocketsphinx", "pocketsphinx"),))
    named = grid(Wish(("pocketsphinx",)), CPU_ONLY)
    assert named == Grid((Cell("pocketsphinx", "pocketsphinx"),))


@pytest.mark.parametrize(
    "wish",
    [
        Wish(("tiny.en",), ("whisper.cpp",)),
        Wish(("tiny.en",), devices=("tpu",)),
        Wish(("tiny.en",), contexts=("long",)),
        Wish(("tiny.en",), beams=(1, 0)),
        Wish(("tiny.en",), threads=(0,)),
    ],
)
def test_what_is_no_engine_or_number_is_refused(wish: Wish) -> None:
    with pytest.raises(UsageError, match="expected"):
        grid(wish, CPU_ONLY)


@pytest.mark.parametrize("synthetic", [False, True])
def test_the_preset_is_the_one_that_reports_compare_with(synthetic: bool) -> None:
    assert is_seed_baseline(seed_baseline("cpu", 2, synthetic=synthetic))


def test_the_preset_is_added_once_and_comes_first() -> None:
    preset = seed_baseline("cpu", 1)
    others = grid(Wish(("tiny.en",)), CPU_ONLY)
    found = with_preset(others, preset, CPU_ONLY)
    assert found.cells == (preset, *others.cells)
    assert with_preset(found, preset, CPU_ONLY) == found


def test_a_preset_that_cannot_run_here_is_a_row_with_its_reason() -> None:
    preset = replace(seed_baseline("cpu", 1), device="cuda")
    found = with_preset(Grid(()), preset, CPU_ONLY)
    assert found.cells == ()
    assert [failure.cell for failure in found.unsupported] == [preset]
