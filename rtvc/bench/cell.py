"""One cell, measured once, in a process of its own: `python -m rtvc.bench.cell SPEC.json`.

A fresh process each time, because memory peaks, allocators and thread pools cannot be taken back.
Its threads are pinned by the environment it is started with and by what each library is told. What
goes on is told on stdout, a line of JSON at a time; the result is a file, written whole or not at
all; why there is none is another.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rtvc.bench.clips import CLEAN, BenchInput
from rtvc.bench.engines.contract import BenchEngine, Setup
from rtvc.bench.engines.making import make_engine
from rtvc.bench.handover import load_input
from rtvc.bench.held import sessions_held
from rtvc.bench.measuring import LOADING, Measuring, Tell
from rtvc.bench.outcome import of_error
from rtvc.bench.spec import CellSpec, load_spec, save
from rtvc.bench.usage import (
    MemoryWatch,
    ReadDevice,
    cpu_seconds,
    device_reader,
    energy_joules,
    spent,
)
from rtvc.clock import Clock, SystemClock
from rtvc.errors import UsageError
from rtvc.results.cells import Held, RoundResult
from rtvc.results.reading import write_round
from rtvc.stt.transcriber import Hypothesis, Job, Transcriber

Make = Callable[[Setup], BenchEngine]
"""Makes the engine that a cell names."""

PREPARING = "preparing"
"""What a process does before it loads."""

TELL_EVERY_S = 5.0
"""Between two signs of life while sessions are held."""


@dataclass(frozen=True, slots=True)
class Around:
    """What a process has around it."""

    clock: Clock
    """Of everything that is measured."""
    tell: Tell
    """Is told what goes on."""
    make: Make = make_engine
    """Makes the engine."""


class Telling:
    """A transcriber that gives a sign of life now and then: sessions are held for minutes."""

    def __init__(self, transcriber: Transcriber, clock: Clock, tell: Tell) -> None:
        self.device = transcriber.device
        self.compute_type = transcriber.compute_type
        self.load = transcriber.load
        self.warm_up = transcriber.warm_up
        self._transcriber = transcriber
        self._clock = clock
        self._tell = tell
        self._told_s = -TELL_EVERY_S

    def transcribe(self, jobs: Sequence[Job]) -> list[Hypothesis]:
        now_s = self._clock.now()
        if now_s - self._told_s >= TELL_EVERY_S:
            self._told_s = now_s
            self._tell("sessions held", 0, 1)
        return self._transcriber.transcribe(jobs)


class CellRun:
    """One process's work."""

    def __init__(self, spec: CellSpec, heard: BenchInput, around: Around) -> None:
        self.stage = PREPARING
        """How far it came."""
        self._spec = spec
        self._heard = heard
        self._clock = around.clock
        self._tell_others = around.tell
        most = max(spec.measures.most_at_once, spec.cell.batch)
        self._engine = around.make(Setup(spec.cell, around.clock, most))

    def measure(self) -> RoundResult:
        """What the cell itself takes and does; what the engine raises goes through."""
        self._tell(PREPARING, 0, 1)
        self._engine.prepare()
        with (
            device_reader(self._spec.cell.device, self._clock) as read,
            MemoryWatch(read) as watch,
        ):
            found = self._measured(self._load(), read)
        return replace(found, memory=watch.memory)

    def with_more(self, found: RoundResult) -> RoundResult:
        """With service times beyond what the cell asks for: larger batches, inferences at once.

        They are no part of its memory, and what is too much for the machine is left out.
        """
        measuring = self._measuring()
        return replace(found, batches=(*found.batches, *measuring.larger(), *measuring.at_once()))

    def _load(self) -> float:
        """Seconds to load the weights: the packages are imported already."""
        self._tell(LOADING, 0, 1)
        began_s = self._clock.now()
        self._engine.load()
        return self._clock.now() - began_s

    def _measured(self, load_s: float, read: ReadDevice) -> RoundResult:
        """Energy and CPU time are those of turns, long files, quiet and batches alone."""
        clock, spec, measuring = self._clock, self._spec, self._measuring()
        warm_up_s = measuring.warm_up()
        began_s, cpu_s, energy_j = clock.now(), cpu_seconds(), energy_joules(read)
        heard, long = measuring.short(), measuring.long()
        quiet, batches = measuring.quiet(), measuring.batches()
        measured_s, cpu_s = clock.now() - began_s, cpu_seconds() - cpu_s
        energy_j = spent(energy_j, energy_joules(read))
        return RoundResult(
            cell=spec.cell,
            round=spec.round,
            model_kind=self._engine.model_kind,
            load_s=load_s,
            load_is_cold=spec.cold,
            warm_up_s=warm_up_s,
            heard=heard,
            long=long,
            quiet=quiet,
            batches=batches,
            streamed=measuring.streamed(),
            energy_j=energy_j,
            measured_s=measured_s,
            cpu_s=cpu_s,
            packages=dict(self._engine.packages),
        )

    def _measuring(self) -> Measuring:
        spec = self._spec
        return Measuring(
            self._engine,
            self._heard,
            spec.measures,
            self._clock,
            self._tell,
            batch=spec.cell.batch,
            short_context=spec.cell.context == "short",
        )

    def held(self) -> Held | None:
        """Sessions that the engine holds, once everything else is measured.

        None but in the first round: it takes minutes, in real time.
        """
        measures, engine = self._spec.measures, self._engine
        clean = [clip for clip in self._heard.short if clip.condition == CLEAN]
        clips = clean or self._heard.short
        if not measures.held or self._spec.round or not clips:
            return None
        if engine.most_abreast > 1:
            self._measuring().load_for(engine.workers)
        return sessions_held(
            Telling(engine.transcriber, self._clock, self._tell),
            clips,
            self._clock,
            workers=engine.workers,
            max_batch=self._spec.cell.batch,
            target_s=measures.delay_target_s,
            most=measures.held_at_most,
            step_s=measures.held_step_s,
            budget_s=measures.held_budget_s,
        )

    def _tell(self, stage: str, done: int, total: int) -> None:
        self.stage = stage
        self._tell_others(stage, done, total)


PARENT = os.getppid()
"""Who started this process."""


def say(stage: str, done: int, total: int) -> None:
    """A sign of life, for whoever started this process; without them nobody needs it."""
    if os.getppid() != PARENT:
        sys.exit("whoever started this cell is gone")
    line = json.dumps({"stage": stage, "done": done, "total": total})
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> int:
    """Exit status: 0, and there is a result; else the failure's file and the log say why."""
    if len(arguments) != 1:
        raise UsageError(f"expected one file that says what to measure, got {len(arguments)}")
    spec = load_spec(Path(arguments[0]))
    run = CellRun(spec, load_input(Path(spec.input)), Around(SystemClock(), say))
    try:
        result = run.measure()
        # What comes now may be more than the machine has, and it may not survive that.
        write_round(Path(spec.interim), result)
        result = run.with_more(result)
        # Sessions are added until the engine can no more.
        write_round(Path(spec.interim), result)
        write_round(Path(spec.folder), replace(result, held=run.held()))
    except BaseException as error:
        save(Path(spec.failure_file), of_error(error, run.stage))
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
