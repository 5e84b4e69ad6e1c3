"""The voice session: a pure state machine. Frames and hypotheses in, events out.

    feed(frame)  ── SpeechStarted ─ Transcribe(partial)* ─ Transcribe(speculative) ─ SpeechStopped
    hypothesis() ── PartialTranscript*                                             ─ FinalTranscript

It sees no socket, engine or clock: instants arrive with the frames. The caller must carry out
every `Transcribe` and bring its answer back through `hypothesis()`; so with `JudgeTurn`, which a
pause brings where a turn model decides, and `turn_judged()`.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from rtvc.voice.endpointing import Decision, Endpointer, EndpointingSettings
from rtvc.voice.local_agreement import LocalAgreement

SAMPLE_RATE_HZ = 16_000
JUDGED_S = 8.0
"""Most audio that a turn model is given."""


class Purpose(StrEnum):
    """What a transcription is for."""

    FINAL = "final"
    SPECULATIVE = "speculative"
    PARTIAL = "partial"


@dataclass(frozen=True, slots=True)
class Frame:
    """One judged slice of microphone audio."""

    audio: NDArray[np.float32]
    """16 kHz mono, shape (samples,)."""
    speech_probability: float
    """VAD's judgement; 0 where the audio is only the echo of the reply."""
    arrived_at_s: float
    """When its last sample arrived."""
    received_s: float = 0.0
    """Seconds of the session's audio that had arrived by then."""


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """An utterance has begun."""

    item_id: str
    """Its name from now on."""
    start_s: float
    """Offset in the session's audio, prefix padding included."""
    silence_s: float | None = None
    """From the end of the turn before to the first speech; None: there was none, or it was ended
    by the client or cut for its length."""


@dataclass(frozen=True, slots=True)
class Transcribe:
    """Please transcribe this and bring the answer to `VoiceSession.hypothesis`."""

    item_id: str
    """The utterance."""
    purpose: Purpose
    """Final, speculative or partial."""
    revision: int
    """Stamp to bring back with the answer."""
    audio: NDArray[np.float32]
    """16 kHz mono, shape (samples,)."""
    tried: bool = False
    """For a final: a speculative job of this revision is already under way."""


@dataclass(frozen=True, slots=True)
class JudgeTurn:
    """Please ask the turn model and bring its answer to `VoiceSession.turn_judged`."""

    item_id: str
    """The utterance."""
    revision: int
    """Stamp to bring back with the answer."""
    audio: NDArray[np.float32]
    """The utterance so far, at most its last 8 s: 16 kHz mono, shape (samples,)."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the turn model said of the pause that ended a turn, and when."""

    probability: float | None
    """That the turn is complete; None: it gave no judgement."""
    asked_at_s: float
    """When it was asked."""
    answered_at_s: float
    """When its answer came."""
    held_up_from_s: float | None
    """From when on only the missing judgement kept the turn from ending; None: it never did."""


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """The utterance is over; its final transcript follows."""

    item_id: str
    """The utterance."""
    end_s: float
    """Offset in the session's audio, silence included."""
    audio_s: float
    """Length of what was committed."""
    last_speech_s: float
    """Offset in the session's audio of the last speech sample, as VAD heard it."""
    received_s: float
    """Seconds of the session's audio that had arrived with it."""
    last_speech_at_s: float
    """When the last speech sample arrived."""
    silence_seen_at_s: float
    """When VAD judged the first silent frame."""
    decided_at_s: float
    """When the policy decided."""
    judgement: Judgement | None = None
    """The turn model's; None: it was not asked, or had not answered."""


@dataclass(frozen=True, slots=True)
class PartialTranscript:
    """The full hypothesis so far; it replaces the earlier one."""

    item_id: str
    """The utterance."""
    revision: int
    """Of the job that gave it."""
    text: str
    """All of it."""
    stable_text: str
    """Leading words that will not change."""
    new_words: tuple[str, ...]
    """Words that just became stable."""
    audio_s: float
    """Seconds of the utterance heard so far."""


@dataclass(frozen=True, slots=True)
class FinalTranscript:
    """The utterance's text; it will not change."""

    item_id: str
    """The utterance."""
    revision: int
    """Of the job that gave it."""
    text: str
    """May be empty: nothing was said."""
    audio_s: float
    """Length of what was transcribed."""


@dataclass(frozen=True, slots=True)
class TranscriptFailed:
    """The utterance has no text: transcription failed."""

    item_id: str
    """The utterance."""
    reason: str
    """One line."""


