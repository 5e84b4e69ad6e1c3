"""A transcriber with troubles on purpose: the real one behind it, held up, killed or starved.

It runs in the engine's process, so what it does is felt there: a worker is held for as long as a
slower device would hold it, memory is really taken, the process really ends. The troubles begin
once the model is warm: measuring how to arrange it sees a sound one.
"""

import hashlib
import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import psutil
from numpy.typing import NDArray

from rtvc.clock import Clock
from rtvc.stt.calibration import Tunable
from rtvc.stt.transcriber import Hypothesis, Job, JobKind, ReportProgress, Transcriber
from rtvc.stt.window import Origin, Window

RAMP_S = 60.0
"""Throttling is complete so long after the first inference."""
IDLE_S = 10.0
"""A session without an inference for so long is cold again."""
HANG_S = 3600.0
GROW_EVERY_S = 0.1
LEAST_FREE_BYTES = 256_000_000
"""Memory that is left to the machine, whatever was asked for."""
_MB = 1_000_000
_BLOCK = bytes(64 * 1024)
_ever = threading.Event()
"""Never set: waiting for it is sleeping."""


@dataclass(frozen=True, slots=True)
class Troubles:
    """What goes wrong; the defaults are no trouble at all."""

    load_s: float = 0.0
    """Seconds that loading takes at least."""
    slower: float = 1.0
    """Times as long as each inference takes."""
    partial_times: float = 1.0
    """Inferences that each batch of partials costs."""
    throttled: float = 1.0
    """Times as long as an inference takes in the end, reached gradually."""
    cold_s: float = 0.0
    """Seconds more that the first inference of a session takes, and the first after idling."""
    grow_bytes_per_s: float = 0.0
    """Memory taken a second."""
    room_bytes: int = 0
    """Memory taken at most; then there is none for inferences either."""
    crash_after_s: float | None = None
    """Seconds from the warm model to the end of the process; None: never."""
    hang_after_s: float | None = None
    """Seconds from the warm model until no inference ends any more; None: never."""
    out_of_memory: bool = False
    """Whether the device has no memory for any inference."""
    slower_in: Window | None = None
    """When inferences are slower; None: always."""
    crash_in: Window | None = None
    """When processes end: one as it begins, others `crash_after_s` after they were warm; None:
    always."""
    hang_in: Window | None = None
    """When inferences hang, in the same manner; None: always."""
    out_of_memory_in: Window | None = None
    """When there is no memory; None: always."""


