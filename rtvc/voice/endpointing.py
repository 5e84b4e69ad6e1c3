"""Deciding that an utterance has begun and that it is over: VAD judgements in, decisions out.

    prob   ______/‾‾‾‾‾‾‾‾\\__/‾‾‾‾‾‾\\__________________
                 | onset    | pause | last speech frame
                 SpeechBegan| Resumed| Paused ... Ended
                                     |<- silence ->|

How long the silence must be is fixed, or depends on the text so far, or on a turn model's judgement
of the pause (Decision.JUDGE asks for it).

Pure: it sees samples counted from the start of the session, never a clock.
"""

from dataclasses import dataclass
from enum import Enum, auto

SAMPLE_RATE_HZ = 16_000

_UNFINISHED_ENDINGS = ("...", "…", "-")
_FINISHED_ENDINGS = (".", "?", "!", "。", "？", "！")
_CLAUSE_OPENERS = frozenset(
    {"although", "because", "before", "if", "unless", "when", "whenever", "while"}
)
"""English; in another language these words do no harm."""
_HYSTERESIS = 0.15
"""Speech goes on while the probability stays above threshold − 0.15 (as Silero's own iterator)."""


@dataclass(frozen=True, slots=True)
class EndpointingSettings:
    """When speech counts as begun, and as over."""

    threshold: float = 0.5
    """Probability from which a frame is speech."""
    silence_s: float | None = None
    """Silence that ends an utterance; None: 0.25 s, longer when the text says it goes on."""
    onset_s: float = 0.096
    """Speech that begins an utterance."""
    interruption_onset_s: float = 0.192
    """Speech that begins an utterance while a reply plays."""
    speculative_s: float = 0.064
    """Silence after which the final is already tried."""
    unset_silence_s: float = 0.25
    """What None in `silence_s` starts from."""
    unmarked_silence_s: float = 0.38
    """With `silence_s` None: silence when the text bears no final mark, is brief, or is a clause
    that seldom stands alone."""
    brief_words: int = 2
    """Texts of so many words are brief."""
    clause_openers: frozenset[str] = _CLAUSE_OPENERS
    """A text that begins so, and has no comma, seldom stands alone."""
    unfinished_silence_s: float = 0.6
    """With `silence_s` None: silence when the text ends in a comma or dots."""
    incomplete_silence_s: float | None = None
    """Silence that ends a turn which the turn model holds for incomplete (`silence_s` ends one that
    it holds for complete); None: no turn model is asked."""
    judge_after_s: float = 0.192
    """Silence after which the turn model is asked."""
    complete_from: float = 0.5
    """Probability from which a turn counts as complete."""
    unjudged_silence_s: float = 0.5
    """Silence that ends a turn of which the turn model gave no judgement."""
    max_utterance_s: float = 28.0
    """Longer speech is cut into a final and goes on as the next utterance."""


class Decision(Enum):
    """What a frame decided."""

    BEGAN = auto()
    """Enough speech in a row: an utterance has begun."""
    PAUSED = auto()
    """Silence long enough to try the final."""
    JUDGE = auto()
    """Silence long enough to ask whether the turn is complete."""
    RESUMED = auto()
    """Speech again: what was tried is void."""
    ENDED = auto()
    """The utterance is over."""


class _State(Enum):
    IDLE = auto()
    SPEAKING = auto()
    PAUSED = auto()


class _Turn(Enum):
    """What is known of the pause under way."""

    UNASKED = auto()
    ASKED = auto()
    COMPLETE = auto()
    INCOMPLETE = auto()
    UNJUDGED = auto()


