"""The rows of a bench's tables: pure functions from its figures to what is printed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rtvc.report.said import word_changes
from rtvc.report.wording import seconds, unbroken
from rtvc.results.accuracy import Accuracy, Hallucinated
from rtvc.results.cells import CellFailure, Heard
from rtvc.results.naming import labels
from rtvc.results.reading import BenchRun
from rtvc.results.recommendation import Recommendation
from rtvc.results.spread import Delay, Spread
from rtvc.results.summary import BenchSummary, CellSummary, Service
from rtvc.results.wording import digits, gibibytes, points
from rtvc.slo import shown
from rtvc.transcript import word_errors

NONE = "–"
"""Printed where there is nothing to print."""

WORST = 8
"""Turns listed with their words."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What a cell is, in one sign."""

    sign: str
    """Beside its name."""
    kind: str
    """Its colour."""
    meaning: str
    """For the pointer and for those who hear the page."""


_CHOSEN = Mark("✓", "passed", "recommended")
_NEAREST = Mark("?", "undecided", "nearest to the targets")
_YARDSTICK = Mark("=", "unjudged", "the cell that all are compared with")
_BEST = Mark("◆", "", "no other is both faster and more right")
_OTHER = Mark("", "", "")


def mark(one: CellSummary, summary: BenchSummary, recommendation: Recommendation) -> Mark:
    """The one to run, the yardstick, one that no other beats, or none of these."""
    if one.cell.key == recommendation.cell:
        return _CHOSEN if recommendation.met else _NEAREST
    if one.cell.key == summary.yardstick:
        return _YARDSTICK
    return _BEST if one.cell.key in summary.front else _OTHER


def cell_row(
    one: CellSummary, summary: BenchSummary, recommendation: Recommendation
) -> dict[str, Any]:
    """One row of the table that everything else explains."""
    sign = mark(one, summary, recommendation)
    return {
        "mark": sign,
        "chosen": one.cell.key == recommendation.cell,
        "name": one.name,
        "kind": kind_note(one),
        "cells": [
            (seconds(one.delay.p50), ""),
            (slow_text(one.delay), ""),
            (faster_text(one), faster_spread(one)),
            (wer_text(one), wer_note(one)),
            (NONE if one.rtfx is None else f"{digits(one.rtfx)}×", ""),
            (held_text(one), held_note(one)),
            (memory_text(one), memory_note(one)),
            (load_text(one), ""),
        ],
    }


def kind_note(one: CellSummary) -> str:
    """What the model is, where that is not to be expected from its name."""
    return "" if one.model_kind in ("whisper", "pocketsphinx") else one.model_kind


def slow_text(delay: Delay) -> str:
    """p95, or what stands for it, with n."""
    if delay.slow is None:
        return NONE
    name = "" if delay.p95 is not None else f" (max, n={delay.n})"
    return unbroken(f"{shown(delay.slow, 's')}{name}")


def faster_text(one: CellSummary) -> str:
    """Beside the yardstick: 2× is half its delay."""
    return NONE if one.against is None else f"{digits(one.against.faster)}×"


def faster_spread(one: CellSummary) -> str:
    """Of the middle half of the rounds; empty of one round."""
    rounds = None if one.against is None else one.against.rounds
    if rounds is None or rounds.rounds < 2:
        return ""
    return f"{digits(rounds.low)} to {digits(rounds.high)}, {rounds.rounds} rounds"


def wer_text(one: CellSummary) -> str:
    if not one.text_means_something:
        return "unknown"
    return NONE if one.accuracy is None else rate_text(one.accuracy)


def rate_text(accuracy: Accuracy) -> str:
    """Which rate it is, where characters were counted."""
    if accuracy.wer is None:
        return NONE
    unit = " CER" if accuracy.unit == "cer" else ""
    return f"{unbroken(shown(accuracy.wer, '%'))}{unit}"


def wer_note(one: CellSummary) -> str:
    """The interval, and the yardstick's rate beside it."""
    parts = [] if one.accuracy is None else [interval_text(one.accuracy)]
    change = None if one.against is None else one.against.wer_change
    if change:
        parts.append(points(change))
    return "; ".join(filter(None, parts))


