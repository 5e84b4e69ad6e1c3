"""Whole files beside live sessions: a process of its own, at the lowest priority, while needed.

Live turns are short and wait for nobody; a file is long and can wait. So files never queue with
turns: they have a second copy of the model in a process that the operating system runs only with
what the live engine leaves over. It is started by the first file and ended when files stop coming.
Files go through it part by part, so that several of them share it.
"""

import asyncio
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rtvc.clock import Clock
from rtvc.errors import ModelError, TranscriberError
from rtvc.stt.guards import RawAnswer, compression_ratio, guarded, is_silent
from rtvc.stt.models import ResolvedModel, resolve_model
from rtvc.stt.pocketsphinx import PocketSphinxTranscriber
from rtvc.stt.process_engine import EnginePlan, ProcessEngine
from rtvc.stt.scripted import ScriptedTranscriber
from rtvc.stt.synthetic import TEXT, read_card
from rtvc.stt.tickets import Limits
from rtvc.stt.transcriber import (
    SAMPLE_RATE_HZ,
    AudioArray,
    Hypothesis,
    Job,
    ReportProgress,
    Transcriber,
)
from rtvc.stt.whisper import (
    MAX_TOKENS,
    chosen_compute_type,
    chosen_device,
    pieces,
)

PART_S = 60
"""Longest part of a file that is transcribed at a time, about."""
WINDOW_S = 28.0
"""Longest stretch given to the model at once; two seconds are left for its padding."""
PAUSE_MS = 400
"""A pause that ends a piece."""
PADDING_MS = 200
"""Kept around what voice activity detection finds."""
IDLE_S = 60.0
"""After so long without a file the process is ended and its memory given back."""
HANG_AFTER_S = 600.0
"""No part takes longer, on a machine that live sessions leave nothing of."""
LOWEST_PRIORITY = 19
"""Niceness: what nobody else wants of the processor. Linux counts it by thread: it is set by the
thread that loads, and those of the model and of the workers, which that one starts, inherit it."""
MAX_TEXT_TOKENS = 440
"""Of a window, those of its prompt left out."""
_USABLE = ("ready", "restarting")


@dataclass(frozen=True, slots=True)
class Word:
    """One word and when it was said."""

    text: str
    """As written, without the space before it."""
    start_s: float
    """In the file."""
    end_s: float
    """In the file."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a file and what was said in it."""

    start_s: float
    """In the file."""
    end_s: float
    """In the file."""
    text: str
    """Stripped."""
    tokens: tuple[int, ...] = ()
    """As decoded; empty where a model has none."""
    avg_logprob: float = 0.0
    """Mean log probability per token; 0 where a model has none."""
    compression_ratio: float = 1.0
    """Length of the text ÷ its length compressed."""
    no_speech_prob: float = 0.0
    """Model's belief that nothing was said."""
    words: tuple[Word, ...] = ()
    """Only if asked for."""


@dataclass(frozen=True, slots=True)
class FileJob(Job):
    """One part of a file."""

    offset_s: float = 0.0
    """Where the part begins in its file."""
    words: bool = False
    """Whether each word's time is wanted."""
    temperature: float = 0.0
    """0: the most likely text; more: drawn by lot."""


@dataclass(frozen=True, slots=True)
class FileHypothesis(Hypothesis):
    """What was said in one part of a file."""

    segments: tuple[Segment, ...] = ()
    """In order; those without text are left out."""
    language: str | None = None
    """ISO-639-1, as asked for or detected; None: nothing was said."""


def parts(audio: AudioArray) -> Iterator[tuple[float, AudioArray]]:
    """The file in parts, each with its offset in seconds, cut where it is quiet."""
    at = 0
    for part in pieces(audio, PART_S):
        yield at / SAMPLE_RATE_HZ, part
        at += len(part)


# In the process


