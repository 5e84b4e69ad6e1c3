"""Finds the sample rate a client never states, from the clock readings on its packets.

Each packet says when it was captured (milliseconds of the client's clock) and holds a known number
of samples; the slope of one against the other is the rate. The readings are late at times (a busy
page stamps several packets at once), jump, wrap, and packets may be missing, so:

1. Readings are cut into blocks of about a second. Inside a block, intervals far from the median
   (a stall, the burst after it, a lost packet) are cut out; a line is fitted to what remains.
2. A block whose slope lies near a known rate votes for it. On a clean clock one block's vote
   decides, and a block that is not yet full may cast it. Under jitter a lost packet cannot be
   told from a late one, so four blocks and two thirds of all recent ones must agree.
3. The finder goes on listening; a different answer needs the same majority among recent blocks.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from statistics import median

KNOWN_RATES_HZ = (8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000)
ASSUMED_RATE_HZ = 48_000
"""What RealtimeVoiceChat's page and server take for granted; used until the finder is sure."""

CLOCK_MODULUS = 2**32
CLOSE_TOLERANCE_RATIO = 0.035
"""How near a slope must be to a known rate to vote for it; 44.1 and 48 kHz are 8.8 % apart."""
LONE_TOLERANCE_RATIO = 0.1
"""The same for rates whose neighbours are 30 % away or more."""
LONE_RATES_HZ = frozenset({8_000, 16_000, 32_000})
BLOCK_MS = 1000
BLOCK_STAMPS = 8
EARLY_MS = 700
EARLY_STAMPS = 4
BREAK_MS = 1000
"""An interval longer than this (a suspended tab) starts a new block."""
CLEAN_RESIDUAL_MS = 3.5
CLEAN_ERROR_RATIO = 0.006
CLEAN_KEPT_RATIO = 0.8
"""With more intervals cut out, what remains is a selection that looks calm by chance."""
BLOCKS_KEPT = 9
VOTES_NEEDED = 4


@dataclass(frozen=True, slots=True)
class Stamp:
    """One packet's clock reading."""

    at_ms: float
    """Milliseconds of the client's clock, unwrapped."""
    samples: int
    """Samples received up to and with this packet."""


@dataclass(frozen=True, slots=True)
class RateEstimate:
    """What one block of readings says."""

    rate_hz: float
    """Samples per second, not yet snapped."""
    error_ratio: float
    """Standard error of the rate, as a share of it."""
    residual_ms: float
    """Scatter of the readings around the line."""
    kept_ratio: float
    """Share of intervals that were not cut out."""

    @property
    def known_hz(self) -> int | None:
        """The known rate it means; None if it could as well mean none or another."""
        nearest = min(KNOWN_RATES_HZ, key=lambda known: abs(known / self.rate_hz - 1))
        distance = abs(nearest / self.rate_hz - 1)
        lone = nearest in LONE_RATES_HZ
        tolerance = LONE_TOLERANCE_RATIO if lone else CLOSE_TOLERANCE_RATIO
        return nearest if distance + 2 * self.error_ratio <= tolerance else None

    @property
    def clean(self) -> bool:
        """Whether a lost packet would have been seen, so that this block can decide alone."""
        return (
            self.residual_ms <= CLEAN_RESIDUAL_MS
            and self.error_ratio <= CLEAN_ERROR_RATIO
            and self.kept_ratio >= CLEAN_KEPT_RATIO
        )


