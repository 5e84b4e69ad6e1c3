"""How long it took until callers could come in: since the process began, and since EC2 launched the
instance.
"""

import os
from datetime import datetime
from pathlib import Path

FIRST_START_S = 900.0
"""A process that began later after the launch is not the first one: nobody waited for that."""
_BEGAN = 19
"""Among the fields of /proc/self/stat behind the name: the instant, in ticks since the boot."""


class Boot:
    """Of one process.

    >>> boot = Boot()
    >>> boot.ready(20.0, datetime(2026, 1, 1, 12, 2))
    >>> boot.launched(datetime(2026, 1, 1, 12, 0))
    >>> boot.process_s, boot.instance_s
    (20.0, 120.0)
    """

    def __init__(self) -> None:
        self.process_s: float | None = None
        """From the start of the process; None: not ready so far, or the system does not tell."""
        self._ready_at: datetime | None = None
        self._launched_at: datetime | None = None

    def ready(self, process_age_s: float | None, utc: datetime) -> None:
        """Callers may come in, from now on."""
        self.process_s, self._ready_at = process_age_s, utc

    def launched(self, at: datetime | None) -> None:
        """EC2 launched the instance then; None: it does not say."""
        self._launched_at = at

    @property
    def instance_s(self) -> float | None:
        """From the launch; None: not ready so far, not known, or it was not the first start.

        The launch is an instant of another clock than ours, told in whole seconds; both are set by
        the same service, and a boot takes many seconds.
        """
        if self._ready_at is None or self._launched_at is None or self.process_s is None:
            return None
        since_s = (self._ready_at - self._launched_at).total_seconds()
        first = 0 <= since_s - self.process_s <= FIRST_START_S
        return since_s if first else None


def process_age_s() -> float | None:
    """Seconds since this process began, whatever was done to the wall clock; None: the system does
    not tell.
    """
    try:
        machine_s = float(Path("/proc/uptime").read_text("ascii").split()[0])
        told = Path("/proc/self/stat").read_text("utf-8", errors="replace")
        ticks = int(told.rpartition(")")[2].split()[_BEGAN])
    except (OSError, ValueError, IndexError):
        return None
    return max(0.0, machine_s - ticks / os.sysconf("SC_CLK_TCK"))
