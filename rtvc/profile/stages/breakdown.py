"""Where the delay of a run's turns went: the client's view and the server's, joined.

A turn's felt delay is the client's: from the true end of speech to the final transcript, or to the
first reply sample. Its segments are the server's, and around them those of the load generator
(`rtvc.loadtest.turns.surroundings`). What they do not explain is unaccounted: gaps between
segments, and, where the server does not say which sample it took for the end of speech, all that
lies around.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rtvc.errors import RecordError
from rtvc.instruments.stages import Segment, unaccounted_s
from rtvc.record import Run, ServerTurnRow, TurnRow
from rtvc.slo import shown
from rtvc.stats import Quantile, mean

UNACCOUNTED = "unaccounted"
"""Name of what no segment explains."""

SURROUNDINGS = frozenset({"vad_offset", "framing", "transport"})
"""Segments that the client timed: before and after the server's."""

WITHIN_S, WITHIN_SHARE = 0.010, 0.05
"""A turn is explained if no more than the larger of these, of its delay, is unaccounted."""

Kind = Literal[
    "policy", "detection", "queue", "compute", "language model", "synthesis", "sending", "unknown"
]

_KINDS: dict[str, Kind] = {
    "vad_offset": "detection",
    "framing": "sending",
    "vad_delay": "detection",
    "endpoint_wait": "policy",
    "queue_wait": "queue",
    "features": "compute",
    "encode": "compute",
    "decode": "compute",
    "turn_model": "compute",
    "emit": "sending",
    "send": "sending",
    "transport": "sending",
    "llm_ttft": "language model",
    "llm_sentence": "language model",
    "tts_ttfb": "synthesis",
}

DELAYS = {"transcript": "transcription delay", "reply": "response latency"}
"""Stage of a turn → the name of what is felt by its end."""


def kind_of(segment: str) -> Kind:
    """What a segment is spent on.

    >>> kind_of("endpoint_wait"), kind_of("a_stage_of_theirs")
    ('policy', 'unknown')
    """
    return _KINDS.get(segment, "unknown")


@dataclass(frozen=True, slots=True)
class TurnTime:
    """One turn up to its transcript or reply, taken apart."""

    session_id: str
    """The server's session."""
    item_id: str
    """The utterance."""
    speaker: int | None
    """Simulated speaker; None: the client's row is missing."""
    utterance: int | None
    """Its number within the speaker; None: the client's row is missing."""
    delay_s: float
    """Seconds felt by the client, or the server's own where the client's row is missing."""
    felt: tuple[Segment, ...]
    """Segments in order; instants since the last speech sample was at the server."""
    hidden: tuple[Segment, ...]
    """Work done in the shade of a wait."""

    @property
    def span_s(self) -> float:
        """Seconds from the server's last speech sample to its end of the turn."""
        own = (segment for segment in self.felt if segment.name not in SURROUNDINGS)
        return max((segment.end_s for segment in own), default=0.0)

    @property
    def surrounded(self) -> bool:
        """Whether the client timed what lies around the server's times."""
        return any(segment.name in SURROUNDINGS for segment in self.felt)

    @property
    def lead_s(self) -> float:
        """Seconds felt before the server's first instant; all that is outside where unknown."""
        if not self.surrounded:
            return self.outside_s
        before = SURROUNDINGS - {"transport"}
        return math.fsum(one.duration_s for one in self.felt if one.name in before)

    @property
    def unaccounted_s(self) -> float:
        """Seconds of the delay that no segment explains; negative if they claim too much."""
        return unaccounted_s(self.felt, self.delay_s)

    @property
    def outside_s(self) -> float:
        """Seconds of it before and after what the server timed."""
        return self.delay_s - self.span_s

    @property
    def name(self) -> str:
        if self.speaker is None:
            return f"{self.session_id} {self.item_id}"
        return f"speaker {self.speaker}, utterance {self.utterance}"

    def seconds(self, *, hidden: bool) -> dict[str, float]:
        """By segment, in order of their begin."""
        total: dict[str, float] = {}
        for segment in sorted(self.hidden if hidden else self.felt, key=lambda one: one.start_s):
            total[segment.name] = total.get(segment.name, 0.0) + segment.duration_s
        return total


