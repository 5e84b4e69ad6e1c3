"""Trying arrangements for real, in the engine's process: a spoken sentence, all workers at once."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from rtvc.clock import Clock
from rtvc.speech.synthesis import Synthesizer
from rtvc.stt.calibration import RUNS, SLOW_S, Calibration, Tunable, Wish, calibrate
from rtvc.stt.transcriber import AudioArray, Job, JobKind, ReportProgress

SENTENCE = "please call the office and ask them to move the meeting to tomorrow morning"
"""3.9 s: about the length of a turn."""


class Arranger:
    """Holds one loaded arrangement at a time."""

    def __init__(self, model: Tunable, clock: Clock, report: ReportProgress) -> None:
        self._model = model
        self._clock = clock
        self._report = report
        self._audio: AudioArray = Synthesizer().say(SENTENCE).audio.astype(np.float32)
        self._arrangement: tuple[int, int] | None = None
        self._most = 1
        self.loaded = model
        """The arrangement tried last."""
        self.load_s = 0.0
        """What it took to load that one."""

    def arrange(self, wish: Wish) -> Calibration:
        """Find the best arrangement, and have it loaded."""
        self._most = max((1, wish.max_batch or 1, *wish.batches))
        found = calibrate(self.measure, wish, self._clock)
        self._load(found.workers, found.threads_per_worker)
        self.loaded.max_batch = found.deep_batch
        return found

    def measure(self, workers: int, threads_per_worker: int, batch: int) -> float:
        """Seconds of one batch while all workers are busy with such batches."""
        self._report(0.0, f"trying {workers} × {threads_per_worker} threads, batch of {batch}")
        self._load(workers, threads_per_worker)
        jobs = [Job("warm-up", "warm-up", JobKind.FINAL, 0, self._audio, 0.0, language="en")]
        # The first run of a shape also finds memory for it; a slow model is not asked twice.
        fastest_s = self._run(workers, jobs * batch)
        for _ in range(RUNS - 1 if fastest_s < SLOW_S else 0):
            fastest_s = min(fastest_s, self._run(workers, jobs * batch))
        return fastest_s

    def _run(self, workers: int, jobs: Sequence[Job]) -> float:
        started_s = self._clock.now()
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(self.loaded.transcribe, [jobs] * workers))
        return self._clock.now() - started_s

    def _load(self, workers: int, threads_per_worker: int) -> None:
        if self._arrangement == (workers, threads_per_worker):
            return
        tuned = self._model.tuned(
            workers=workers, threads_per_worker=threads_per_worker, max_batch=self._most
        )
        self.loaded = tuned  # the one before is let go first: there may be room for one only
        began_s = self._clock.now()
        tuned.load()
        self.load_s = self._clock.now() - began_s
        self._arrangement = (workers, threads_per_worker)
