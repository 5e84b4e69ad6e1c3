"""Which cell to run, under a user's targets, and why. Pure.

How it is chosen:

1. Cells are taken in three groups, and the first group that has one within the targets decides:
   models whose words were scored; weights that cost what a model costs and understand nothing; the
   self-test model. A model that loses half of the words is in none of them.
2. Within the targets is a cell whose delay (p95 of short turns, or the largest where they are too
   few), word error rate and memory are all known and at most what is asked for. A word error rate
   that nobody can know, that of synthetic weights, is left out of account, and said to be.
3. Of these, where the user asked for a word error rate: the one that holds most sessions, then the
   fastest. Where not: those within a point of the lowest rate, and of them the same. Where nothing
   is known of words: the largest model, for a larger one of the same kind understands more.
4. If none is within the targets, the one that misses them by the smallest factor is named as the
   nearest, and nothing is recommended.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rtvc.results.naming import (
    BUILT_IN_SPEECH_ONLY,
    SERVED_ENGINES,
    TEXT_MEANS_NOTHING,
    model_size,
    serve_flags,
    serve_note,
)
from rtvc.results.summary import Against, BenchSummary, CellSummary
from rtvc.results.targets import Targets
from rtvc.results.wording import gibibytes, held_text, percent, points, seconds, times

USELESS_WER = 0.5
"""A model that loses half of the words is not one for this speech."""

ABOUT_AS_GOOD = 0.01
"""Word error rates that differ by a point at most count as alike: few clips tell no more."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to run."""

    cell: str | None
    """Key of the cell; None: nothing was measured."""
    met: bool
    """Whether it keeps the targets; if not it is only the nearest."""
    sentence: str
    """What it is, beside the yardstick."""
    because: str
    """Why that one."""
    serve: str = ""
    """The command that runs it; empty: `rtvc serve` cannot."""
    note: str = ""
    """What to know before running it; empty: nothing."""
    runners_up: tuple[str, ...] = ()
    """Keys of others within the targets, the next best first."""


def recommend(summary: BenchSummary, targets: Targets) -> Recommendation:
    """The cell to run."""
    groups = _groups(summary.cells)
    within = [[one for one in group if misses(one, targets) <= 1] for group in groups]
    for number, fit in enumerate(within):
        if fit:
            aside = [
                name
                for name, others in zip(GROUPS[number + 1 :], within[number + 1 :], strict=True)
                if others
            ]
            return _recommended(summary, _best_first(fit, targets), targets, aside)
    return _nearest(summary, [group for group in groups if group], targets)


GROUPS = ("trained models", "weights that were never trained", "the self-test model")
"""What each of `_groups` holds."""


def _groups(cells: Sequence[CellSummary]) -> tuple[list[CellSummary], ...]:
    """What a user can run, what only costs as much, what only understands our own speakers."""
    timed = [one for one in cells if one.delay.slow is not None]
    useful = [one for one in timed if one.wer is None or one.wer < USELESS_WER]
    special = TEXT_MEANS_NOTHING | BUILT_IN_SPEECH_ONLY
    return (
        [one for one in useful if one.model_kind not in special],
        [one for one in useful if one.model_kind in TEXT_MEANS_NOTHING],
        [one for one in useful if one.model_kind in BUILT_IN_SPEECH_ONLY],
    )


def misses(one: CellSummary, targets: Targets) -> float:
    """What is measured ÷ what is asked for, of the target missed most: at most 1 keeps them all.

    Infinite where something asked for is unknown, but for words that mean nothing anyway.
    """
    asked: list[tuple[float | None, float | None]] = [
        (one.delay.slow, targets.delay_p95_s),
        (one.memory_bytes, targets.memory_bytes),
    ]
    if one.text_means_something:
        asked.append((one.wer, targets.wer))
    return max((_share(found, bound) for found, bound in asked if bound is not None), default=0.0)


def _share(found: float | None, bound: float) -> float:
    if found is None:
        return math.inf
    if bound > 0:
        return found / bound
    return 0.0 if found <= 0 else math.inf


