"""Whisper through faster-whisper's weights and CTranslate2's batched encoder and decoder.

faster-whisper pads every utterance to 30 s and transcribes one at a time; live turns are short
and come from many sessions. So its loader, features and tokenizer are used, and CTranslate2 is
called directly: one encoder and one decoder call per batch.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rtvc.clock import Clock
from rtvc.errors import ModelError
from rtvc.stt.guards import RawAnswer, better, doubts, guarded, is_silent
from rtvc.stt.synthetic import TEXT, TEXT_POSITIONS, Card, read_card
from rtvc.stt.transcriber import (
    SAMPLE_RATE_HZ,
    AudioArray,
    Hypothesis,
    Job,
    JobKind,
    ReportProgress,
)

EncoderContext = Literal["full", "short", "guarded"]
"""The whole window; the audio and a little more; or the latter, done over in full if doubted."""

FRAME_RATE_HZ = 100
WINDOW_S = 30
WINDOW_FRAMES = WINDOW_S * FRAME_RATE_HZ
BUCKET_FRAMES, FINE_FRAMES = 20, 400
"""Short contexts are rounded up to a multiple of the first; of twice as much above the second, and
so on with each doubling: few lengths occur (40 from 2 to 30 s), and none is more than a tenth above
what is wanted."""
LENGTHS_BUDGET_S = 60.0
"""Warming up lengths of audio begins none after that, however many are left: a large model on a CPU
would take its time, and whoever restarts a server waits for it."""
QUIET_CUT_S = 8
"""A cut through long audio is made at the quietest spot of so many last seconds of a window."""
FOREIGN_TOKENS_PER_S = 25.0
"""Languages other than English take more tokens for the same speech."""
MAX_TOKENS = 224
"""Half of Whisper's text context; the other half is for a prompt."""
SECOND_TEMPERATURE = 0.4
"""Of the one more try that a doubted final gets."""


@dataclass(slots=True)
class _Window:
    """At most 30 s of one job's audio."""

    job: int
    """Index of the job in the batch."""
    audio: AudioArray
    """16 kHz mono."""
    prompt: str | None
    """Context, or None."""
    language: str | None
    """ISO-639-1, or None: to be detected."""
    final: bool = True
    """Whether a doubted answer is worth another try."""

    @property
    def audio_s(self) -> float:
        return len(self.audio) / SAMPLE_RATE_HZ


@dataclass(slots=True)
class _Times:
    """What a batch cost; every job of the batch reports the same."""

    features_s: float = 0.0
    encode_s: float = 0.0
    decode_s: float = 0.0