@dataclass(frozen=True, slots=True)
class SegmentTimes:
    """One row of the table."""

    name: str
    """Segment, or UNACCOUNTED."""
    kind: Kind
    """What it is spent on."""
    hidden: bool
    """Done in the shade of a wait: not felt, not part of the sum."""
    n: int
    """Turns that have it."""
    p50_s: float | None
    """Seconds, of those; None where n does not support it."""
    p95_s: float | None
    """Seconds, of those; None where n does not support it."""
    max_s: float | None
    """Seconds; None: not told."""
    mean_s: float
    """Seconds a turn, turns without it included: these add up to the mean delay."""
    share: float | None
    """Of the mean delay; None if hidden, or there is no delay."""


@dataclass(frozen=True, slots=True)
class DelayBreakdown:
    """All turns up to their transcripts, or to their replies."""

    stage: str
    """"transcript" or "reply"."""
    n: int
    """Turns."""
    joined: bool
    """Whether the delays are the client's."""
    mean_s: float
    """Seconds: mean delay."""
    p50_s: float | None
    """Seconds; None where n does not support it."""
    p95_s: float | None
    """Seconds; None where n does not support it."""
    max_s: float | None
    """Seconds; None: not told."""
    rows: tuple[SegmentTimes, ...]
    """Felt segments in order, unaccounted last, then hidden work."""
    outside_s: float | None
    """Seconds: mean of what is unaccounted around the server's times; None: nothing, or not told"""
    explained: float | None
    """Share of turns with no more unaccounted than 10 ms or 5 % of their delay; None: not told."""
    slowest: tuple[TurnTime, ...]
    """Turns with the largest delays, the slowest first; empty: not told."""

    @property
    def delay_name(self) -> str:
        return DELAYS.get(self.stage, self.stage)

    @property
    def felt_rows(self) -> list[SegmentTimes]:
        return [row for row in self.rows if not row.hidden]

    @property
    def sentence(self) -> str:
        """What most of it is, for a person."""
        first, *rest = sorted(self.felt_rows, key=lambda row: row.mean_s, reverse=True)
        parts = f"{_fraction(first.share)} of the {self.delay_name} is {_called(first)}"
        if rest and (rest[0].share or 0.0) >= 0.2:
            parts += f", {_percent(rest[0].share)} {_called(rest[0])}"
        whose = "" if self.joined else ", by the server's own account"
        took, of = shown(first.mean_s, "s"), shown(self.mean_s, "s")
        return f"{parts}: {took} of {of} in the mean{whose}, n={self.n}."


@dataclass(frozen=True, slots=True)
class Breakdown:
    """What a run says of where its delays went."""

    delays: tuple[DelayBreakdown, ...]
    """One to the transcripts; one to the replies, if there were any."""
    notes: tuple[str, ...] = field(default=())
    """What was left out, and why."""

    @property
    def sentence(self) -> str:
        return self.delays[0].sentence


def breakdown(run: Run, slowest: int = 5) -> Breakdown:
    """Take a run's delays apart; warm-up is left out.

    Raises:
        RecordError: the run has no server times.
    """
    if not run.server_turns:
        raise RecordError(_no_times(run))
    turns = {(turn.session_id, turn.item_id): turn for turn in run.turns}
    warm = {key for key, turn in turns.items() if turn.warm_up}
    stages: dict[str, list[TurnTime]] = {}
    counts = dict.fromkeys(("unjoined", "unanswered"), 0)
    timed = _by_turn(row for row in run.server_turns if (row.session_id, row.item_id) not in warm)
    any_joined = any(key[:2] in turns for key in timed)
    for (session_id, item_id, stage), rows in timed.items():
        turn = turns.get((session_id, item_id))
        delay_s = _delay_s(turn, stage) if turn else None
        if turn is None and any_joined:
            counts["unjoined"] += stage == "transcript"
        elif turn is not None and delay_s is None:
            counts["unanswered"] += stage == "transcript"
        else:
            stages.setdefault(stage, []).append(_turn_time(rows, turn, delay_s))
    if not stages:
        raise RecordError(f"expected turns after the warm-up in {run.folder}, but there are none")
    order = sorted(stages, key=lambda stage: stage != "transcript")
    delays = tuple(_delay(stage, stages[stage], any_joined, slowest) for stage in order)
    return Breakdown(delays, tuple(_notes(counts, len(warm))))


