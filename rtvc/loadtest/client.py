"""The caller's side of a wire protocol, without a socket or a clock: what every protocol's client
can do, and what it does where its protocol has no word for it."""

from abc import ABC, abstractmethod

from rtvc.loadtest.messages import Outgoing
from rtvc.loadtest.observations import Observation

Seen = Observation | tuple[Observation, ...] | None
"""What one message meant; None: nothing that is measured."""


class ProtocolClient(ABC):
    """Turns messages into observations, and intentions into messages."""

    usable_at_once = False
    """Whether the caller may speak as soon as the WebSocket is open: no ready message exists."""

    understood = False
    """Whether the server has said something in this protocol before the session was usable."""

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

    @abstractmethod
    def receive(self, message: str | bytes, at_s: float) -> Seen:
        """What it means; never raises."""
