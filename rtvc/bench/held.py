"""Sessions that an engine alone holds: no network, no server, no voice activity detection.

Simulated sessions ask the scheduler the server has; as many threads as the engine has workers take
its batches to the real model, in real time. Their number climbs 1, 2, 4, 8 … until the finals come
too late, then the gap is halved, all by quick looks: one stretch of time, of whose finals one in
twenty may be late. What they found is then made sure of, and lowered until it is.

To be sure: a number of sessions is missed as soon as so many finals were late that a p95 within the
target is out of the question (one-sided binomial test), and held if the p95 of a hundred finals or
more is within it. With fewer finals at the end of its time it is held if all of them were in time:
what cannot be shown to hold does not count as held.
"""

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rtvc.bench.clips import BenchClip
from rtvc.bench.crowd import Crowd, Desk, Habits
from rtvc.clock import Clock
from rtvc.errors import UsageError
from rtvc.results.cells import Held
from rtvc.stats import Quantile, quantile_at_least
from rtvc.stt.tickets import Batch
from rtvc.stt.transcriber import Transcriber

Q = 0.95
"""The quantile that the target is about."""

DOUBT = 0.001
"""Chance to miss a number wrongly at one look; there are many looks."""

LOOK_EVERY_S = 0.2
"""How often what came so far is judged."""

LONGEST_WAIT_S = 0.25
"""A worker looks up at least so often."""

SHORTEST_WAIT_S = 0.0005
"""What comes sooner is waited for so long."""

EXTENSIONS = 3
"""A number that is neither held nor missed at the end of its time gets as much again, so often."""

FINE = 10
"""The gap is closed to one session, or to a tenth of what holds."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one number of sessions."""

    sessions: int
    """How many."""
    held: bool
    """Whether the target was kept."""
    delays_s: tuple[float, ...]
    """End of speech → final, of those that count."""


def verdict(delays_s: Sequence[float], target_s: float, *, enough_time: bool) -> bool | None:
    """Whether the target is kept (True) or missed (False); None: it is not settled yet.

    `enough_time`: queues had the time to build up, so that what is well is likely to stay so.

    >>> verdict([0.3] * 100, 0.5, enough_time=True), verdict([0.3] * 99, 0.5, enough_time=True)
    (True, None)
    >>> verdict([0.9] * 3, 0.5, enough_time=False)
    False
    """
    at_least_s = quantile_at_least(delays_s, Q, DOUBT)
    if at_least_s is not None and at_least_s > target_s:
        return False
    known = Quantile.of(delays_s, Q).value
    if enough_time and known is not None:
        return known <= target_s
    return None


def last_verdict(delays_s: Sequence[float], target_s: float) -> bool:
    """At the end of all time: held if there were finals and none was late, or their p95 was not."""
    settled = verdict(delays_s, target_s, enough_time=True)
    if settled is not None:
        return settled
    return bool(delays_s) and max(delays_s) <= target_s