VoiceEvent = (
    SpeechStarted
    | Transcribe
    | JudgeTurn
    | SpeechStopped
    | PartialTranscript
    | FinalTranscript
    | TranscriptFailed
)


@dataclass(frozen=True, slots=True)
class VoiceSettings:
    """How one session listens."""

    endpointing: EndpointingSettings | None = field(default_factory=EndpointingSettings)
    """None: no turn detection; the client commits."""
    prefix_padding_s: float = 0.3
    """Audio kept from before speech was noticed."""
    partial_interval_s: float = 0.4
    """Audio between two partials."""
    partials: bool = True
    """Whether partials are made at all."""
    manual_limit_s: float = 300.0
    """Most audio held for a manual commit."""


class _Utterance:
    """One stretch of speech and what is known of its text."""

    def __init__(self, item_id: str, start_sample: int) -> None:
        self.item_id = item_id
        self.start_sample = start_sample
        self.revision = 0
        self.partial_at_sample = start_sample
        self.awaiting_partial = False
        self.final_revision: int | None = None
        """Revision whose answer is the final; None while the utterance goes on."""
        self.tried: dict[int, str | None] = {}
        """Speculative answers by revision; None while under way."""
        self.agreement = LocalAgreement()
        self.audio_s = 0.0
        self.judge_asked_at_s = 0.0
        self.held_up_from_s: float | None = None
        self.judgement: Judgement | None = None


