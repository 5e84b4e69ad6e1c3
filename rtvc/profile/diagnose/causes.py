"""All rules, and which of what they find is worth naming."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rtvc.profile.diagnose.engine_rules import (
    device_contention,
    device_throttling,
    inference_saturated,
    partials_starving_finals,
    serialised_inference,
)
from rtvc.profile.diagnose.evidence import Evidence
from rtvc.profile.diagnose.finding import Cause, Delay, Finding
from rtvc.profile.diagnose.life_rules import (
    cold_start,
    copies_cost_s,
    engine_failing,
    lost_to_failures_s,
    memory_exhaustion,
    model_per_session,
)
from rtvc.profile.diagnose.path_rules import (
    audio_backlog,
    blocked_event_loop,
    generator_saturated,
    hidden_backlog,
    network,
)
from rtvc.profile.diagnose.policy_rules import endpoint_wait, slow_llm, slow_tts, turn_detector

Rule = Callable[[Evidence], Finding | None]

RULES: tuple[Rule, ...] = (
    generator_saturated,
    network,
    blocked_event_loop,
    audio_backlog,
    hidden_backlog,
    endpoint_wait,
    turn_detector,
    slow_llm,
    slow_tts,
    model_per_session,
    cold_start,
    memory_exhaustion,
    engine_failing,
    device_contention,
    device_throttling,
    partials_starving_finals,
    serialised_inference,
)
"""Each by itself; a saturated engine is what remains of the queue when they are done."""

IN_THE_ENGINE = frozenset(
    {
        Cause.DEVICE_CONTENTION,
        Cause.DEVICE_THROTTLING,
        Cause.PARTIALS_STARVING_FINALS,
        Cause.SERIALISED_INFERENCE,
    }
)
"""Causes that lengthen queue and compute."""

LOAD = frozenset(
    {
        Cause.INFERENCE_SATURATED,
        Cause.SERIALISED_INFERENCE,
        Cause.PARTIALS_STARVING_FINALS,
    }
)
"""A server that is asked much of, and answers in time, is healthy."""

LEAST_S = 0.05
"""Less is noise of a turn."""

HARDLY_S = 0.02
"""A VAD frame: no cause can be told from less."""

LEAST_SHARE = 0.05
"""Less is no cause, where the target is missed."""

WITHIN_TARGET_S = 0.1
"""A cause within the target is worth a word from here on."""

WITHIN_TARGET_SHARE = 0.2
"""As above, of the delay."""

NOT_TOLD_APART = (
    "while others hold the device, a model too slow for it, or a device slowing down, look the same"
)

BESIDE_THE_FIRST = 0.05
"""A further cause is named if it costs this share of the first one of the same delay."""

NEGLIGIBLE_S = 0.02
"""Less of any delay is no cause of it: a VAD frame."""

NEGLIGIBLE_SHARE = 0.05
"""As above, of the delay."""

COSTS_MORE_THAN_DELAY = frozenset(
    {
        Cause.ENGINE_FAILING,
        Cause.MEMORY_EXHAUSTION,
        Cause.BLOCKED_EVENT_LOOP,
        Cause.GENERATOR_SATURATED,
    }
)
"""Faults that a small share does not make small: answers lost, a process that will end, sessions
that stand still in bursts, a measurement that proves nothing."""

OWN_MAKING = frozenset({Cause.MODEL_PER_SESSION, Cause.PARTIALS_STARVING_FINALS})
"""What the server does by itself, with a proof that others cannot make."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the rules say."""

    named: tuple[Finding, ...]
    """The verdict, the most expensive first."""
    negligible: tuple[Finding, ...]
    """There, but felt by nobody: worth a note."""


def find(evidence: Evidence) -> list[Finding]:
    """What is worth naming, the most expensive first."""
    return list(judge(evidence).named)


def judge(evidence: Evidence) -> Found:
    """What is worth naming, and what is there without being felt."""
    found = [finding for rule in RULES if (finding := rule(evidence)) is not None]
    locked = any(finding.cause is Cause.SERIALISED_INFERENCE for finding in found)
    full = None if locked else inference_saturated(evidence, explained_s(evidence, found))
    if full is not None:
        found.append(full)
    slight = [finding for finding in found if is_negligible(finding)]
    found = [finding for finding in found if finding not in slight]
    worth = [finding for finding in found if is_worth_naming(finding, evidence)]
    ordered = _ranked(_beside_contention(_with_what_suffers(worth)))
    named = ordered or _best_of(found, evidence)
    return Found(tuple(named), tuple(finding for finding in slight if finding.certain))


