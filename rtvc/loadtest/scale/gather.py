"""Several generators, here or elsewhere, run and read as if they were one.

A generator that is lost is survived: what it recorded stays, the others go on, and the run says
who was lost and when. A search cannot go on without some of its speakers; it ends, and keeps its
finished steps.
"""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol

from rtvc.clock import Clock
from rtvc.errors import RtvcError
from rtvc.loadtest.runner import Ended, await_end
from rtvc.loadtest.scale.merge import Merger
from rtvc.loadtest.scale.spread import part_folder
from rtvc.loadtest.spec import LoadSpec
from rtvc.record import load_manifest

TAKE_OVER_S = 0.5
"""How often what the generators recorded is put together."""


class Roster(Protocol):
    """The generators of one run, and how they are."""

    def look(self) -> None:
        """Bring everything below up to date."""

    @property
    def started(self) -> bool:
        """Whether the speakers were let go."""

    @property
    def running(self) -> bool:
        """Whether there is still something to wait for."""

    @property
    def ended(self) -> Mapping[int, str | None]:
        """Parts that are over: None in order, else what happened to them."""

    @property
    def line(self) -> str:
        """What is being waited for."""

    @property
    def exit_status(self) -> int:
        """Once it is over: 0 if anybody came to the end."""

    @property
    def failure(self) -> RtvcError | None:
        """Why nothing ran, if nothing did."""

    def generators(self) -> list[dict[str, object]]:
        """Who they are, for the run's manifest."""

    def insist(self) -> None:
        """End what is still there."""


class Gathering:
    """One run of several generators, from start to end."""

    def __init__(
        self,
        spec: LoadSpec,
        roster: Roster,
        clock: Clock,
        say: Callable[[str], None],
        patience_s: float = 0.0,
    ) -> None:
        self._spec = spec
        self._roster = roster
        self._clock = clock
        self._say = say
        self._patience_s = patience_s
        self._said = ""
        self._merger: Merger | None = None
        self._next_s = 0.0
        self._gave_up = False

    def wait(self, on_poll: Callable[[], None]) -> Ended:
        """Until all are over. Ctrl-C once: in order; twice: at once."""

        def poll() -> None:
            self._look()
            if self._merger is not None:
                on_poll()

        try:
            interrupted = await_end(
                self._spec,
                self._clock,
                running=lambda: self._roster.running,
                poll=poll,
                patience_s=self._patience_s,
            )
        finally:
            self._roster.insist()
            self._finish()
        stopped = self._spec.page_stop_file.exists()
        return Ended(interrupted or stopped, 1 if self._gave_up else self._roster.exit_status)

    def _look(self) -> None:
        with uninterrupted():
            self._roster.look()
            if self._roster.failure is not None:
                return
            if self._merger is None:
                self._begin()
            elif self._clock.now() >= self._next_s:
                self._next_s = self._clock.now() + TAKE_OVER_S
                self._merger.poll()
                self._note_ended(self._merger)

    def _begin(self) -> None:
        if not self._roster.started:
            if self._roster.line != self._said:
                self._said = self._roster.line
                self._say(self._said)
            return
        spec = self._spec
        folder = Path(spec.run_dir)
        parts = [part_folder(folder, part) for part in range(spec.parts)]
        self._merger = Merger(folder, load_manifest(Path(spec.work_dir)), parts)
        self._merger.note(self._roster.generators())

    def _note_ended(self, merger: Merger) -> None:
        for part, lost in self._roster.ended.items():
            if merger.over(part, lost) and lost is not None:
                self._say(lost)
                self._stop_search()

    def _stop_search(self) -> None:
        if self._spec.kind == "search" and not self._spec.stop_file.exists():
            self._gave_up = True
            self._spec.stop_file.touch()

    def _finish(self) -> None:
        with uninterrupted():
            self._roster.look()
            if self._merger is None and self._roster.started:
                self._begin()
            if self._merger is not None:
                self._note_ended(self._merger)
                # What became known only while they spoke.
                self._merger.note(self._roster.generators())
                self._merger.finish()
        if self._merger is None and self._spec.stop_file.exists():
            raise KeyboardInterrupt
        if self._merger is None and self._roster.failure is not None:
            raise self._roster.failure


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C in here is raised when it is done: rows that are half taken over would be lost."""
    noted: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        noted.append(number)

    kept = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
    if noted:
        raise KeyboardInterrupt