def search(
    holds: Callable[[int], bool], *, start: int, most: int, go_on: Callable[[], bool]
) -> tuple[int, int | None]:
    """The most sessions that hold and the fewest that do not (None: not found); each tried once.

    >>> search(lambda sessions: sessions <= 11, start=1, most=64, go_on=lambda: True)
    (11, 12)
    >>> search(lambda sessions: True, start=1, most=6, go_on=lambda: True)
    (6, None)
    """
    held, sessions = 0, start
    fails: int | None = None
    while fails is None and held < most and go_on():
        if holds(sessions):
            held, sessions = sessions, min(2 * sessions, most)
        else:
            fails = sessions
    while fails is not None and fails - held > max(1, held // FINE) and go_on():
        middle = (held + fails) // 2
        if holds(middle):
            held = middle
        else:
            fails = middle
    return held, fails


def find(
    quickly: Callable[[int], bool],
    surely: Callable[[int], bool],
    *,
    start: int,
    most: int,
    go_on: Callable[[], bool],
) -> tuple[int, int | None]:
    """The most sessions that surely hold, by quick looks first, and the fewest that do not.

    Where a quick look was too hopeful the steps down double, and the gap is closed from both sides;
    once `go_on` says no it stays as wide as it is, while what holds is made sure of all the same.

    >>> find(lambda n: n <= 40, lambda n: n <= 34, start=1, most=64, go_on=lambda: True)
    (34, 36)
    """
    held, fails = search(quickly, start=start, most=most, go_on=go_on)
    step = max(1, held // FINE)
    while held and not surely(held):
        fails, held, step = held, max(held - step, 0), 2 * step
    while fails is not None and fails - held > max(1, held // FINE) and go_on():
        middle = (held + fails) // 2
        if surely(middle):
            held = middle
        else:
            fails = middle
    return held, fails


class Room:
    """A desk's batches taken to a transcriber by so many threads, until the desk says enough."""

    def __init__(self, desk: Desk, transcriber: Transcriber, clock: Clock) -> None:
        self._desk = desk
        self._transcriber = transcriber
        self._clock = clock
        self._changed = threading.Condition()
        self._closing = False
        self._failure: Exception | None = None

    def run(self, workers: int, look: Callable[[float], bool]) -> None:
        """Work until `look`, asked now and then with the instant, says that it has seen enough.

        Raises:
            Exception: whatever the transcriber raised.
        """
        threads = [
            threading.Thread(target=self._work, name=f"held {number}", daemon=True)
            for number in range(workers)
        ]
        for thread in threads:
            thread.start()
        try:
            self._wait(look)
        finally:
            self._close()
            for thread in threads:
                thread.join()
        if self._failure is not None:
            raise self._failure

    def _wait(self, look: Callable[[float], bool]) -> None:
        with self._changed:
            while not self._closing and not look(self._clock.now()):
                self._changed.wait(LOOK_EVERY_S)

    def _close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            try:
                self._transcriber.transcribe([ticket.job for ticket in batch.tickets])
            except Exception as error:  # noqa: BLE001  run() raises it again
                self._failure = error
                self._close()
                return
            with self._changed:
                self._desk.done(batch, self._clock.now())
                self._changed.notify_all()

    def _next(self) -> Batch | None:
        """What to do next; None: the room closes."""
        with self._changed:
            while not self._closing:
                now_s = self._clock.now()
                batch = self._desk.take(now_s)
                if batch is not None:
                    # There may be more for the others.
                    self._changed.notify_all()
                    return batch
                wait_s = min(self._desk.wake_at_s - now_s, LONGEST_WAIT_S)
                self._changed.wait(max(wait_s, SHORTEST_WAIT_S))
            return None


class _Trials:
    """Tries numbers of sessions, each for some seconds, and remembers what was made sure of."""

    def __init__(
        self,
        transcriber: Transcriber,
        clips: Sequence[BenchClip],
        clock: Clock,
        *,
        workers: int,
        max_batch: int,
        target_s: float,
        step_s: float,
        seed: int,
        habits: Habits,
    ) -> None:
        self.done: dict[int, Trial] = {}
        self._transcriber = transcriber
        self._clips = clips
        self._clock = clock
        self._workers = workers
        self._max_batch = max_batch
        self._target_s = target_s
        self._step_s = step_s
        self._seed = seed
        self._habits = habits

    def quickly(self, sessions: int) -> bool:
        """Whether so many seem to keep the target."""
        delays_s = self._try(sessions, extensions=0)
        late = sum(delay_s > self._target_s for delay_s in delays_s)
        return bool(delays_s) and late <= (1 - Q) * len(delays_s)

    def surely(self, sessions: int) -> bool:
        """Whether so many keep the target."""
        delays_s = self._try(sessions, extensions=EXTENSIONS)
        held = last_verdict(delays_s, self._target_s)
        self.done[sessions] = Trial(sessions, held, tuple(delays_s))
        return held

    def _try(self, sessions: int, *, extensions: int) -> list[float]:
        """Seconds from end of speech to final, of those that count."""
        began_s = self._clock.now()
        rng = random.Random(f"{self._seed}/held/{sessions}")
        crowd = Crowd(sessions, self._clips, rng, began_at_s=began_s, habits=self._habits)
        desk = Desk(
            crowd,
            workers=self._workers,
            max_batch=self._max_batch,
            target_s=self._target_s,
            now_s=began_s,
        )
        settles_s = began_s + self._habits.start_within_s + self._step_s
        last_s = settles_s + extensions * self._step_s

        def seen_enough(now_s: float) -> bool:
            delays_s = crowd.delays_s(now_s, self._target_s)
            settled = verdict(delays_s, self._target_s, enough_time=now_s >= settles_s)
            return settled is not None or now_s >= last_s

        Room(desk, self._transcriber, self._clock).run(self._workers, seen_enough)
        return crowd.delays_s(self._clock.now(), self._target_s)


def sessions_held(
    transcriber: Transcriber,
    clips: Sequence[BenchClip],
    clock: Clock,
    *,
    workers: int = 1,
    max_batch: int = 4,
    target_s: float = 0.5,
    start: int = 1,
    most: int = 256,
    step_s: float = 12.0,
    budget_s: float = 240.0,
    seed: int = 0,
    habits: Habits | None = None,
) -> Held:
    """How many sessions the loaded transcriber holds, its finals within `target_s` at p95.

    Each says one of the clips, pauses, says another; the model hears every partial and final that
    the server would ask it for. A quick look takes `step_s` seconds after all have begun, making
    sure up to four times as long where that settles nothing; after `budget_s` no gap is closed any
    further, and what was found is made sure of, or lowered until it is. `workers` threads call the
    transcriber at once, with `max_batch` jobs at most.

    Raises:
        UsageError: there is nothing to say, or a number makes no sense.
        TranscriberError: the model failed; whatever else it raises goes through too.
    """
    spoken = [clip for clip in clips if clip.reference != "" and clip.end_s > clip.speech_start_s]
    if not spoken or not 1 <= start <= most or min(workers, max_batch) < 1:
        raise UsageError(
            "expected clips in which somebody speaks, 1 <= start <= most, a worker and a job, got "
            f"{len(spoken)} clips, {start} and {most} sessions, {workers} and {max_batch}"
        )
    trials = _Trials(
        transcriber,
        spoken,
        clock,
        workers=workers,
        max_batch=max_batch,
        target_s=target_s,
        step_s=step_s,
        seed=seed,
        habits=habits or Habits(),
    )
    until_s = clock.now() + budget_s
    held, fails_at = find(
        trials.quickly,
        trials.surely,
        start=start,
        most=most,
        go_on=lambda: clock.now() < until_s,
    )
    of_held = trials.done[held].delays_s if held else ()
    return Held(
        sessions=held,
        fails_at=fails_at,
        target_s=target_s,
        p95_s=Quantile.of(of_held, Q).value,
        n=len(of_held),
    )