class VoiceSession:
    """Audio and time in, events out; see the module text."""

    def __init__(self, settings: VoiceSettings, new_item_id: Callable[[], str]) -> None:
        self.settings = settings
        self.advised_interval_s = 0.0
        """Set by the caller: partials come no closer than this, whatever the settings say."""
        self._new_item_id = new_item_id
        self._frames: deque[Frame] = deque()
        self._first_sample = 0
        self._end_sample = 0
        self._endpointer = Endpointer(settings.endpointing or EndpointingSettings())
        self._current: _Utterance | None = None
        self._finishing: dict[str, _Utterance] = {}
        self._last_speech_at_s = self._last_speech_s = self._received_s = 0.0
        self._silence_seen_at_s: float | None = None
        self._floor_sample = 0
        self._ended_sample: int | None = None

    @property
    def audio_s(self) -> float:
        """Seconds of audio fed since the session began."""
        return self._end_sample / SAMPLE_RATE_HZ

    @property
    def held_s(self) -> float:
        """Seconds of audio held in memory."""
        return (self._end_sample - self._first_sample) / SAMPLE_RATE_HZ

    @property
    def speaking(self) -> bool:
        """Whether an utterance is going on."""
        return self._current is not None

    @property
    def unfinished(self) -> bool:
        """Whether a transcript is still owed: of someone speaking, of an utterance that is over,
        or, without turn detection, of audio that nobody has committed yet.
        """
        return self.speaking or bool(self._finishing) or self.uncommitted

    @property
    def uncommitted(self) -> bool:
        """Whether audio waits for the client's commit; always False with turn detection."""
        held = max(self._first_sample, self._floor_sample) < self._end_sample
        return held and self.settings.endpointing is None

    def configure(self, settings: VoiceSettings) -> None:
        """Change the settings; an utterance under way keeps its audio."""
        self.settings = settings
        if settings.endpointing is not None:
            self._endpointer.settings = settings.endpointing
        else:
            self._current = None
            self._endpointer.reset()

    def feed(self, frame: Frame, now_s: float, *, reply_playing: bool = False) -> list[VoiceEvent]:
        """Take the next frame of microphone audio, judged at `now_s`."""
        start = self._end_sample
        self._frames.append(frame)
        self._end_sample += len(frame.audio)
        if self.settings.endpointing is None:
            self._trim(self.settings.manual_limit_s)
            return []
        self._endpointer.settings = self.settings.endpointing
        decision = self._endpointer.frame(
            frame.speech_probability, start, self._end_sample, reply_playing=reply_playing
        )
        self._note_instants(frame, now_s)
        events = self._decided(decision, now_s)
        self._note_hold_up(now_s)
        if self._current is None:
            needed_s = self.settings.prefix_padding_s + self.settings.endpointing.onset_s + 0.2
            self._trim(needed_s)
        return events

    def commit(self, now_s: float) -> list[VoiceEvent]:
        """The client says the utterance is over.

        With turn detection on, what was held since the last utterance is committed.
        Returns no event if there is no audio at all.
        """
        # What the last utterance took is not committed again.
        start = max(self._first_sample, self._floor_sample)
        if start >= self._end_sample:
            return []
        if self._current is None:
            self._current = _Utterance(self._new_item_id(), start)
        self._last_speech_at_s = self._silence_seen_at_s = now_s
        self._last_speech_s = self.audio_s
        self._endpointer.reset()
        self._ended_sample = None
        events = self._end(now_s, self._end_sample)
        self._drop_before(self._end_sample)
        return events

    def clear(self) -> None:
        """Throw away what was heard and not committed."""
        self._current = None
        self._endpointer.reset()
        self._drop_before(self._end_sample)

    def hypothesis(
        self, item_id: str, purpose: Purpose, revision: int, text: str | None
    ) -> list[VoiceEvent]:
        """The answer to a `Transcribe`; None if it was superseded or cancelled."""
        utterance = self._find(item_id)
        if utterance is None:
            return []
        if purpose is Purpose.PARTIAL:
            utterance.awaiting_partial = False
        if utterance.final_revision is not None:
            return self._finish(utterance, purpose, revision, text)
        if revision != utterance.revision and purpose is Purpose.SPECULATIVE:
            utterance.tried.pop(revision, None)
        elif purpose is Purpose.SPECULATIVE:
            self._endpointer.text(text)
            if text is None:
                utterance.tried.pop(revision, None)
            else:
                utterance.tried[revision] = text
        if text is None:
            return []
        return [self._partial(utterance, revision, text)]

    def turn_judged(
        self, item_id: str, revision: int, probability: float | None, now_s: float
    ) -> list[VoiceEvent]:
        """The answer to a `JudgeTurn`; None: none can be had."""
        utterance = self._current
        if utterance is None or (utterance.item_id, utterance.revision) != (item_id, revision):
            return []
        decision = self._endpointer.judged(probability)
        held_up_from_s = utterance.held_up_from_s if decision is Decision.ENDED else None
        utterance.judgement = Judgement(
            probability, utterance.judge_asked_at_s, now_s, held_up_from_s
        )
        return [] if decision is None else self._decided(decision, now_s)

    def failed(
        self, item_id: str, purpose: Purpose, revision: int, reason: str
    ) -> list[VoiceEvent]:
        """A `Transcribe` failed for good."""
        utterance = self._find(item_id)
        if utterance is None:
            return []
        if purpose is Purpose.FINAL:
            del self._finishing[item_id]
            return [TranscriptFailed(item_id, reason)]
        return self.hypothesis(item_id, purpose, revision, None)

    def _find(self, item_id: str) -> _Utterance | None:
        if self._current is not None and self._current.item_id == item_id:
            return self._current
        return self._finishing.get(item_id)

    def _note_instants(self, frame: Frame, now_s: float) -> None:
        if self._endpointer.silence_start_sample is None:
            self._last_speech_at_s, self._last_speech_s = frame.arrived_at_s, self.audio_s
            self._received_s = frame.received_s
            self._silence_seen_at_s = None
        elif self._silence_seen_at_s is None:
            self._silence_seen_at_s = now_s

    def _decided(self, decision: Decision | None, now_s: float) -> list[VoiceEvent]:
        if decision is Decision.BEGAN:
            return self._begin()
        if self._current is None:
            return []
        if decision is Decision.ENDED:
            paused = self._endpointer.silence_start_sample is not None
            self._ended_sample = self._end_sample if paused else None
            return self._end(now_s, self._end_sample)
        if decision is Decision.PAUSED:
            return self._try_final()
        if decision is Decision.JUDGE:
            return self._ask_turn_model(now_s)
        if decision is Decision.RESUMED:
            self._current.revision += 1
            self._current.judgement = self._current.held_up_from_s = None
        return self._partial_when_due()

    def _note_hold_up(self, now_s: float) -> None:
        utterance = self._current
        if utterance is not None and utterance.held_up_from_s is None and self._endpointer.held_up:
            utterance.held_up_from_s = now_s

    def _begin(self) -> list[VoiceEvent]:
        padding = round(self.settings.prefix_padding_s * SAMPLE_RATE_HZ)
        start = max(
            self._first_sample, self._floor_sample, self._endpointer.speech_start_sample - padding
        )
        self._current = _Utterance(self._new_item_id(), start)
        self._drop_before(start)
        ended, self._ended_sample = self._ended_sample, None
        speech = self._endpointer.speech_start_sample
        silence_s = None if ended is None else (speech - ended) / SAMPLE_RATE_HZ
        return [SpeechStarted(self._current.item_id, start / SAMPLE_RATE_HZ, silence_s)]

    def _try_final(self) -> list[VoiceEvent]:
        assert self._current is not None
        utterance = self._current
        utterance.revision += 1
        utterance.tried[utterance.revision] = None
        self._endpointer.expect_text()
        audio = self._audio(utterance.start_sample, self._end_sample)
        return [
            Transcribe(utterance.item_id, Purpose.SPECULATIVE, utterance.revision, audio),
        ]

    def _ask_turn_model(self, now_s: float) -> list[VoiceEvent]:
        assert self._current is not None
        utterance = self._current
        utterance.judge_asked_at_s = now_s
        longest = self._end_sample - round(JUDGED_S * SAMPLE_RATE_HZ)
        audio = self._audio(max(utterance.start_sample, longest), self._end_sample)
        return [JudgeTurn(utterance.item_id, utterance.revision, audio)]

    def _partial_when_due(self) -> list[VoiceEvent]:
        assert self._current is not None
        utterance = self._current
        interval_s = max(self.settings.partial_interval_s, self.advised_interval_s)
        interval = round(interval_s * SAMPLE_RATE_HZ)
        due = self._end_sample - utterance.partial_at_sample >= interval
        pausing = self._endpointer.silence_start_sample is not None
        if not self.settings.partials or not due or pausing or utterance.awaiting_partial:
            return []
        utterance.awaiting_partial = True
        utterance.partial_at_sample = self._end_sample
        utterance.revision += 1
        audio = self._audio(utterance.start_sample, self._end_sample)
        return [Transcribe(utterance.item_id, Purpose.PARTIAL, utterance.revision, audio)]

    def _end(self, now_s: float, end_sample: int) -> list[VoiceEvent]:
        assert self._current is not None
        utterance, self._current = self._current, None
        # The next utterance's padding must not repeat this one's last word.
        silent = self._endpointer.silence_start_sample
        self._floor_sample = end_sample if silent is None else silent
        audio = self._audio(utterance.start_sample, end_sample)
        utterance.audio_s = len(audio) / SAMPLE_RATE_HZ
        self._finishing[utterance.item_id] = utterance
        stopped = SpeechStopped(
            utterance.item_id,
            end_sample / SAMPLE_RATE_HZ,
            utterance.audio_s,
            self._last_speech_s,
            max(self._received_s, self._last_speech_s),
            self._last_speech_at_s,
            now_s if self._silence_seen_at_s is None else self._silence_seen_at_s,
            now_s,
            utterance.judgement,
        )
        return [stopped, *self._ask_final(utterance, audio)]

    def _ask_final(self, utterance: _Utterance, audio: NDArray[np.float32]) -> list[VoiceEvent]:
        """Use what was tried at the first silence, if speech did not resume since."""
        known = utterance.revision in utterance.tried
        text = utterance.tried.get(utterance.revision)
        if not known:
            utterance.revision += 1
        utterance.final_revision = utterance.revision
        if text is not None:
            return [self._final(utterance, text)]
        request = Transcribe(
            utterance.item_id, Purpose.FINAL, utterance.revision, audio, tried=known
        )
        return [request]

    def _finish(
        self, utterance: _Utterance, purpose: Purpose, revision: int, text: str | None
    ) -> list[VoiceEvent]:
        if revision != utterance.final_revision or purpose is Purpose.PARTIAL:
            return []
        if text is not None:
            return [self._final(utterance, text)]
        if purpose is Purpose.SPECULATIVE:
            return []
        del self._finishing[utterance.item_id]
        return [TranscriptFailed(utterance.item_id, "the transcription was cancelled")]

    def _final(self, utterance: _Utterance, text: str) -> FinalTranscript:
        self._finishing.pop(utterance.item_id, None)
        assert utterance.final_revision is not None
        return FinalTranscript(utterance.item_id, utterance.final_revision, text, utterance.audio_s)

    def _partial(self, utterance: _Utterance, revision: int, text: str) -> PartialTranscript:
        fresh = utterance.agreement.update(text)
        stable = " ".join(utterance.agreement.stable)
        audio_s = (self._end_sample - utterance.start_sample) / SAMPLE_RATE_HZ
        return PartialTranscript(utterance.item_id, revision, text, stable, fresh, audio_s)

    def _audio(self, start: int, end: int) -> NDArray[np.float32]:
        held = [frame.audio for frame in self._frames]
        audio = np.concatenate(held) if held else np.zeros(0, np.float32)
        return audio[start - self._first_sample : end - self._first_sample]

    def _trim(self, keep_s: float) -> None:
        self._drop_before(self._end_sample - round(keep_s * SAMPLE_RATE_HZ))

    def _drop_before(self, sample: int) -> None:
        while self._frames and self._first_sample + len(self._frames[0].audio) <= sample:
            self._first_sample += len(self._frames.popleft().audio)
