"""What can be wrong with a server, as mechanisms: each cause changes how something works."""

import random
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from tests.diagnosis_worlds.world import GB, World


@dataclass(frozen=True, slots=True)
class Faults:
    """All that is wrong; the defaults are nothing at all."""

    own_model_s: float | None = None
    """Each session loads a model of its own, which takes so long at least."""
    neighbour: float = 0.0
    """Cores (or, of a graphics card, shares) that another process wants all the time."""
    neighbour_is_child: bool = False
    """Whether the server itself started that process."""
    slower: float = 1.0
    """Times as long as each inference takes."""
    serialised: bool = False
    """One inference of one job at a time."""
    hearing_s: float = 0.0
    """Seconds more of hearing for each second of audio, on the thread that hears for all."""
    hearing_computes: bool = False
    """Whether it computes meanwhile, or only takes its time."""
    held_s: float = 0.0
    """Seconds that what clients send waits before the server takes note of it."""
    flood: float = 0.0
    """Partials flat out and ahead of finals, each batch inferred so many times; 0: sound ones."""
    judging_s: float = 0.0
    """Seconds more for a judgement whether a turn is over; one at a time for all."""
    silence_s: float = 0.0
    """More silence that ends a turn."""
    blocked_s: float = 0.0
    """The event loop stands still so long again and again."""
    running_s: float = 0.2
    """How long it goes on in between."""
    llm_s: float = 0.0
    """Seconds later that a reply begins to be written."""
    tts_s: float = 0.0
    """Seconds later that a sentence begins to sound."""
    cold_s: float = 0.0
    """Seconds that a session's first inference takes longer, and the first after a break."""
    throttled: float = 1.0
    """Times as long as each inference takes in the end."""
    throttling_s: float = 60.0
    """How long that takes to come about."""
    memory_fill_s: float = 0.0
    """How long the engine takes for taking all memory that it may; it gives none back."""
    memory_room_bytes: float = 0.0
    """How much that is; then no inference succeeds."""
    way_s: float = 0.0
    """Seconds that the network takes longer, each way."""
    way_of_all: bool = False
    """Whether connecting takes longer, too; not where the delay is behind the accepting."""
    crash_s: float | None = None
    """The engine's process ends so long after it was ready, each time."""
    hang_s: float | None = None
    """The engine stops answering so long after it was ready, each time."""
    generator_s: float = 0.0
    """Seconds more that the load generator takes for a frame."""
    onset_s: float = 0.0
    """When what does not need to be there from the start begins, since the first phase did."""


NONE = Faults()

Draw = Callable[[random.Random, World, float], Faults]
"""(random numbers, the world, how much stronger than usual)."""


def together(*faults: Faults) -> Faults:
    """All of them at once."""
    both = NONE
    for one in faults:
        set_ = {f.name: getattr(one, f.name) for f in fields(one)}
        changed = {name: value for name, value in set_.items() if value != getattr(NONE, name)}
        both = replace(both, **changed)
    return both


def _onset_s(rng: random.Random, world: World) -> float:
    """Mostly from the start; else at some time before the last phase."""
    return rng.uniform(0, 2 * world.duration_s) if rng.random() < 0.25 else 0.0


def _model_per_session(rng: random.Random, world: World, more: float) -> Faults:
    return Faults(own_model_s=rng.uniform(1.5, 6) * more)


def _device_contention(rng: random.Random, world: World, more: float) -> Faults:
    wanted = rng.uniform(1.0, 3.0) * more
    onset_s = _onset_s(rng, world)
    child = not world.gpu and rng.random() < 0.4
    return Faults(
        neighbour=wanted if world.gpu else wanted * world.cpus,
        neighbour_is_child=child,
        onset_s=onset_s,
    )


def _inference_saturated(rng: random.Random, world: World, more: float) -> Faults:
    return Faults(slower=rng.uniform(2, 6) * more)