def _no_times(run: Run) -> str:
    if "version" in run.manifest.server and not any(turn.final_at_s for turn in run.turns):
        return (
            f"no turn was finished in {run.folder}, so there is no delay to take apart: see why in "
            "its report: rtvc report RUN"
        )
    return (
        f"expected server times in {run.folder}, but its server sent none: rtvc's own server "
        "sends them to clients of its Realtime endpoint; for others see `rtvc profile logs`"
    )


def _by_turn(
    rows: Iterable[ServerTurnRow],
) -> dict[tuple[str, str, str], list[ServerTurnRow]]:
    timed: dict[tuple[str, str, str], list[ServerTurnRow]] = {}
    for row in rows:
        timed.setdefault((row.session_id, row.item_id, row.stage), []).append(row)
    return timed


def _delay_s(turn: TurnRow, stage: str) -> float | None:
    """As the client felt it; None if the answer never came."""
    if stage == "reply":
        return turn.response_latency_s
    return None if turn.final_at_s is None else turn.transcription_delay_s


def _turn_time(
    rows: Sequence[ServerTurnRow], turn: TurnRow | None, delay_s: float | None
) -> TurnTime:
    felt, hidden = (
        tuple(Segment(row.segment, row.start_s, row.duration_s) for row in rows if row.hidden is h)
        for h in (False, True)
    )
    spans_s = max((segment.end_s for segment in felt), default=0.0)
    return TurnTime(
        session_id=rows[0].session_id,
        item_id=rows[0].item_id,
        speaker=turn.speaker if turn else None,
        utterance=turn.utterance if turn else None,
        delay_s=spans_s if delay_s is None else delay_s,
        felt=felt,
        hidden=hidden,
    )


def _delay(stage: str, turns: Sequence[TurnTime], joined: bool, slowest: int) -> DelayBreakdown:
    delays_s = [turn.delay_s for turn in turns]
    mean_s = mean(delays_s) or 0.0
    rows = _rows(turns, mean_s, hidden=False)
    left_s = [turn.unaccounted_s for turn in turns]
    rows.append(_row(UNACCOUNTED, left_s, len(turns), mean_s, hidden=False))
    rows += _rows(turns, mean_s, hidden=True)
    return DelayBreakdown(
        stage=stage,
        n=len(turns),
        joined=joined,
        mean_s=mean_s,
        p50_s=Quantile.of(delays_s, 0.5).value,
        p95_s=Quantile.of(delays_s, 0.95).value,
        max_s=max(delays_s),
        rows=tuple(rows),
        outside_s=_unknown_outside_s(turns) if joined else None,
        explained=sum(map(_explained, turns)) / len(turns) if joined else None,
        slowest=tuple(sorted(turns, key=lambda turn: -turn.delay_s)[:slowest]),
    )


def _unknown_outside_s(turns: Sequence[TurnTime]) -> float | None:
    outside_s = [turn.outside_s for turn in turns if not turn.surrounded]
    return math.fsum(outside_s) / len(turns) if outside_s else None


def _explained(turn: TurnTime) -> bool:
    limit_s = max(WITHIN_S, WITHIN_SHARE * turn.delay_s)
    return abs(turn.unaccounted_s) <= limit_s + 1e-9


