"""What the cells of a bench are compared with, and by how much each differs from it. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from rtvc.results.cells import Cell, RoundResult
from rtvc.results.naming import BUILT_IN_SPEECH_ONLY, SYNTHETIC_PREFIX
from rtvc.results.pareto import front
from rtvc.results.reading import BenchRun
from rtvc.results.spread import Spread, typical_delay
from rtvc.results.summary import Against, BenchSummary, CellSummary, summarize_cells

SEED_BASELINE = "seed-baseline"
"""The preset: medium.en, beam 3, VAD filter, by faster-whisper and one turn at a time."""

SETTING = "yardstick"
"""Of a bench's manifest: the key or the name of the cell to compare with, or `SEED_BASELINE`."""


def is_seed_baseline(cell: Cell) -> bool:
    """Whether a cell is that of the preset, with real or with synthetic weights.

    >>> is_seed_baseline(Cell("faster-whisper", "medium.en", beam=3, vad_filter=True))
    True
    """
    return (
        cell.engine == "faster-whisper"
        and cell.model.removeprefix(SYNTHETIC_PREFIX) == "medium.en"
        and cell.beam == 3
        and cell.batch == 1
        and cell.context == "full"
        and cell.vad_filter
    )


def summarize_bench(run: BenchRun, yardstick: str | None = None) -> BenchSummary:
    """All figures of a bench run.

    `yardstick`: key or name of the cell to compare with; None: the one that the run was made with,
    else that of the preset, else the slowest. One that has no result is told, and not used.
    """
    cells = summarize_cells(run)
    wanted = yardstick or _setting(run)
    chosen, why = _chosen(cells, wanted)
    compared = tuple(replace(one, against=_against(run, one, chosen)) for one in cells)
    ordered = sorted(compared, key=_speed)
    return BenchSummary(
        cells=tuple(ordered),
        failures=tuple(run.failures),
        yardstick=None if chosen is None else chosen.cell.key,
        yardstick_is=why,
        front=tuple(one.cell.key for one in ordered if one.cell.key in _front(ordered)),
        notes=tuple(_notes(run, compared, wanted, chosen)),
    )


def _setting(run: BenchRun) -> str | None:
    found = run.manifest.settings.get(SETTING)
    return found if isinstance(found, str) and found else None


def _speed(one: CellSummary) -> tuple[bool, float, Cell]:
    return one.typical_s is None, one.typical_s or 0.0, one.cell


def _chosen(cells: Sequence[CellSummary], wanted: str | None) -> tuple[CellSummary | None, str]:
    """The yardstick, and why it is that one."""
    timed = [one for one in cells if one.typical_s]
    if wanted not in (None, SEED_BASELINE):
        named = [one for one in timed if wanted in (one.cell.key, one.name)]
        if named:
            return named[0], "named"
    # Where there is a GPU, that is where the preset runs.
    seeds = [one for one in timed if is_seed_baseline(one.cell)]
    seeds.sort(key=lambda one: (one.cell.device != "cuda", one.cell))
    if seeds:
        return seeds[0], SEED_BASELINE
    if not timed:
        return None, ""
    return max(timed, key=lambda one: one.typical_s or 0.0), "slowest here"


def _against(run: BenchRun, one: CellSummary, yardstick: CellSummary | None) -> Against | None:
    if yardstick is None:
        return None
    faster = ratio(run.of(yardstick.cell), run.of(one.cell))
    if faster is None:
        return None
    return Against(
        faster=faster,
        rounds=round_ratios(run.of(yardstick.cell), run.of(one.cell)),
        wer_change=_change(one, yardstick),
        memory=_memory_ratio(one, yardstick),
        held=None if one.held is None or yardstick.held is None else yardstick.held.sessions,
    )


def _memory_ratio(one: CellSummary, yardstick: CellSummary) -> float | None:
    """Of the same kind of memory only."""
    ours, theirs = one.memory_bytes, yardstick.memory_bytes
    if ours is None or not theirs or one.cell.device != yardstick.cell.device:
        return None
    return ours / theirs


