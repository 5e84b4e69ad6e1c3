"""Cases: a world, what is wrong with it, and the proof that it hurts.

A fault counts only if what it delays is at least half as long again, and 150 ms longer, than in
the sound twin of the same world, and if that misses the target where there is one: a server that
keeps its targets is a sound one. Of two at once, each must hurt beside the other. What does not
hurt enough is drawn anew, stronger.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from rtvc.summary import FRAME_S
from tests.diagnosis_worlds.faults import DRAWS, NONE, Faults, together
from tests.diagnosis_worlds.recording import Phase, Story, simulate
from tests.diagnosis_worlds.world import World, draw

TIMES = 1.5
MORE_S = 0.15
MISSING_S = 10.0
TRIES = 250
STRONGEST = 2.0
"""Times the usual: more would be nonsense."""
TARGET_S = 0.5
CONNECTION_TARGET_S = 3.0

Felt = Callable[[Story], float]
"""Seconds of the delay that a cause concerns."""

HEAVY = {"serialised-inference": (2.0, 8.0), "partials-starving-finals": (1.0, 4.0)}
"""Causes that need inferences which are not over at once."""

REPLIES = ("slow-llm", "slow-tts")
"""Causes that concern replies, for which there is no target."""

PAIRS: tuple[tuple[str, str], ...] = (
    ("slow-llm", "slow-tts"),
    ("endpoint-wait", "slow-llm"),
    ("network", "slow-llm"),
    ("inference-saturated", "slow-llm"),
    ("endpoint-wait", "slow-tts"),
    ("model-per-session", "partials-starving-finals"),
    ("hidden-backlog", "slow-llm"),
    ("blocked-event-loop", "slow-tts"),
    ("turn-detector", "slow-llm"),
    ("network", "endpoint-wait"),
    ("inference-saturated", "network"),
    ("device-contention", "slow-llm"),
    ("serialised-inference", "slow-tts"),
    ("audio-backlog", "slow-llm"),
    ("cold-start", "slow-tts"),
    ("device-throttling", "endpoint-wait"),
    ("engine-failing", "slow-llm"),
    ("memory-exhaustion", "slow-tts"),
    ("hidden-backlog", "endpoint-wait"),
    ("turn-detector", "network"),
)


class NoCaseError(AssertionError):
    """No draw of so many hurt, or was sound without its faults."""


@dataclass(frozen=True, slots=True)
class Case:
    """One patient."""

    name: str
    """Of the case; also its seed."""
    causes: tuple[str, ...]
    """What is wrong; empty: nothing."""
    world: World
    """Where."""
    faults: Faults
    """How badly."""
    story: Story
    """What happened."""
    twin: Story
    """What happens without the faults."""


def healthy(number: int) -> Case:
    """A server that nothing is wrong with: slow but fine, busy but fine, or far away."""
    name = f"healthy-{number}"
    rng = random.Random(name)
    for _ in range(TRIES):
        world = draw(rng.getrandbits(32), rng.uniform(0.5, 2.5))
        story = simulate(world)
        if is_sound(story):
            return Case(name, (), world, NONE, story, story)
    raise NoCaseError(f"{name}: no sound world in {TRIES}")


def ill(causes: Sequence[str], number: int) -> Case:
    """A server with these causes of delay, each of which hurts."""
    name = f"{'+'.join(causes)}-{number}"
    rng = random.Random(name)
    for attempt in range(TRIES):
        low, high = next((HEAVY[c] for c in causes if c in HEAVY), (0.7, 1.3))
        world = draw(rng.getrandbits(32), rng.uniform(low, high))
        twin = simulate(world)
        if not is_sound(twin):
            continue
        more = min(1 + 0.04 * attempt, STRONGEST)
        faults = [DRAWS[cause](rng, world, more) for cause in causes]
        story = simulate(world, together(*faults))
        if all(_hurts(n, causes, faults, world, story, twin) for n in range(len(causes))):
            return Case(name, tuple(causes), world, together(*faults), story, twin)
    raise NoCaseError(f"{name}: nothing that hurts in {TRIES}")


def _hurts(
    which: int,
    causes: Sequence[str],
    faults: Sequence[Faults],
    world: World,
    story: Story,
    twin: Story,
) -> bool:
    """Against the twin, and beside what else is wrong."""
    cause, felt = causes[which], FELT[causes[which]]
    if not hurts(felt(story), felt(twin)) or (cause not in REPLIES and is_sound(story)):
        return False
    if cause == "generator-saturated" and lag_s(story) <= FRAME_S:
        return False
    others = [fault for n, fault in enumerate(faults) if n != which]
    if not others:
        return True
    without = simulate(world, together(*others))
    alone = simulate(world, faults[which])
    return felt(story) - felt(without) >= MORE_S and hurts(felt(alone), felt(twin))


def hurts(felt_s: float, twin_s: float) -> bool:
    return felt_s >= TIMES * twin_s and felt_s >= twin_s + MORE_S


def is_sound(story: Story) -> bool:
    """Keeps its targets, and the generator kept up."""
    turns = [turn for phase in story.phases for turn in phase.turns]
    delays = [_or_missing(turn.transcription_delay_s) for turn in turns]
    replies = [turn.response_latency_s for turn in turns]
    rows = [row for phase in story.phases for row in phase.connections]
    connected = [_or_missing(row.connection_s) for row in rows]
    return (
        all(phase.turns for phase in story.phases)
        and max(delays) < TARGET_S
        and None not in replies
        and max(connected) < CONNECTION_TARGET_S
        and lag_s(story) <= FRAME_S
    )


def _or_missing(seconds: float | None) -> float:
    return MISSING_S if seconds is None else seconds


# What is felt.


def lag_s(story: Story) -> float:
    """The worst lag of the generator."""
    return max(row.lag_max_s for phase in story.phases for row in phase.generator)


def transcripts(story: Story) -> float:
    """Mean transcription delay of the last phase."""
    return _delay_s([story.many])


def all_transcripts(story: Story) -> float:
    """Mean transcription delay of all phases."""
    return _delay_s(story.phases)


def responses(story: Story) -> float:
    """Mean response latency of the last phase."""
    turns = [turn for turn in story.many.turns if not turn.warm_up]
    return _mean([_or_missing(turn.response_latency_s) for turn in turns])


def connections(story: Story) -> float:
    """Mean connection time of the last phase."""
    return _mean([_or_missing(row.connection_s) for row in story.many.connections])


def first_words(story: Story) -> float:
    """Mean transcription delay of what each session says first."""
    turns = [turn for phase in story.phases for turn in phase.turns if not turn.utterance]
    return _mean([_or_missing(turn.transcription_delay_s) for turn in turns if not turn.warm_up])


def _delay_s(phases: Sequence[Phase]) -> float:
    turns = [turn for phase in phases for turn in phase.turns if not turn.warm_up]
    return _mean([_or_missing(turn.transcription_delay_s) for turn in turns])


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else math.nan


_TRANSCRIPTS: Felt = transcripts
FELT: dict[str, Felt] = {name: _TRANSCRIPTS for name in DRAWS} | {
    "model-per-session": connections,
    "slow-llm": responses,
    "slow-tts": responses,
    "cold-start": first_words,
    "memory-exhaustion": all_transcripts,
    "engine-failing": all_transcripts,
}
"""The delay that each cause concerns."""