def _rows(turns: Sequence[TurnTime], mean_s: float, *, hidden: bool) -> list[SegmentTimes]:
    lengths_s: dict[str, list[float]] = {}
    starts_s: dict[str, list[float]] = {}
    for turn in turns:
        for name, length_s in turn.seconds(hidden=hidden).items():
            lengths_s.setdefault(name, []).append(length_s)
        for segment in turn.hidden if hidden else turn.felt:
            starts_s.setdefault(segment.name, []).append(segment.start_s)
    order = sorted(lengths_s, key=lambda name: mean(starts_s[name]) or 0.0)
    return [_row(name, lengths_s[name], len(turns), mean_s, hidden=hidden) for name in order]


def _row(
    name: str, lengths_s: Sequence[float], turns: int, mean_delay_s: float, *, hidden: bool
) -> SegmentTimes:
    mean_s = math.fsum(lengths_s) / turns
    counts = not hidden and mean_delay_s > 0
    return SegmentTimes(
        name=name,
        kind=kind_of(name),
        hidden=hidden,
        n=len(lengths_s),
        p50_s=Quantile.of(lengths_s, 0.5).value,
        p95_s=Quantile.of(lengths_s, 0.95).value,
        max_s=max(lengths_s),
        mean_s=mean_s,
        share=mean_s / mean_delay_s if counts else None,
    )


def _notes(counts: dict[str, int], warm: int) -> list[str]:
    said = {
        "of the warm-up": warm,
        "without a final transcript": counts["unanswered"],
        "of an utterance that went on, or not of this run": counts["unjoined"],
    }
    return [
        f"left out: {number} {'turn' if number == 1 else 'turns'} {name}"
        for name, number in said.items()
        if number
    ]


def _called(row: SegmentTimes) -> str:
    return row.name if row.kind == "unknown" else f"{row.name} ({row.kind})"


_FRACTIONS = {1 / 4: "a quarter", 1 / 3: "a third", 1 / 2: "half", 2 / 3: "two thirds"}


def _fraction(share: float | None) -> str:
    """As one says it, at the head of a sentence.

    >>> _fraction(0.51), _fraction(0.42), _fraction(0.97)
    ('Half', '42 %', 'Nearly all')
    """
    if share is not None and 0.95 <= share <= 1.05:
        return "Nearly all"
    for exact, words in _FRACTIONS.items():
        if share is not None and abs(share - exact) <= 0.02:
            return words.capitalize()
    return _percent(share)


def _percent(share: float | None) -> str:
    return "an unknown part" if share is None else f"{100 * share:.0f} %"


def to_json(found: Breakdown) -> dict[str, Any]:
    """Plain values; seconds."""
    return {
        "sentence": found.sentence,
        "notes": list(found.notes),
        "delays": [_delay_json(delay) for delay in found.delays],
    }


def _delay_json(delay: DelayBreakdown) -> dict[str, Any]:
    return {
        "stage": delay.stage,
        "delay": delay.delay_name,
        "sentence": delay.sentence,
        "n": delay.n,
        "joined": delay.joined,
        "mean_s": delay.mean_s,
        "p50_s": delay.p50_s,
        "p95_s": delay.p95_s,
        "max_s": delay.max_s,
        "outside_s": delay.outside_s,
        "explained_share": delay.explained,
        "segments": [
            {
                "name": row.name,
                "kind": row.kind,
                "hidden": row.hidden,
                "n": row.n,
                "p50_s": row.p50_s,
                "p95_s": row.p95_s,
                "max_s": row.max_s,
                "mean_s": row.mean_s,
                "share": row.share,
            }
            for row in delay.rows
        ],
        "slowest": [_turn_json(turn) for turn in delay.slowest],
    }


def _turn_json(turn: TurnTime) -> dict[str, Any]:
    return {
        "session_id": turn.session_id,
        "item_id": turn.item_id,
        "speaker": turn.speaker,
        "utterance": turn.utterance,
        "delay_s": turn.delay_s,
        "unaccounted_s": turn.unaccounted_s,
        "segments": turn.seconds(hidden=False),
        "hidden": turn.seconds(hidden=True),
    }
