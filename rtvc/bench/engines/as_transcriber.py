"""Any engine of a bench behind the contract of the server, so that sessions can be given to it."""

import threading
from collections.abc import Sequence

from rtvc.bench.engines.contract import BenchEngine, Text
from rtvc.clock import Clock
from rtvc.stt.transcriber import (
    SAMPLE_RATE_HZ,
    AudioArray,
    Hypothesis,
    Job,
    JobKind,
    ReportProgress,
)


class AsTranscriber:
    """As many inferences at a time as the engine has workers, whoever asks."""

    def __init__(self, engine: BenchEngine, clock: Clock, *, device: str) -> None:
        self.device = device
        self.compute_type: str | None = None
        self._engine = engine
        self._clock = clock
        self._free = threading.BoundedSemaphore(engine.workers)

    def load(self) -> None:
        """The engine has loaded its weights by itself."""

    def warm_up(self, report: ReportProgress) -> None:
        """The cell has warmed the engine up."""
        report(1.0, "warm")

    def transcribe(self, jobs: Sequence[Job]) -> list[Hypothesis]:
        with self._free:
            started_s = self._clock.now()
            texts = self._texts(jobs)
            took_s = self._clock.now() - started_s
        return [
            hypothesis(job, text, took_s, len(jobs)) for job, text in zip(jobs, texts, strict=True)
        ]

    def _texts(self, jobs: Sequence[Job]) -> list[Text]:
        if len(jobs) == 1:
            return [self._engine.transcribe(jobs[0].audio, jobs[0].language)]
        return self._engine.transcribe_batch([job.audio for job in jobs], jobs[0].language)


def hypothesis(job: Job, text: Text, took_s: float, batch_size: int) -> Hypothesis:
    """What the server would have been told; all of the time counts as decoding."""
    return Hypothesis(
        text=text.text,
        audio_s=len(job.audio) / SAMPLE_RATE_HZ,
        queue_wait_s=0.0,
        features_s=0.0,
        encode_s=0.0,
        decode_s=took_s,
        batch_size=batch_size,
        tokens=len(text.text.split()),
        guards=text.guards,
    )


def jobs_of(audios: Sequence[AudioArray], language: str | None) -> list[Job]:
    """Finals of as many utterances, nobody's in particular."""
    return [
        Job("bench", str(number), JobKind.FINAL, 0, audio, 0.0, language)
        for number, audio in enumerate(audios)
    ]
