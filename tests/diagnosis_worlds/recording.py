"""A simulation from beginning to end, and the record of it as a diagnosis keeps one."""

from dataclasses import dataclass
from pathlib import Path

from rtvc.clock import FakeClock
from rtvc.record import (
    ConnectionRow,
    GeneratorRow,
    Machine,
    RunWriter,
    SampleRow,
    ServerTurnRow,
    TurnRow,
    append_rows,
    load_run,
    new_manifest,
)
from rtvc.summary import summarize, write_summary
from tests.diagnosis_worlds.caller import CallCenter
from tests.diagnosis_worlds.faults import NONE, Faults
from tests.diagnosis_worlds.kernel import Kernel, Signal
from tests.diagnosis_worlds.server import Server
from tests.diagnosis_worlds.watching import Watch
from tests.diagnosis_worlds.world import World

PHASES = ("one", "two", "many")
HOST_FILE = "host.csv"
LONGEST_S = 120.0
URL = "ws://127.0.0.1:8000/v1/realtime?rtvc=1"


@dataclass(frozen=True, slots=True)
class Phase:
    """What one load test saw, and what was read beside it."""

    name: str
    """"one", "two" or "many"."""
    speakers: int
    """At once."""
    warm_up_s: float
    """Left out."""
    planned_s: float
    """To be measured."""
    length_s: float
    """Of all of it."""
    connections: list[ConnectionRow]
    """One a speaker."""
    turns: list[TurnRow]
    """One an utterance."""
    server_turns: list[ServerTurnRow]
    """As the server timed them."""
    samples: list[SampleRow]
    """Of the server."""
    host: list[SampleRow]
    """Of the machine."""
    generator: list[GeneratorRow]
    """The generator watching itself."""


@dataclass(frozen=True, slots=True)
class Story:
    """All phases against one server."""

    world: World
    """Where it happened."""
    phases: tuple[Phase, ...]
    """In order."""

    @property
    def many(self) -> Phase:
        return self.phases[-1]


def simulate(world: World, faults: Faults = NONE) -> Story:
    """One speaker, then two, then many, against the same server."""
    kernel = Kernel()
    server = Server(kernel, world, faults)
    kernel.run(server.started, LONGEST_S)
    _idle(kernel, server.random.uniform(3, 8))
    server.begun_s = kernel.now
    phases = []
    for name, speakers in zip(PHASES, (1, 2, world.speakers), strict=True):
        phases.append(_phase(server, name, speakers))
        _idle(kernel, server.random.uniform(2, 5))
    return Story(world, tuple(phases))


def _idle(kernel: Kernel, seconds: float) -> None:
    over = Signal()
    kernel.after(seconds, over.fire)
    kernel.run(over, kernel.now + seconds + 1)


def _phase(server: Server, name: str, speakers: int) -> Phase:
    world, kernel = server.world, server.kernel
    center = CallCenter(server, speakers, world.duration_s, f"{world.seed} {name}")
    watch = Watch(server, center)
    kernel.run(center.over, kernel.now + LONGEST_S)
    turns = [turn for caller in center.callers for turn in caller.turns()]
    return Phase(
        name=name,
        speakers=speakers,
        warm_up_s=center.warm_up_s,
        planned_s=world.duration_s,
        length_s=center.since_s(kernel.now),
        connections=center.connections,
        turns=sorted(turns, key=lambda turn: turn.final_at_s or turn.speech_end_at_s),
        server_turns=[row for caller in center.callers for row in caller.rows],
        samples=watch.samples,
        host=watch.host,
        generator=center.generator,
    )


def write(story: Story, folder: Path) -> Path:
    """The record as `rtvc profile diagnose` leaves it; returns the folder."""
    for phase in story.phases:
        _write_phase(story.world, phase, folder / phase.name)
    return folder


def _write_phase(world: World, phase: Phase, folder: Path) -> None:
    clock = FakeClock(1_795_000_000.0)
    command = ["rtvc", "loadtest", URL, "--speakers", str(phase.speakers)]
    manifest = new_manifest(
        command,
        clock,
        machine=_machine(world),
        url=URL,
        protocol="openai-realtime",
        model=world.model,
        model_kind="self-test model" if world.model == "selftest" else "whisper",
        server={"version": "0.1.0", "max_sessions": 32},
        corpus="synthetic",
        corpus_hash="0" * 16,
        colocated=True,
        planned_duration_s=phase.planned_s,
        settings=_settings(phase),
    )
    with RunWriter(folder, manifest, clock) as writer:
        writer.append(*phase.connections)
        writer.append(*phase.turns)
        writer.append(*phase.server_turns)
        writer.append(*phase.samples)
        writer.append(*phase.generator)
        clock.advance(phase.length_s)
    _write_host(folder, phase.host)
    run = load_run(folder)
    write_summary(folder, summarize(run))


def _settings(phase: Phase) -> dict[str, object]:
    return {
        "speakers": phase.speakers,
        "duration_s": phase.planned_s,
        "warm_up_s": phase.warm_up_s,
        "ramp_s": phase.warm_up_s,
        "scenario": "conversation",
        "transcription": False,
        "seed": 0,
        "storm_rounds": 0,
        "connect_timeout_s": 15.0,
        "grace_s": 10.0,
        "frame_s": 0.02,
    }


def _machine(world: World) -> Machine:
    gpus = ("Imaginary GPU",) if world.gpu else ()
    return Machine(
        "Imaginary CPU", world.cpus, world.memory_bytes, "Linux-6.8", "3.11.9", gpus
    )  # fmt: skip


def _write_host(folder: Path, rows: list[SampleRow]) -> None:
    """Of the same columns as `samples.csv`, through the same writer."""
    aside = folder / "host"
    aside.mkdir()
    append_rows(aside, *sorted(rows, key=lambda row: row.at_s))
    (aside / "samples.csv").rename(folder / HOST_FILE)
    aside.rmdir()
