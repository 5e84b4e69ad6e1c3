"""What waited, where and for how long: readings of queues over time, and what they say.

From a run's samples, from a running server, or, where a run has no samples, from how long its
turns waited for inference.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any, Literal

from rtvc.clock import Clock
from rtvc.errors import RtvcError
from rtvc.record import Run, SampleRow
from rtvc.slo import shown
from rtvc.stats import Quantile

CALM_S = 0.25
"""Seconds of audio (or of waiting) that are nothing to speak of."""

GROWS = 6
"""Readings without which nothing is said to grow."""

WAITS = "waits of turns"
"""What a run without samples still tells of its inference queue."""

Origin = Literal["samples", "server", "turns"]


@dataclass(frozen=True, slots=True)
class Reading:
    """One queue at one instant."""

    at_s: float
    """Since the start of the run, or of the watch."""
    queue: str
    """Which one."""
    depth: float | None = None
    """Items waiting; None: not told."""
    backlog_s: float | None = None
    """Seconds of audio waiting; None: not told."""
    oldest_age_s: float | None = None
    """Seconds that the oldest item has waited; None: not told, or empty."""
    dropped: float | None = None
    """Items dropped since the server's start; None: not told."""


@dataclass(frozen=True, slots=True)
class QueueHistory:
    """One queue over time."""

    name: str
    """Which one."""
    readings: tuple[Reading, ...]
    """In order of time."""

    def told(self, what: Literal["depth", "backlog_s", "oldest_age_s", "dropped"]) -> list[float]:
        """Everything told of one figure, in order."""
        values = (getattr(reading, what) for reading in self.readings)
        return [value for value in values if value is not None]

    @property
    def line(self) -> list[tuple[float, float]]:
        """(instant, seconds waiting), or items where seconds were never told."""
        for what in ("backlog_s", "oldest_age_s", "depth"):
            points = [
                (reading.at_s, float(value))
                for reading in self.readings
                if (value := getattr(reading, what)) is not None
            ]
            if points:
                return points
        return []

    @property
    def dropped(self) -> float | None:
        """Items dropped between the first and the last reading; None: not told.

        A count that falls is one of a session that has ended, or of a server that is another one.
        """
        counts = self.told("dropped")
        rises = (max(0.0, now - then) for then, now in pairwise(counts))
        return sum(rises) if counts else None

    @property
    def waited_s(self) -> float | None:
        """Most seconds that waited; None: no seconds were told."""
        return max([*self.told("backlog_s"), *self.told("oldest_age_s")], default=None)

    @property
    def growth(self) -> float | None:
        """Seconds added to what waits, per second; None: it did not keep growing.

        The last third of the time against the first, the middle between them.
        """
        points = self.line
        if len(points) < GROWS or self.waited_s is None:
            return None
        third = len(points) // 3
        parts = [points[:third], points[third:-third], points[-third:]]
        first, middle, last = (fmean(value for _, value in part) for part in parts)
        if not (first < middle < last and last > 1.5 * first + CALM_S):
            return None
        begin_s, end_s = (fmean(at for at, _ in part) for part in (parts[0], parts[2]))
        return (last - first) / (end_s - begin_s) if end_s > begin_s else None


# Where readings come from.


_SAMPLE = re.compile(
    r"(?:rtvc_)?(?:(?P<queue>\w+?)_)?"
    r"(?P<what>oldest_age|backlog_max|backlog|queue_depth|depth|queued|dropped|unsent)"
    r"(?:_(?:s|seconds|jobs|items|messages|count|total))*"
    r'(?:\{[^}]*?="(?P<label>[^"]*)"\})?'
)
_FIELDS = {
    "oldest_age": "oldest_age_s",
    "backlog_max": "backlog_s",
    "backlog": "backlog_s",
    "queue_depth": "depth",
    "depth": "depth",
    "queued": "depth",
    "unsent": "depth",
    "dropped": "dropped",
}
_CALLED = {"engine": "inference"}


def from_samples(samples: Iterable[SampleRow]) -> list[Reading]:
    """Readings of every gauge that is named like one of a queue.

    >>> rows = [SampleRow(1.0, "server", "rtvc_engine_backlog_seconds", 2.5)]
    >>> from_samples(rows)[0].queue, from_samples(rows)[0].backlog_s
    ('inference', 2.5)
    """
    together: dict[tuple[float, str], dict[str, float]] = {}
    for row in samples:
        found = _SAMPLE.fullmatch(row.name)
        if found:
            at = (row.at_s, _queue_name(row.source, found))
            together.setdefault(at, {})[_FIELDS[found["what"]]] = row.value
    return [Reading(at_s, queue, **told) for (at_s, queue), told in together.items()]


def _queue_name(source: str, found: re.Match[str]) -> str:
    name = found["label"] or found["queue"]
    if name is None:
        name = "outbox" if found["what"] == "unsent" else "queue"
    name = _CALLED.get(name, name)
    if found["what"] == "backlog_max":
        name = f"{name}, worst session"
    return name if source == "server" else f"{source} {name}"


def from_sessions(body: Any, at_s: float) -> list[Reading]:
    """Readings from what `GET /v1/sessions` answered; RtvcError if it is of another kind."""
    if not isinstance(body, dict) or not isinstance(body.get("sessions"), list):
        raise RtvcError(
            "expected /v1/sessions of rtvc's own server, got something else: "
            "of another server, `rtvc profile logs` and `rtvc profile tap` tell what waits"
        )
    readings = [
        Reading(
            at_s,
            str(queue.get("name")),
            depth=queue.get("depth"),
            backlog_s=queue.get("backlog_s"),
            oldest_age_s=queue.get("oldest_age_s"),
            dropped=queue.get("dropped"),
        )
        for queue in body.get("queues") or []
    ]
    backlogs_s = [_number(session, "audio_backlog_s") for session in body["sessions"]]
    unsent = [_number(session, "unsent_messages") for session in body["sessions"]]
    added = [
        Reading(at_s, "inbox", backlog_s=sum(backlogs_s)),
        Reading(at_s, "inbox, worst session", backlog_s=max(backlogs_s, default=0.0)),
        Reading(at_s, "outbox", depth=sum(unsent)),
    ]
    # An older server tells of these two only by session.
    told = {reading.queue for reading in readings}
    return readings + [reading for reading in added if reading.queue not in told]