class WhisperTranscriber:
    """A CTranslate2 Whisper folder behind the contract."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        device: str = "auto",
        compute_type: str = "auto",
        encoder_context: EncoderContext = "full",
        headroom_s: float = 0.5,
        least_context_s: float = 2.0,
        beam_size: int = 1,
        workers: int = 1,
        threads_per_worker: int = 1,
        max_batch: int = 4,
        tokens_per_s: float = 10.0,
        suppress_blank: bool = True,
    ) -> None:
        self.device = device
        self.compute_type: str | None = compute_type
        self._path = path
        self._clock = clock
        self._encoder_context = encoder_context
        self._headroom_frames = round(headroom_s * FRAME_RATE_HZ)
        self._least_frames = round(least_context_s * FRAME_RATE_HZ)
        self._beam_size = beam_size
        self._workers = workers
        self._threads_per_worker = threads_per_worker
        self.max_batch = max_batch
        self._tokens_per_s = tokens_per_s
        self._suppress_blank = suppress_blank
        self._whisper: Any = None
        self._synthetic: Card | None = None
        self._tokenizers: dict[str | None, Any] = {}

    def load(self) -> None:
        import ctranslate2  # heavy, and only the engine's process needs it
        from faster_whisper import WhisperModel

        self.device = chosen_device(ctranslate2, self.device)
        compute_type = chosen_compute_type(ctranslate2, self.device, self.compute_type or "auto")
        try:
            self._whisper = WhisperModel(
                str(self._path),
                device=self.device,
                compute_type=compute_type,
                cpu_threads=self._threads_per_worker,
                num_workers=self._workers,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise ModelError(f"expected a Whisper model in {self._path}, got: {error}") from error
        self.compute_type = self._whisper.model.compute_type
        self._synthetic = read_card(self._path)

    def tuned(
        self, *, workers: int, threads_per_worker: int, max_batch: int
    ) -> "WhisperTranscriber":
        """The same model, not loaded, arranged otherwise."""
        other = copy(self)
        other._workers = workers
        other._threads_per_worker = threads_per_worker
        other.max_batch = max_batch
        other._whisper = None
        other._tokenizers = {}
        return other

    def warm_up(self, report: ReportProgress) -> None:
        sizes = sorted({1, self.max_batch})
        noise = np.random.default_rng(0).normal(0, 0.05, 2 * SAMPLE_RATE_HZ).astype(np.float32)
        for number, size in enumerate(sizes):
            report(number / len(sizes), f"warming up: batch of {size}")
            jobs = [_warm_up_job(noise)] * size
            with ThreadPoolExecutor(self._workers) as pool:
                list(pool.map(self.transcribe, [jobs] * self._workers))

    def warm_up_lengths(self, audio_s: float, report: ReportProgress) -> int:
        """Bring each length of the encoder's input that audio up to `audio_s` asks for, in each
        size of batch: libraries make and keep something for each of them, such as oneDNN's code
        (`docs/measurements.md`). Begins none after `LENGTHS_BUDGET_S`.

        Returns: how many of them were left out then.
        """
        ends_s = self._clock.now() + LENGTHS_BUDGET_S
        sizes = range(1, self.max_batch + 1)
        shapes = sorted(product(self._contexts(audio_s), sizes), key=prod)
        noise = np.random.default_rng(0).normal(0, 0.05, WINDOW_S * SAMPLE_RATE_HZ)
        with ThreadPoolExecutor(self._workers) as pool:
            for number, (frames, size) in enumerate(shapes):
                if self._clock.now() > ends_s:
                    return len(shapes) - number
                detail = f"warming up: {frames / FRAME_RATE_HZ:.1f} s of context, batch of {size}"
                report(number / len(shapes), detail)
                whole = frames == WINDOW_FRAMES
                samples = SAMPLE_RATE_HZ if whole else self._longest_audio(frames)
                audio = noise[:samples].astype(np.float32)
                group = [_Window(0, audio, None, "en")] * size
                infer = partial(self._infer, group, whole=whole)
                list(pool.map(infer, [_Times() for _ in range(self._workers)]))
        return 0

    def _contexts(self, audio_s: float) -> set[int]:
        """Lengths of the encoder's input, in frames, that audio up to `audio_s` asks for."""
        if self._encoder_context == "full":
            return {WINDOW_FRAMES}
        longest = round(audio_s * FRAME_RATE_HZ) + 1
        short = {self._context_frames(frames) for frames in range(1, longest + 1)}
        return short if self._encoder_context == "short" else {*short, WINDOW_FRAMES}

    def _longest_audio(self, context_frames: int) -> int:
        """Samples of the longest audio that asks for no more context."""
        frames = max(context_frames - self._headroom_frames, BUCKET_FRAMES)
        return (frames - 1) * SAMPLE_RATE_HZ // FRAME_RATE_HZ

    def transcribe(self, jobs: Sequence[Job]) -> list[Hypothesis]:
        times = _Times()
        windows = [window for number, job in enumerate(jobs) for window in _windows(number, job)]
        answers: list[list[RawAnswer]] = [[] for _ in jobs]
        for group in self._groups(windows):
            for window, answer in zip(group, self._settled(group, times), strict=True):
                answers[window.job].append(answer)
        shared = max(len({window.job for window in windows}), 1)
        return [
            self._believed(_hypothesis(job, own, times, shared))
            for job, own in zip(jobs, answers, strict=True)
        ]

    def _believed(self, hypothesis: Hypothesis) -> Hypothesis:
        """What random weights write stands for nothing: its guards are counted, its text is not."""
        if self._synthetic is None or "silence" in hypothesis.guards:
            return hypothesis
        return replace(hypothesis, text=TEXT)

    def _groups(self, windows: Sequence[_Window]) -> Iterator[list[_Window]]:
        """Windows that CTranslate2 takes together: their prompts must be equally long."""
        by_length: dict[int, list[_Window]] = {}
        for window in windows:
            by_length.setdefault(len(self._context(window.prompt)), []).append(window)
        for group in by_length.values():
            for start in range(0, len(group), self.max_batch):
                yield group[start : start + self.max_batch]

    def _settled(self, group: Sequence[_Window], times: _Times) -> list[RawAnswer]:
        """Answers, those that are doubted done over where that may help."""
        answers = self._infer(group, times, whole=self._encoder_context == "full")
        if self._synthetic is not None:
            return answers
        if self._encoder_context == "guarded":
            doubted = [at for at, answer in enumerate(answers) if doubts(answer)]
            self._do_over(group, answers, doubted, times, step="full_context")
        doubted = [at for at, answer in enumerate(answers) if group[at].final and doubts(answer)]
        self._do_over(group, answers, doubted, times, step="second_try")
        return answers

    def _do_over(
        self,
        group: Sequence[_Window],
        answers: list[RawAnswer],
        doubted: Sequence[int],
        times: _Times,
        *,
        step: Literal["full_context", "second_try"],
    ) -> None:
        """Replace doubted answers by what more context, or another try, makes of them."""
        if not doubted:
            return
        again = [group[at] for at in doubted]
        whole = self._encoder_context != "short"
        temperature = SECOND_TEMPERATURE if step == "second_try" else 0.0
        redone = self._infer(again, times, whole=whole, temperature=temperature)
        for at, answer in zip(doubted, redone, strict=True):
            first = answers[at]
            # A short context that was doubted is not to be trusted against a full one.
            kept = answer if step == "full_context" else better(first, answer)
            answers[at] = replace(kept, steps=(*first.steps, step))

    def _infer(
        self,
        group: Sequence[_Window],
        times: _Times,
        *,
        whole: bool,
        temperature: float = 0.0,
    ) -> list[RawAnswer]:
        started_s = self._clock.now()
        features = self._features(group, whole=whole)
        features_at_s = self._clock.now()
        encoded = self._whisper.model.encode(features)
        encoded_at_s = self._clock.now()
        answers = self._decode(group, encoded, temperature)
        times.features_s += features_at_s - started_s
        times.encode_s += encoded_at_s - features_at_s
        times.decode_s += self._clock.now() - encoded_at_s
        return answers

    def _features(self, group: Sequence[_Window], *, whole: bool) -> Any:
        from faster_whisper.transcribe import get_ctranslate2_storage

        mels = [self._whisper.feature_extractor(window.audio) for window in group]
        longest = max(mel.shape[1] for mel in mels)
        frames = WINDOW_FRAMES if whole else self._context_frames(longest)
        batch = np.zeros((len(mels), mels[0].shape[0], frames), np.float32)
        for row, mel in zip(batch, mels, strict=True):
            kept = mel[:, :frames]
            row[:, : kept.shape[1]] = kept
        return get_ctranslate2_storage(batch)

    def _context_frames(self, audio_frames: int) -> int:
        return rounded_context(max(audio_frames + self._headroom_frames, self._least_frames))

    def _decode(
        self, group: Sequence[_Window], encoded: Any, temperature: float = 0.0
    ) -> list[RawAnswer]:
        prompts = self._prompts(group, encoded)
        max_tokens = self._max_tokens(group)
        results = self._whisper.model.generate(
            encoded,
            prompts,
            max_length=_max_length(len(prompts[0]), max_tokens),
            return_scores=True,
            return_no_speech_prob=True,
            suppress_blank=self._suppress_blank,
            **self._search(temperature),
        )
        return [
            self._answer(window, result, max_tokens)
            for window, result in zip(group, results, strict=True)
        ]

    def _search(self, temperature: float) -> dict[str, Any]:
        """How the most likely text is looked for; a second try draws it by lot."""
        if temperature == 0.0:
            return {"beam_size": self._beam_size}
        return {"beam_size": 1, "sampling_temperature": temperature, "sampling_topk": 0}

    def _max_tokens(self, group: Sequence[_Window]) -> int:
        """A bound from the seconds of audio: one runaway member must not hold up its batch."""
        longest_s = max(window.audio_s for window in group)
        if self._synthetic is not None:
            return max(min(round(longest_s * self._synthetic.tokens_per_s), MAX_TOKENS), 1)
        foreign = any(window.language != "en" for window in group)
        multilingual = self._whisper.model.is_multilingual
        per_s = FOREIGN_TOKENS_PER_S if multilingual and foreign else self._tokens_per_s
        return min(round(longest_s * per_s) + 10, MAX_TOKENS)

    def _answer(self, window: _Window, result: Any, max_tokens: int) -> RawAnswer:
        tokens = result.sequences_ids[0]
        text = self._tokenizer(None).decode(tokens).strip()
        # The score is a mean over the tokens without the end token, as faster-whisper has it.
        avg_logprob = result.scores[0] * len(tokens) / (len(tokens) + 1)
        return RawAnswer(
            text,
            len(tokens),
            # Random weights end where they are told to: that is no runaway.
            max_tokens + (self._synthetic is not None),
            result.no_speech_prob,
            avg_logprob,
            window.audio_s,
        )

    def _prompts(self, group: Sequence[_Window], encoded: Any) -> list[list[int]]:
        languages = self._languages(group, encoded)
        prompts = []
        for window, language in zip(group, languages, strict=True):
            tokenizer = self._tokenizer(language)
            start = [*tokenizer.sot_sequence, tokenizer.no_timestamps]
            prompts.append([*self._context(window.prompt), *start])
        return prompts

    def _languages(self, group: Sequence[_Window], encoded: Any) -> list[str | None]:
        wanted = [window.language for window in group]
        if not self._whisper.model.is_multilingual or None not in wanted:
            return wanted
        found = self._whisper.model.detect_language(encoded)
        guesses = [ranked[0][0].strip("<|>") for ranked in found]
        return [own or guess for own, guess in zip(wanted, guesses, strict=True)]

    def _tokenizer(self, language: str | None) -> Any:
        known = self._tokenizers.get(language)
        if known is None:
            from faster_whisper.tokenizer import Tokenizer

            known = Tokenizer(
                self._whisper.hf_tokenizer,
                self._whisper.model.is_multilingual,
                task="transcribe",
                language=language or "en",
            )
            self._tokenizers[language] = known
        return known

    def _context(self, prompt: str | None) -> list[int]:
        """Tokens that come before the transcript's own."""
        if not prompt:
            return []
        tokenizer = self._tokenizer(None)
        tokens = tokenizer.encode(" " + prompt.strip())
        return [tokenizer.sot_prev, *tokens[-(MAX_TOKENS - 1) :]]


