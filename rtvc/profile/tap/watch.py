"""One tapped connection, seen from both sides: bytes with instants in, turns out. Pure.

Whatever is wrong with what is read, nothing is raised: the connection is then not observed, or one
message of it is not, and both are counted.
"""

from dataclasses import dataclass

from rtvc.errors import AudioError, ProtocolError
from rtvc.profile.tap.protocols import (
    READERS,
    REALTIMEVOICECHAT,
    TRY_AGAIN_LATER,
    ProtocolReader,
    protocol_of,
)
from rtvc.profile.tap.turns import Turn
from rtvc.profile.tap.wire import Message, Wire

UNKNOWN_AFTER = 50
"""So many messages that fit no protocol, and the connection is not read any more."""


@dataclass(frozen=True, slots=True)
class Connection:
    """What was seen of a connection; instants in seconds since the tap began."""

    connection: int
    """Number, from 0."""
    opened_at_s: float
    """Just accepted."""
    protocol: str | None
    """None: unknown, or no WebSocket."""
    handshake_s: float | None
    """Accepted → the server's HTTP 101 passed; None: it did not."""
    connection_s: float | None
    """Accepted → the session is usable, by the server's word; None: it has none, or gave none."""
    outcome: str
    """"ok", "refused", "failed", "http" (a request, no WebSocket) or "not observed"."""
    reason: str | None
    """Why it was refused, failed or was not observed."""
    turns: int
    """Turns told of."""
    odd_messages: int
    """Messages that do not keep to the protocol; they passed like all others."""


class Watch:
    """Reads along."""

    def __init__(
        self, number: int, opened_at_s: float, *, protocol: str | None, keep_text: bool
    ) -> None:
        """`protocol` None: found out from the first messages."""
        self._number = number
        self._opened_at_s = opened_at_s
        self._keep_text = keep_text
        self._wire = Wire()
        self._reader = self._new_reader(protocol) if protocol else None
        self._upgraded_at_s: float | None = None
        self._unreachable: str | None = None
        self._blind: str | None = None
        self._refusal: str | None = None
        self._undecided = 0
        self._odd = 0
        self._told = 0

    def from_client(self, at_s: float, data: bytes) -> list[Turn]:
        """The client sent it; turns that are over now."""
        return self._read(at_s, data, client=True)

    def from_server(self, at_s: float, data: bytes) -> list[Turn]:
        """The server sent it; turns that are over now."""
        return self._read(at_s, data, client=False)

    def unreachable(self, reason: str) -> None:
        """The target could not be reached."""
        self._unreachable = reason

    def rest(self) -> list[Turn]:
        """The connection is closed: turns that were not over."""
        return self._counted([] if self._reader is None else self._reader.turns.rest())

    def seen(self) -> Connection:
        """What there is to say of the connection, once it is closed."""
        outcome, reason = self._outcome()
        reader = self._reader if self._upgraded_at_s is not None else None
        usable_at_s = None if reader is None else reader.usable_at_s
        return Connection(
            connection=self._number,
            opened_at_s=self._opened_at_s,
            protocol=None if reader is None else reader.protocol,
            handshake_s=self._since(self._upgraded_at_s),
            connection_s=self._since(usable_at_s),
            outcome=outcome,
            reason=reason,
            turns=self._told,
            odd_messages=self._odd,
        )

    def _since(self, at_s: float | None) -> float | None:
        return None if at_s is None else at_s - self._opened_at_s

    def _new_reader(self, protocol: str) -> ProtocolReader:
        return READERS[protocol](self._number, keep_text=self._keep_text)

    def _counted(self, turns: list[Turn]) -> list[Turn]:
        self._told += len(turns)
        return turns

    def _read(self, at_s: float, data: bytes, *, client: bool) -> list[Turn]:
        if self._blind is not None:
            return []
        try:
            return self._counted(self._messages(at_s, data, client=client))
        except ProtocolError as error:
            self._go_blind(str(error))
        except Exception as error:  # noqa: BLE001 (a fault in reading must not end what it reads)
            self._go_blind(f"{type(error).__name__} while reading")
        return []

    def _go_blind(self, reason: str) -> None:
        self._blind = reason
        self._wire = Wire()

    def _messages(self, at_s: float, data: bytes, *, client: bool) -> list[Turn]:
        messages = self._wire.from_client(data) if client else self._wire.from_server(data)
        if self._upgraded_at_s is None and self._wire.state == "open":
            self._upgraded_at_s = at_s
        turns: list[Turn] = []
        for message in messages:
            turns += self._message(at_s, message, client=client)
        return turns

    def _message(self, at_s: float, message: Message, *, client: bool) -> list[Turn]:
        if message.kind == "close":
            if not client and message.close_code == TRY_AGAIN_LATER:
                self._refusal = f"closed with {TRY_AGAIN_LATER}"
            return []
        reader = self._chosen(message)
        if reader is None:
            return []
        try:
            return (reader.from_client if client else reader.from_server)(at_s, message)
        except (ProtocolError, AudioError):
            self._odd += 1
            return []

    def _chosen(self, message: Message) -> ProtocolReader | None:
        if self._reader is None:
            protocol = protocol_of(self._wire.path, message)
            if protocol is not None:
                self._reader = self._new_reader(protocol)
                return self._reader
            self._undecided += 1
            if self._undecided == UNKNOWN_AFTER:
                self._go_blind("unknown protocol")
        return self._reader

    def _outcome(self) -> tuple[str, str | None]:
        if self._unreachable is not None:
            return "failed", self._unreachable
        if self._blind is not None:
            return "not observed", self._blind
        state = self._wire.state
        if state == "plain":
            return "http", None
        if state == "refused":
            return "refused", f"HTTP {self._wire.status}"
        if state == "request":
            return "not observed", "closed before a request"
        if state == "answer":
            return "failed", "closed before the handshake was answered"
        return self._session_outcome()

    def _session_outcome(self) -> tuple[str, str | None]:
        reader = self._reader
        if reader is None:
            return "not observed", "unknown protocol"
        refusal = reader.refusal or self._refusal
        if refusal is not None and reader.usable_at_s is None:
            return "refused", refusal
        if reader.usable_at_s is None and reader.protocol != REALTIMEVOICECHAT:
            return "failed", "closed before the session was usable"
        return "ok", None