def _change(one: CellSummary, yardstick: CellSummary) -> float | None:
    """Of rates that count the same: words, or characters."""
    ours, theirs = one.accuracy, yardstick.accuracy
    if ours is None or theirs is None or ours.wer is None or theirs.wer is None:
        return None
    return ours.wer - theirs.wer if ours.unit == theirs.unit else None


def ratio(slow: Iterable[RoundResult], fast: Iterable[RoundResult]) -> float | None:
    """Times: typical delay of one ÷ that of the other, over the clips that both heard.

    None: they heard none together, or one of them took no time that could be measured.
    """
    old = [turn for result in slow for turn in result.heard]
    new = [turn for result in fast for turn in result.heard]
    both = {(t.clip, t.condition) for t in old} & {(t.clip, t.condition) for t in new}
    before = typical_delay(turn for turn in old if (turn.clip, turn.condition) in both)
    after = typical_delay(turn for turn in new if (turn.clip, turn.condition) in both)
    return before / after if before and after else None


def round_ratios(slow: Sequence[RoundResult], fast: Sequence[RoundResult]) -> Spread | None:
    """`ratio` of each round that both have: rounds of a bench are interleaved, so what slowed the
    machine for a while slowed both."""
    others = {result.round: result for result in fast}
    pairs = [(result, others[result.round]) for result in slow if result.round in others]
    found = (ratio([one], [other]) for one, other in pairs)
    return Spread.of([times for times in found if times is not None])


def _front(cells: Iterable[CellSummary]) -> frozenset[str]:
    """Of cells whose delay and word errors are both known."""
    return front(
        {
            one.cell.key: (one.delay.slow, one.wer)
            for one in cells
            if one.delay.slow is not None and one.wer is not None
        }
    )


def _notes(
    run: BenchRun, cells: Sequence[CellSummary], wanted: str | None, chosen: CellSummary | None
) -> Iterator[str]:
    if run.manifest.interrupted:
        yield "The bench was interrupted; what it had measured is shown."
    yield from _unfinished(run, cells)
    if any(not one.text_means_something for one in cells):
        yield (
            "Synthetic and random weights cost what a model costs, and what they write means "
            "nothing: their delays are real, their accuracy is left empty."
        )
    if any(one.model_kind in BUILT_IN_SPEECH_ONLY for one in cells):
        yield (
            "The self-test model understands the built-in synthetic speakers only: its delays and "
            "word errors say nothing about a real model's."
        )
    if chosen is not None and wanted not in (None, SEED_BASELINE, chosen.cell.key, chosen.name):
        yield f"The cell to compare with, {wanted}, has no result: compared with {chosen.name}."
    yield from _other_speech(cells)


def _unfinished(run: BenchRun, cells: Sequence[CellSummary]) -> Iterator[str]:
    """What is still to be measured, as far as the manifest tells what was asked for."""
    asked, planned = run.manifest.settings.get("cells"), run.manifest.settings.get("rounds")
    asked = asked if isinstance(asked, list) else []
    known = {one.cell.key for one in cells} | {each.cell.key for each in run.failures}
    left = [key for key in asked if key not in known]
    if left:
        yield f"Cells not measured yet: {len(left)} of {len(asked)}."
    most = max((one.rounds for one in cells), default=0)
    full = planned if isinstance(planned, int) else most
    behind = sum(one.rounds < full for one in cells)
    if behind:
        yield f"Cells measured in fewer than {full} rounds: {behind} of {len(cells)}."


def _other_speech(cells: Sequence[CellSummary]) -> Iterator[str]:
    """Error rates of different clips, or counted otherwise, do not rank anything."""
    known = [one.accuracy for one in cells if one.accuracy is not None]
    if len({each.normaliser for each in known}) > 1:
        yield "Texts were normalised in more than one way: their error rates cannot be compared."
    if len({each.clips for each in known}) > 1:
        yield "Cells were scored on different clips: their error rates cannot be compared."