def _number(session: dict[str, Any], name: str) -> float:
    value = session.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def from_turns(run: Run) -> list[Reading]:
    """How long each turn's jobs waited for inference, at the instant at which they were taken."""
    ends_s = {(turn.session_id, turn.item_id): turn.speech_end_at_s for turn in run.turns}
    readings = [
        Reading(
            ends_s[row.session_id, row.item_id] + row.start_s + row.duration_s,
            WAITS,
            oldest_age_s=row.duration_s,
        )
        for row in run.server_turns
        if row.segment == "queue_wait"
        and row.stage == "transcript"
        and (row.session_id, row.item_id) in ends_s
    ]
    return sorted(readings, key=lambda reading: reading.at_s)


def watch(
    ask: Callable[[], Any],
    *,
    clock: Clock,
    sleep: Callable[[float], None],
    duration_s: float,
    interval_s: float,
    on_readings: Callable[[list[Reading]], None],
) -> None:
    """Ask every `interval_s`, for `duration_s`; what was missed is not made up for."""
    start_s = clock.now()
    due_s = start_s
    while due_s <= start_s + duration_s + 1e-9:
        sleep(max(0.0, due_s - clock.now()))
        body = ask()
        on_readings(from_sessions(body, clock.now() - start_s))
        due_s = max(due_s + interval_s, clock.now())


# What they say.


def histories(readings: Iterable[Reading]) -> list[QueueHistory]:
    """By queue, in the order in which they were first read."""
    by_queue: dict[str, list[Reading]] = {}
    for reading in readings:
        by_queue.setdefault(reading.queue, []).append(reading)
    return [
        QueueHistory(name, tuple(sorted(read, key=lambda reading: reading.at_s)))
        for name, read in by_queue.items()
    ]


def sentence(queues: Sequence[QueueHistory]) -> str:
    """What is wrong, or that nothing is."""
    dropping = [queue for queue in queues if queue.dropped]
    tail = "".join(f" {queue.name} dropped {queue.dropped:g}." for queue in dropping)
    growing = [(growth, queue) for queue in queues if (growth := queue.growth) is not None]
    if growing:
        growth, queue = max(growing, key=lambda pair: pair[0])
        return (
            f"{queue.name} grew by {shown(growth, 's')} a second, up to "
            f"{shown(queue.waited_s or 0.0, 's')}: more came in than was worked off.{tail}"
        )
    timed = [(queue.waited_s, queue) for queue in queues if queue.waited_s is not None]
    if not timed:
        most = max((max(queue.told("depth"), default=0.0) for queue in queues), default=0.0)
        return f"At most {most:g} items waited; for how long was not told.{tail}"
    waited_s, worst = max(timed, key=lambda pair: pair[0])
    if waited_s <= CALM_S:
        calm = f"Nothing piled up: at most {shown(waited_s, 's')} waited ({worst.name})."
        return calm + tail
    last_s = worst.line[-1][1]
    over = "and was worked off" if last_s <= waited_s / 2 else "and still waits at the end"
    return f"At most {shown(waited_s, 's')} waited ({worst.name}), {over}.{tail}"


_LEVELS = "▁▂▃▄▅▆▇█"


def sparkline(points: Sequence[tuple[float, float]], width: int = 40) -> str:
    """The largest value of each stretch of time, from 0 to the largest of all.

    >>> sparkline([(0.0, 0.0), (1.0, 2.0), (2.0, 4.0)], 3), sparkline([(0.0, 0.0)], 3)
    ('▁▅█', '▁')
    """
    if not points:
        return ""
    begin_s, end_s = points[0][0], points[-1][0]
    columns = min(width, len(points))
    per_s = columns / (end_s - begin_s) if end_s > begin_s else 0.0
    largest: dict[int, float] = {}
    for at_s, value in points:
        column = min(int((at_s - begin_s) * per_s), columns - 1)
        largest[column] = max(largest.get(column, 0.0), value)
    top = max(largest.values())
    drawn = [" "] * (max(largest) + 1)
    for column, value in largest.items():
        level = round(value / top * (len(_LEVELS) - 1)) if top > 0 else 0
        drawn[column] = _LEVELS[max(0, level)]
    return "".join(drawn)


def to_json(queues: Sequence[QueueHistory], origin: Origin) -> dict[str, Any]:
    """Plain values; seconds."""
    return {
        "sentence": sentence(queues),
        "origin": origin,
        "queues": [_queue_json(queue) for queue in queues],
    }


def _queue_json(queue: QueueHistory) -> dict[str, Any]:
    backlog = queue.told("backlog_s")
    return {
        "name": queue.name,
        "n": len(queue.readings),
        "depth_max": max(queue.told("depth"), default=None),
        "backlog_p50_s": Quantile.of(backlog, 0.5).value,
        "backlog_p95_s": Quantile.of(backlog, 0.95).value,
        "backlog_max_s": max(backlog, default=None),
        "oldest_age_max_s": max(queue.told("oldest_age_s"), default=None),
        "dropped": queue.dropped,
        "growth_s_per_s": queue.growth,
        "readings": [asdict(reading) for reading in queue.readings],
    }
