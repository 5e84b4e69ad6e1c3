"""PocketSphinx: transcribes people without any download: US English, far less exact than Whisper.

Its decoder holds the GIL, so the engine runs it with one worker.
"""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from rtvc.audio import float_to_pcm16
from rtvc.clock import Clock
from rtvc.errors import ModelError
from rtvc.stt.guards import is_silent
from rtvc.stt.transcriber import SAMPLE_RATE_HZ, AudioArray, Hypothesis, Job, ReportProgress


class PocketSphinxTranscriber:
    """One decoder per thread; whole utterances, one after the other."""

    def __init__(self, *, clock: Clock) -> None:
        self.device = "cpu"
        self.compute_type: str | None = None
        self._clock = clock
        self._own: threading.local | None = None

    def load(self) -> None:
        """Only proves that the model is there; each thread loads its own decoder."""
        self._own = threading.local()
        self._own.decoder = self._new_decoder()

    def warm_up(self, report: ReportProgress) -> None:
        report(0.0, "warming up")
        noise = np.random.default_rng(0).normal(0, 0.01, SAMPLE_RATE_HZ).astype(np.float32)
        self._decode(noise)

    def transcribe(self, jobs: Sequence[Job]) -> list[Hypothesis]:
        return [self._one(job) for job in jobs]

    def _one(self, job: Job) -> Hypothesis:
        started_s = self._clock.now()
        silent = is_silent(job.audio)
        text = "" if silent else self._decode(job.audio)
        return Hypothesis(
            text=text,
            audio_s=len(job.audio) / SAMPLE_RATE_HZ,
            queue_wait_s=0.0,
            features_s=0.0,
            encode_s=0.0,
            decode_s=self._clock.now() - started_s,
            batch_size=1,
            tokens=len(text.split()),
            guards=("silence",) if silent else (),
        )

    def _decode(self, audio: AudioArray) -> str:
        decoder = self._decoder()
        decoder.start_utt()
        decoder.process_raw(float_to_pcm16(audio), no_search=False, full_utt=True)
        decoder.end_utt()
        hypothesis = decoder.hyp()
        return "" if hypothesis is None else str(hypothesis.hypstr).strip()

    def _decoder(self) -> Any:
        if self._own is None:
            raise ModelError("expected load() before transcribe()")
        if not hasattr(self._own, "decoder"):
            self._own.decoder = self._new_decoder()
        return self._own.decoder

    def _new_decoder(self) -> Any:
        from pocketsphinx import Decoder  # only the engine's process needs it

        try:
            # Normalising over the utterance keeps one session's voice out of the next one's text.
            return Decoder(samprate=float(SAMPLE_RATE_HZ), cmn="batch", loglevel="FATAL")
        except RuntimeError as error:
            raise ModelError(f"expected PocketSphinx's US English model, got: {error}") from error