class BatchedWhisper:
    """faster-whisper's batched pipeline over what voice activity detection finds."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        device: str = "auto",
        compute_type: str = "auto",
        long_windows: bool = True,
        suppress_blank: bool = True,
        niceness: int = LOWEST_PRIORITY,
    ) -> None:
        """`long_windows`: several utterances in one window, told apart by timestamps."""
        self.device = device
        self.compute_type: str | None = compute_type
        self._path = path
        self._clock = clock
        self._long_windows = long_windows
        self._suppress_blank = suppress_blank
        self._niceness = niceness
        self._pipeline: Any = None

    def load(self) -> None:
        import ctranslate2  # heavy, and only this process needs it
        from faster_whisper import BatchedInferencePipeline, WhisperModel

        if self._niceness:
            os.nice(self._niceness)
        self.device = chosen_device(ctranslate2, self.device)
        self.compute_type = chosen_compute_type(
            ctranslate2, self.device, self.compute_type or "auto"
        )
        try:
            model = WhisperModel(
                str(self._path), device=self.device, compute_type=self.compute_type, cpu_threads=1
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise ModelError(f"expected a Whisper model in {self._path}, got: {error}") from error
        self._pipeline = BatchedInferencePipeline(model)

    def warm_up(self, report: ReportProgress) -> None:
        """The first part of a file is in no hurry."""
        report(1.0, "ready for files")

    def transcribe(self, jobs: Sequence[Job]) -> list[Hypothesis]:
        return [self._one(job) for job in jobs]

    def _one(self, job: Job) -> FileHypothesis:
        started_s = self._clock.now()
        wanted = job if isinstance(job, FileJob) else _plain_file_job(job)
        clips = spoken(job.audio, longest_s=WINDOW_S if self._long_windows else None)
        found, language = self._segments(wanted, clips) if clips else ([], None)
        return FileHypothesis(
            text=" ".join(segment.text for segment in found),
            audio_s=len(job.audio) / SAMPLE_RATE_HZ,
            queue_wait_s=0.0,
            features_s=0.0,
            encode_s=0.0,
            decode_s=self._clock.now() - started_s,
            batch_size=1,
            tokens=sum(len(segment.tokens) for segment in found),
            guards=() if found else ("silence",),
            segments=tuple(found),
            language=language,
        )

    def _segments(
        self, job: FileJob, clips: Sequence[tuple[float, float]]
    ) -> tuple[list[Segment], str]:
        segments, info = self._pipeline.transcribe(
            job.audio,
            language=job.language,
            initial_prompt=job.prompt,
            temperature=job.temperature,
            beam_size=1,
            batch_size=16 if self.device == "cuda" else 4,
            clip_timestamps=[{"start": start, "end": end} for start, end in clips],
            without_timestamps=not self._long_windows,
            word_timestamps=job.words,
            suppress_blank=self._suppress_blank,
            suppress_tokens=[-1] if self._suppress_blank else None,
            max_new_tokens=self._max_new_tokens(clips),
        )
        believed = (self._believed(raw, job.offset_s) for raw in segments)
        return [segment for segment in believed if segment.text], info.language

    def _max_new_tokens(self, clips: Sequence[tuple[float, float]]) -> int | None:
        """Random weights end only where they are told to; CTranslate2 decodes half of it."""
        card = read_card(self._path)
        if card is None:
            return None
        longest_s = max(end - start for start, end in clips)
        return min(2 * round(longest_s * card.tokens_per_s) + 2, MAX_TEXT_TOKENS)

    def _believed(self, raw: Any, offset_s: float) -> Segment:
        """What the guards leave of a segment, at its place in the file."""
        answer = RawAnswer(
            raw.text.strip(), len(raw.tokens), MAX_TOKENS, raw.no_speech_prob, raw.avg_logprob
        )
        return Segment(
            start_s=offset_s + raw.start,
            end_s=offset_s + raw.end,
            text=guarded(answer)[0] if read_card(self._path) is None else TEXT,
            tokens=tuple(raw.tokens),
            avg_logprob=raw.avg_logprob,
            compression_ratio=raw.compression_ratio,
            no_speech_prob=raw.no_speech_prob,
            words=tuple(
                Word(word.word.strip(), offset_s + word.start, offset_s + word.end)
                for word in raw.words or ()
            ),
        )


class PieceByPiece:
    """Any transcriber, given one utterance after the other."""

    def __init__(
        self, transcriber: Transcriber, *, clock: Clock, niceness: int = LOWEST_PRIORITY
    ) -> None:
        self.device = transcriber.device
        self.compute_type = transcriber.compute_type
        self._transcriber = transcriber
        self._clock = clock
        self._niceness = niceness

    def load(self) -> None:
        if self._niceness:
            os.nice(self._niceness)
        self._transcriber.load()

    def warm_up(self, report: ReportProgress) -> None:
        """The first part of a file is in no hurry."""
        report(1.0, "ready for files")

    def transcribe(self, jobs: Sequence[Job]) -> list[Hypothesis]:
        return [self._one(job) for job in jobs]

    def _one(self, job: Job) -> FileHypothesis:
        started_s = self._clock.now()
        wanted = job if isinstance(job, FileJob) else _plain_file_job(job)
        found = [self._segment(wanted, start, end) for start, end in spoken(job.audio)]
        told = [segment for segment in found if segment.text]
        return FileHypothesis(
            text=" ".join(segment.text for segment in told),
            audio_s=len(job.audio) / SAMPLE_RATE_HZ,
            queue_wait_s=0.0,
            features_s=0.0,
            encode_s=0.0,
            decode_s=self._clock.now() - started_s,
            batch_size=1,
            tokens=sum(len(segment.text.split()) for segment in told),
            guards=() if told else ("silence",),
            segments=tuple(told),
            language=job.language or ("en" if told else None),
        )

    def _segment(self, job: FileJob, start_s: float, end_s: float) -> Segment:
        audio = job.audio[round(start_s * SAMPLE_RATE_HZ) : round(end_s * SAMPLE_RATE_HZ)]
        answer = self._transcriber.transcribe([replace(job, audio=audio)])[0]
        return Segment(
            start_s=job.offset_s + start_s,
            end_s=job.offset_s + end_s,
            text=answer.text,
            avg_logprob=answer.avg_logprob or 0.0,
            compression_ratio=compression_ratio(answer.text),
            no_speech_prob=answer.no_speech_prob or 0.0,
        )


def _plain_file_job(job: Job) -> FileJob:
    return FileJob(
        job.session_id,
        job.item_id,
        job.kind,
        job.revision,
        job.audio,
        job.enqueued_at_s,
        job.language,
        job.prompt,
    )


def spoken(audio: AudioArray, *, longest_s: float | None = None) -> list[tuple[float, float]]:
    """Seconds at which speech begins and ends; neighbours are joined up to `longest_s`."""
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    if is_silent(audio):
        return []
    options = VadOptions(
        min_silence_duration_ms=PAUSE_MS,
        speech_pad_ms=PADDING_MS,
        max_speech_duration_s=WINDOW_S,
    )
    found = get_speech_timestamps(audio, options)
    clips = [(clip["start"] / SAMPLE_RATE_HZ, clip["end"] / SAMPLE_RATE_HZ) for clip in found]
    return clips if longest_s is None else joined(clips, longest_s)


def joined(clips: Sequence[tuple[float, float]], longest_s: float) -> list[tuple[float, float]]:
    """Neighbours joined as long as they fit into one window.

    >>> joined([(0.0, 2.0), (3.0, 9.0), (10.0, 14.0)], 10.0)
    [(0.0, 9.0), (10.0, 14.0)]
    """
    windows: list[tuple[float, float]] = []
    for start_s, end_s in clips:
        if windows and end_s - windows[-1][0] <= longest_s:
            windows[-1] = (windows[-1][0], end_s)
        else:
            windows.append((start_s, end_s))
    return windows


# In the server


class FileEngine:
    """Transcribes files with a model that another engine has settled on."""

    def __init__(
        self, *, device: str, compute_type: str, clock: Clock, idle_s: float = IDLE_S
    ) -> None:
        self._device = device
        self._compute_type = compute_type
        self._clock = clock
        self._idle_s = idle_s
        self._engine: ProcessEngine | None = None
        self._starting = asyncio.Lock()
        self._busy = 0
        self._idle: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._engine is not None

    async def transcribe(self, model: str, job: FileJob) -> FileHypothesis:
        """What was said in one part.

        Raises:
            TranscriberError: it failed, after one retry, or was closed meanwhile.
        """
        self._busy += 1
        self._rest()
        try:
            engine = await self._started(model)
            answer = await engine.transcribe(job)
        finally:
            self._busy -= 1
            self._rest()
        if not isinstance(answer, FileHypothesis):
            raise TranscriberError("the server is stopping")
        return answer

    async def close(self) -> None:
        """End the process; what is under way fails."""
        if self._idle is not None:
            self._idle.cancel()
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.close()
        await asyncio.gather(*self._closing)

    async def _started(self, model: str) -> ProcessEngine:
        async with self._starting:
            if self._engine is not None and self._engine.status.state in _USABLE:
                return self._engine
            engine = ProcessEngine(
                lambda report: self._plan(model, report),
                clock=self._clock,
                model=model,
                hang_after_s=HANG_AFTER_S,
            )
            # Known before it has started, so that closing ends it too.
            self._engine = engine
            try:
                await engine.start()
            except BaseException:
                await engine.close()
                raise
            return engine

    def _plan(self, model: str, report: ReportProgress) -> EnginePlan:
        found = resolve_model(model, device=self._device, report=report)
        limits = Limits(max_batch=1)
        return EnginePlan(self._transcriber(found), model, found.kind, limits=limits)

    def _transcriber(self, found: ResolvedModel) -> Transcriber:
        if found.path is not None:
            return BatchedWhisper(
                found.path,
                clock=self._clock,
                device=self._device,
                compute_type=self._compute_type,
                long_windows=found.kind == "whisper",
                suppress_blank=found.suppress_blank,
            )
        if found.kind == "pocketsphinx":
            return PieceByPiece(PocketSphinxTranscriber(clock=self._clock), clock=self._clock)
        return PieceByPiece(ScriptedTranscriber(), clock=self._clock)

    def _rest(self) -> None:
        """Give the memory back when no file has come for a while; not while there is one."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if not self._busy:
            self._idle = asyncio.get_running_loop().call_later(self._idle_s, self._end)

    def _end(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            task = asyncio.get_running_loop().create_task(engine.close(), name="close-files")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
