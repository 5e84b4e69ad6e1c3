"""Items of a conversation, as the OpenAI Realtime protocol writes them."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from rtvc.protocol.validation import (
    Base64Audio,
    BoundedText,
    Frozen,
    Identifier,
    field_of,
    type_tag,
)

MAX_CONTENT_PARTS = 64

ItemStatus = Literal["completed", "incomplete", "in_progress"]
Modality = Literal["audio", "text"]
WireItem = dict[str, Any]
"""An item in a server event."""


class InputText(Frozen):
    """Text that a user typed or a developer wrote."""

    type: Literal["input_text"]
    """Always "input_text"."""
    text: BoundedText
    """The text."""


class InputAudio(Frozen):
    """Speech of the user, sent as a whole."""

    type: Literal["input_audio"]
    """Always "input_audio"."""
    audio: Base64Audio | None = None
    """Base64 in the session's input format; None where only the transcript is given."""
    transcript: BoundedText | None = None
    """What was said; None if unknown."""


class OutputText(Frozen):
    """Text of the assistant."""

    type: Literal["output_text"]
    """Always "output_text"."""
    text: BoundedText
    """The text."""


class OutputAudio(Frozen):
    """Speech of the assistant; only what was said is kept, not how it sounded."""

    type: Literal["output_audio"]
    """Always "output_audio"."""
    transcript: BoundedText | None = None
    """What was said; None if unknown."""


UserContent = Annotated[
    Annotated[InputText, Tag("<input_text>")] | Annotated[InputAudio, Tag("<input_audio>")],
    Discriminator(
        type_tag,
        custom_error_type="content_type",
        custom_error_message="expected content of type input_text or input_audio",
    ),
]
AssistantContent = Annotated[
    Annotated[OutputText, Tag("<output_text>")] | Annotated[OutputAudio, Tag("<output_audio>")],
    Discriminator(
        type_tag,
        custom_error_type="content_type",
        custom_error_message="expected content of type output_text or output_audio",
    ),
]


class _Item(Frozen):
    """What every item may carry."""

    id: Identifier | None = None
    """Chosen by the client; None: the server names it."""
    status: ItemStatus = "completed"
    """No effect on the conversation."""


class UserMessage(_Item):
    """The user's turn."""

    type: Literal["message"] = "message"
    """Always "message"."""
    role: Literal["user"] = "user"
    """Always "user"."""
    content: Annotated[tuple[UserContent, ...], Field(strict=False, max_length=MAX_CONTENT_PARTS)]
    """What was said or typed."""

    @property
    def text(self) -> str:
        """Everything said or typed that is known as text."""
        parts = (p.text if isinstance(p, InputText) else p.transcript for p in self.content)
        return " ".join(part for part in parts if part)


class SystemMessage(_Item):
    """An instruction in the middle of a conversation."""

    type: Literal["message"] = "message"
    """Always "message"."""
    role: Literal["system"] = "system"
    """Always "system"."""
    content: Annotated[tuple[InputText, ...], Field(strict=False, max_length=MAX_CONTENT_PARTS)]
    """The instruction."""

    @property
    def text(self) -> str:
        """The whole instruction."""
        return " ".join(part.text for part in self.content)


class AssistantMessage(_Item):
    """A reply, given by the client as history."""

    type: Literal["message"] = "message"
    """Always "message"."""
    role: Literal["assistant"] = "assistant"
    """Always "assistant"."""
    content: Annotated[
        tuple[AssistantContent, ...], Field(strict=False, max_length=MAX_CONTENT_PARTS)
    ]
    """What was replied."""

    @property
    def text(self) -> str:
        """The whole reply."""
        parts = (p.text if isinstance(p, OutputText) else p.transcript for p in self.content)
        return " ".join(part for part in parts if part)


class FunctionCall(_Item):
    """A call the assistant asked for; kept in the conversation, never made here."""

    type: Literal["function_call"] = "function_call"
    """Always "function_call"."""
    name: Identifier
    """The function."""
    arguments: BoundedText
    """JSON text."""
    call_id: Identifier | None = None
    """Joins the call with its output."""


class FunctionCallOutput(_Item):
    """What a call answered."""

    type: Literal["function_call_output"] = "function_call_output"
    """Always "function_call_output"."""
    call_id: Identifier
    """The call that is answered."""
    output: BoundedText
    """Any text."""


class ItemReference(Frozen):
    """An item of the conversation, named instead of repeated (in response.create only)."""

    type: Literal["item_reference"] = "item_reference"
    """Always "item_reference"."""
    id: Identifier
    """The item."""


def _item_tag(value: Any) -> str | None:
    kind, role = field_of(value, "type"), field_of(value, "role")
    name = role if kind == "message" else kind
    return f"<{name}>" if isinstance(name, str) else None


Item = Annotated[
    Annotated[UserMessage, Tag("<user>")]
    | Annotated[SystemMessage, Tag("<system>")]
    | Annotated[AssistantMessage, Tag("<assistant>")]
    | Annotated[FunctionCall, Tag("<function_call>")]
    | Annotated[FunctionCallOutput, Tag("<function_call_output>")],
    Discriminator(
        _item_tag,
        custom_error_type="item_type",
        custom_error_message=(
            "expected an item of type message (role user, system or assistant), "
            "function_call or function_call_output"
        ),
    ),
]
ContextItem = Annotated[
    Annotated[UserMessage, Tag("<user>")]
    | Annotated[SystemMessage, Tag("<system>")]
    | Annotated[AssistantMessage, Tag("<assistant>")]
    | Annotated[FunctionCall, Tag("<function_call>")]
    | Annotated[FunctionCallOutput, Tag("<function_call_output>")]
    | Annotated[ItemReference, Tag("<item_reference>")],
    Discriminator(
        _item_tag,
        custom_error_type="item_type",
        custom_error_message=(
            "expected an item of type message (role user, system or assistant), "
            "function_call, function_call_output or item_reference"
        ),
    ),
]


def item_to_wire(
    item: UserMessage | SystemMessage | AssistantMessage | FunctionCall | FunctionCallOutput,
    item_id: str,
) -> WireItem:
    """An item the client made, as the server shows it; audio is not echoed."""
    wire = item.model_dump(exclude_none=True, exclude={"content": {"__all__": {"audio"}}})
    return wire | {"id": item_id, "object": "realtime.item"}


def user_item(
    item_id: str, *, transcript: str | None = None, status: ItemStatus = "completed"
) -> WireItem:
    """What the user said in one utterance; the transcript is None until it is final."""
    content = {"type": "input_audio", "transcript": transcript}
    return _message(item_id, "user", [content], status)


def assistant_item(
    item_id: str, text: str | None, *, modality: Modality = "audio", status: ItemStatus
) -> WireItem:
    """A reply; `text` is None before its first part was added."""
    if text is None:
        return _message(item_id, "assistant", [], status)
    audio = modality == "audio"
    content = {"type": f"output_{modality}", "transcript" if audio else "text": text}
    return _message(item_id, "assistant", [content], status)


def _message(
    item_id: str, role: str, content: list[dict[str, Any]], status: ItemStatus
) -> WireItem:
    return {
        "id": item_id,
        "object": "realtime.item",
        "type": "message",
        "role": role,
        "status": status,
        "content": content,
    }
