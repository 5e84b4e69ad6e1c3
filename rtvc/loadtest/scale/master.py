"""`rtvc loadtest URL --master`: the speakers live on other machines.

Locust's master runs as a subprocess (`crew.Crew` inside it) and mirrors what each worker records
into this run's folder of parts; here the parts are put together like those of processes on one
machine.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rtvc.clock import Clock
from rtvc.errors import RtvcError
from rtvc.loadtest.locust_process import LOOPBACK, LocustProcess, users_flags
from rtvc.loadtest.runner import LOG_FILE, why_nothing_ran
from rtvc.loadtest.scale.crew import PREPARE_S, CrewNote, load_note, note_file
from rtvc.loadtest.scale.gather import Gathering
from rtvc.loadtest.scale.spread import Spread
from rtvc.loadtest.spec import LoadSpec

FAREWELL_S = 1.0
"""For the master to send those home who came."""


class MasterRoster:
    """The workers, as the master tells of them (`gather.Roster`)."""

    def __init__(self, spec: LoadSpec, spread: Spread, folder: Path) -> None:
        self._spec = spec
        self._log = folder / LOG_FILE
        self._note_file = note_file(Path(spec.work_dir))
        self._note = CrewNote(False, f"waiting at port {spread.bind_port}", None, [])
        spec_file = Path(spec.work_dir) / "spec.json"
        spec.save(spec_file)
        self._process = LocustProcess(
            [*_flags(spec, spread), "--rtvc-spec", str(spec_file)], Path(spec.work_dir), self._log
        )

    def look(self) -> None:
        self._note = load_note(self._note_file) or self._note

    @property
    def started(self) -> bool:
        return self._note.started

    @property
    def running(self) -> bool:
        # Locust's own waiting for workers would go on.
        return self._process.status() is None and self._note.failed is None

    @property
    def ended(self) -> Mapping[int, str | None]:
        ended = {
            worker["part"]: worker["lost"]
            for worker in self._note.workers
            if worker["state"] in ("done", "lost")
        }
        if not self.running and self._process.status() != 0:
            # Whoever was still speaking has nobody left to tell.
            for worker in self._note.workers:
                ended.setdefault(
                    worker["part"],
                    f"the master ended with status {self._process.status()} before worker "
                    f"{worker['part'] + 1} was done",
                )
        return ended

    @property
    def line(self) -> str:
        return self._note.line

    @property
    def exit_status(self) -> int:
        if not any(worker["state"] == "done" for worker in self._note.workers):
            return self._process.status() or 1
        return 0

    @property
    def failure(self) -> RtvcError | None:
        if self._note.failed is not None:
            return RtvcError(f"the load test did not start: {self._note.failed}")
        return None if self.started or self.running else why_nothing_ran(self._log)

    def generators(self) -> list[dict[str, object]]:
        shown = ("part", "name", "machine", "start_within_s")
        return [{name: worker[name] for name in shown} for worker in self._note.workers]

    def insist(self) -> None:
        if self._note.failed is not None:
            time.sleep(FAREWELL_S)
        self._process.insist()


def _flags(spec: LoadSpec, spread: Spread) -> list[str]:
    # One more reason to end than ours would only hide it.
    locusts_patience_s = spread.patience_s + PREPARE_S + 60
    return [
        *users_flags(spec, spec.speakers),
        *("--master", "--master-bind-host", spread.bind_host),
        *("--master-bind-port", str(spread.bind_port)),
        *("--expect-workers", str(spec.parts)),
        *("--expect-workers-max-wait", str(round(locusts_patience_s))),
        *("--rtvc-patience", f"{spread.patience_s:g}"),
    ]


def start_master(
    spec: LoadSpec, spread: Spread, folder: Path, clock: Clock, say: Callable[[str], None]
) -> Gathering:
    """Raises RtvcError if it cannot be started."""
    if spread.bind_host != LOOPBACK and spec.key_file.exists():
        say("note: the API key goes to the workers, over connections that are not encrypted")
    more_s = spread.patience_s + PREPARE_S
    return Gathering(spec, MasterRoster(spec, spread, folder), clock, say, more_s)
