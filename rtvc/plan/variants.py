"""What if: every combination that was asked about, each answered by a search of its own. Pure."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from rtvc.errors import UsageError
from rtvc.plan.arrangement import Arrangement, Sharing, Wanted, arrange
from rtvc.plan.capacity import LIMIT, Aim, Found, find
from rtvc.plan.processor import Box
from rtvc.plan.service import ServiceTimes
from rtvc.plan.simulation import Setup
from rtvc.plan.sources import Source
from rtvc.plan.talk import Listening, Partials, Talk
from rtvc.results.plan import Service, Variant
from rtvc.stt import synthetic
from rtvc.voice.endpointing import EndpointingSettings

MOST_VARIANTS = 64
"""Asked for at once."""

TEXTLESS_SILENCE_S = 0.3
"""What the server gives synthetic weights, whose text tells nothing about the end of a turn."""

SESSION_CORES = 0.007
"""Cores that each of a hundred sessions takes of the server's own process, on the machine of
docs/plan.md: dictation with the self-test model."""

GENERATOR_CORES = 0.0012
"""Cores that `rtvc loadtest` takes there for each of a hundred speakers with 60 ms messages."""

MEMORY_SHARE = 0.9
"""Part of a memory that models may fill."""

MEMORY = "memory"
"""What binds where one model more would not fit."""

Told = Callable[[str, int], None]
"""Hears of a variant's name and of each number of sessions before it is simulated."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What is asked about; each of them at least one. None: as the server would by itself."""

    sharings: tuple[tuple[Sharing, int], ...] = (("shared", 1),)
    """Who shares a model, and engines of a pool."""
    workers: tuple[int | None, ...] = (None,)
    """Inferences at once, of each engine."""
    threads: tuple[int | None, ...] = (None,)
    """CPU threads of one."""
    batches: tuple[int | None, ...] = (None,)
    """Utterances in one."""
    partials: tuple[Partials, ...] = ("adaptive",)
    """Cadence of partials."""
    intervals_s: tuple[float, ...] = (0.4,)
    """Audio between two of them at least."""
    silences_s: tuple[float | None, ...] = (None,)
    """Silence that ends a turn."""
    gpus: tuple[int, ...] = (1,)
    """GPUs."""


@dataclass(frozen=True, slots=True)
class Question:
    """One combination."""

    source: Source
    """Whose inferences."""
    wanted: Wanted
    """What the user settled of how it is run."""
    listening: Listening
    """How sessions listen."""
    name: str = ""
    """As it is told from the others."""


@dataclass(frozen=True, slots=True)
class World:
    """What all questions share."""

    talk: Talk
    """How people behave, unless a source knows how long they speak."""
    aim: Aim = field(default_factory=Aim)
    """What every held session has."""
    cores: int | None = None
    """Of the machine; None: as it was measured on."""
    session_cores: float = SESSION_CORES
    """That each of a hundred sessions takes of the server's own process."""
    beside_cores: float = 0.0
    """That something else on the machine takes for each of a hundred."""
    gpu_bytes: int | None = None
    """Memory of its GPU; None: not known."""
    limit: int = LIMIT
    """Most sessions that are tried."""
    seed: int = 0
    """Of everything that is drawn."""


def questions(sources: Sequence[Source], choices: Choices) -> list[Question]:
    """All combinations, those of one source together.

    Raises:
        UsageError: there are too many.
    """
    made = [
        Question(source, wanted, listening)
        for source in sources
        for wanted in _wanted(choices, source)
        for listening in _listenings(choices, source)
    ]
    if len(made) > MOST_VARIANTS:
        raise UsageError(f"expected at most {MOST_VARIANTS} combinations, got {len(made)}")
    names = _names(made)
    return [replace(each, name=name) for each, name in zip(made, names, strict=True)]


def _wanted(choices: Choices, source: Source) -> Iterator[Wanted]:
    gpus = choices.gpus if source.model.on_gpu else (1,)
    for (sharing, pool), workers, threads, batch, count in itertools.product(
        choices.sharings, choices.workers, choices.threads, choices.batches, gpus
    ):
        yield Wanted(sharing, pool, workers, threads, batch, count)


def _listenings(choices: Choices, source: Source) -> Iterator[Listening]:
    for partials, interval_s, silence_s in itertools.product(
        choices.partials, choices.intervals_s, choices.silences_s
    ):
        textless = source.model_kind == synthetic.KIND and silence_s is None
        ends_s = TEXTLESS_SILENCE_S if textless else silence_s
        yield Listening(EndpointingSettings(silence_s=ends_s), partials, interval_s)


def _names(asked: Sequence[Question]) -> list[str]:
    """Of at least one; what is the same for all is left out, sharing apart."""
    facts = [_facts(each) for each in asked]
    differs = {key for key in facts[0] if len({each[key] for each in facts}) > 1}
    return [
        ", ".join(text for key, text in each.items() if text and key in {"sharing", *differs})
        for each in facts
    ]