def is_negligible(finding: Finding) -> bool:
    """Whether nobody feels it."""
    if finding.cause in COSTS_MORE_THAN_DELAY:
        return False
    return finding.share_s < max(NEGLIGIBLE_S, NEGLIGIBLE_SHARE * finding.of_s)


def _best_of(found: Sequence[Finding], evidence: Evidence) -> list[Finding]:
    """Where a target is missed and nothing costs much, what costs most is better than silence."""
    missed = [finding for finding in found if _missed(finding, evidence)]
    best = max(missed, key=lambda one: one.share_s, default=None)
    return [best] if best is not None and best.share_s >= HARDLY_S else []


def explained_s(evidence: Evidence, found: Sequence[Finding]) -> float:
    """Seconds of queue and compute that others than the load account for."""
    total_s = sum(finding.share_s for finding in found if finding.cause in IN_THE_ENGINE)
    causes = {finding.cause for finding in found}
    if Cause.MODEL_PER_SESSION in causes:
        total_s += copies_cost_s(evidence)
    total_s += sum(one.rank_s for one in found if one.cause is Cause.COLD_START)
    if causes & {Cause.ENGINE_FAILING, Cause.MEMORY_EXHAUSTION}:
        total_s += lost_to_failures_s(evidence.worst)
    return total_s


def is_worth_naming(finding: Finding, evidence: Evidence) -> bool:
    if finding.certain:
        return True
    # The rules of replies have limits of their own: there is no target to stay within.
    if _missed(finding, evidence) or finding.delay == "response latency":
        return finding.share_s >= max(LEAST_S, LEAST_SHARE * finding.of_s)
    if finding.cause in LOAD:
        return False
    return finding.share_s >= max(WITHIN_TARGET_S, WITHIN_TARGET_SHARE * finding.of_s)


def _missed(finding: Finding, evidence: Evidence) -> bool:
    if finding.delay == "connection":
        return evidence.connection_missed
    return finding.delay == "transcription delay" and evidence.delay_probably_missed


def _with_what_suffers(found: Sequence[Finding]) -> list[Finding]:
    """A language model or a voice on a device in other hands is slow, too: those come first."""
    replies_s = [one.rank_s for one in found if one.cause in (Cause.SLOW_LLM, Cause.SLOW_TTS)]
    note = "a language model or a voice on the same device suffers, too"
    return [
        replace(one, weight_s=max([one.rank_s, *replies_s]) + HARDLY_S, notes=(*one.notes, note))
        if one.cause is Cause.DEVICE_CONTENTION and replies_s
        else one
        for one in found
    ]


def _beside_contention(found: Sequence[Finding]) -> list[Finding]:
    """What the server makes by itself comes before others on its device. A device too small for its
    load cannot be told from one that others hold: the others, who are seen, come first."""
    own_s = min((one.rank_s for one in found if one.cause in OWN_MAKING), default=math.inf)
    full_s = [one.rank_s for one in found if one.cause is Cause.INFERENCE_SATURATED]

    def placed(one: Finding) -> Finding:
        if one.cause is Cause.INFERENCE_SATURATED:
            return replace(one, weight_s=min(one.rank_s, 0.98 * own_s))
        if one.cause is not Cause.DEVICE_CONTENTION:
            return one
        weight_s = max(one.rank_s, *full_s) + HARDLY_S if full_s else one.rank_s
        notes = (*one.notes, NOT_TOLD_APART) if full_s else one.notes
        return replace(one, weight_s=min(weight_s, 0.99 * own_s), notes=notes)

    others = any(one.cause is Cause.DEVICE_CONTENTION for one in found)
    return [placed(one) for one in found] if others else list(found)


def _ranked(found: Sequence[Finding]) -> list[Finding]:
    """A run that proves nothing comes first: what else was found is only a guess then."""
    ordered = sorted(
        found,
        key=lambda one: (one.cause is Cause.GENERATOR_SATURATED, one.rank_s),
        reverse=True,
    )
    most_s: dict[Delay, float] = {}
    for one in ordered:
        most_s[one.delay] = max(most_s.get(one.delay, 0.0), one.rank_s)
    return [
        one for one in ordered if one.certain or one.rank_s >= BESIDE_THE_FIRST * most_s[one.delay]
    ]
