"""The answer in words."""

from collections.abc import Sequence
from itertools import pairwise

from rtvc.profile.diagnose.evidence import Evidence, Phase, middle
from rtvc.profile.diagnose.finding import Cause, Delay, Finding
from rtvc.slo import shown

SAID: dict[Cause, str] = {
    Cause.MODEL_PER_SESSION: "every session loads a model of its own",
    Cause.DEVICE_CONTENTION: "other programs use the device that transcribes",
    Cause.INFERENCE_SATURATED: "more is asked of the engine than the device can answer",
    Cause.SERIALISED_INFERENCE: "inferences wait for one another while the device has room",
    Cause.AUDIO_BACKLOG: "audio waits in the server's inbox before it is heard",
    Cause.HIDDEN_BACKLOG: "audio waits in a buffer that no gauge shows",
    Cause.PARTIALS_STARVING_FINALS: "partial transcripts take the engine's time from the finals",
    Cause.TURN_DETECTOR: "the turn model's answer is waited for",
    Cause.ENDPOINT_WAIT: "the turn policy waits out a long silence",
    Cause.BLOCKED_EVENT_LOOP: "something blocks the server's event loop",
    Cause.SLOW_LLM: "the language model begins late",
    Cause.SLOW_TTS: "the voice begins late",
    Cause.COLD_START: "the first turn finds the engine cold",
    Cause.DEVICE_THROTTLING: "the device slows down as it works",
    Cause.MEMORY_EXHAUSTION: "memory runs out",
    Cause.NETWORK: "the network takes it",
    Cause.ENGINE_FAILING: "the engine crashes or hangs",
    Cause.GENERATOR_SATURATED: "the load generator was late itself",
    Cause.HEALTHY: "nothing is wrong",
}
"""Cause → the end of a sentence with "because"."""

TOLD_S = 0.001
"""A share below it is none: the cause costs answers, or will, and not time."""

AT_MOST = frozenset({Cause.DEVICE_CONTENTION})
"""Causes whose share is a bound: what others take is known, not what it would be good for."""

GAINS: dict[Cause, str] = {
    Cause.ENGINE_FAILING: "answers that are lost, or wait for a restart, now",
    Cause.MEMORY_EXHAUSTION: "a server that stays up",
    Cause.BLOCKED_EVENT_LOOP: "audio, pages and pings that come evenly",
    Cause.GENERATOR_SATURATED: "figures that prove something",
}
"""Cause → what is gained where it is no time."""

_SUBJECT: dict[Delay, str] = {
    "transcription delay": "Transcripts take",
    "response latency": "Replies take",
    "connection": "Connecting takes",
}


def sentence_of(
    evidence: Evidence, findings: Sequence[Finding], *, missed: bool, indistinct: bool = False
) -> str:
    """The answer in one line."""
    void = any(finding.cause is Cause.GENERATOR_SATURATED for finding in findings)
    if evidence.interrupted:
        so_far = _took(evidence) if void or not findings else _with_causes(evidence, findings)
        return f"Interrupted, and so not judged. So far: {so_far}."
    if not findings:
        return _without_cause(evidence, missed=missed)
    if void:
        return "Nothing follows about the server: the load generator was late itself."
    if indistinct:
        return _between(evidence, findings)
    return f"{_with_causes(evidence, findings)}."


def _with_causes(evidence: Evidence, findings: Sequence[Finding]) -> str:
    first, lost = findings[0], _lost(evidence)
    said = (f"{lost}. " if lost else "") + _upper(_clause(evidence, first, lost))
    for before, other in pairwise(findings[:3]):
        said += _further(evidence, before, other)
    return said


def _clause(evidence: Evidence, finding: Finding, lost: str) -> str:
    if finding.share_s >= TOLD_S:
        return f"{_taken(evidence, finding)}, {share_of(finding)} of it because {_said(finding)}"
    if lost or finding.of_s < TOLD_S:
        return _said(finding)
    return f"{_said(finding)}; {_lower(_taken(evidence, finding))}"


