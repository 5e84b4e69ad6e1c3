"""One request or session that was let in: whose it is, what it took, and how to end it."""

from collections.abc import Callable, Mapping
from typing import Any

from rtvc.server.access.denials import Denied
from rtvc.server.access.limits import UNKNOWN, Who

POLICY_VIOLATION = 1008
_PLACE = "rtvc.visit"

End = Callable[[int, str, Denied | None], None]
"""Close code, reason, and the error that a protocol with errors is told first."""


class Visit:
    """Kept by the gate, found in the scope by whoever serves it."""

    __slots__ = (
        *("_ended", "_finish", "_hear", "_on_end", "_on_spent", "_spent"),
        *("session", "trusted", "who"),
    )

    def __init__(
        self,
        who: Who,
        *,
        trusted: bool = True,
        session: dict[str, Any] | None = None,
        hear: Callable[[float], None] | None = None,
    ) -> None:
        """`hear` raises Denied when more audio came than may; None: any amount may."""
        self.who = who
        self.trusted = trusted
        """False: a stranger, at a door that is open to all."""
        self.session = session
        """Settings that came with a client token, as in session.update; None: none."""
        self._hear = hear
        self._on_end: End | None = None
        self._finish: Callable[[int, str], None] | None = None
        self._ended: tuple[int, str, Denied | None] | None = None
        self._spent = False
        self._on_spent: Callable[[Denied], None] = self._end_spent

    @property
    def key_id(self) -> str | None:
        """Name of the key, never the key; None: nobody was asked for one."""
        return self.who.key.name if self.who.key else None

    def charge(self, seconds: float) -> None:
        """So much audio came.

        Raises:
            Denied: more than may.
        """
        if self._hear is not None:
            self._hear(seconds)

    def heard(self, seconds: float) -> bool:
        """So much audio came; whether it may be listened to. A session that sends more than it may
        is ended, once what it said before has its transcript."""
        if self._hear is None:
            return True
        if self._spent:
            return False
        try:
            self._hear(seconds)
        except Denied as denied:
            self._spent = True
            self._on_spent(denied)
        return not self._spent

    def end(self, code: int, reason: str, error: Denied | None = None) -> None:
        """Close the session, once; the first reason is told."""
        if self._ended is not None:
            return
        self._ended = (code, reason, error)
        if self._on_end is not None:
            self._on_end(code, reason, error)

    def finish(self, code: int, reason: str) -> None:
        """Close the session once what was said so far has its transcript; the caller bounds it."""
        if self._finish is None:
            self.end(code, reason)
        elif self._ended is None:
            self._finish(code, reason)

    def finishes_by(self, action: Callable[[int, str], None]) -> None:
        """How whoever serves the session brings it to its end."""
        self._finish = action

    def on_end(self, action: End) -> None:
        """How to close it; done at once if it was to end meanwhile."""
        self._on_end = action
        if self._ended is not None:
            action(*self._ended)

    def on_spent(self, action: Callable[[Denied], None]) -> None:
        """What to do about a session that sends more audio than it may."""
        self._on_spent = action

    def _end_spent(self, denied: Denied) -> None:
        self.end(POLICY_VIOLATION, str(denied), denied)

    def put(self, scope: Any) -> None:
        scope[_PLACE] = self


def visit_of(scope: Mapping[str, Any]) -> Visit:
    """Of a request; without a gate in front there is no limit to anything."""
    visit: Visit | None = scope.get(_PLACE)
    return Visit(Who(UNKNOWN)) if visit is None else visit
