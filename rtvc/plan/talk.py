"""What simulated people say and when, and how a session listens to them. Pure."""

import math
import random
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

from rtvc.config import FLAT_OUT_INTERVAL_S
from rtvc.errors import UsageError
from rtvc.speech.scenario import Scenario, SpeechMix
from rtvc.speech.sentences import sentence, words_of
from rtvc.voice.endpointing import EndpointingSettings

Partials = Literal["adaptive", "flat-out", "off"]

Range = tuple[float, float]
"""Seconds, drawn from evenly."""

FRAME_S = 0.032
"""Of voice activity detection: silence is counted in these."""

DRAWN = 400
"""Sentences whose lengths stand for all."""

SPOKEN = 0.845
"""Utterances of `rtvc loadtest` last this part of what their words take at the pace asked for:
measured 1.89 s instead of 2.24 s (n=15,330; docs/plan.md)."""

REPLY_S: Range = (2.5, 6.0)
"""From a final transcript to the end of the spoken reply, where nobody measured it: about 1 s to
its first sample, then one to three short sentences."""


@dataclass(frozen=True, slots=True)
class Talk:
    """How a person behaves."""

    speech_s: tuple[float, ...]
    """Seconds of utterances, drawn from evenly; at least one."""
    pause_s: Range = (3.0, 3.0)
    """End of speech → next utterance, where nobody replies; else after the reply."""
    reply_s: Range | None = None
    """Final transcript → end of the reply as heard; None: nobody replies."""
    start_within_s: float = 3.0
    """The first utterance begins within so many seconds."""
    inner_pauses: float = 0.5
    """Part of the utterances with a pause inside, long enough for the final to be tried. Of the
    speakers of `rtvc loadtest`: 0.49 tries beside the final for each of their utterances (n=15,330;
    docs/plan.md)."""
    inner_pause_s: Range = (0.08, 0.22)
    """How long it is."""
    message_s: float = 0.02
    """Audio in a message of the client, which is heard once it is complete. 0: at once."""

    @property
    def cycle_s(self) -> float:
        """From the beginning of an utterance to that of the next, on average and unhurried."""
        reply_s = 0.0 if self.reply_s is None else fmean(self.reply_s) + 0.3
        return fmean(self.speech_s) + reply_s + fmean(self.pause_s)


@dataclass(frozen=True, slots=True)
class Listening:
    """How a session listens."""

    endpointing: EndpointingSettings = field(default_factory=EndpointingSettings)
    """When a turn is over."""
    partials: Partials = "adaptive"
    """Rarer under load, each as soon as the one before is answered, or none."""
    partial_interval_s: float = 0.4
    """Audio between two partials at least."""
    padding_s: float = 0.3
    """Audio kept from before speech was noticed."""
    heard_late_s: Range = (0.02, 0.06)
    """True end of speech → the last speech that voice activity detection heard has arrived."""
    sent_s: float = 0.005
    """Text there → text at the client."""

    @property
    def interval_s(self) -> float:
        """Between two partials of a session, unless the engine advises more."""
        flat_out = self.partials == "flat-out"
        return FLAT_OUT_INTERVAL_S if flat_out else self.partial_interval_s

    def silence_s(self, *, answered: bool) -> float:
        """Silence after which a turn is over, the text of the pause being there or not.

        Texts at the true end of an utterance are taken to bear a final mark.
        """
        settings = self.endpointing
        if settings.silence_s is not None:
            return settings.silence_s
        return settings.unset_silence_s if answered else settings.unmarked_silence_s

    def frames(self, seconds: float) -> int:
        """Frames of silence that are at least so long, and at least one."""
        return max(math.ceil(seconds / FRAME_S - 1e-9), 1)


def talk_of(scenario: Scenario, *, speech_s: tuple[float, ...] = (), seed: int = 0) -> Talk:
    """What a scenario of the load test means here; `speech_s`: lengths that were measured.

    Raises:
        UsageError: it is about something that a plan does not simulate.
    """
    _check(scenario)
    waits = scenario.wait_for_reply
    return Talk(
        speech_s=speech_s or speech_lengths(scenario.speech, seed),
        pause_s=scenario.think_s if waits else scenario.pause_s,
        reply_s=REPLY_S if waits else None,
        start_within_s=scenario.start_within_s,
    )


def _check(scenario: Scenario) -> None:
    unlike = {
        "speakers that differ ([[mix]])": bool(scenario.parts),
        "nobody speaking": scenario.silent,
        "only connecting": scenario.connect_rounds > 0,
        "turns that end together": scenario.turn_ends_every_s is not None,
        "callers who come and go": scenario.arrivals.kind == "open",
        "interruptions": scenario.interruption_probability > 0,
    }
    named = [name for name, true in unlike.items() if true]
    if named:
        raise UsageError(
            f"expected a scenario of speakers who stay and take turns, such as dictation or "
            f"conversation; {scenario.name!r} is about {', '.join(named)}"
        )


def speech_lengths(mix: SpeechMix, seed: int = 0) -> tuple[float, ...]:
    """Seconds of the utterances that the load test would let its speakers say."""
    rng = random.Random(f"{seed}/lengths")
    if mix.monologue_s is not None:
        return tuple(rng.uniform(*mix.monologue_s) for _ in range(DRAWN))
    fewest, most = mix.words
    lengths: list[float] = []
    for _ in range(50 * DRAWN):
        words = len(words_of(sentence(rng)))
        if fewest <= words <= most:
            lengths.append(SPOKEN * 60 * words / rng.uniform(*mix.words_per_minute))
        if len(lengths) == DRAWN:
            break
    # A range of lengths that hardly any sentence has: as if all were in the middle of it.
    return tuple(lengths) or (SPOKEN * 60 * fmean(mix.words) / fmean(mix.words_per_minute),)