class FaultyTranscriber:
    """Keeps to the contract of the transcriber behind it, as far as its troubles let it."""

    def __init__(
        self,
        inner: Transcriber,
        troubles: Troubles,
        *,
        clock: Clock,
        hold: Callable[[float], None] | None = None,
        origin: Origin | None = None,
    ) -> None:
        """`hold` spends seconds of a worker's time; None: working on a CPU, else waiting.
        `origin` knows from when on windows count."""
        self.device = inner.device
        self.compute_type = inner.compute_type
        self._inner = inner
        self._troubles = troubles
        self._clock = clock
        self._hold = hold
        self._origin = origin or Origin(clock)
        self._memory: GrowingMemory | None = None
        self._coldness: Coldness | None = None
        self._warm_at_s: float | None = None
        self._first_at_s: float | None = None

    @property
    def max_batch(self) -> int:
        return cast(Tunable, self._inner).max_batch

    @max_batch.setter
    def max_batch(self, jobs: int) -> None:
        cast(Tunable, self._inner).max_batch = jobs

    def tuned(
        self, *, workers: int, threads_per_worker: int, max_batch: int
    ) -> "FaultyTranscriber":
        inner = cast(Tunable, self._inner).tuned(
            workers=workers, threads_per_worker=threads_per_worker, max_batch=max_batch
        )
        return FaultyTranscriber(
            inner, self._troubles, clock=self._clock, hold=self._hold, origin=self._origin
        )

    def load(self) -> None:
        began_s = self._clock.now()
        self._inner.load()
        self.device, self.compute_type = self._inner.device, self._inner.compute_type
        rest_s = began_s + self._troubles.load_s - self._clock.now()
        if rest_s > 0:
            (self._hold or _wait)(rest_s)

    def warm_up_lengths(self, audio_s: float, report: ReportProgress) -> int:
        return cast(Tunable, self._inner).warm_up_lengths(audio_s, report)

    def warm_up(self, report: ReportProgress) -> None:
        self._inner.warm_up(report)
        troubles = self._troubles
        self._coldness = Coldness(troubles.cold_s)
        if troubles.grow_bytes_per_s:
            self._memory = GrowingMemory(troubles.grow_bytes_per_s, troubles.room_bytes)
            self._memory.start()
        self._warm_at_s = self._clock.now()
        if self._origin.ready_at_s is None:
            # The first process: the server is ready as soon as its model is warm.
            self._origin.ready_at_s = self._warm_at_s
        crash_at_s = self._due_at_s(troubles.crash_after_s, troubles.crash_in)
        if crash_at_s is not None:
            wait_s = max(crash_at_s - self._warm_at_s, 0.0)
            threading.Thread(target=_die, args=[wait_s], name="crash", daemon=True).start()

    def transcribe(self, jobs: Sequence[Job]) -> list[Hypothesis]:
        if self._warm_at_s is None or self._coldness is None:
            return self._inner.transcribe(jobs)  # the model is being arranged, or warmed up
        began_s = self._clock.now()
        self._hang_when_due(began_s)
        self._raise_when_out_of_memory()
        self._first_at_s = began_s if self._first_at_s is None else self._first_at_s
        cold_s = self._coldness.rest_s([job.session_id for job in jobs], began_s)
        waited_s = self._spend(cold_s)
        hypotheses, held_s = self._infer(jobs)
        # A device that is slow is slow in what it does: what it took is in the stages.
        return [
            replace(h, encode_s=h.encode_s + waited_s, decode_s=h.decode_s + held_s)
            for h in hypotheses
        ]

    def close(self) -> None:
        """Let go of the memory taken; a process that ends does so by itself."""
        if self._memory is not None:
            self._memory.stop()

    def _infer(self, jobs: Sequence[Job]) -> tuple[list[Hypothesis], float]:
        """As often as the factor says; what is left of it is held. Also returns that rest."""
        slower = self._origin.within(self._troubles.slower_in)
        times = self._troubles.slower if slower else 1.0
        if all(job.kind is JobKind.PARTIAL for job in jobs):
            times *= self._troubles.partial_times
        runs = int(times)
        began_s = self._clock.now()
        answers = self._inner.transcribe(jobs)
        for _ in range(runs - 1):
            more = self._inner.transcribe(jobs)
            answers = [_both(*pair) for pair in zip(answers, more, strict=True)]
        ended_s = self._clock.now()
        wanted_s = (ended_s - began_s) / runs * times * self._throttle(ended_s)
        return answers, self._spend(wanted_s - (ended_s - began_s))

    def _throttle(self, now_s: float) -> float:
        begun_s = now_s if self._first_at_s is None else self._first_at_s
        share = min((now_s - begun_s) / RAMP_S, 1.0)
        return 1.0 + (self._troubles.throttled - 1.0) * share

    def _spend(self, seconds: float) -> float:
        """Hold the worker; returns for how long it really was held."""
        if seconds <= 0:
            return 0.0
        began_s = self._clock.now()
        if self._hold is not None:
            self._hold(seconds)
        elif self.device == "cpu":
            work(seconds, self._clock)
        else:
            _wait(seconds)
        return self._clock.now() - began_s

    def _hang_when_due(self, now_s: float) -> None:
        troubles = self._troubles
        due_at_s = self._due_at_s(troubles.hang_after_s, troubles.hang_in)
        if due_at_s is None or now_s < due_at_s or not self._origin.within(troubles.hang_in):
            return
        (self._hold or _wait)(HANG_S)

    def _due_at_s(self, after_s: float | None, window: Window | None) -> float | None:
        """When it happens to this process: as the window begins, or, in a process that was begun
        within it, so long after it was warm; None: not at all."""
        warm_at_s, ready_at_s = self._warm_at_s, self._origin.ready_at_s
        if after_s is None or warm_at_s is None or ready_at_s is None:
            return None
        if window is None:
            return warm_at_s + after_s
        begin_at_s = ready_at_s + window.begin_s
        due_at_s = begin_at_s if warm_at_s < begin_at_s else warm_at_s + after_s
        return due_at_s if window.holds(due_at_s - ready_at_s + 1e-6) else None

    def _raise_when_out_of_memory(self) -> None:
        if self._memory is not None and self._memory.full:
            raise MemoryError("nothing is left for the buffers of an inference")
        troubles = self._troubles
        if troubles.out_of_memory and self._origin.within(troubles.out_of_memory_in):
            raise MemoryError("the device has no memory left for an inference")


