"""Events a client sends, parsed and bounded before anything else sees them."""

import binascii
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from rtvc.errors import ProtocolError
from rtvc.protocol.realtime_items import ContextItem, Item
from rtvc.protocol.realtime_session import FunctionChoice, Modalities, TokenLimit, Tools
from rtvc.protocol.validation import (
    MAX_AUDIO_BYTES,
    MAX_AUDIO_CHARS,
    MAX_ID_CHARS,
    Base64Audio,
    BoundedText,
    Frozen,
    Identifier,
    named,
    read_object,
    validated,
)

MAX_CONTEXT_ITEMS = 1000
MAX_AUDIO_END_MS = 24 * 3600 * 1000


def decode_audio(text: str, *, param: str = "audio", event_id: str | None = None) -> bytes:
    """Strict base64.

    Raises:
        ProtocolError: not base64, or more than 15 MiB of audio.
    """
    if len(text) > MAX_AUDIO_CHARS:
        raise ProtocolError(
            f"{param}: expected at most {MAX_AUDIO_BYTES} bytes of audio, got {len(text)} "
            "characters of base64",
            code="audio_too_large",
            param=param,
            event_id=event_id,
        )
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise ProtocolError(
            f"{param}: expected base64, got {named(text)} ({error})",
            code="invalid_base64",
            param=param,
            event_id=event_id,
        ) from None


class _ClientEvent(Frozen):
    """What every event may carry."""

    event_id: Annotated[str, Field(max_length=MAX_ID_CHARS)] | None = None
    """Chosen by the client; named again in an error that this event caused."""


class SessionUpdate(_ClientEvent):
    """Change settings; `SessionConfig.updated` checks them."""

    type: Literal["session.update"] = "session.update"
    """Always "session.update"."""
    session: dict[str, Any]
    """The fields to change."""


class InputAudioBufferAppend(_ClientEvent):
    """Audio from the microphone; never answered."""

    type: Literal["input_audio_buffer.append"] = "input_audio_buffer.append"
    """Always "input_audio_buffer.append"."""
    audio: Base64Audio
    """Base64 in the session's input format."""

    def pcm_bytes(self) -> bytes:
        """The audio in the session's input format.

        Raises:
            ProtocolError: not strict base64.
        """
        return decode_audio(self.audio, event_id=self.event_id)


class InputAudioBufferCommit(_ClientEvent):
    """The utterance is over."""

    type: Literal["input_audio_buffer.commit"] = "input_audio_buffer.commit"
    """Always "input_audio_buffer.commit"."""


class InputAudioBufferClear(_ClientEvent):
    """Forget what was appended and not committed."""

    type: Literal["input_audio_buffer.clear"] = "input_audio_buffer.clear"
    """Always "input_audio_buffer.clear"."""


class ConversationItemCreate(_ClientEvent):
    """Put an item into the conversation."""

    type: Literal["conversation.item.create"] = "conversation.item.create"
    """Always "conversation.item.create"."""
    item: Item
    """The item."""
    previous_item_id: Identifier | None = None
    """Insert after this one; "root": at the start; None: at the end."""


class ConversationItemDelete(_ClientEvent):
    """Take an item out of the conversation."""

    type: Literal["conversation.item.delete"] = "conversation.item.delete"
    """Always "conversation.item.delete"."""
    item_id: Identifier
    """The item."""


class ConversationItemRetrieve(_ClientEvent):
    """Show an item."""

    type: Literal["conversation.item.retrieve"] = "conversation.item.retrieve"
    """Always "conversation.item.retrieve"."""
    item_id: Identifier
    """The item."""


class ConversationItemTruncate(_ClientEvent):
    """The reply was heard only so far."""

    type: Literal["conversation.item.truncate"] = "conversation.item.truncate"
    """Always "conversation.item.truncate"."""
    item_id: Identifier
    """The assistant's message."""
    content_index: Annotated[int, Field(ge=0, le=0)]
    """Always 0."""
    audio_end_ms: Annotated[int, Field(ge=0, le=MAX_AUDIO_END_MS)]
    """Milliseconds that were played."""


class ResponseAudioOutput(Frozen):
    """How one reply sounds."""

    voice: (
        Annotated[
            Annotated[Identifier, Tag("<name>")] | Annotated[dict[str, Any], Tag("<object>")],
            Discriminator(lambda value: "<object>" if isinstance(value, dict) else "<name>"),
        ]
        | None
    ) = None
    """Name of a voice, or an object with its id; None: the session's."""