class SampleRateFinder:
    """Feed it every packet; `rate_hz` is None until it is sure."""

    def __init__(self) -> None:
        self._block: list[Stamp] = []
        self._votes: deque[int | None] = deque(maxlen=BLOCKS_KEPT)
        self._last_reading: int | None = None
        self.rate_hz: int | None = None
        """Hertz; None: not sure, assume `ASSUMED_RATE_HZ`."""
        self.confidence = 0.0
        """Share of recent blocks that agree with `rate_hz`, 0 to 1; 0 while it is None."""

    def feed(self, timestamp_ms: int, samples: int) -> int | None:
        """Add a packet (its reading mod 2^32); answers `rate_hz`."""
        step_ms = self._step_ms(timestamp_ms)
        if step_ms is None or not -BREAK_MS < step_ms < BREAK_MS or not self._block:
            self._block = [Stamp(float(timestamp_ms), 0)]
            return self.rate_hz
        last = self._block[-1]
        self._block.append(Stamp(last.at_ms + step_ms, last.samples + samples))
        self._judge()
        return self.rate_hz

    def _step_ms(self, timestamp_ms: int) -> int | None:
        last, self._last_reading = self._last_reading, timestamp_ms
        if last is None:
            return None
        half = CLOCK_MODULUS // 2
        return (timestamp_ms - last + half) % CLOCK_MODULUS - half

    def _judge(self) -> None:
        span_ms = self._block[-1].at_ms - self._block[0].at_ms
        if span_ms >= BLOCK_MS and len(self._block) > BLOCK_STAMPS:
            self._close_block()
        elif self.rate_hz is None and span_ms >= EARLY_MS and len(self._block) > EARLY_STAMPS:
            self._decide_alone(estimate_rate(self._block))

    def _close_block(self) -> None:
        estimate = estimate_rate(self._block)
        self._block = [self._block[-1]]
        if self.rate_hz is None:
            self._decide_alone(estimate)
        self._votes.append(estimate.known_hz if estimate else None)
        self._count_votes()

    def _decide_alone(self, estimate: RateEstimate | None) -> None:
        if estimate and estimate.clean and estimate.known_hz:
            self.rate_hz, self.confidence = estimate.known_hz, 1.0

    def _count_votes(self) -> None:
        votes = Counter(vote for vote in self._votes if vote)
        best, count = max(votes.items(), key=lambda vote: vote[1], default=(0, 0))
        if count >= VOTES_NEEDED and 3 * count >= 2 * len(self._votes):
            self.rate_hz = best
        if self.rate_hz is not None:
            self.confidence = votes[self.rate_hz] / len(self._votes)


def estimate_rate(stamps: Sequence[Stamp]) -> RateEstimate | None:
    """The rate of one block; None if its readings do not advance.

    The runs between cut-out intervals share one slope, but each has an offset of its own: a lost
    packet shifts all readings after it, and says nothing about the rate.
    """
    runs = [run for run in _runs(stamps) if len(run) > 1]
    points = [point for run in runs for point in _centred(run)]
    spread = sum(samples * samples for samples, _ in points)
    slope = sum(samples * at_ms for samples, at_ms in points) / spread if spread else 0.0
    if slope <= 0:
        return None
    square_ms = sum((at_ms - slope * samples) ** 2 for samples, at_ms in points)
    residual_ms = max(sqrt(square_ms / max(len(points) - len(runs) - 1, 1)), 0.5)
    return RateEstimate(
        rate_hz=1000 / slope,
        error_ratio=residual_ms / sqrt(spread) / slope,
        residual_ms=residual_ms,
        kept_ratio=(len(points) - len(runs)) / (len(stamps) - 1),
    )


def _runs(stamps: Sequence[Stamp]) -> list[list[Stamp]]:
    """The stamps, cut at intervals far from the median one."""
    steps_ms = [after.at_ms - before.at_ms for before, after in pairwise(stamps)]
    middle_ms = median(steps_ms)
    deviation_ms = median(abs(step_ms - middle_ms) for step_ms in steps_ms)
    # 1.48 makes the deviation comparable to a standard deviation; readings are whole milliseconds.
    limit_ms = max(4 * 1.48 * deviation_ms, 0.25 * middle_ms, 3.0)
    runs = [[stamps[0]]]
    for stamp, step_ms in zip(stamps[1:], steps_ms, strict=True):
        if abs(step_ms - middle_ms) > limit_ms:
            runs.append([])
        runs[-1].append(stamp)
    return runs


def _centred(run: Sequence[Stamp]) -> list[tuple[float, float]]:
    middle_samples = sum(stamp.samples for stamp in run) / len(run)
    middle_ms = sum(stamp.at_ms for stamp in run) / len(run)
    return [(stamp.samples - middle_samples, stamp.at_ms - middle_ms) for stamp in run]
