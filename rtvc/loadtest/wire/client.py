"""The caller's side of a wire protocol, without a socket or a clock: what every protocol's client
can do, and what it does where its protocol has no word for it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

from rtvc.loadtest.wire.messages import UNREADABLE, Message, Outgoing, read_message, stranger
from rtvc.loadtest.wire.observations import Garbage, Observation

Seen = Observation | tuple[Observation, ...] | None
"""What one message meant; None: nothing that is measured."""


class ProtocolClient(ABC):
    """Turns messages into observations, and intentions into messages."""

    protocol: ClassVar[str]
    """Its name."""

    usable_at_once = False
    """Whether the caller may speak as soon as the WebSocket is open: no ready message exists."""

    understood = False
    """Whether the server has said something in this protocol before the session was usable."""

    introduced = False
    """Whether the server has said what only this protocol says: from then on it is no stranger."""

    def greeting(self) -> list[Outgoing]:
        """Messages to send as soon as the WebSocket is open."""
        return []

    def opening(self) -> list[Outgoing]:
        """Messages to send once the session is usable."""
        return []

    @abstractmethod
    def append(self, pcm16: bytes) -> Outgoing:
        """The message that carries a piece of audio."""

    def truncate(self, item_id: str, audio_end_ms: int) -> Outgoing | None:
        """Tell the server how much of its reply was heard before it was interrupted."""
        del item_id, audio_end_ms
        return None

    def playing(self, playing: bool) -> list[Outgoing]:
        """The loudspeaker began to play a reply, or fell silent."""
        del playing
        return []

    def goodbye(self) -> list[Outgoing]:
        """Messages to send before hanging up."""
        return []

    def receive(self, message: str | bytes, at_s: float) -> Seen:
        """What it means; None where that is nothing that is measured. Never raises."""
        event = read_message(message)
        if isinstance(event, str):
            return Garbage(at_s, event)
        other = None if self.introduced else stranger(self.protocol, event, at_s)
        try:
            return other or self.read(event, at_s)
        except UNREADABLE:
            return Garbage(at_s, "garbage_fields")

    @abstractmethod
    def read(self, event: Message, at_s: float) -> Seen:
        """What a JSON object means; may raise what reading its fields raises."""


Reader = Callable[[Message, float], Seen]
"""(message, when it came) → what it means."""


class TypedClient(ProtocolClient):
    """Of a protocol whose every message names its type."""

    readers: Mapping[str, Reader]
    """By type; what is of another one means nothing to us."""

    def read(self, event: Message, at_s: float) -> Seen:
        kind = event.get("type")
        if not isinstance(kind, str):
            return Garbage(at_s, "garbage_no_type")
        reader = self.readers.get(kind)
        return reader(event, at_s) if reader else None
