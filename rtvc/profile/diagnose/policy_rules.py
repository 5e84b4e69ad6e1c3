"""Causes that segments name: the endpoint's wait, the turn model, the language model, the voice."""

from statistics import fmean

from rtvc.profile.diagnose.evidence import Evidence, Phase
from rtvc.profile.diagnose.finding import Cause, Finding, ProofOf
from rtvc.profile.diagnose.path_rules import stops_cost_s

USUAL_ENDPOINT_S = 0.3
"""250 ms of silence and a VAD frame; with the longer waits after unfinished sentences."""

LONG_ENDPOINT_S = 0.42
"""More leaves less than 80 ms of the 0.5 s target for everything else."""

TURN_MODEL_S = 0.05
"""Felt time of a judgement: a healthy one is over before the silence is."""

USUAL_LLM_S = 0.3
"""To the first sentence: hosted models stream within 0.2 to 0.4 s."""

SLOW_LLM_S = 0.6
"""More than that of silence after a transcript, and people take the line for dead."""

USUAL_TTS_S = 0.1
"""First audio of a local voice comes in tens of ms, of a hosted one in 75 to 150."""

SLOW_TTS_S = 0.3
"""The slow end of what streaming voices promise."""

UNEXPLAINED_REPLY_S = 1.2
"""What language model and voice may take together where the server does not tell them apart."""

TELLS_ENDPOINT = 4
"""Turns without which the mean wait is a matter of which sentences were said."""


def endpoint_wait(evidence: Evidence) -> Finding | None:
    """Silence is waited out at any load, with nothing to compute meanwhile."""
    timed = [turn for phase in evidence.phases for turn in phase.timed]
    waits_s = [turn.felt.get("endpoint_wait", 0.0) for turn in timed]
    if len(waits_s) < min(TELLS_ENDPOINT, len(evidence.phases)):
        return _endpoint_by_client(evidence) if not waits_s else None
    wait_s = fmean(waits_s)
    if wait_s < LONG_ENDPOINT_S:
        return None
    phase = evidence.worst
    of_s = phase.delay_s or 0.0
    proof = ProofOf(evidence)
    for each in evidence.phases:
        proof.add(each, "endpoint_wait", each.felt("endpoint_wait"), LONG_ENDPOINT_S)
    return Finding(
        Cause.ENDPOINT_WAIT,
        "transcription delay",
        min(of_s, wait_s - USUAL_ENDPOINT_S),
        of_s,
        phase.name,
        proof.all,
    )


def _endpoint_by_client(evidence: Evidence) -> Finding | None:
    """A delay that is the same with one speaker and many, on a machine with room."""
    one, many = evidence.one, evidence.many
    if one is None or one.delay_s is None or many.delay_s is None or many is one:
        return None
    room = (many.cpu_ratio or 0.0) < 0.7 and (many.gpu("utilisation_ratio").mean or 0.0) < 0.7
    share_s = one.delay_s - USUAL_ENDPOINT_S - (one.round_trip.at(0.5) or 0.0)
    if share_s < 0.2 or many.delay_s > 1.3 * one.delay_s or not room:
        return None
    proof = ProofOf(evidence)
    proof.add(one, "transcription delay", one.delay_s, evidence.delay_target_s)
    proof.add(many, "transcription delay", many.delay_s, 1.3 * one.delay_s)
    proof.add(many, "CPUs busy", many.cpu_ratio, 0.7, "")
    note = "without the server's segments a hidden backlog, or one slow model, looks the same"
    return Finding(
        Cause.ENDPOINT_WAIT,
        "transcription delay",
        share_s,
        one.delay_s,
        one.name,
        proof.all,
        notes=(note,),
    )


def turn_detector(evidence: Evidence) -> Finding | None:
    """The turn waited for the turn model's answer and nothing else."""
    phase = max(evidence.phases, key=lambda one: one.felt("turn_model") or 0.0)
    judged_s = phase.felt("turn_model")
    if judged_s is None or judged_s < TURN_MODEL_S:
        return None
    of_s = phase.delay_s or 0.0
    proof = ProofOf(evidence).add(phase, "turn_model, felt", judged_s, TURN_MODEL_S)
    proof.add(phase, "turn_model, hidden in the wait", phase.hidden("turn_model"))
    return Finding(
        Cause.TURN_DETECTOR,
        "transcription delay",
        min(of_s, judged_s),
        of_s,
        phase.name,
        proof.all,
    )


def slow_llm(evidence: Evidence) -> Finding | None:
    """The language model's first sentence is late."""
    found = _slow_reply(
        evidence, ("llm_ttft", "llm_sentence"), SLOW_LLM_S, USUAL_LLM_S, Cause.SLOW_LLM
    )
    return found or _slow_reply_by_client(evidence)


def slow_tts(evidence: Evidence) -> Finding | None:
    """The synthesizer's first audio is late."""
    return _slow_reply(evidence, ("tts_ttfb",), SLOW_TTS_S, USUAL_TTS_S, Cause.SLOW_TTS)


def _slow_reply(
    evidence: Evidence, names: tuple[str, ...], slow_s: float, usual_s: float, cause: Cause
) -> Finding | None:
    phase = max(evidence.phases, key=lambda one: one.typically_replied(*names) or 0.0)
    took_s = phase.typically_replied(*names)
    if took_s is None or took_s - stops_cost_s(evidence) < slow_s:
        return None
    of_s = phase.latency_s or took_s
    proof = ProofOf(evidence).add(phase, " + ".join(names), took_s, slow_s)
    for each in _others(evidence, phase):
        proof.add(each, " + ".join(names), each.typically_replied(*names), slow_s)
    return Finding(
        cause, "response latency", min(of_s, took_s - usual_s), of_s, phase.name, proof.all
    )


def _slow_reply_by_client(evidence: Evidence) -> Finding | None:
    """All that lies between the transcript and the reply, where segments are not told."""
    if any(phase.replied("llm_ttft") is not None for phase in evidence.phases):
        return None
    gaps = {phase.name: phase.reply_gap_s for phase in evidence.phases}
    phase = max(evidence.phases, key=lambda one: gaps[one.name] or 0.0)
    gap_s = gaps[phase.name]
    if gap_s is None or gap_s < UNEXPLAINED_REPLY_S:
        return None
    of_s = phase.latency_s or gap_s
    proof = ProofOf(evidence)
    proof.add(phase, "transcript to first reply audio", gap_s, UNEXPLAINED_REPLY_S)
    note = "without the server's segments the language model and the voice cannot be told apart"
    share_s = min(of_s, gap_s - USUAL_LLM_S - USUAL_TTS_S)
    return Finding(
        Cause.SLOW_LLM,
        "response latency",
        share_s,
        of_s,
        phase.name,
        proof.all,
        notes=(note,),
    )


def _others(evidence: Evidence, phase: Phase) -> list[Phase]:
    return [each for each in evidence.phases if each is not phase]