class Endpointer:
    """Judges one session's frames in order."""

    def __init__(self, settings: EndpointingSettings) -> None:
        self.settings = settings
        self._state = _State.IDLE
        self._onset_samples = 0
        self._end_sample = 0
        self.speech_start_sample = 0
        """First sample of the utterance's speech."""
        self.speech_end_sample = 0
        """One past the last sample judged speech."""
        self.silence_start_sample: int | None = None
        """First sample judged silent after the last speech; None while speaking."""
        self._text: str | None = None
        self._text_pending = False
        self._turn = _Turn.UNASKED

    @property
    def speaking(self) -> bool:
        """Whether an utterance has begun and is not over."""
        return self._state is not _State.IDLE

    @property
    def held_up(self) -> bool:
        """Whether the turn would be over by now if the turn model had called it complete."""
        if self.settings.incomplete_silence_s is None or self._turn is not _Turn.ASKED:
            return False
        return self.speaking and self._silence_s >= (self.settings.silence_s or 0.0)

    @property
    def _silence_s(self) -> float:
        return (self._end_sample - self.speech_end_sample) / SAMPLE_RATE_HZ

    def reset(self) -> None:
        """Forget the utterance; the next speech begins a new one."""
        self._state = _State.IDLE
        self._onset_samples = 0
        self.silence_start_sample = None
        self._forget_pause()

    def _forget_pause(self) -> None:
        self._text, self._text_pending = None, False
        self._turn = _Turn.UNASKED

    def expect_text(self) -> None:
        """A hypothesis for the pause is on its way; an adaptive silence waits for it."""
        self._text, self._text_pending = None, True

    def text(self, text: str | None) -> None:
        """The hypothesis for the pause, or None if none will come."""
        self._text, self._text_pending = text, False

    def judged(self, probability: float | None) -> Decision | None:
        """The turn model's probability that the turn is complete; None: it gives none."""
        if self._turn is not _Turn.ASKED or self._state is not _State.PAUSED:
            return None
        if probability is None:
            self._turn = _Turn.UNJUDGED
        else:
            complete = probability >= self.settings.complete_from
            self._turn = _Turn.COMPLETE if complete else _Turn.INCOMPLETE
        if self._silence_s < self.required_silence_s():
            return None
        self._state = _State.IDLE
        return Decision.ENDED

    def frame(
        self, probability: float, start: int, end: int, *, reply_playing: bool = False
    ) -> Decision | None:
        """Judge the frame of samples [start, end)."""
        self._end_sample = end
        if self._state is _State.IDLE:
            return self._wait_for_onset(probability, start, end, reply_playing)
        if probability >= self.settings.threshold - _HYSTERESIS:
            return self._speech(end)
        return self._silence(start, end)

    def _wait_for_onset(
        self, probability: float, start: int, end: int, reply_playing: bool
    ) -> Decision | None:
        if probability < self.settings.threshold:
            self._onset_samples = 0
            return None
        self._onset_samples += end - start
        needed_s = self.settings.interruption_onset_s if reply_playing else self.settings.onset_s
        if self._onset_samples < round(needed_s * SAMPLE_RATE_HZ):
            return None
        self._state = _State.SPEAKING
        self.silence_start_sample = None
        self._forget_pause()
        self.speech_start_sample = end - self._onset_samples
        self.speech_end_sample = end
        self._onset_samples = 0
        return Decision.BEGAN

    def _speech(self, end: int) -> Decision | None:
        resumed = self._state is _State.PAUSED
        self._state = _State.SPEAKING
        self.speech_end_sample = end
        self.silence_start_sample = None
        self._forget_pause()
        if end - self.speech_start_sample >= self.settings.max_utterance_s * SAMPLE_RATE_HZ:
            self._state = _State.IDLE
            return Decision.ENDED
        return Decision.RESUMED if resumed else None

    def _silence(self, start: int, end: int) -> Decision | None:
        if self.silence_start_sample is None:
            self.silence_start_sample = start
        silence_s = (end - self.speech_end_sample) / SAMPLE_RATE_HZ
        if silence_s >= self.required_silence_s():
            self._state = _State.IDLE
            return Decision.ENDED
        if self._state is _State.SPEAKING and silence_s >= self.settings.speculative_s:
            self._state = _State.PAUSED
            return Decision.PAUSED
        if self._must_ask(silence_s):
            self._turn = _Turn.ASKED
            return Decision.JUDGE
        return None

    def _must_ask(self, silence_s: float) -> bool:
        """Once a pause."""
        asks = self.settings.incomplete_silence_s is not None
        return asks and self._turn is _Turn.UNASKED and silence_s >= self.settings.judge_after_s

    def required_silence_s(self) -> float:
        """Silence that ends the utterance, given what is known of the pause."""
        settings = self.settings
        if settings.incomplete_silence_s is not None:
            return self._by_turn_model(settings.incomplete_silence_s)
        if settings.silence_s is not None:
            return settings.silence_s
        return self._by_text()

    def _by_turn_model(self, incomplete_s: float) -> float:
        """While it is being asked, the turn is not called over."""
        if self._turn is _Turn.COMPLETE:
            return self.settings.silence_s or 0.0
        return self.settings.unjudged_silence_s if self._turn is _Turn.UNJUDGED else incomplete_s

    def _by_text(self) -> float:
        settings = self.settings
        if self._text_pending:
            return settings.unmarked_silence_s
        text = (self._text or "").rstrip()
        if text.endswith((",", *_UNFINISHED_ENDINGS)):
            return settings.unfinished_silence_s
        if not text or (text.endswith(_FINISHED_ENDINGS) and not self._seems_cut(text)):
            return settings.unset_silence_s
        return settings.unmarked_silence_s

    def _seems_cut(self, text: str) -> bool:
        """A recogniser that hears only the beginning of a sentence puts a full stop after it."""
        words = text.lower().split()
        # "No." and "Hello." are as often the beginning of a sentence as all of it.
        if len(words) <= self.settings.brief_words:
            return True
        # So is "If it is late.", but not "If it is late, stay."
        return words[0] in self.settings.clause_openers and "," not in text