def rounded_context(frames: int) -> int:
    """The least length of the encoder's input, in frames, that holds so many.

    >>> [rounded_context(frames) for frames in (195, 200, 201, 401, 801, 2900)]
    [200, 200, 220, 440, 880, 3000]
    """
    bucket = BUCKET_FRAMES
    while frames > bucket * FINE_FRAMES // BUCKET_FRAMES:
        bucket *= 2
    return min(-(-frames // bucket) * bucket, WINDOW_FRAMES)


def chosen_device(ctranslate2: Any, wanted: str) -> str:
    """Where to run: as asked for, or on the GPU if there is one.

    Raises:
        ModelError: there is no such device.
    """
    present = ctranslate2.get_cuda_device_count() > 0
    if wanted == "auto":
        return "cuda" if present else "cpu"
    if wanted not in ("cpu", "cuda"):
        raise ModelError(f'expected device "auto", "cpu" or "cuda", got "{wanted}"')
    if wanted == "cuda" and not present:
        raise ModelError(
            'expected a CUDA device for device "cuda", found none; use "cpu" or "auto"'
        )
    return wanted


def chosen_compute_type(ctranslate2: Any, device: str, wanted: str) -> str:
    """As asked for, or what is fastest there.

    Raises:
        ModelError: the device does not have it.
    """
    supported = ctranslate2.get_supported_compute_types(device)
    if wanted == "auto":
        return "float16" if device == "cuda" and "float16" in supported else "int8"
    if wanted not in supported:
        names = ", ".join(sorted(supported))
        raise ModelError(
            f'expected a compute type this {device} supports ({names}), got "{wanted}"'
        )
    return wanted


def _max_length(prompt_tokens: int, max_tokens: int) -> int:
    """What to ask of CTranslate2, which decodes half of it at most, and less of a long prompt."""
    wanted = max(min(max_tokens, TEXT_POSITIONS - prompt_tokens), 1)
    return max(prompt_tokens + wanted, 2 * wanted)


def _warm_up_job(audio: AudioArray) -> Job:
    return Job("warm-up", "warm-up", JobKind.FINAL, 0, audio, 0.0, language="en")


def _windows(number: int, job: Job) -> Iterator[_Window]:
    """The job's audio in pieces of at most 30 s; nothing of a silent one."""
    if is_silent(job.audio):
        return
    final = job.kind is not JobKind.PARTIAL
    cut = list(pieces(job.audio))
    for piece in cut:
        if len(cut) == 1 or not is_silent(piece):
            yield _Window(number, piece, job.prompt, job.language, final)


def pieces(audio: AudioArray, longest_s: int = WINDOW_S) -> Iterator[AudioArray]:
    """At most so long each, cut where it is quietest."""
    window = longest_s * SAMPLE_RATE_HZ
    while len(audio) > window:
        cut = _quietest(audio[:window])
        yield audio[:cut]
        audio = audio[cut:]
    yield audio


def _quietest(audio: AudioArray) -> int:
    """Sample in the middle of the quietest 200 ms near the end."""
    step = SAMPLE_RATE_HZ // 10
    first = len(audio) - QUIET_CUT_S * SAMPLE_RATE_HZ
    power: NDArray[np.float64] = np.mean(
        np.square(audio[first:], dtype=np.float64).reshape(-1, step), axis=1
    )
    pairs = power[:-1] + power[1:]
    return first + (int(pairs.argmin()) + 1) * step


def _hypothesis(job: Job, answers: Sequence[RawAnswer], times: _Times, shared: int) -> Hypothesis:
    texts: list[str] = []
    guards: list[str] = []
    for answer in answers:
        text, fired = guarded(answer)
        texts.append(text)
        guards += fired
    return Hypothesis(
        text=" ".join(filter(None, texts)),
        audio_s=len(job.audio) / SAMPLE_RATE_HZ,
        queue_wait_s=0.0,
        features_s=times.features_s,
        encode_s=times.encode_s,
        decode_s=times.decode_s,
        batch_size=shared,
        tokens=sum(answer.tokens for answer in answers),
        no_speech_prob=min((a.no_speech_prob or 0.0 for a in answers), default=None),
        avg_logprob=min((a.avg_logprob or 0.0 for a in answers), default=None),
        guards=tuple(dict.fromkeys(guards)) if answers else ("silence",),
    )
