"""One attempt to connect: from before TCP connect until the session is usable, step by step."""

from collections.abc import Callable
from dataclasses import dataclass, field

from rtvc.clock import Clock
from rtvc.failures import UNKNOWN
from rtvc.loadtest.wire.messages import Outgoing
from rtvc.loadtest.wire.naming import GREETING, timeout_failure
from rtvc.loadtest.wire.observations import TurnedAway
from rtvc.loadtest.wire.transport import (
    REFUSED_CLOSE_CODE,
    ConnectError,
    Connection,
    ConnectTimes,
    LostError,
    connect,
)
from rtvc.record import ConnectionRow

Opened = Callable[[float], list[Outgoing]]
"""Instant at which the WebSocket opened → messages to send."""

Receive = Callable[[str | bytes, float], list[Outgoing]]
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
    failure: str | None = None
    """The same, as a name of `rtvc.failures`."""
    waiting_for: str = ""
    """What is being waited for, as `naming` has it; empty before the first step."""
    messages: int = 0
    """Messages received before the session was usable that were none of the protocol's."""
    close_code: int | None = None
    """WebSocket close code, if there was one."""
    closed_at_s: float | None = field(default=None)
    """When it ended."""
    ready_inferred: bool = False
    """The protocol has no ready message: when the session was usable shows only later."""

    def fail(
        self,
        outcome: str,
        reason: str,
        close_code: int | None,
        at_s: float,
        failure: str = UNKNOWN,
    ) -> None:
        self.outcome, self.reason, self.close_code = outcome, reason, close_code
        self.failure = failure
        self.close(at_s)

    def time_out(self, timeout_s: float, at_s: float) -> None:
        """The step that is being waited for took too long."""
        reason = f"{self.step} took longer than {timeout_s:g} s"
        self.fail("failed", reason, None, at_s, timeout_failure(self.waiting_for, self.messages))

    def reach(self, step: str) -> None:
        """From now on this is waited for."""
        self.waiting_for = step

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
        usable_at_s = None if self.ready_inferred else self.usable_at_s
        return ConnectionRow(
            speaker=self.speaker,
            session_id=self.session_id,
            opened_at_s=self.opened_at_s,
            handshake_s=_between(self.opened_at_s, upgraded_at_s),
            setup_s=_between(upgraded_at_s, usable_at_s),
            connection_s=_between(self.opened_at_s, usable_at_s),
            outcome=self.outcome,
            reason=self.reason,
            close_code=self.close_code,
            closed_at_s=self.closed_at_s,
            failure=self.failure,
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
    opened: Opened = lambda _: [],
    turned_away: Callable[[], TurnedAway | None] = lambda: None,
    understood: Callable[[], bool] = lambda: False,
) -> None:
    """Connect and listen until `usable` or `turned_away` says so; the attempt tells how it went.

    The time-out is each step's; whoever calls bounds the whole.
    """
    try:
        attempt.connection = connect(
            url,
            clock=clock,
            timeout_s=timeout_s,
            insecure=insecure,
            api_key=api_key,
            on_step=attempt.reach,
        )
        attempt.times = attempt.connection.times
        attempt.reach(GREETING)
        for message in opened(clock.now()):
            attempt.connection.send(message)
        while usable()[0] is None:
            _take_one(attempt.connection, clock, timeout_s, receive)
            attempt.messages += not understood()
            _heed(turned_away())
    except ConnectError as error:
        attempt.fail(error.outcome, error.reason, error.close_code, clock.now(), error.failure)
    except LostError as error:
        refused = error.close_code == REFUSED_CLOSE_CODE
        outcome = "refused" if refused else "failed"
        failure = "refused_1013" if refused else _before_ready(error.failure)
        attempt.fail(outcome, error.reason, error.close_code, clock.now(), failure)
    except TimeoutError:
        attempt.time_out(timeout_s, clock.now())
    else:
        attempt.outcome = "ok"
        attempt.usable_at_s, attempt.session_id = usable()


def _heed(said: TurnedAway | None) -> None:
    if said is not None:
        outcome = "refused" if said.outcome == "refused" else "failed"
        raise ConnectError(outcome, said.reason, failure=said.failure)


def _before_ready(failure: str) -> str:
    """What a session is said to have died of that never lived."""
    return "broken_frames" if failure == "broken_frames" else "closed_before_ready"


def _take_one(connection: Connection, clock: Clock, timeout_s: float, receive: Receive) -> None:
    message = connection.receive()
    if message is None:
        raise TimeoutError
    for answer in receive(message, clock.now()):
        connection.send(answer)
