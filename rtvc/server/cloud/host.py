"""The server, as far as the cloud it runs in needs to know it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from rtvc.clock import Clock
from rtvc.config import CloudSettings
from rtvc.server.cloud.figures import Standing
from rtvc.server.cloud.instance import Identity


@dataclass(frozen=True, slots=True)
class Host:
    """What it tells, and what it can be told."""

    clock: Clock
    """The server's."""
    settings: Callable[[], CloudSettings]
    """As they are now: a reload changes them."""
    standing: Callable[[], Standing]
    """How it stands now."""
    shutdown_s: Callable[[], float]
    """What sessions have after SIGTERM."""
    known: Callable[[Identity], None]
    """Told once, who the instance is."""
    aside: Callable[[bool], None]
    """Told, again and again, whether the server stands aside."""
    leave: Callable[[float], None]
    """Told that sessions have so long from now; a second time only if it is sooner."""
    failures: Counter[str]
    """Of calls, by name."""
