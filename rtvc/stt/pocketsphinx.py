"""PocketSphinx: transcribes people without any download: US English, far less exact than Whisper.

It decodes while people speak: each utterance has a decoder that is given only what is new, so that
a partial costs no more than the audio since the one before, and a final next to nothing. A decoder
takes some 95 MB; where there are more speakers than decoders, the others' utterances are decoded
from their start each time. Its decoder holds the GIL, so the engine runs it with one worker.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rtvc.audio import float_to_pcm16
from rtvc.clock import Clock
from rtvc.errors import ModelError
from rtvc.stt.guards import is_silent
from rtvc.stt.transcriber import (
    SAMPLE_RATE_HZ,
    AudioArray,
    Hypothesis,
    Job,
    JobKind,
    ReportProgress,
)

MAX_STREAMS = 6
"""Utterances decoded while they are spoken."""
ABANDONED_S = 5.0
"""An utterance that nobody asked about for so long gives up its decoder."""


@dataclass(slots=True)
class _Stream:
    """An utterance under way."""

    item_id: str
    """The utterance."""
    decoder: Any
    """Has been given all audio so far."""
    given: AudioArray
    """That audio."""
    asked_at_s: float
    """When it was last asked about."""

    def continues(self, job: Job) -> bool:
        """Whether a job's audio is this one's and more."""
        count = len(self.given)
        if job.item_id != self.item_id or len(job.audio) < count:
            return False
        return bool(np.array_equal(job.audio[:count], self.given))


class PocketSphinxTranscriber:
    """A decoder for each of the utterances under way, one more for everything else."""

    def __init__(self, *, clock: Clock, max_streams: int = MAX_STREAMS) -> None:
        self.device = "cpu"
        self.compute_type: str | None = None
        self._clock = clock
        self._max_streams = max_streams
        self._streams: dict[str, _Stream] = {}
        self._idle: list[Any] = []
        self._spare: Any = None
        self._fresh_cmn = ""
        # Made by load(): a lock does not travel to the engine's process.
        self._decoding: threading.Lock | None = None

    def load(self) -> None:
        self._spare = new_decoder()
        self._fresh_cmn = self._spare.get_cmn(False)
        self._decoding = threading.Lock()

    def warm_up(self, report: ReportProgress) -> None:
        report(0.0, "warming up")
        noise = np.random.default_rng(0).normal(0, 0.01, SAMPLE_RATE_HZ).astype(np.float32)
        self._begin(self._spare)
        _give(self._spare, noise)
        _end(self._spare)

    def transcribe(self, jobs: Sequence[Job]) -> list[Hypothesis]:
        if self._decoding is None:
            raise ModelError("expected load() before transcribe()")
        with self._decoding:
            return [self._one(job) for job in jobs]

    def _one(self, job: Job) -> Hypothesis:
        started_s = self._clock.now()
        silent = is_silent(job.audio)
        text = "" if silent else self._text(job)
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

    def _text(self, job: Job) -> str:
        stream = self._stream(job)
        if stream is None:
            self._begin(self._spare)
            _give(self._spare, job.audio)
            return _end(self._spare)
        _give(stream.decoder, job.audio[len(stream.given) :])
        stream.given, stream.asked_at_s = job.audio, self._clock.now()
        if job.kind is not JobKind.FINAL:
            # The speaker may go on.
            return _said(stream.decoder)
        return self._ended(job.session_id)

    def _stream(self, job: Job) -> _Stream | None:
        """The job's utterance under way; None: it is decoded from its start."""
        stream = self._streams.get(job.session_id)
        if stream is not None and stream.continues(job):
            return stream
        if stream is not None:
            self._ended(job.session_id)
        return self._new_stream(job) if job.kind is JobKind.PARTIAL else None

    def _new_stream(self, job: Job) -> _Stream | None:
        decoder = self._free_decoder()
        if decoder is None:
            return None
        self._begin(decoder)
        nothing = np.zeros(0, np.float32)
        stream = _Stream(job.item_id, decoder, nothing, self._clock.now())
        self._streams[job.session_id] = stream
        return stream

    def _free_decoder(self) -> Any:
        if not self._idle:
            self._give_up_abandoned()
        if self._idle:
            return self._idle.pop()
        return new_decoder() if len(self._streams) < self._max_streams else None

    def _give_up_abandoned(self) -> None:
        now_s = self._clock.now()
        for session_id, stream in [*self._streams.items()]:
            if now_s - stream.asked_at_s > ABANDONED_S:
                self._ended(session_id)

    def _ended(self, session_id: str) -> str:
        """What was said in an utterance; its decoder is free for another."""
        stream = self._streams.pop(session_id)
        self._idle.append(stream.decoder)
        return _end(stream.decoder)

    def _begin(self, decoder: Any) -> None:
        # What it learnt of one voice must not colour the next one's text.
        decoder.set_cmn(self._fresh_cmn)
        decoder.start_utt()


def new_decoder() -> Any:
    """One more decoder over the model that comes with the package.

    Raises:
        ModelError: the model is not there.
    """
    from pocketsphinx import Decoder  # only the engine's process needs it

    try:
        # One pass: the other two are run over the whole utterance at its end, and on recordings
        # of people they changed no word error rate.
        return Decoder(
            samprate=float(SAMPLE_RATE_HZ),
            cmn="live",
            fwdflat=False,
            bestpath=False,
            loglevel="FATAL",
        )
    except RuntimeError as error:
        raise ModelError(f"expected PocketSphinx's US English model, got: {error}") from error


def _give(decoder: Any, audio: AudioArray) -> None:
    if len(audio):
        decoder.process_raw(float_to_pcm16(audio), no_search=False, full_utt=False)


def _said(decoder: Any) -> str:
    hypothesis = decoder.hyp()
    return "" if hypothesis is None else str(hypothesis.hypstr).strip()


def _end(decoder: Any) -> str:
    decoder.end_utt()
    return _said(decoder)
