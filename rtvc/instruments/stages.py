"""A turn as a row of contiguous segments that add up to what the person felt.

Work that ran while something else was awaited is hidden: it is shown, and counted once.
The critical path decides: after the endpoint, only what is still unfinished is felt.
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Segment:
    """A named stretch of time."""

    name: str
    """Stage: vad_delay, endpoint_wait, queue_wait, features, encode, decode, emit, …"""
    start_s: float
    """Instant on the clock that all segments share."""
    duration_s: float
    """Length, 0 or more."""

    @property
    def end_s(self) -> float:
        return self.start_s + self.duration_s


def in_a_row(start_s: float, stages: Iterable[tuple[str, float]]) -> list[Segment]:
    """Stages laid end to end from an instant.

    >>> in_a_row(1.0, [("queue_wait", 0.5), ("decode", 0.25)])[1].start_s
    1.5
    """
    segments = []
    for name, duration_s in stages:
        segments.append(Segment(name, start_s, max(0.0, duration_s)))
        start_s = segments[-1].end_s
    return segments


def split_at(segments: Iterable[Segment], instant_s: float) -> tuple[list[Segment], list[Segment]]:
    """What lay before an instant (hidden) and what after (felt); a segment across it is cut.

    >>> hidden, felt = split_at([Segment("decode", 1.0, 1.0)], 1.75)
    >>> hidden[0].duration_s, felt[0].duration_s
    (0.75, 0.25)
    """
    hidden, felt = [], []
    for segment in segments:
        before_s = min(max(instant_s - segment.start_s, 0.0), segment.duration_s)
        after_s = segment.duration_s - before_s
        if before_s > 0:
            hidden.append(Segment(segment.name, segment.start_s, before_s))
        if after_s > 0:
            felt.append(Segment(segment.name, segment.start_s + before_s, after_s))
    return hidden, felt


def unaccounted_s(segments: Iterable[Segment], felt_s: float) -> float:
    """What the segments leave unexplained of a felt delay; negative if they claim too much."""
    return felt_s - sum(segment.duration_s for segment in segments)


def critical_path(segments: Iterable[Segment], slack_s: float = 1e-6) -> list[Segment]:
    """The chain that decided when everything was over, in order of time.

    Walks back from the last end, each time to the segment that finished latest before the one at
    hand began; what lies between two of them is unaccounted. Segments that contain others are
    taken for what they are: one piece. `slack_s` is how far two that follow each other may overlap.

    >>> policy, work = Segment("endpoint_wait", 0.1, 0.4), Segment("decode", 0.2, 0.1)
    >>> [step.name for step in critical_path([policy, work, Segment("emit", 0.5, 0.01)])]
    ['endpoint_wait', 'emit']
    """
    ordered = sorted(segments, key=lambda segment: (segment.end_s, segment.start_s))
    ends_s = [segment.end_s for segment in ordered]
    path, at = [], len(ordered) - 1
    while at >= 0:
        path.append(ordered[at])
        # What has no length ends where it begins: never stay where we are.
        at = min(bisect_right(ends_s, ordered[at].start_s + slack_s), at) - 1
    return path[::-1]