def _further(evidence: Evidence, before: Finding, other: Finding) -> str:
    if other.share_s < TOLD_S:
        return f"; besides, {_said(other)}"
    if (other.delay, other.phase) == (before.delay, before.phase) and before.share_s >= TOLD_S:
        return f", and {share_of(other)} because {_said(other)}"
    return f"; {_lower(_clause(evidence, other, ''))}"


def _between(evidence: Evidence, findings: Sequence[Finding]) -> str:
    """Two causes that would look the same."""
    both = " or ".join(f"because {_said(one)} ({share_of(one)})" for one in findings[:2])
    said = f"Undecided: {_lower(_taken(evidence, findings[0]))} {both}"
    said += "; while others hold the device, the two cannot be told apart"
    for other in findings[2:3]:
        said += _further(evidence, findings[0], other)
    return said + "."


def _taken(evidence: Evidence, finding: Finding) -> str:
    usual = _told_of(evidence, finding.delay).name
    where = "" if finding.phase == usual else f" ({finding.phase})"
    return f"{_SUBJECT[finding.delay]} {shown(finding.of_s, 's')}{where}"


def _told_of(evidence: Evidence, delay: Delay) -> Phase:
    """The phase that goes without saying: where that delay is worst."""
    if delay == "transcription delay":
        return evidence.felt_worst
    if delay == "response latency":
        return evidence.slowest_reply
    return max(evidence.phases, key=lambda one: middle(one.connections_s) or 0.0)


def share_of(finding: Finding) -> str:
    """
    >>> share_of(Finding(Cause.DEVICE_CONTENTION, "transcription delay", 0.2, 1.0, "one", ()))
    'up to 200 ms'
    """
    bound = "up to " if finding.cause in AT_MOST else ""
    return f"{bound}{shown(finding.share_s, 's')}"


def _said(finding: Finding) -> str:
    return SAID[finding.cause]


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _lost(evidence: Evidence) -> str:
    """How many finals never came where that was felt most; empty: all came."""
    phase = max(evidence.phases, key=lambda one: one.finals_missing / max(1, len(one.judged)))
    if not phase.finals_missing:
        return ""
    of = f"{phase.finals_missing} of {len(phase.judged)}"
    return f"{of} transcripts never came with {phase.speakers} speaking"


def _took(evidence: Evidence) -> str:
    """What was felt where it was worst."""
    phase, lost = evidence.felt_worst, _lost(evidence)
    where = f"with {phase.speakers} speaking"
    connects = [one for phase in evidence.phases for one in phase.connections_s]
    if connects and not any(phase.turns for phase in evidence.phases):
        return f"connecting takes {shown(middle(connects) or 0.0, 's')}, nobody spoke {where}"
    if phase.delay_s is None:
        return lost or f"no transcript came {where}"
    took = f"transcripts take {shown(phase.delay_s, 's')} {where}"
    return f"{took}, {lost}" if lost else took


def _without_cause(evidence: Evidence, *, missed: bool) -> str:
    if missed:
        return f"Undecided: {_took(evidence)}, and nothing that was measured says why."
    return f"Healthy: {_took(evidence)}, and nothing costs what it should not."


def unseen_in(evidence: Evidence) -> list[str]:
    """What could not be seen, and what that leaves open."""
    phases = evidence.phases
    gaps = []
    if not evidence.segments_told:
        gaps.append(
            "the server tells no segments: waits, queues and work of a turn are not told apart"
        )
    if not any(phase.server for phase in phases):
        gaps.append("the server has no /metrics: queues, restarts and the event loop are not seen")
    if not any(phase.host for phase in phases):
        gaps.append("nobody watched the machine: CPU, memory and round trips are not seen")
    elif not any(phase.host.of("server_cpu_cores") for phase in phases):
        gaps.append("the server's process was not seen: its CPU and memory are unknown")
    if not any(phase.gpu("utilisation_ratio") for phase in phases):
        gaps.append("no GPU was seen")
    if len(phases) < 2:
        gaps.append("one phase only: what grows with speakers is not seen")
    return gaps
