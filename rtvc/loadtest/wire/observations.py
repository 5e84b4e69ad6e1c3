"""What a caller saw, whatever the protocol: one small record per message that means something.

Instants (`at_s`) are seconds since the run's start, stamped when the message was read.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SessionUsable:
    """The server's own word that the caller may speak."""

    at_s: float
    """When."""
    session_id: str | None
    """As the server named it; None if it did not."""


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """The server said no, or goodbye, in the protocol's own words; or it speaks another one."""

    at_s: float
    """When."""
    outcome: str
    """"refused" or "failed" before the session was usable, "lost" after."""
    failure: str
    """A name of `rtvc.failures`."""
    reason: str
    """One line."""


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The server heard speech begin, and named the item it will become."""

    at_s: float
    """When."""
    item_id: str
    """The utterance-to-be."""
    audio_start_s: float | None
    """Position in the audio sent, with the server's padding; None if it did not say."""


@dataclass(frozen=True, slots=True)
class ItemCommitted:
    """The server decided that the utterance is over."""

    at_s: float
    """When."""
    item_id: str
    """The utterance."""


@dataclass(frozen=True, slots=True)
class PartialText:
    """Text that may still change."""

    at_s: float
    """When."""
    item_id: str
    """The utterance."""
    text: str
    """All of the partial transcript so far."""


@dataclass(frozen=True, slots=True)
class TextSpan:
    """Text that a server attached to a stretch of the audio it was sent."""

    start_s: float
    """Position in the audio sent."""
    end_s: float
    """Position in the audio sent."""
    text: str
    """What was said there."""
    final: bool
    """Whether it will not change."""


@dataclass(frozen=True, slots=True)
class SpansHeard:
    """New stretches of text, of a server that knows positions and no utterances."""

    at_s: float
    """When."""
    spans: tuple[TextSpan, ...]
    """What is new, in order; what had been said before is left out."""


@dataclass(frozen=True, slots=True)
class FinalText:
    """Text that will not change."""

    at_s: float
    """When."""
    item_id: str
    """The utterance."""
    text: str
    """The final transcript; may be empty."""


@dataclass(frozen=True, slots=True)
class FinalFailed:
    """The server gave an utterance up."""

    at_s: float
    """When."""
    item_id: str
    """The utterance."""
    reason: str
    """In the server's words."""


@dataclass(frozen=True, slots=True)
class ReplyCreated:
    """The server set about replying."""

    at_s: float
    """When."""
    response_id: str
    """The reply."""


@dataclass(frozen=True, slots=True)
class ReplyAudio:
    """A piece of the reply's sound."""

    at_s: float
    """When."""
    response_id: str
    """The reply."""
    item_id: str
    """The assistant's item, which a truncation names."""
    audio_s: float
    """Seconds of sound in this piece."""


@dataclass(frozen=True, slots=True)
class ReplyDone:
    """No more of this reply will come."""

    at_s: float
    """When."""
    response_id: str
    """The reply."""
    status: str
    """completed, cancelled, failed or incomplete."""
    reason: str | None = None
    """Why it failed, in the server's words; None if it did not."""

    @property
    def failed(self) -> bool:
        """Whether what was heard of it is no answer: an apology, or the beginning of one."""
        return self.status == "failed" or self.reason is not None


@dataclass(frozen=True, slots=True)
class PlaybackStopped:
    """The server said: play no more of this reply, somebody speaks."""

    at_s: float
    """When."""


@dataclass(frozen=True, slots=True)
class ErrorReported:
    """The server complained; the session stays open."""

    at_s: float
    """When."""
    reason: str
    """In the server's words."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One part of a turn as the server timed it."""

    name: str
    """vad_delay, endpoint_wait, queue_wait, …"""
    start_s: float
    """Since the last speech sample arrived at the server."""
    duration_s: float
    """Length."""
    hidden: bool
    """Done while waiting, so it adds nothing to the sum."""


@dataclass(frozen=True, slots=True)
class TurnTimed:
    """The server's own account of a turn."""

    at_s: float
    """When it arrived."""
    item_id: str
    """The utterance."""
    response_id: str | None
    """The reply; None while there is none."""
    stage: str
    """"transcript" or "reply"."""
    segments: tuple[Segment, ...]
    """Contiguous ones first, then the hidden ones."""
    last_speech_s: float | None = None
    """Position in the audio sent of what the server took for the last sample of speech."""
    received_s: float | None = None
    """Audio that the server had received with it."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """A message that does not keep to the protocol."""

    at_s: float
    """When."""
    name: str
    """Under which it is counted: garbage_not_json, garbage_not_object, garbage_fields, …"""


Observation = (
    SessionUsable
    | TurnedAway
    | SpeechStarted
    | ItemCommitted
    | PartialText
    | SpansHeard
    | FinalText
    | FinalFailed
    | ReplyCreated
    | ReplyAudio
    | ReplyDone
    | PlaybackStopped
    | ErrorReported
    | TurnTimed
    | Garbage
)
