"""One fault from start to end: a server of its own, speakers, calm, the fault, recovery, verdict.

Each fault gets a server of its own, so that what one leaves behind cannot be taken for the doing of
the next; within it, the same process must live through the fault and serve again.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from rtvc.chaos.deeds import Doing, doing
from rtvc.chaos.evidence import Seen, between, look
from rtvc.chaos.judge import Felt, Rows, judge, why_absent, why_void
from rtvc.chaos.load import Load
from rtvc.chaos.plan import PlannedFault, Schedule
from rtvc.chaos.server import POLL_S, Server, pause
from rtvc.clock import Clock
from rtvc.results.chaos import Fault, write_fault

LOAD_FOLDER, LOG_FILE = "load", "server.log"

AGAIN_FOLDER = "load-again"
"""Speakers who come when the server was started again."""

READY_AGAIN_S = 10.0
"""For a server to be ready again, once all speakers have left."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Setting:
    """What is the same for all faults of a run."""

    model: str
    """Speech-to-text model."""
    speakers: int
    """How many talk."""
    schedule: Schedule
    """When what happens."""


@dataclass(slots=True)
class _Story:
    """What happened, as it happens; instants by our clock."""

    begin_s: float = 0.0
    """The fault began."""
    end_s: float = 0.0
    """It was over."""
    pid: int = 0
    """Of the server before it."""
    restart_needed: bool = False
    """Whether the server had to be helped."""
    again: Load | None = None
    """Speakers after a restart that was asked for."""
    notes: tuple[str, ...] = ()
    """What else is worth knowing."""


class Course:
    """One fault."""

    def __init__(
        self, fault: PlannedFault, setting: Setting, folder: Path, clock: Clock, say: Say
    ) -> None:
        self._fault = fault
        self._setting = setting
        self._folder = folder
        self._clock = clock
        self._say = say
        self._window = setting.schedule.window(fault)
        self._story = _Story()

    def run(self) -> Fault:
        """Bring it about and judge it; what a run that was cut off has left is done anew."""
        began_s = self._clock.now()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        inject = self._fault.inject(self._window)
        self._tell("starting the server")
        server = Server(self._setting.model, inject, self._folder / LOG_FILE, self._clock)
        try:
            server.wait_until_ready()
            seen = look(server.url)
            load = self._load(server, LOAD_FOLDER, self._setting.schedule.load_s(self._fault))
            deed = doing(self._fault, server, load)
            try:
                self._live_through(server, load, deed)
            finally:
                deed.end()
                load.stop()
                if self._story.again is not None:
                    self._story.again.stop()
            evidence = between(seen, self._look_again(server))
        finally:
            server.stop()
        found = self._judged(load, deed, evidence, self._clock.now() - began_s)
        write_fault(self._folder, found)
        return found

    def _load(self, server: Server, name: str, duration_s: float) -> Load:
        setting = self._setting
        return Load(server.url, self._folder / name, setting.speakers, duration_s, 0, self._clock)

    def _live_through(self, server: Server, load: Load, deed: Doing) -> None:
        story = self._story
        story.pid = server.pid
        story.begin_s = server.ready_at_s + self._window.begin_s
        story.end_s = server.ready_at_s + self._window.end_s
        self._tell("calm")
        self._follow(load, story.begin_s)
        if not load.running:
            return
        self._tell(self._fault.done)
        if self._fault.deed == "SIGTERM":
            self._stop_and_start(server, load)
        else:
            deed.begin()
            self._follow(load, story.end_s)
            deed.end()
        self._tell("recovery")
        # Whoever is last: those who were there, or those who came again.
        for each in (load, story.again):
            if each is not None:
                self._follow(each, None)

    def _stop_and_start(self, server: Server, load: Load) -> None:
        story = self._story
        story.begin_s = self._clock.now()
        code = server.terminate()
        story.end_s = self._clock.now()
        stopped = "did not stop" if code is None else f"ended with {code}"
        load.follow()
        server.start_again()
        down_s = server.ready_at_s - story.begin_s
        story.notes = (f"the server {stopped}; ready again {down_s:.1f} s after SIGTERM",)
        story.restart_needed = code is None
        story.pid = server.pid
        story.end_s = server.ready_at_s
        story.again = self._load(server, AGAIN_FOLDER, self._setting.schedule.recovery_s)

    def _follow(self, load: Load, until_s: float | None) -> None:
        while load.running and (until_s is None or self._clock.now() < until_s):
            load.follow()
            pause(POLL_S)

    def _look_again(self, server: Server) -> Seen:
        """Once it is ready; the same process must be, all by itself."""
        story = self._story
        deadline_s = self._clock.now() + READY_AGAIN_S
        seen = look(server.url)
        while not seen.ready and server.exit_code is None and self._clock.now() < deadline_s:
            pause(POLL_S * 4)
            seen = look(server.url)
        if server.exit_code is not None or server.pid != story.pid or not seen.ready:
            story.restart_needed = True
            gone = f"it had ended with {server.exit_code}" if server.exit_code is not None else ""
            story.notes += (f"the server was not ready again: {gone or 'it does not answer'}",)
        return seen

    def _rows(self, load: Load) -> Rows:
        rows, again = load.rows(), self._story.again
        if again is None:
            return rows
        return rows.plus(again.rows().later(again.zero_s - load.zero_s))

    def _judged(
        self, load: Load, deed: Doing, evidence: dict[str, float | None], seconds: float
    ) -> Fault:
        story, fault = self._story, self._fault
        begin_s, end_s = story.begin_s - load.zero_s, story.end_s - load.zero_s
        felt = judge(self._rows(load), begin_s, end_s, ends_sessions=fault.ends_sessions)
        void = why_void(felt, load.trouble()) or why_absent(fault.marks, evidence)
        return replace(
            _fault(fault, felt, evidence),
            begin_s=begin_s,
            end_s=end_s,
            refused=felt.refused + deed.refused,
            restart_needed=story.restart_needed,
            valid=void is None,
            why_void=void,
            seconds=seconds,
            notes=(*story.notes, *deed.notes),
        )

    def _tell(self, what: str) -> None:
        self._say(f"{self._fault.name}: {what}")


def _fault(fault: PlannedFault, felt: Felt, evidence: dict[str, float | None]) -> Fault:
    """As far as the rows tell."""
    return Fault(
        name=fault.name,
        done=fault.done,
        before=felt.before,
        during=felt.during,
        after=felt.after,
        finals_lost=felt.finals_lost,
        sessions_ended=felt.sessions_ended,
        ended_by_fault=fault.ends_sessions,
        ended_beside=felt.ended_beside,
        cross_words=felt.cross_words,
        refused=felt.refused,
        rows_lost=felt.rows_lost,
        limit_s=felt.limit_s,
        recovery_s=felt.recovery_s,
        recovery_n=felt.recovery_n,
        evidence=evidence,
    )