def interval_text(accuracy: Accuracy) -> str:
    if accuracy.low is None or accuracy.high is None:
        return ""
    low, high = (shown(bound, "%").removesuffix(" %") for bound in (accuracy.low, accuracy.high))
    return f"{low} to {high}"


def held_text(one: CellSummary) -> str:
    if one.held is None:
        return NONE
    return f"{one.held.sessions}" if one.held.fails_at is not None else f"≥ {one.held.sessions}"


def held_note(one: CellSummary) -> str:
    """What it did not hold any more, or that nobody looked further."""
    if one.held is None:
        return ""
    more = "more not tried" if one.held.fails_at is None else f"not {one.held.fails_at}"
    return f"{more}, ≤ {shown(one.held.target_s, 's')}"


def memory_text(one: CellSummary) -> str:
    return NONE if one.memory_bytes is None else unbroken(gibibytes(one.memory_bytes))


def memory_note(one: CellSummary) -> str:
    """Beside the yardstick's."""
    found = None if one.against is None else one.against.memory
    return "" if found is None else f"{digits(found)}×"


def load_text(one: CellSummary) -> str:
    """Cold, then warm."""
    warm = None if one.load_warm is None else one.load_warm.median
    return f"{seconds(one.load_cold_s)} | {seconds(warm)}"


# More of each cell.


def length_names(summary: BenchSummary) -> list[str]:
    """Classes of length that any cell has, short ones first."""
    found = {(each.from_s, each.name) for one in summary.cells for each in one.lengths}
    return [name for _, name in sorted(found)]


def length_row(one: CellSummary, names: Sequence[str]) -> dict[str, Any]:
    """Delay by length of the turn."""
    by_name = {each.name: each.delay for each in one.lengths}
    return {
        "name": one.name,
        "cells": [length_text(by_name[name]) if name in by_name else NONE for name in names],
    }


def length_text(delay: Delay) -> str:
    """Median, then p95 or the largest; n beside them."""
    return unbroken(f"{seconds(delay.p50)} | {seconds(delay.slow)} (n={delay.n})")


def condition_names(summary: BenchSummary) -> list[str]:
    """Conditions that any cell was heard in, in the order they were measured."""
    return list(dict.fromkeys(name for one in summary.cells for name in one.conditions))


def accuracy_row(one: CellSummary, names: Sequence[str]) -> dict[str, Any]:
    """What was understood: counts, conditions, long recordings, quiet."""
    return {
        "name": one.name,
        "counts": "" if one.accuracy is None else counts_text(one.accuracy),
        "normaliser": "" if one.accuracy is None else one.accuracy.normaliser,
        "cells": [
            *map(_rate, (one.conditions.get(name) for name in names)),
            _rate(one.long_accuracy),
            NONE if one.quiet is None else quiet_text(one.quiet),
            f"{one.unsteady_clips}",
            f"{one.guarded_turns}",
        ],
    }


def _rate(accuracy: Accuracy | None) -> str:
    return NONE if accuracy is None else rate_text(accuracy)


def counts_text(accuracy: Accuracy) -> str:
    """S, D and I of how many."""
    what = "characters" if accuracy.unit == "cer" else "words"
    return (
        f"{accuracy.substitutions} S, {accuracy.deletions} D, {accuracy.insertions} I of "
        f"{accuracy.reference_words:,} {what}, {accuracy.clips} clips"
    )


def quiet_text(made_up: Hallucinated) -> str:
    """Words out of nothing, and of how much of it."""
    return f"{made_up.words} in {made_up.clips_with_words} of {made_up.clips}"


def streaming_row(one: CellSummary) -> dict[str, Any] | None:
    """None where the engine has no streaming path."""
    found = one.streaming
    if found is None:
        return None
    return {
        "name": one.name,
        "cells": [
            f"{found.clips}",
            seconds(found.final_delay.p50),
            slow_text(found.final_delay),
            seconds(found.word_latency.p50),
            slow_text(found.word_latency),
            digits(found.partials),
            NONE if found.corrections is None else digits(found.corrections),
            _rate(found.last_partials),
            _rate(found.finals),
        ],
    }


def service_sizes(summary: BenchSummary) -> list[int]:
    """Sizes of batches that any cell was timed with."""
    return sorted({each.jobs for one in summary.cells for each in one.services})