def _facts(question: Question) -> dict[str, str]:
    """By what it is; empty where nothing was said."""
    wanted, listening = question.wanted, question.listening
    silence_s = listening.endpointing.silence_s
    return {
        "source": question.source.name,
        "sharing": wanted.name,
        "workers": f"{wanted.workers} workers" if wanted.workers else "",
        "threads": f"{wanted.threads} threads" if wanted.threads else "",
        "batch": f"batch {wanted.max_batch}" if wanted.max_batch else "",
        "gpus": f"{wanted.gpus} GPUs",
        "partials": f"partials {listening.partials}",
        "interval": f"every {1000 * listening.partial_interval_s:g} ms",
        "silence": "" if silence_s is None else f"silence {1000 * silence_s:g} ms",
    }


def setup_of(question: Question, world: World) -> Setup:
    """What one session would be in."""
    source = question.source
    cores = world.cores or source.cores
    arrangement = arrange(source.model, question.wanted, cores)
    times = times_of(source, arrangement)
    talk = replace(world.talk, speech_s=source.speech_s) if source.speech_s else world.talk
    return Setup(
        sessions=1,
        arrangement=arrangement,
        times=times,
        box=Box(
            source.model.device,
            cores,
            times.cores(arrangement.threads),
            times.contention,
            world.session_cores,
            world.beside_cores,
        ),
        talk=talk,
        listening=question.listening,
        gpus=question.wanted.gpus,
        load_s=source.load_s or 0.0,
        delay_target_s=world.aim.delay_s,
        seed=world.seed,
    )


def times_of(source: Source, arrangement: Arrangement) -> ServiceTimes:
    """Those with as many threads, or the nearest number that was measured."""
    return source.model.times[source.model.measured_threads(arrangement.threads)]


def answer(question: Question, world: World, told: Told = lambda _name, _sessions: None) -> Variant:
    """What this combination holds."""
    setup = setup_of(question, world)
    fitting = _fitting(question, world, setup.arrangement)
    limit = world.limit if fitting is None else min(world.limit, fitting)
    found = find(setup, world.aim, limit=limit, told=lambda n: told(question.name, n))
    if found.fails_at is None and fitting is not None and limit == fitting:
        found = replace(found, binding=MEMORY, fails_at=limit + 1)
    return _variant(question, setup, found)


def _fitting(question: Question, world: World, arrangement: Arrangement) -> int | None:
    """Most sessions that the memory for models allows; None: any number, as far as is known."""
    source = question.source
    room = world.gpu_bytes if source.model.on_gpu else source.host_bytes
    if not source.memory_bytes or room is None:
        return None
    models = int(MEMORY_SHARE * room * question.wanted.gpus) // source.memory_bytes
    if arrangement.sharing == "per-session":
        return models
    return None if models >= arrangement.engines else 0


def _variant(question: Question, setup: Setup, found: Found) -> Variant:
    source, wanted, listening = question.source, question.wanted, question.listening
    arrangement, times = setup.arrangement, setup.times
    own = wanted.sharing == "per-session"
    engines = found.holds if own else arrangement.engines
    memory = None if source.memory_bytes is None else engines * source.memory_bytes
    return Variant(
        name=question.name,
        model=source.model_name,
        model_kind=source.model_kind,
        device=source.model.device,
        sharing=wanted.name,
        gpus=wanted.gpus,
        workers=arrangement.workers,
        threads=arrangement.threads,
        max_batch=arrangement.limits.max_batch,
        partials=listening.partials,
        partial_interval_s=listening.partial_interval_s,
        silence_s=listening.endpointing.silence_s,
        service=service_of(times),
        holds=found.holds,
        fails_at=found.fails_at,
        binding=found.binding,
        points=found.points,
        load_s=source.load_s if own else None,
        memory_bytes=memory,
        serve_flags=_flags(question, found.holds),
    )


def service_of(times: ServiceTimes) -> Service:
    """As it is written down."""
    return Service(
        times.cost.base_s,
        times.cost.each_s,
        times.audio_s,
        times.grows_per_s,
        times.variation,
        times.n,
        times.most_jobs,
        times.contention,
    )


def _flags(question: Question, holds: int) -> tuple[str, ...]:
    """Of `rtvc serve`: what the user settled, and room for all; it finds the rest by itself."""
    source, wanted, listening = question.source, question.wanted, question.listening
    if not source.serve_flags:
        return ()
    flags = [*source.serve_flags]
    if wanted.sharing != "shared":
        flags += ["--sharing", wanted.sharing]
    if wanted.sharing == "pool":
        flags += ["--pool-size", str(wanted.pool)]
    settled = {
        "--workers": wanted.workers,
        "--threads-per-worker": wanted.threads,
        "--max-batch": wanted.max_batch,
    }
    for flag, value in settled.items():
        flags += [] if value is None else [flag, str(value)]
    if listening.partials != "adaptive":
        flags += ["--partials", listening.partials]
    silence_s = listening.endpointing.silence_s
    if silence_s is not None and source.model_kind != synthetic.KIND:
        flags += ["--silence-ms", f"{1000 * silence_s:g}"]
    if holds:
        flags += ["--max-sessions", str(holds)]
    return tuple(flags)
