"""What is loading, how far it is, and whether callers may come in."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from rtvc.errors import RtvcError

_log = logging.getLogger(__name__)

State = Literal["waiting", "loading", "warming", "ready", "failed"]

_ASIDE = "standing aside: its group has more servers than it needs"


@dataclass(frozen=True, slots=True)
class Task:
    """One thing that must be ready before the server is."""

    name: str
    """As shown to a person."""
    state: State = "waiting"
    """How it stands."""
    progress: float = 0.0
    """0 to 1."""
    detail: str = ""
    """One line."""

    def to_wire(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "state": self.state,
            "progress": round(self.progress, 3),
            "detail": self.detail,
        }


class Readiness:
    """The tasks of start-up, and what the whole amounts to."""

    def __init__(self, *names: str) -> None:
        self._tasks = {name: Task(name) for name in names}
        self._listeners: list[Callable[[], None]] = []
        self.draining = False
        """Set when the server stops taking sessions."""
        self.restarting = False
        """Set while the engine's process is being replaced."""
        self.aside = False
        """Set while the server stands aside: sessions go on, and new ones belong elsewhere."""

    @property
    def tasks(self) -> list[Task]:
        return list(self._tasks.values())

    @property
    def state(self) -> str:
        """starting, loading, warming, ready, restarting, aside, draining or failed."""
        states = {task.state for task in self.tasks}
        if self.draining:
            return "draining"
        if "failed" in states:
            return "failed"
        if states == {"ready"}:
            return self._state_of_the_warm
        if states == {"waiting"}:
            return "starting"
        return "loading" if "loading" in states else "warming"

    @property
    def _state_of_the_warm(self) -> str:
        if self.restarting:
            return "restarting"
        return "aside" if self.aside else "ready"

    @property
    def ready(self) -> bool:
        return self.state == "ready"

    @property
    def lets_in(self) -> bool:
        """Whether a session that comes now is let in, though others may be sent elsewhere.

        Whoever comes to a server that stands aside comes because nobody has noticed so far, or
        because there is nobody else: a load balancer that finds none ready sends callers to all.
        """
        return self.state in ("ready", "restarting", "aside")

    @property
    def progress(self) -> float:
        return sum(task.progress for task in self.tasks) / len(self.tasks)

    @property
    def detail(self) -> str:
        """The first thing still to wait for, or what failed."""
        if self.draining:
            return "the server is stopping"
        for task in sorted(self.tasks, key=lambda task: task.state != "failed"):
            if task.state != "ready":
                return f"{task.name}: {task.detail or task.state}"
        if self.restarting:
            return "the engine is being replaced"
        return _ASIDE if self.aside else "ready"

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` at every change."""
        self._listeners.append(listener)

    def unlisten(self, listener: Callable[[], None]) -> None:
        self._listeners.remove(listener)

    def update(self, name: str, state: State, progress: float, detail: str = "") -> None:
        """A task moved on."""
        self._tasks[name] = replace(
            self._tasks[name], state=state, progress=progress, detail=detail
        )
        self.changed()

    def set_aside(self, aside: bool) -> None:
        """Who has a session notices nothing but the state."""
        before, self.aside = self.state, aside
        if self.state != before:
            self.changed()

    def changed(self) -> None:
        for listener in list(self._listeners):
            try:
                listener()
            except RtvcError as error:
                # A session that can't be told must not keep the engine from being replaced.
                _log.warning("a change of state was not passed on: %s", error)
