"""Room for a newcomer: who holds a slot and has never said anything gives it up when all are taken.

So callers who open sessions and leave them there, on purpose or because they vanished, keep nobody
out for longer than `SILENT_S`.
"""

import asyncio

from rtvc.server.services import OpenSession, Services
from rtvc.server.sessions.session_life import TRY_AGAIN_LATER
from rtvc.stt.ladder import Step

SILENT_S = 10.0
"""A client that has something to say has begun by then."""
_WAIT_S = 1.0
"""For the slot that was given up: its session ends, and the engine learns of it."""
_LOOK_S = 0.05
_REASON = "another caller needed the place of a session that never said anything"


async def enter(services: Services) -> None:
    """Take a slot; when there is none, that of a silent session.

    Raises:
        AdmissionRefused: nobody could give one up.
    """
    # One session less is no help where it is the machine that has no more to give.
    if services.admission.full and not overloaded(services):
        silent = longest_silent(services)
        if silent is not None:
            silent.end(TRY_AGAIN_LATER, _REASON, after_final=False)
            await _until_open(services)
    services.admission.enter(headroom(services), overloaded=overloaded(services))


async def _until_open(services: Services) -> None:
    for _ in range(round(_WAIT_S / _LOOK_S)):
        if not closed(services):
            return
        await asyncio.sleep(_LOOK_S)


def longest_silent(services: Services) -> OpenSession | None:
    """The session that has said nothing for longest since it was opened; None: there is none."""
    silent = [
        session
        for session in services.sessions.values()
        if session.silent and not session.ending and session.idle_s >= SILENT_S
    ]
    return max(silent, key=lambda session: session.idle_s, default=None)


def closed(services: Services) -> bool:
    """Whether there is no room for one more."""
    return services.admission.closed(headroom(services), overloaded=overloaded(services))


def headroom(services: Services) -> float | None:
    """What admission goes by; None: by slots alone."""
    by_headroom = services.settings.serve.admission == "headroom"
    return services.engine.status.headroom_sessions if by_headroom else None


def overloaded(services: Services) -> bool:
    """Whether new sessions are refused as the last thing to give up; slots alone do not ask."""
    by_headroom = services.settings.serve.admission == "headroom"
    return by_headroom and services.engine.status.degradation is Step.REFUSING