def _best_first(fit: Sequence[CellSummary], targets: Targets) -> list[CellSummary]:
    """Of one group, all within the targets."""
    known = [one.wer for one in fit if one.wer is not None]
    if not known:
        return sorted(fit, key=lambda one: (-model_size(one.cell.model), *_most_held(one)))
    if targets.wer is not None:
        return sorted(fit, key=_most_held)
    enough = min(known) + ABOUT_AS_GOOD
    good = _is_within(enough)
    alike = sorted((one for one in fit if good(one)), key=_most_held)
    others = [one for one in fit if not good(one)]
    return alike + sorted(others, key=lambda one: math.inf if one.wer is None else one.wer)


def _is_within(bound: float) -> Callable[[CellSummary], bool]:
    # Half a millionth of a word is rounding.
    return lambda one: one.wer is not None and one.wer <= bound + 5e-7


def _most_held(one: CellSummary) -> tuple[int, float, str]:
    """Most sessions first, then the fastest; the name keeps it the same every time."""
    held = 0 if one.held is None else one.held.sessions
    return -held, one.typical_s or 0.0, one.cell.key


# In words.


def _recommended(
    summary: BenchSummary,
    ordered: Sequence[CellSummary],
    targets: Targets,
    aside: Sequence[str],
) -> Recommendation:
    best = ordered[0]
    return Recommendation(
        cell=best.cell.key,
        met=True,
        sentence=sentence(best, summary),
        because=_because(ordered, targets, aside),
        serve=_serve(best, summary),
        note=_note(best),
        runners_up=tuple(one.cell.key for one in ordered[1:]),
    )


def _nearest(
    summary: BenchSummary, groups: Sequence[Sequence[CellSummary]], targets: Targets
) -> Recommendation:
    known = [one for group in groups for one in group]
    if not known:
        return Recommendation(None, False, *_nothing(summary))
    # The first of equals is of the first group: one that a user can run.
    best = min(known, key=lambda one: misses(one, targets))
    return Recommendation(
        cell=best.cell.key,
        met=False,
        sentence=f"Nothing here keeps {targets.said}: nearest is {best.name} ({_figures(best)}).",
        because=_advice(best, targets),
        serve=_serve(best, summary),
        note=_note(best),
    )


def _note(one: CellSummary) -> str:
    """What to know before running it."""
    held = one.held
    nobody = (
        f"not even one session has its finals within {seconds(held.target_s)} of the end of "
        "speech, the silence that ends a turn included"
        if held is not None and not held.sessions
        else ""
    )
    return "; ".join(filter(None, (nobody, serve_note(one.cell, one.model_kind))))


def _advice(one: CellSummary, targets: Targets) -> str:
    """What may bring the nearest within the targets, by which of them it misses."""
    costs = misses(one, Targets(targets.delay_p95_s, None, targets.memory_bytes)) > 1
    words = misses(one, Targets(None, targets.wer, None)) > 1
    if costs and words:
        return "It is neither light nor right enough: try a faster machine."
    if words:
        return "Try a larger model or a wider beam."
    return "Try a smaller model, beam 1, int8, or a faster machine."


def _nothing(summary: BenchSummary) -> tuple[str, str]:
    """Why there is nothing to name, and more of it."""
    deaf = [one for one in summary.cells if one.wer is not None and one.wer >= USELESS_WER]
    if deaf:
        best = min(deaf, key=lambda one: one.wer or 0.0)
        lost = f"The best of {len(deaf)} is {best.name}: {_figures(best)}."
        return "Nothing here understands this speech.", lost
    if summary.cells:
        return "There is nothing to judge by.", "No turn of at most 30 s was heard."
    count = len(summary.failures)
    if not count:
        return "Nothing was measured.", "No cell has a result."
    plural = "" if count == 1 else "s"
    return "Nothing was measured.", f"{count} cell{plural} without a result."


