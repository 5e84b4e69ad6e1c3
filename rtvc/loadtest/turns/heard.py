"""What a server made of what it heard, as it comes: items it took for utterances, and replies."""

from dataclasses import dataclass, field

from rtvc.loadtest.turns.playback import Playback

MOST_TEXTS = 400
"""Changes of one item's text that are kept; of more, the last."""

BURST_S = 0.05
"""Messages with text that come closer together than this are one text for whoever reads."""


@dataclass(slots=True)
class Item:
    """One stretch of audio the server took for an utterance."""

    item_id: str
    """As the server named it."""
    utterance: int | None
    """Index of the utterance it belongs to; None if nothing had been said yet."""
    first_partial_at_s: float | None = None
    """First partial or final holding text."""
    final_at_s: float | None = None
    """Its final transcript; None so far."""
    text: str = ""
    """The final transcript."""
    failed: bool = False
    """The server gave it up."""
    superseded: bool = False
    """Its text may have changed and has come as a final of its own."""
    end_s: float | None = None
    """Position in the audio at which its text ends; None if the server did not say."""
    shown_at_s: list[float] = field(default_factory=list)
    """When text became visible, each burst of messages once."""
    texts: list[tuple[float, str]] = field(default_factory=list)
    """(when, all of its text that was to be read from then on), each change once."""

    @property
    def open(self) -> bool:
        return self.final_at_s is None and not (self.failed or self.superseded)

    def show(self, at_s: float, text: str) -> None:
        """Text of it was received; `text` is all that is to be read of it now."""
        if self.first_partial_at_s is None:
            self.first_partial_at_s = at_s
        if not self.shown_at_s or at_s - self.shown_at_s[-1] > BURST_S:
            self.shown_at_s.append(at_s)
        self._change(at_s, text)

    def hide(self, at_s: float) -> None:
        """Its text is to be read no more: it stands elsewhere now."""
        self._change(at_s, "")

    def _change(self, at_s: float, text: str) -> None:
        if len(self.texts) >= MOST_TEXTS:
            self.texts.pop()
        if text != (self.texts[-1][1] if self.texts else ""):
            self.texts.append((at_s, text))


@dataclass(slots=True)
class Reply:
    """One reply as it came."""

    response_id: str
    """As the server named it."""
    utterance: int | None
    """Index of the utterance it answers; None if none was committed."""
    user_item_id: str | None
    """The item committed last when the reply was created."""
    item_id: str | None = None
    """The assistant's item; None before the first sound."""
    first_audio_at_s: float | None = None
    """First sample received."""
    last_audio_at_s: float | None = None
    """Last sample received."""
    done_at_s: float | None = None
    """No more will come."""
    failed: bool = False
    """Whether what came was no answer, but an apology for one, or a part of one."""
    playback: Playback = field(default_factory=Playback)
    """What was heard of it."""

    def hear(self, at_s: float, item_id: str, audio_s: float) -> None:
        self.item_id = item_id
        self.last_audio_at_s = at_s
        if self.first_audio_at_s is None:
            self.first_audio_at_s = at_s
        self.playback.receive(at_s, audio_s)

    def playing_or_coming(self, at_s: float) -> bool:
        """Whether the caller is in the middle of it, or between two of its pieces."""
        if self.first_audio_at_s is None or self.playback.stopped_at_s is not None:
            return False
        return self.done_at_s is None or self.playback.playing(at_s)

    def interrupted_by(self, start_at_s: float) -> bool:
        """Whether speech that began then was spoken over it."""
        if self.first_audio_at_s is None or self.first_audio_at_s > start_at_s:
            return False
        return max(self.playback.silent_at_s or 0.0, self.last_audio_at_s or 0.0) > start_at_s

    @property
    def quiet_at_s(self) -> float | None:
        """Neither heard nor received any more."""
        if self.playback.silent_at_s is None or self.last_audio_at_s is None:
            return None
        return max(self.playback.silent_at_s, self.last_audio_at_s)