class Coldness:
    """Which sessions have had no inference for a while, and how long they still suffer from it."""

    def __init__(self, cold_s: float, *, idle_s: float = IDLE_S) -> None:
        self._cold_s = cold_s
        self._idle_s = idle_s
        self._lock = threading.Lock()
        self._warm_at_s: dict[str, float] = {}
        self._used_at_s: dict[str, float] = {}

    def rest_s(self, session_ids: Sequence[str], now_s: float) -> float:
        """Seconds until all of these sessions are warm."""
        if not self._cold_s:
            return 0.0
        with self._lock:
            self._forget_idle(now_s)
            for session_id in session_ids:
                warm_at_s = self._warm_at_s.setdefault(session_id, now_s + self._cold_s)
                self._used_at_s[session_id] = max(now_s, warm_at_s)
            return max(self._warm_at_s[session_id] - now_s for session_id in session_ids)

    def _forget_idle(self, now_s: float) -> None:
        """Those that are left are busy ones: they are as few as the sessions are."""
        for session_id, used_at_s in list(self._used_at_s.items()):
            if now_s - used_at_s > self._idle_s:
                del self._used_at_s[session_id], self._warm_at_s[session_id]


class GrowingMemory:
    """Takes memory at a steady rate, up to a bound, and keeps it."""

    def __init__(self, bytes_per_s: float, room_bytes: int) -> None:
        self._step = max(int(bytes_per_s * GROW_EVERY_S), 1)
        self._room_bytes = room_bytes
        self._taken: list[NDArray[np.uint8]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._grow, name="growing memory", daemon=True)
        self.full = False
        """Whether the bound is reached."""
        self.taken_bytes = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Give it back."""
        self._over.set()
        self._thread.join()
        self._taken.clear()

    def _grow(self) -> None:
        while not self._over.wait(GROW_EVERY_S):
            step = min(self._step, self._room_bytes - self.taken_bytes)
            scarce = psutil.virtual_memory().available < LEAST_FREE_BYTES + step
            if step <= 0 or scarce:
                self.full = True
                return
            # Ones, as pages of zeros would not be resident.
            self._taken.append(np.ones(step, np.uint8))
            self.taken_bytes += step


def work(seconds: float, clock: Clock) -> None:
    """Keep one core busy, without Python's lock."""
    end_s = clock.now() + seconds
    while clock.now() < end_s:
        hashlib.sha256(_BLOCK).digest()


def _both(one: Hypothesis, more: Hypothesis) -> Hypothesis:
    """The last answer, and what both cost."""
    return replace(
        more,
        features_s=one.features_s + more.features_s,
        encode_s=one.encode_s + more.encode_s,
        decode_s=one.decode_s + more.decode_s,
    )


def _wait(seconds: float) -> None:
    _ever.wait(seconds)


def _die(seconds: float) -> None:
    """As the kernel ends a process that has taken too much memory."""
    _wait(seconds)
    os.kill(os.getpid(), signal.SIGKILL)
