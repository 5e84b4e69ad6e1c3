"""How long inferences take: a line through what was measured, and how it scatters. Pure.

    seconds = (base_s + jobs · each_s) · (1 + grows_per_s · (longest audio − audio_s)) · ratio

`ratio` is drawn from measured ÷ fitted, so tails stay as heavy as they were. How much inferences
at once slow each other down is kept apart, as a factor on all of this.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

from rtvc.errors import RecordError
from rtvc.plan.processor import Contention
from rtvc.results.cells import Batch
from rtvc.stt.headroom import BatchCost

FEWEST_TURNS = 8
"""Single turns from which the effect of their length can be told."""

LEAST_SPREAD_S = 0.5
"""Standard deviation of their lengths from which it can."""

MOST_GROWTH = 0.5
"""Part by which a second of audio may lengthen an inference."""

LEAST_GROWN = 0.2
"""A very short utterance takes at least this part of what the line says."""

Turn = tuple[float, float]
"""(seconds of audio, seconds of inference) of one turn by itself."""


@dataclass(frozen=True, slots=True)
class ServiceTimes:
    """Of one model in one arrangement of threads."""

    cost: BatchCost
    """Seconds of an inference that runs alone, of utterances of `audio_s`."""
    audio_s: float = 3.5
    """Seconds of audio of the utterances that `cost` is about."""
    grows_per_s: float = 0.0
    """Part by which a second more of audio lengthens it."""
    ratios: tuple[float, ...] = (1.0,)
    """Measured ÷ fitted, one for each inference measured; at least one."""
    contention: Contention = ((1, 1.0),)
    """How much inferences at once slow each other down."""
    n: int = 0
    """Inferences measured."""
    most_jobs: int = 1
    """Utterances in the largest inference measured; beyond it the line is extrapolated."""
    busy_cores: float | None = None
    """Cores that one keeps busy; None: not measured, as many as it has threads."""

    def mean_s(self, jobs: float, audio_s: float | None = None) -> float:
        """Of an inference of so many, the longest of them of `audio_s`; None: the usual length."""
        longer_s = 0.0 if audio_s is None else audio_s - self.audio_s
        return self.cost.batch_s(jobs) * max(1 + self.grows_per_s * longer_s, LEAST_GROWN)

    def draw_s(self, jobs: int, audio_s: float, rng: random.Random) -> float:
        return self.mean_s(jobs, audio_s) * rng.choice(self.ratios)

    def cores(self, threads: int) -> float:
        """That an inference of so many threads keeps busy."""
        return float(threads) if self.busy_cores is None else self.busy_cores

    def faster(self, times: float) -> "ServiceTimes":
        """On a machine so many times as fast."""
        cost = BatchCost(self.cost.base_s / times, self.cost.each_s / times)
        return replace(self, cost=cost)

    @property
    def variation(self) -> float:
        """Standard deviation of the ratios."""
        mean = fmean(self.ratios)
        return math.sqrt(fmean((ratio - mean) ** 2 for ratio in self.ratios))


def fit(batches: Sequence[Batch], turns: Sequence[Turn] = ()) -> ServiceTimes:
    """From measured batches, and from single turns how their length matters.

    Without batches the turns are batches of one, and a batch is taken to cost what its jobs cost.

    Raises:
        RecordError: there is neither.
    """
    rows = [*batches] or [Batch(1, audio_s, seconds) for audio_s, seconds in turns]
    rows = [row for row in rows if row.seconds > 0 and row.jobs > 0]
    if not rows:
        raise RecordError("expected measured batches or single turns, got none")
    fewest = min(row.workers for row in rows)
    alone = [row for row in rows if row.workers == fewest]
    audio_s = fmean(row.audio_s for row in alone)
    shape = ServiceTimes(BatchCost(1.0, 0.0), audio_s, growth(turns, audio_s))
    cost = line([(row.jobs, row.seconds / shape.mean_s(1, row.audio_s)) for row in alone])
    fitted = replace(shape, cost=cost, n=len(rows), most_jobs=max(row.jobs for row in rows))
    return replace(
        fitted,
        ratios=tuple(row.seconds / fitted.mean_s(row.jobs, row.audio_s) for row in alone),
        contention=_contention(fitted, rows, fewest),
    )


def line(points: Sequence[tuple[int, float]]) -> BatchCost:
    """Through (jobs, seconds): least squares of relative errors, neither part below 0.

    >>> line([(1, 0.3), (2, 0.4), (4, 0.6)])
    BatchCost(base_s=0.2, each_s=0.1)
    """
    weights = [1 / (seconds * seconds) for _, seconds in points]
    total = math.fsum(weights)
    jobs = _weighted([float(n) for n, _ in points], weights, total)
    seconds = _weighted([s for _, s in points], weights, total)
    spread = _weighted([(n - jobs) ** 2 for n, _ in points], weights, total)
    if spread <= 1e-12:
        # One size only: nothing says that a larger batch would be cheaper.
        return BatchCost(0.0, seconds / jobs)
    both = _weighted([(n - jobs) * (s - seconds) for n, s in points], weights, total)
    each_s = min(max(both / spread, 0.0), seconds / jobs)
    return BatchCost(round(seconds - each_s * jobs, 12), round(each_s, 12))


def _weighted(values: Sequence[float], weights: Sequence[float], total: float) -> float:
    products = (value * weight for value, weight in zip(values, weights, strict=True))
    return math.fsum(products) / total


def growth(turns: Sequence[Turn], audio_s: float) -> float:
    """Part by which a second of audio lengthens an inference of `audio_s`; 0 where turns are too
    few, or too much alike, to tell.

    >>> round(growth([(s, 0.1 + 0.02 * s) for s in range(1, 10)], audio_s=5.0), 3)
    0.1
    """
    if len(turns) < FEWEST_TURNS:
        return 0.0
    mean_audio_s = fmean(audio for audio, _ in turns)
    mean_s = fmean(seconds for _, seconds in turns)
    variance = fmean((audio - mean_audio_s) ** 2 for audio, _ in turns)
    if variance < LEAST_SPREAD_S**2:
        return 0.0
    both = fmean((audio - mean_audio_s) * (seconds - mean_s) for audio, seconds in turns)
    slope = both / variance
    usual_s = mean_s + slope * (audio_s - mean_audio_s)
    return min(max(slope / usual_s, 0.0), MOST_GROWTH) if usual_s > 0 else 0.0


def _contention(fitted: ServiceTimes, rows: Sequence[Batch], fewest: int) -> Contention:
    """More at once never make one of them faster."""
    points = [(fewest, 1.0)]
    for workers in sorted({row.workers for row in rows} - {fewest}):
        ratios = [
            row.seconds / fitted.mean_s(row.jobs, row.audio_s)
            for row in rows
            if row.workers == workers
        ]
        points.append((workers, max(median(ratios), points[-1][1])))
    return tuple(points)
