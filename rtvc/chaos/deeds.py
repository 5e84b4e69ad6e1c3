"""Brings a fault about from outside; what the server does to itself needs nothing here."""

from collections.abc import Sequence
from typing import Protocol

import psutil

from rtvc.chaos.limits import Limits, no_more_descriptors, no_room
from rtvc.chaos.load import Load
from rtvc.chaos.outsiders import (
    Outsiders,
    keep_knocking,
    read_nothing,
    stay_half_open,
    vanish,
)
from rtvc.chaos.plan import PlannedFault
from rtvc.chaos.server import Server

ACTS = {"vanish": vanish, "half-open": stay_half_open, "slow-readers": read_nothing}


class Doing(Protocol):
    """A fault in the hands of chaos."""

    def begin(self) -> None:
        """Now."""

    def end(self) -> None:
        """Undo it; also when it never began."""

    @property
    def refused(self) -> int:
        """Clients of ours that were told no."""

    @property
    def notes(self) -> Sequence[str]:
        """What else is worth knowing."""


class Nothing:
    """The server does it to itself."""

    refused = 0
    notes: Sequence[str] = ()

    def begin(self) -> None: ...

    def end(self) -> None: ...


class Uninvited:
    """Clients that misbehave."""

    def __init__(self, act: str, url: str) -> None:
        self._outsiders = Outsiders(ACTS[act], url)
        self._begun = False

    @property
    def refused(self) -> int:
        return self._outsiders.crowd.refused

    @property
    def notes(self) -> Sequence[str]:
        return (f"{self._outsiders.crowd.came} uninvited clients were let in",)

    def begin(self) -> None:
        self._begun = True
        self._outsiders.begin()

    def end(self) -> None:
        if self._begun:
            self._begun = False
            self._outsiders.end()


class NoRoom:
    """Files of the load test cannot grow."""

    refused = 0

    def __init__(self, load: Load) -> None:
        self._limits = Limits("FSIZE", load.generators)
        self.notes: Sequence[str] = ()

    def begin(self) -> None:
        count = self._limits.lower(no_room)
        self.notes = (f"{count} process(es) of the load test had no room",)

    def end(self) -> None:
        self._limits.restore()


class NoDescriptors:
    """The server can open nothing more, and clients keep coming."""

    refused = 0

    def __init__(self, server: Server) -> None:
        self._limits = Limits("NOFILE", lambda: [psutil.Process(server.pid)])
        self._outsiders = Outsiders(keep_knocking, server.url)
        self._begun = False
        self.notes: Sequence[str] = ()

    def begin(self) -> None:
        self._begun = True
        self._limits.lower(no_more_descriptors)
        self._outsiders.begin()

    def end(self) -> None:
        if not self._begun:
            return
        self._begun = False
        # Those who came stay until there is room again: whoever waits is to be served then.
        self._limits.restore()
        self._outsiders.end()
        self.notes = (f"{self._outsiders.crowd.came} clients knocked meanwhile",)


def doing(fault: PlannedFault, server: Server, load: Load) -> Doing:
    """How to bring it about; SIGTERM is the course's own."""
    if fault.deed in ACTS:
        return Uninvited(fault.deed, server.url)
    if fault.deed == "no room":
        return NoRoom(load)
    if fault.deed == "no descriptors":
        return NoDescriptors(server)
    return Nothing()
