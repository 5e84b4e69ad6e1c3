"""What was said so far: items in order, as the protocol names them and as the model reads them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from rtvc.errors import ProtocolError
from rtvc.protocol import realtime
from rtvc.server.replies.llm import Message

Role = Literal["system", "user", "assistant"]

_MAX_ITEMS = 1000
MAX_CHARS = 1_000_000
"""Of text in a conversation: each item may hold millions."""


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of the conversation."""

    item_id: str
    """Unique in its session."""
    role: Role
    """Who said it."""
    text: str | None
    """None until it has been transcribed."""
    spoken: bool
    """Audio rather than text."""
    complete: bool = True
    """False while it is being said, and after an interruption."""
    apology: str = ""
    """Said by the server after, or instead of, what the model wrote; the model never reads it."""
    wire: dict[str, Any] | None = None
    """An item kept as the client gave it (function calls and their output)."""

    def to_wire(self) -> dict[str, Any]:
        """As a `conversation.item`."""
        if self.wire is not None:
            return {**self.wire, "id": self.item_id, "object": "realtime.item"}
        return {
            "id": self.item_id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed" if self.complete else "incomplete",
            "role": self.role,
            "content": self._content(),
        }

    def _content(self) -> list[dict[str, Any]]:
        if self.role == "user" and self.spoken:
            return [{"type": "input_audio", "transcript": self.text}]
        if self.role == "assistant" and self.spoken:
            return [{"type": "output_audio", "transcript": (self.text or "") + self.apology}]
        kind = "output_text" if self.role == "assistant" else "input_text"
        return [{"type": kind, "text": (self.text or "") + self.apology}]


def _chars(item: Item) -> int:
    told = 0 if item.wire is None else sum(map(len, map(str, item.wire.values())))
    return len(item.text or "") + told


class Conversation:
    """The items of one session, oldest first, bounded: the oldest are forgotten."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items.values())

    def __len__(self) -> int:
        return len(self._items)

    @property
    def last_id(self) -> str | None:
        return next(reversed(self._items), None)

    def find(self, item_id: str) -> Item | None:
        return self._items.get(item_id)

    def get(self, item_id: str) -> Item:
        """
        Raises:
            ProtocolError: there is no such item.
        """
        item = self.find(item_id)
        if item is None:
            raise ProtocolError(
                f"expected the id of an item of this conversation, got {item_id!r}",
                code="item_not_found",
                param="item_id",
            )
        return item

    def add(self, item: Item, *, after: str | None = None) -> str | None:
        """Add an item at the end, after another, or first (`after="root"`).

        Returns:
            The id of the item before it.

        Raises:
            ProtocolError: the id is taken, or `after` is unknown.
        """
        if item.item_id in self._items:
            raise ProtocolError(
                f"expected a new item id, got {item.item_id!r}, which is taken",
                code="item_already_exists",
                param="item.id",
            )
        before = list(self._items.values())
        place = len(before)
        if after == "root":
            place = 0
        elif after is not None:
            place = before.index(self.get(after)) + 1
        before.insert(place, item)
        previous = before[place - 1].item_id if place else None
        chars = sum(map(_chars, before))
        while len(before) > 1 and (len(before) > _MAX_ITEMS or chars > MAX_CHARS):
            # The oldest goes, and never the one that was just added.
            chars -= _chars(before.pop(1 if before[0] is item else 0))
        self._items = {kept.item_id: kept for kept in before}
        return previous

    def update(self, item_id: str, **changes: Any) -> Item | None:
        """Change an item, if it is still there."""
        item = self.find(item_id)
        if item is not None:
            item = self._items[item_id] = replace(item, **changes)
        return item

    def remove(self, item_id: str) -> None:
        """
        Raises:
            ProtocolError: there is no such item.
        """
        self.get(item_id)
        del self._items[item_id]

    def clear(self) -> None:
        self._items.clear()

    def messages(self, instructions: str) -> list[Message]:
        """What the language model reads."""
        spoken = [Message(item.role, item.text) for item in self if item.text and not item.wire]
        return [Message("system", instructions), *spoken] if instructions else spoken


def item_from(item: Any, item_id: str) -> Item:
    """An item that the client made.

    Raises:
        ProtocolError: audio in an item, which would have to be transcribed first.
    """
    if isinstance(item, realtime.FunctionCall | realtime.FunctionCallOutput):
        return Item(item_id, "user", None, False, wire=realtime.item_to_wire(item, item_id))
    if any(part.type == "input_audio" for part in item.content):
        raise ProtocolError(
            "item.content: expected text; audio goes through input_audio_buffer.append",
            code="unsupported_content",
            param="item.content",
        )
    return Item(item_id, item.role, item.text, spoken=False)