class ResponseAudio(Frozen):
    """Only the output has settings."""

    output: ResponseAudioOutput | None = None
    """None: the session's."""


class ResponseSettings(Frozen):
    """What one reply does otherwise than the session says."""

    instructions: BoundedText | None = None
    """System prompt; None: the session's."""
    output_modalities: Modalities | None = None
    """Audio or text; None: the session's."""
    conversation: Literal["auto", "none"] | None = None
    """"none": the reply is not kept in the conversation."""
    input: (
        Annotated[tuple[ContextItem, ...], Field(strict=False, max_length=MAX_CONTEXT_ITEMS)] | None
    ) = None
    """What the reply answers; None: the conversation."""
    audio: ResponseAudio | None = None
    """None: the session's."""
    max_output_tokens: TokenLimit | None = None
    """None: the session's."""
    metadata: Annotated[dict[str, BoundedText], Field(max_length=16)] | None = None
    """Given back with the response."""
    tools: Tools | None = None
    """Without effect."""
    tool_choice: (
        Annotated[
            Annotated[Literal["auto", "none", "required"], Tag("<word>")]
            | Annotated[FunctionChoice, Tag("<object>")],
            Discriminator(lambda value: "<word>" if isinstance(value, str) else "<object>"),
        ]
        | None
    ) = None
    """Without effect."""

    @property
    def voice(self) -> str | None:
        """Name of the voice; None: the session's."""
        voice = self.audio.output.voice if self.audio and self.audio.output else None
        return str(voice.get("id")) if isinstance(voice, dict) else voice


class ResponseCreate(_ClientEvent):
    """Reply now."""

    type: Literal["response.create"] = "response.create"
    """Always "response.create"."""
    response: ResponseSettings | None = None
    """None: as the session says."""


class ResponseCancel(_ClientEvent):
    """Stop the reply."""

    type: Literal["response.cancel"] = "response.cancel"
    """Always "response.cancel"."""
    response_id: Identifier | None = None
    """None: the one in progress."""


class OutputAudioBufferClear(_ClientEvent):
    """Means something over WebRTC only; answered with an error here."""

    type: Literal["output_audio_buffer.clear"] = "output_audio_buffer.clear"
    """Always "output_audio_buffer.clear"."""


ClientEvent = (
    SessionUpdate
    | InputAudioBufferAppend
    | InputAudioBufferCommit
    | InputAudioBufferClear
    | ConversationItemCreate
    | ConversationItemDelete
    | ConversationItemRetrieve
    | ConversationItemTruncate
    | ResponseCreate
    | ResponseCancel
    | OutputAudioBufferClear
)

_EVENTS: dict[str, type[ClientEvent]] = {
    "session.update": SessionUpdate,
    "input_audio_buffer.append": InputAudioBufferAppend,
    "input_audio_buffer.commit": InputAudioBufferCommit,
    "input_audio_buffer.clear": InputAudioBufferClear,
    "conversation.item.create": ConversationItemCreate,
    "conversation.item.delete": ConversationItemDelete,
    "conversation.item.retrieve": ConversationItemRetrieve,
    "conversation.item.truncate": ConversationItemTruncate,
    "response.create": ResponseCreate,
    "response.cancel": ResponseCancel,
    "output_audio_buffer.clear": OutputAudioBufferClear,
}
CLIENT_EVENT_TYPES = tuple(_EVENTS)


def parse_client_event(text: str | bytes) -> ClientEvent:
    """The event in one WebSocket message.

    Raises:
        ProtocolError: names the field at fault and, if it could be read, the event's id.
    """
    event = read_object(text)
    event_id = _readable_event_id(event)
    return validated(_model_of(event, event_id), event, event_id=event_id)


def _model_of(event: dict[str, Any], event_id: str | None) -> type[ClientEvent]:
    kind = event.get("type")
    model = _EVENTS.get(kind) if isinstance(kind, str) else None
    if model is None:
        got = named(kind) if "type" in event else "nothing"
        raise ProtocolError(
            f"type: expected one of {', '.join(CLIENT_EVENT_TYPES)}, got {got}",
            code="invalid_value" if "type" in event else "missing_required_parameter",
            param="type",
            event_id=event_id,
        )
    return model


def _readable_event_id(event: dict[str, Any]) -> str | None:
    event_id = event.get("event_id")
    readable = isinstance(event_id, str) and len(event_id) <= MAX_ID_CHARS
    return event_id if readable else None
