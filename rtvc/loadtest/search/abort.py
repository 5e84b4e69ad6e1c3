"""Ends a run as soon as an objective is missed that was to end it (`abort_on_fail`)."""

from collections.abc import Iterable
from pathlib import Path

from rtvc.clock import Clock
from rtvc.loadtest.search.driver import RunTail
from rtvc.loadtest.spec import LoadSpec
from rtvc.record import MANIFEST_FILE, Run
from rtvc.slo import Objective, evaluate, finding
from rtvc.summary import summarize

LOOK_EVERY_S = 1.0
"""How often a run is judged so far, unless that takes long."""

COST = 20
"""Times as long as a look takes passes before the next one."""


class AbortWatch:
    """Looks at a run as it is recorded."""

    def __init__(self, spec: LoadSpec, objectives: Iterable[Objective], clock: Clock) -> None:
        self._spec = spec
        self._urgent = [objective for objective in objectives if objective.abort_on_fail]
        self._clock = clock
        self._next_s = clock.now()
        self._tail: RunTail | None = None
        self.reason: str | None = None
        """What ended the run; None: nothing has."""

    def poll(self) -> None:
        """To be called often; asks the generator to stop when it is time."""
        began_s = self._clock.now()
        if not self._urgent or self.reason is not None or began_s < self._next_s:
            return
        run = self._read()
        if run is not None:
            self.reason = what_ends(run, self._urgent, self._spec.warm_up_s)
        if self.reason is not None:
            self._spec.stop_file.touch()
        now_s = self._clock.now()
        self._next_s = now_s + max(LOOK_EVERY_S, COST * (now_s - began_s))

    def _read(self) -> Run | None:
        folder = Path(self._spec.run_dir)
        if self._tail is None and (folder / MANIFEST_FILE).exists():
            self._tail = RunTail(folder)
        return None if self._tail is None else self._tail.read()


def what_ends(run: Run, urgent: Iterable[Objective], warm_up_s: float) -> str | None:
    """The objectives that are missed so far, after the time that each is given; None: none is."""
    elapsed_s = run.generator[-1].at_s - warm_up_s if run.generator else 0.0
    due = [objective for objective in urgent if elapsed_s >= max(objective.abort_after_s, 1e-9)]
    if not due:
        return None
    missed = [verdict for verdict in evaluate(due, summarize(run)) if verdict.status == "failed"]
    return ", ".join(map(finding, missed)) or None
