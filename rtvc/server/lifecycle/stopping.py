"""How a server stops and nobody loses a final.

Told to stop, it takes no new sessions, and lets each open one go as soon as nothing is under way:
nobody speaks, every transcript was sent, the reply was played. At the deadline what people have
said so far is committed; its finals are waited for and sent, and only then are they cut off.
"""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from rtvc.clock import Clock
from rtvc.server.lifecycle.signals import Stop
from rtvc.server.services import OpenSession
from rtvc.server.sessions.session_life import GOING_AWAY

REASON = "the server is stopping"
QUIET_S = 1.0
"""A session in which nothing went on for so long may go: it is between two turns."""
INTERRUPT_S = 5.0
"""What a person who presses Ctrl-C waits for at most."""
_LOOK_S = 0.05
_CLOSE_FRAME_LOOKS = 10
"""For the close frames of a server that stops at once."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a stopping server waits for what."""

    deadline_s: float
    """For sessions to finish by themselves, uploads among them."""
    idle_s: float
    """A session that sent nothing for so long does not hold up the stop, whatever goes on."""
    last_final_s: float
    """For the finals of those who still spoke at the deadline."""


def deadline_s(told: Stop | None, leave_s: float | None, shutdown_s: float) -> float:
    """What sessions have: the least of what a signal leaves them and of what the machine does.

    `told` None: no signal came; `leave_s` None: nobody takes the machine away. Both None: something
    went wrong, and nobody is kept waiting.

    >>> deadline_s(Stop.GENTLY, None, 30.0), deadline_s(Stop.SOON, None, 30.0)
    (30.0, 5.0)
    >>> deadline_s(None, 590.0, 30.0), deadline_s(Stop.GENTLY, 590.0, 30.0)
    (590.0, 30.0)
    """
    if told is None and leave_s is not None:
        return leave_s
    by_signal_s = shutdown_s if told is Stop.GENTLY else min(shutdown_s, INTERRUPT_S)
    return by_signal_s if leave_s is None else min(by_signal_s, leave_s)


class Drain:
    """Lets the sessions of a stopping server go."""

    def __init__(
        self, sessions: Callable[[], Collection[OpenSession]], patience: Patience, clock: Clock
    ) -> None:
        """`sessions`: those that are open now."""
        self._sessions = sessions
        self._patience = patience
        self._clock = clock
        self._began_s = clock.now()
        self._busy_at_s: dict[OpenSession, float] = {}
        self._let_go: set[OpenSession] = set()
        self._at_once = asyncio.Event()

    @property
    def left_s(self) -> float:
        """Seconds to the deadline."""
        return self._began_s + self._patience.deadline_s - self._clock.now()

    def stop_now(self) -> None:
        """Wait for nothing any more."""
        self._at_once.set()

    def hurry(self, deadline_s: float) -> None:
        """Sessions have no more than so long from now."""
        by_s = self._clock.now() + deadline_s - self._began_s
        sooner_s = min(self._patience.deadline_s, by_s)
        self._patience = replace(self._patience, deadline_s=sooner_s)

    def look(self) -> None:
        """Let those sessions go that may."""
        now_s = self._clock.now()
        for session in self._sessions():
            if session not in self._let_go and self._may_go(session, now_s):
                self._end(session)

    async def run(self, under_way: Callable[[], bool]) -> None:
        """Until all sessions and whatever else is `under_way` are gone, or their time is over."""
        while under_way() and self.left_s > 0 and not self._at_once.is_set():
            self.look()
            await self._pause()
        for session in self._sessions():
            self._end(session)
        last_s = self._clock.now() + self._patience.last_final_s
        while self._sessions() and self._clock.now() < last_s and not self._at_once.is_set():
            await self._pause()
        await self._cut_off()

    async def _cut_off(self) -> None:
        for session in self._sessions():
            session.end(GOING_AWAY, REASON, after_final=False)
        for _ in range(_CLOSE_FRAME_LOOKS):
            if not self._sessions():
                return
            await asyncio.sleep(_LOOK_S)

    def _may_go(self, session: OpenSession, now_s: float) -> bool:
        """A session is not let go between two words: only after a while in which nothing was."""
        if session.idle_s >= self._patience.idle_s:
            return True
        if session.busy(now_s):
            self._busy_at_s[session] = now_s
            return False
        quiet_s = now_s - self._busy_at_s.setdefault(session, self._began_s)
        return max(quiet_s, session.idle_s) >= QUIET_S

    def _end(self, session: OpenSession) -> None:
        self._let_go.add(session)
        session.end(GOING_AWAY, REASON, after_final=True)

    async def _pause(self) -> None:
        """A moment, or until it has to stop at once."""
        try:
            async with asyncio.timeout(_LOOK_S):
                await self._at_once.wait()
        except TimeoutError:
            return
