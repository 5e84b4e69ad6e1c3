"""One attempt to connect: from before TCP connect until the session is usable, step by step."""

from collections.abc import Callable
from dataclasses import dataclass, field

from rtvc.clock import Clock
from rtvc.loadtest.transport import (
    REFUSED_CLOSE_CODE,
    ConnectError,
    Connection,
    ConnectTimes,
    LostError,
    connect,
)
from rtvc.record import ConnectionRow

Receive = Callable[[str | bytes, float], list[str]]
"""(message, instant) → messages to send in answer."""


@dataclass(slots=True)
class Attempt:
    """How far it got; the row can be written at any point."""

    speaker: int
    """Who connects."""
    opened_at_s: float
    """When it began."""
    times: ConnectTimes | None = None
    """Known once the WebSocket is open."""
    connection: Connection | None = None
    """The WebSocket; None while there is none, and again once it is closed."""
    session_id: str | None = None
    """As the server named it."""
    usable_at_s: float | None = None
    """When the caller may speak."""
    outcome: str = "failed"
    """As in the row."""
    reason: str | None = None
    """Why not ok."""
    close_code: int | None = None
    """WebSocket close code, if there was one."""
    closed_at_s: float | None = field(default=None)
    """When it ended."""

    def fail(self, outcome: str, reason: str, close_code: int | None, at_s: float) -> None:
        self.outcome, self.reason, self.close_code = outcome, reason, close_code
        self.close(at_s)

    def close(self, at_s: float) -> None:
        if self.closed_at_s is None:
            self.closed_at_s = at_s
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    @property
    def step(self) -> str:
        """What is being waited for."""
        return "opening the WebSocket" if self.times is None else "the session's first word"

    def row(self) -> ConnectionRow:
        upgraded_at_s = self.times.upgraded_s if self.times else None
        return ConnectionRow(
            speaker=self.speaker,
            session_id=self.session_id,
            opened_at_s=self.opened_at_s,
            handshake_s=_between(self.opened_at_s, upgraded_at_s),
            setup_s=_between(upgraded_at_s, self.usable_at_s),
            connection_s=_between(self.opened_at_s, self.usable_at_s),
            outcome=self.outcome,
            reason=self.reason,
            close_code=self.close_code,
            closed_at_s=self.closed_at_s,
        )


def _between(start_s: float | None, end_s: float | None) -> float | None:
    return None if start_s is None or end_s is None else end_s - start_s


def open_session(
    attempt: Attempt,
    *,
    url: str,
    clock: Clock,
    timeout_s: float,
    insecure: bool,
    api_key: str | None,
    receive: Receive,
    usable: Callable[[], tuple[float | None, str | None]],
) -> None:
    """Connect and listen until `usable` says so; the attempt tells how it went.

    The time-out is each step's; whoever calls bounds the whole.
    """
    try:
        attempt.connection = connect(
            url, clock=clock, timeout_s=timeout_s, insecure=insecure, api_key=api_key
        )
        attempt.times = attempt.connection.times
        while usable()[0] is None:
            _take_one(attempt.connection, clock, timeout_s, receive)
    except ConnectError as error:
        attempt.fail(error.outcome, error.reason, error.close_code, clock.now())
    except LostError as error:
        refused = error.close_code == REFUSED_CLOSE_CODE
        outcome = "refused" if refused else "failed"
        attempt.fail(outcome, error.reason, error.close_code, clock.now())
    else:
        attempt.outcome = "ok"
        attempt.usable_at_s, attempt.session_id = usable()


def _take_one(connection: Connection, clock: Clock, timeout_s: float, receive: Receive) -> None:
    message = connection.receive()
    if message is None:
        reason = f"the session's first word took longer than {timeout_s:g} s"
        raise ConnectError("failed", reason)
    for answer in receive(message, clock.now()):
        connection.send(answer)
