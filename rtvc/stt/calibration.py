"""How to arrange a model on this machine: found by a short measurement at warm-up.

More threads within one inference can be several times slower than more inferences at once, and
whether batches pay depends on the model. So a few arrangements are tried on one spoken sentence,
within a bounded time, and what was found is kept for everyone to see.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rtvc.clock import Clock
from rtvc.stt.headroom import BatchCost
from rtvc.stt.transcriber import ReportProgress, Transcriber, Trial

QUICK_S = 0.3
"""A model that answers within this is given the short budget."""
SHORT_BUDGET_S = 5.0
LONG_BUDGET_S = 15.0
SWIFT_S = 0.3
"""One answer beyond this costs everyone's delay: twice as slow counts as a quarter as much."""
SLOW_S = 0.7
"""A trial whose first run takes longer is not repeated."""
RUNS = 4
"""Of one trial that is not slow. The fastest counts: other work only slows a run down."""
LONGEST_BATCH_S = 0.35
"""No batch may take longer: a final that has just missed it would come too late."""
ENOUGH = 0.85
"""The smallest batch is taken that reaches this part of the best throughput: whoever is in a larger
one waits for all of it, and a measurement of a second is no better than that."""
CLEARLY_BETTER = 1.2
"""What fewer workers must gain to be chosen: with more of them one is free sooner."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was tried and chosen."""

    workers: int
    """Chosen."""
    threads_per_worker: int
    """Chosen."""
    max_batch: int
    """Chosen."""
    deep_batch: int
    """The one with the best throughput: for when many wait."""
    trials: tuple[Trial, ...]
    """In the order they were made."""
    seconds: float
    """How long it took, loading included."""

    @property
    def cost(self) -> BatchCost | None:
        """Of a batch in the arrangement chosen; None if it was never tried."""
        chosen = (self.workers, self.threads_per_worker)
        own = [t for t in self.trials if (t.workers, t.threads_per_worker) == chosen]
        if not own:
            return None
        first, last = own[0], max(own, key=lambda trial: trial.batch)
        if first.batch == last.batch:
            return BatchCost(0.0, first.batch_s / first.batch)
        slope = (last.batch_s - first.batch_s) / (last.batch - first.batch)
        each_s = min(max(slope, 0.0), first.batch_s / first.batch)
        return BatchCost(first.batch_s - each_s * first.batch, each_s)


@dataclass(frozen=True, slots=True)
class Wish:
    """What may be tried."""

    arrangements: tuple[tuple[int, int], ...]
    """Pairs of workers and threads, at least one."""
    batches: tuple[int, ...]
    """Sizes, rising, beyond 1."""
    max_batch: int | None = None
    """As the user set it; None: found."""


class Tunable(Transcriber, Protocol):
    """A transcriber that can be arranged."""

    max_batch: int
    """Most jobs in one inference."""

    def tuned(self, *, workers: int, threads_per_worker: int, max_batch: int) -> "Tunable":
        """The same model, not loaded, arranged otherwise."""

    def warm_up_lengths(self, audio_s: float, report: ReportProgress) -> int:
        """Infer once what audio of each length up to `audio_s` asks for, in each size of batch.

        Returns: how many of them took too long in all, and were left out.
        """


Measure = Callable[[int, int, int], float]
"""Workers, threads per worker, batch → seconds of one batch while all workers are busy."""


def wish(
    cpus: int,
    *,
    workers: int | None = None,
    threads_per_worker: int | None = None,
    max_batch: int | None = None,
    batches: Sequence[int] = (2, 4, 8, 16),
) -> Wish | None:
    """What to try where the user left a choice; None: they left none.

    >>> wish(2).arrangements
    ((2, 1), (1, 2))
    >>> wish(8, threads_per_worker=4).arrangements
    ((2, 4),)
    """
    if workers and threads_per_worker and max_batch:
        return None
    if workers:
        threads = (threads_per_worker,) if threads_per_worker else (1, max(cpus // workers, 1))
        pairs = [(workers, count) for count in threads]
    elif threads_per_worker:
        pairs = [(max(cpus // threads_per_worker, 1), threads_per_worker)]
    else:
        pairs = [(max(cpus // threads, 1), threads) for threads in (1, 2, 4) if threads <= cpus]
    tried = tuple(size for size in batches if max_batch is None or size == max_batch)
    return Wish(tuple(dict.fromkeys(pairs)), tried, max_batch)


def calibrate(measure: Measure, wish: Wish, clock: Clock) -> Calibration:
    """Try arrangements, then batches in the best; stop when time is up."""
    search = _Search(measure, clock)
    for workers, threads in wish.arrangements:
        trial = search.attempt(workers, threads, 1)
        if trial is None or trial.batch_s <= SWIFT_S:
            # Quick enough: threads that wait for one another suffer most from a busy machine.
            break
    best = _best(search.trials)
    tried = [best]
    for size in wish.batches:
        trial = search.attempt(best.workers, best.threads_per_worker, size)
        if trial is None or trial.batch_s > LONGEST_BATCH_S:
            break
        tried.append(trial)
    fastest = max(tried, key=lambda trial: trial.jobs_per_s)
    enough = ENOUGH * fastest.jobs_per_s
    batch = min(trial.batch for trial in tried if trial.jobs_per_s >= enough)
    return Calibration(
        best.workers,
        best.threads_per_worker,
        wish.max_batch or batch,
        wish.max_batch or max(fastest.batch, batch),
        tuple(search.trials),
        search.elapsed_s,
    )


def _best(trials: Sequence[Trial]) -> Trial:
    """Those with the most workers come first."""
    best = trials[0]
    for trial in trials[1:]:
        if _score(trial) > CLEARLY_BETTER * _score(best):
            best = trial
    return best


def _score(trial: Trial) -> float:
    """Throughput, discounted where a single answer is slow."""
    return trial.jobs_per_s / max(1.0, trial.batch_s / SWIFT_S) ** 2


class _Search:
    """Makes trials until the budget is used up; the first one is always made."""

    def __init__(self, measure: Measure, clock: Clock) -> None:
        self._measure = measure
        self._clock = clock
        self._started_s = clock.now()
        self._budget_s = LONG_BUDGET_S
        self._next_s = 0.0
        self.trials: list[Trial] = []

    @property
    def elapsed_s(self) -> float:
        return self._clock.now() - self._started_s

    def attempt(self, workers: int, threads: int, batch: int) -> Trial | None:
        """None: no time left for it."""
        if self.trials and self.elapsed_s + self._next_s > self._budget_s:
            return None
        trial = Trial(workers, threads, batch, self._measure(workers, threads, batch))
        self.trials.append(trial)
        # The next one is twice the work of this one, but for loading.
        self._next_s = 2 * trial.batch_s * (RUNS if trial.batch_s < SLOW_S else 1)
        if len(self.trials) == 1:
            self._budget_s = SHORT_BUDGET_S if trial.batch_s < QUICK_S else LONG_BUDGET_S
        return trial