def _serialised(rng: random.Random, world: World, more: float) -> Faults:
    return Faults(serialised=True)


def _audio_backlog(rng: random.Random, world: World, more: float) -> Faults:
    # More than a second of hearing for a second of the audio of all.
    all_s = rng.uniform(1.1, 2.2) * more
    return Faults(hearing_s=all_s / world.speakers, hearing_computes=rng.random() < 0.5)


def _hidden_backlog(rng: random.Random, world: World, more: float) -> Faults:
    return Faults(held_s=rng.uniform(0.3, 2.0) * more, onset_s=_onset_s(rng, world))


def _partials(rng: random.Random, world: World, more: float) -> Faults:
    return Faults(flood=rng.uniform(1, 2.5) * more)


def _turn_detector(rng: random.Random, world: World, more: float) -> Faults:
    return Faults(judging_s=rng.uniform(0.25, 1.2) * more)


def _endpoint_wait(rng: random.Random, world: World, more: float) -> Faults:
    return Faults(silence_s=rng.uniform(0.2, 1.2) * more)


def _blocked_loop(rng: random.Random, world: World, more: float) -> Faults:
    return Faults(
        blocked_s=rng.uniform(0.15, 0.6) * more,
        running_s=rng.uniform(0.1, 0.3),
        onset_s=_onset_s(rng, world),
    )


def _slow_llm(rng: random.Random, world: World, more: float) -> Faults:
    return Faults(llm_s=rng.uniform(0.6, 3) * more, onset_s=_onset_s(rng, world))


def _slow_tts(rng: random.Random, world: World, more: float) -> Faults:
    return Faults(tts_s=rng.uniform(0.4, 2) * more, onset_s=_onset_s(rng, world))


def _cold_start(rng: random.Random, world: World, more: float) -> Faults:
    return Faults(cold_s=rng.uniform(2.5, 6) * more)


def _throttling(rng: random.Random, world: World, more: float) -> Faults:
    return Faults(throttled=rng.uniform(3, 8) * more, throttling_s=rng.uniform(30, 70))


def _memory(rng: random.Random, world: World, more: float) -> Faults:
    """The machine's, or what the engine's container is granted."""
    granted = rng.uniform(0.8, 3) * GB
    room = world.memory_bytes if rng.random() < 0.5 else granted
    return Faults(memory_fill_s=rng.uniform(6, 18) / more, memory_room_bytes=room)


def _network(rng: random.Random, world: World, more: float) -> Faults:
    return Faults(
        way_s=rng.uniform(0.1, 0.4) * more,
        way_of_all=rng.random() < 0.5,
        onset_s=_onset_s(rng, world),
    )


def _engine_failing(rng: random.Random, world: World, more: float) -> Faults:
    if rng.random() < 0.5:
        return Faults(crash_s=rng.uniform(2, 8) / more)
    return Faults(hang_s=rng.uniform(4, 14) / more)


def _generator(rng: random.Random, world: World, more: float) -> Faults:
    per_s = 50 * world.speakers
    return Faults(generator_s=rng.uniform(1.05, 2) * more / per_s)


DRAWS: dict[str, Draw] = {
    "model-per-session": _model_per_session,
    "device-contention": _device_contention,
    "inference-saturated": _inference_saturated,
    "serialised-inference": _serialised,
    "audio-backlog": _audio_backlog,
    "hidden-backlog": _hidden_backlog,
    "partials-starving-finals": _partials,
    "turn-detector": _turn_detector,
    "endpoint-wait": _endpoint_wait,
    "blocked-event-loop": _blocked_loop,
    "slow-llm": _slow_llm,
    "slow-tts": _slow_tts,
    "cold-start": _cold_start,
    "device-throttling": _throttling,
    "memory-exhaustion": _memory,
    "network": _network,
    "engine-failing": _engine_failing,
    "generator-saturated": _generator,
}
"""How each cause is brought about, by its name."""
