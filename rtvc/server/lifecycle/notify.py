"""Tells a service manager such as systemd how the server is: `Type=notify`, `WatchdogSec=`.

Does nothing where no manager asks for it ($NOTIFY_SOCKET). Its watchdog is told from the event
loop, so a server that hangs is restarted and one that is only loaded is not.
"""

import asyncio
import logging
import os
import socket

from rtvc.clock import Clock
from rtvc.config import interface

_log = logging.getLogger(__name__)


class Notifier:
    """One server's line to its service manager."""

    def __init__(self, clock: Clock, address: str | None, watchdog_s: float | None = None) -> None:
        """`address` None: there is no manager; `watchdog_s` None: it does not watch."""
        self._clock = clock
        self._address = address
        self._watchdog_s = watchdog_s

    @classmethod
    def of_this_process(cls, clock: Clock) -> "Notifier":
        """As the environment says."""
        return cls(clock, interface("NOTIFY_SOCKET") or None, _watchdog_s())

    def ready(self) -> None:
        """Sessions are taken; also said when a reload is over."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """Settings are being read again."""
        # systemd wants the instant on the machine's monotonic clock.
        self._tell("RELOADING=1", f"MONOTONIC_USEC={round(self._clock.now() * 1e6)}")

    def stopping(self) -> None:
        """No more sessions are taken."""
        self._tell("STOPPING=1")

    async def watch(self) -> None:
        """Say twice within the manager's patience that the event loop goes on; until cancelled."""
        if self._address is None or self._watchdog_s is None:
            return
        while True:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_s / 2)

    def _tell(self, *lines: str) -> None:
        if self._address is None:
            return
        # A leading @ stands for the 0 byte of an abstract address.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
                line.setblocking(False)
                line.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            _log.warning("the service manager at %s is not to be told: %s", self._address, error)


def _watchdog_s() -> float | None:
    """The manager's patience; None: it has none with this process."""
    patience_us, of_whom = interface("WATCHDOG_USEC") or "", interface("WATCHDOG_PID")
    if not patience_us.isdigit() or int(patience_us) == 0:
        return None
    return int(patience_us) / 1e6 if of_whom in (None, "", str(os.getpid())) else None
