"""The server's turns, taken apart."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from rtvc.record import Run, ServerTurnRow
from rtvc.stats import Quantile, mean, supports
from rtvc.summary.figures import Segment, Stack

WAITS = frozenset(
    {
        *("vad_offset", "framing", "vad_delay", "endpoint_wait", "queue_wait"),
        *("transport", "send", "unaccounted"),
    }
)
"""Segments in which nothing is computed for the turn."""


def without_warm_up(run: Run) -> list[ServerTurnRow]:
    warm = {(turn.session_id, turn.item_id) for turn in run.turns if turn.warm_up}
    return [row for row in run.server_turns if (row.session_id, row.item_id) not in warm]


def segments_of(rows: Sequence[ServerTurnRow]) -> list[Segment]:
    durations: dict[tuple[str, str, bool], list[float]] = {}
    for row in rows:
        durations.setdefault((row.stage, row.segment, row.hidden), []).append(row.duration_s)
    return [
        Segment(
            stage=stage,
            name=name,
            hidden=hidden,
            wait=name in WAITS,
            n=len(values),
            p50=Quantile.of(values, 0.5).value,
            p95=Quantile.of(values, 0.95).value,
            max=max(values),
        )
        for (stage, name, hidden), values in durations.items()
    ]


def stacks_of(rows: Sequence[ServerTurnRow]) -> list[Stack]:
    by_stage: dict[str, dict[tuple[str, str], list[ServerTurnRow]]] = {}
    for row in rows:
        turns = by_stage.setdefault(row.stage, {})
        turns.setdefault((row.session_id, row.item_id), []).append(row)
    return [stack for stage, turns in by_stage.items() for stack in _stage_stacks(stage, turns)]


def _stage_stacks(stage: str, turns: dict[Any, list[ServerTurnRow]]) -> list[Stack]:
    ordered = sorted(turns.values(), key=_length)
    n = len(ordered)
    high = 0.95 if supports(n, 0.95) else 1.0
    stacks = []
    for q, label in ((0.5, "p50"), (high, "max" if high == 1 else "p95")):
        middle = round(q * (n - 1))
        around = 0 if q == 1 else round(0.025 * n)
        chosen = ordered[max(0, middle - around) : middle + around + 1]
        stacks.append(_stack(stage, label, n, chosen))
    return stacks


def _length(segments: Iterable[ServerTurnRow]) -> float:
    return math.fsum(row.duration_s for row in segments if not row.hidden)


def _stack(stage: str, label: str, n: int, turns: Sequence[Sequence[ServerTurnRow]]) -> Stack:
    rows = [row for turn in turns for row in turn]
    segments, hidden = (
        _average([row for row in rows if row.hidden == kind], len(turns)) for kind in (False, True)
    )
    return Stack(stage, label, n, len(turns), math.fsum(segments.values()), segments, hidden)


def _average(rows: Sequence[ServerTurnRow], turns: int) -> dict[str, float]:
    """Seconds a turn by segment, in order of the segments' average start."""
    by_name: dict[str, list[ServerTurnRow]] = {}
    for row in rows:
        by_name.setdefault(row.segment, []).append(row)
    order = sorted(by_name, key=lambda name: mean([row.start_s for row in by_name[name]]) or 0.0)
    return {name: math.fsum(row.duration_s for row in by_name[name]) / turns for name in order}
