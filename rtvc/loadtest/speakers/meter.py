"""The load generator watching itself: how late frames left, second by second."""

from rtvc.record import GeneratorRow
from rtvc.stats import Histogram

FRAME_S = 0.02
"""The usual length of a frame; one that leaves more than so much too late is late."""

PROBE_S = 0.05
"""Period of the probe of the event loop."""


class Meter:
    """Counts of one second; `drain` starts the next."""

    def __init__(self, process: int) -> None:
        self._process = process
        self._reset()

    def _reset(self) -> None:
        self._frames = 0
        self._late_frames = 0
        self._lag_max_s = 0.0
        self._lags = Histogram()
        self._loop_lag_max_s: float | None = None

    def frame(self, lag_s: float) -> None:
        """A frame left `lag_s` after it was due."""
        self._frames += 1
        self._late_frames += lag_s > FRAME_S
        self._lag_max_s = max(self._lag_max_s, lag_s)
        self._lags.add(max(0.0, lag_s))

    def probe(self, oversleep_s: float) -> None:
        """The probe of the event loop woke that much too late."""
        self._loop_lag_max_s = max(self._loop_lag_max_s or 0.0, oversleep_s)

    def drain(self, at_s: float, *, speakers: int, cpu_ratio: float | None) -> GeneratorRow:
        row = GeneratorRow(
            at_s=at_s,
            process=self._process,
            speakers=speakers,
            frames=self._frames,
            late_frames=self._late_frames,
            lag_max_s=self._lag_max_s,
            lag_histogram=self._lags.text(),
            cpu_ratio=cpu_ratio,
            loop_lag_max_s=self._loop_lag_max_s,
        )
        self._reset()
        return row


def frame_lag_s(
    due_s: float,
    sent_s: float,
    previous_from_s: float,
    previous_to_s: float,
    frame_s: float = FRAME_S,
) -> tuple[float, float]:
    """(the generator's lag, the wait caused by the other side) of a frame.

    A send that takes longer than a frame is a socket that is full because the server does not
    read: what it delays is the server's doing, and must not void the run.

    >>> [round(lag_s, 3) for lag_s in frame_lag_s(10.0, 10.003, 9.980, 9.981)]
    [0.003, 0.0]
    >>> [round(lag_s, 3) for lag_s in frame_lag_s(10.0, 10.503, 9.980, 10.5)]
    [0.003, 0.5]
    """
    blocked = previous_to_s - previous_from_s > frame_s
    fair_due_s = max(due_s, previous_to_s) if blocked else due_s
    return max(0.0, sent_s - fair_due_s), fair_due_s - due_s