def _serve(one: CellSummary, summary: BenchSummary) -> str:
    flags = serve_flags(one.cell, language=one.language)
    served = [each.cell for each in summary.cells if each.cell.engine in SERVED_ENGINES]
    threads = {cell.threads for cell in served}
    if one.cell in served and len(threads) > 1 and one.cell.device == "cpu":
        # They were compared, so the server is not to find them by itself.
        flags = (*flags, "--threads-per-worker", str(one.cell.threads))
    return " ".join(["rtvc serve", *map(_quoted, flags)]) if flags else ""


def _quoted(flag: str) -> str:
    """For a shell, where a folder's name has a space.

    >>> _quoted("int8"), _quoted("my models/tiny")
    ('int8', "'my models/tiny'")
    """
    plain = all(letter.isalnum() or letter in "-_./:=@%+," for letter in flag)
    return flag if plain and flag else "'" + flag.replace("'", "'\"'\"'") + "'"


def sentence(one: CellSummary, summary: BenchSummary) -> str:
    """A cell beside the yardstick."""
    yardstick = summary.of(summary.yardstick)
    if one.against is None or yardstick is None or yardstick.cell == one.cell:
        return f"{one.name}: {_figures(one)}."
    parts = [
        f"{times(one.against.faster)} {yardstick.name}",
        _words_against(one, one.against),
        _held_against(one, one.against),
    ]
    return f"{one.name}: {', '.join(filter(None, parts))}."


def _words_against(one: CellSummary, against: Against) -> str:
    if not one.text_means_something:
        return "its accuracy unknown"
    name = "WER" if one.accuracy is None else one.accuracy.unit.upper()
    if against.wer_change is not None:
        return f"{points(against.wer_change)} {name}"
    return "" if one.wer is None else f"{name} {percent(one.wer)}"


def _held_against(one: CellSummary, against: Against) -> str:
    if one.held is None:
        return ""
    instead = "" if against.held is None else f" instead of {against.held}"
    return f"holds {held_text(one.held)}{instead}"


def _figures(one: CellSummary) -> str:
    """What it does by itself."""
    slow = one.delay.slow
    parts = [
        "" if slow is None else f"delay {one.delay.slow_name} {seconds(slow)}",
        "" if one.accuracy is None or one.wer is None else _rate(one),
        "" if one.held is None else f"holds {held_text(one.held)}",
        "" if one.memory_bytes is None else gibibytes(one.memory_bytes),
    ]
    return ", ".join(filter(None, parts))


def _rate(one: CellSummary) -> str:
    name = "WER" if one.accuracy is None else one.accuracy.unit.upper()
    return f"{name} {percent(one.wer or 0.0)}"


def _because(ordered: Sequence[CellSummary], targets: Targets, aside: Sequence[str]) -> str:
    """Why it comes first among those within the targets, kinds `aside` not counted."""
    kept = f"within {targets.said}" if targets.said else "measured"
    if aside:
        kept += f" ({' and '.join(aside)} left aside)"
    if len(ordered) == 1:
        return f"It is the only one {kept}."
    among = f"of {len(ordered)} {kept}"
    best = ordered[0]
    if all(one.wer is None for one in ordered):
        return f"It is the largest model {among}; what it understands was not measured."
    reason = "holds most sessions" if _holds_most(best, ordered) else "is the fastest"
    if targets.wer is not None:
        return f"It {reason} {among}."
    alike = _alike(ordered)
    if alike == 1:
        return f"It has the lowest word error rate {among}."
    return f"It {reason} of the {alike} within a point of the lowest word error rate, {among}."


def _holds_most(best: CellSummary, ordered: Sequence[CellSummary]) -> bool:
    """Whether none of the others holds as many."""
    if best.held is None:
        return False
    others = [one.held.sessions for one in ordered[1:] if one.held is not None]
    return all(best.held.sessions > sessions for sessions in others)


def _alike(ordered: Sequence[CellSummary]) -> int:
    """How many are within a point of the lowest rate."""
    lowest = min(one.wer for one in ordered if one.wer is not None)
    return sum(map(_is_within(lowest + ABOUT_AS_GOOD), ordered))