def service_rows(one: CellSummary, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Service times by size of the batch: one row for each number of workers."""
    rows = []
    for workers in sorted({each.workers for each in one.services}):
        known = {each.jobs: each for each in one.services if each.workers == workers}
        rows.append(
            {
                "name": one.name if workers == 1 else f"{one.name}, {workers} workers",
                "cells": [_service_text(known[size]) if size in known else NONE for size in sizes],
            }
        )
    return rows


def _service_text(one: Service) -> str:
    """Wall time, and turns a second that it makes."""
    made = "" if one.jobs_per_s is None else f" ({digits(one.jobs_per_s)}/s)"
    return unbroken(f"{shown(one.seconds.median, 's')}{made}")


def cost_row(one: CellSummary) -> dict[str, Any]:
    """Memory, energy, CPU, loading, rounds."""
    found, means = one.footprint, one.round_means
    return {
        "name": one.name,
        "cells": [
            _bytes(found.host_peak_bytes),
            _bytes(found.host_added_bytes),
            _bytes(found.device_added_bytes),
            NONE if found.cores_busy is None else digits(found.cores_busy),
            NONE if found.power_w is None else f"{digits(found.power_w)} W",
            seconds(one.load_cold_s),
            NONE if one.load_warm is None else seconds(one.load_warm.median),
            seconds(one.warm_up_s),
            f"{one.rounds}",
            NONE if means is None else unsteadiness(means),
        ],
    }


def _bytes(count: int | None) -> str:
    return NONE if count is None else unbroken(gibibytes(count))


def unsteadiness(means: Spread) -> str:
    """How far apart the middle half of the rounds were.

    >>> unsteadiness(Spread(0.2, 0.19, 0.21, 5)), unsteadiness(Spread(0.2, 0.2, 0.2, 1))
    ('10 %', '–')
    """
    if means.rounds < 2 or means.median <= 0:
        return NONE
    return f"{digits(100 * (means.high - means.low) / means.median)} %"


def failure_rows(summary: BenchSummary) -> list[dict[str, str]]:
    """Why cells have no result, or not all of their rounds."""
    cells = [*(failure.cell for failure in summary.failures), *(o.cell for o in summary.cells)]
    names = labels(cells)
    return [
        {"name": names[each.cell.key], "kind": each.kind, "reason": each.reason}
        for each in by_reason(summary.failures)
    ]


def by_reason(failures: Iterable[CellFailure]) -> list[CellFailure]:
    """What went wrong first, what was never to be expected last."""
    order = ("hung", "out of memory", "failed", "skipped", "unsupported")
    places = {kind: place for place, kind in enumerate(order)}
    return sorted(failures, key=lambda each: (places.get(each.kind, -1), each.cell))


def worst_rows(run: BenchRun, one: CellSummary | None) -> list[dict[str, Any]]:
    """Turns of a cell's first round with the most word errors."""
    if one is None or not one.text_means_something:
        return []
    rounds = run.of(one.cell)
    scored = [(_errors(turn), turn) for turn in rounds[0].heard] if rounds else []
    wrong = sorted(
        ((errors, turn) for errors, turn in scored if errors),
        key=lambda pair: (-pair[0], pair[1].clip, pair[1].condition),
    )
    return [
        {
            "clip": turn.clip,
            "condition": turn.condition,
            "words": word_changes(turn.reference or "", turn.text),
            "errors": errors,
            "delay": seconds(turn.delay_s),
        }
        for errors, turn in wrong[:WORST]
    ]


def _errors(turn: Heard) -> int:
    """Counted as for English words: for the order only."""
    return 0 if turn.reference is None else word_errors(turn.reference, turn.text).errors


def quiet_rows(run: BenchRun, one: CellSummary | None) -> list[dict[str, str]]:
    """What a cell's first round made of audio in which nobody speaks, where it made anything."""
    if one is None or not one.text_means_something:
        return []
    rounds = run.of(one.cell)
    return [
        {"kind": each.kind, "length": unbroken(f"{each.audio_s:g} s"), "text": each.text}
        for each in (rounds[0].quiet if rounds else ())
        if each.text.strip()
    ]
