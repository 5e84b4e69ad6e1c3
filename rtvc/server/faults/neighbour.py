"""A neighbour that wants the same processor, or the same graphics card, for itself.

Run as `python -m rtvc.server.faults.neighbour` with a pickled `Load` on its standard input; it ends
when that input does, so it never outlives whoever started it.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np

from rtvc.clock import Clock, SystemClock
from rtvc.config import child_environment
from rtvc.stt.calibration import Tunable
from rtvc.stt.faulty import work
from rtvc.stt.transcriber import SAMPLE_RATE_HZ, Job, JobKind, Transcriber

STOP_S = 2.0
PERIOD_S = 0.02
"""A thread that is not to be busy all the time works so often."""
NOISE_S = 4.0


@dataclass(frozen=True, slots=True)
class Load:
    """What the neighbour is to do."""

    threads: float
    """So many at work all the time; the fraction is one at work for a part of the time."""
    model: Transcriber | None = None
    """Not loaded yet: what the threads run, flat out; None: they only compute."""


class Neighbour:
    """The process, from outside."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """None unless it runs."""
        return None if self._process is None else self._process.pid

    def start(self, load: Load) -> None:
        """Blocks for some milliseconds."""
        process = self._process = subprocess.Popen(
            [sys.executable, "-m", "rtvc.server.faults.neighbour"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            process_group=0,
            env=child_environment(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1"),
        )
        assert process.stdin is not None
        pickle.dump(load, process.stdin)
        process.stdin.flush()

    def stop(self) -> None:
        """End it, by force if need be; safe to call twice."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def shares(threads: float) -> list[float]:
    """Of their time that so many threads work.

    >>> shares(2.5)
    [1.0, 1.0, 0.5]
    """
    whole, rest = divmod(threads, 1.0)
    return [1.0] * int(whole) + ([round(rest, 6)] if rest else [])


def compute(share: float, clock: Clock) -> None:
    """Work for a share of the time, for ever."""
    pause = threading.Event()
    while True:
        work(share * PERIOD_S, clock)
        if share < 1.0:
            pause.wait((1.0 - share) * PERIOD_S)


def infer(model: Transcriber, share: float, clock: Clock) -> None:
    """Transcribe noise for a share of the time, for ever."""
    noise = np.random.default_rng(1).normal(0, 0.05, round(NOISE_S * SAMPLE_RATE_HZ))
    audio = noise.astype(np.float32)
    job = Job("neighbour", "noise", JobKind.FINAL, 0, audio, 0.0, language="en")
    pause = threading.Event()
    while True:
        began_s = clock.now()
        model.transcribe([job])
        if share < 1.0:
            pause.wait((clock.now() - began_s) * (1.0 - share) / share)


def _begin(load: Load, clock: Clock) -> None:
    parts, model = shares(load.threads), load.model
    if model is not None:
        tunable = cast(Tunable, model)
        model = tunable.tuned(workers=len(parts), threads_per_worker=1, max_batch=1)
        model.load()
    for share in parts:
        run = compute if model is None else partial(infer, model)
        threading.Thread(target=run, args=(share, clock), daemon=True).start()


def main() -> None:
    """Do what standard input says until it ends."""
    # Ctrl-C reaches the whole terminal; the server says when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    load = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_begin, args=(load, SystemClock()), daemon=True).start()
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
