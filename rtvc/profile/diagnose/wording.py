"""The answer in words."""

from collections.abc import Sequence

from rtvc.profile.diagnose.evidence import Evidence, middle
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

_SUBJECT: dict[Delay, str] = {
    "transcription delay": "Transcripts take",
    "response latency": "Replies take",
    "connection": "Connecting takes",
}


def sentence_of(evidence: Evidence, findings: Sequence[Finding], *, missed: bool) -> str:
    """The answer in one line."""
    if not findings:
        return _without_cause(evidence, missed=missed)
    first = findings[0]
    if first.cause is Cause.GENERATOR_SATURATED:
        return "Nothing follows about the server: the load generator was late itself."
    took = f"{_SUBJECT[first.delay]} {shown(first.of_s, 's')}"
    if first.share_s < TOLD_S:
        said = f"{took}, and {SAID[first.cause]}"
    else:
        said = f"{took}, {shown(first.share_s, 's')} of it because {SAID[first.cause]}"
    others = [
        f"{SAID[other.cause]} ({shown(other.share_s, 's')} of the {other.delay})"
        for other in findings[1:3]
    ]
    return said + ("; and because " + "; and ".join(others) if others else "") + "."


def _without_cause(evidence: Evidence, *, missed: bool) -> str:
    delay_s = evidence.worst.delay_s
    took = "no transcript came" if delay_s is None else f"transcripts take {shown(delay_s, 's')}"
    connects = [one for phase in evidence.phases for one in phase.connections_s]
    if connects and not any(phase.turns for phase in evidence.phases):
        took = f"connecting takes {shown(middle(connects) or 0.0, 's')}, nobody spoke"
    where = f"with {evidence.worst.speakers} speaking"
    if missed:
        return f"Undecided: {took} {where}, and nothing that was measured says why."
    return f"Healthy: {took} {where}, and nothing costs what it should not."


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
