"""What is to be known beside the verdict: one line each."""

from collections import defaultdict
from collections.abc import Sequence

from rtvc.profile.diagnose.causes import Found
from rtvc.profile.diagnose.evidence import Evidence, Phase
from rtvc.profile.diagnose.finding import Cause, Delay, Finding
from rtvc.profile.diagnose.wording import SAID, TOLD_S
from rtvc.slo import shown

FEW_TURNS = 10
"""Fewer, and one odd turn moves their mean by more than a tenth of its excess."""

UNINTELLIGIBLE = 0.5
"""Word error rate beyond which a transcript is of no use, however soon it comes."""

LONG_SEGMENT_S = 0.01
"""Shorter ones explain nothing."""

REST_S = 0.02
"""A rest below a VAD frame is none."""

SEGMENTS_TOLD = 4
"""The longest ones."""


def notes_on(evidence: Evidence, found: Found) -> list[str]:
    notes = [_slight(one) for one in found.negligible]
    if any(one.cause is Cause.GENERATOR_SATURATED for one in found.named):
        return [*notes, *_few_turns(evidence)]
    notes += _overlaps(found.named)
    notes += _rest(evidence, found.named)
    notes += _unintelligible(evidence)
    return notes + _few_turns(evidence)


def _slight(finding: Finding) -> str:
    cost = f"{shown(finding.share_s, 's')} of {shown(finding.of_s, 's')} {finding.delay}"
    who = "".join(f"; {note}" for note in finding.notes)
    figures = [one for one in finding.proof if one.phase == finding.phase][:1]
    size = "".join(f" ({one.figure}: {one.value:.2g} {one.unit})".rstrip() for one in figures)
    return f"{finding.cause} is there, and not felt: {SAID[finding.cause]}{size}, {cost}{who}"


def _overlaps(findings: Sequence[Finding]) -> list[str]:
    """Shares of the same delay in the same phase that are more than the whole."""
    sums: defaultdict[tuple[Delay, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        sums[finding.delay, finding.phase].append(finding)
    notes = []
    for (delay, phase), each in sums.items():
        total_s, of_s = sum(one.share_s for one in each), min(one.of_s for one in each)
        if len(each) > 1 and total_s > of_s + REST_S:
            notes.append(
                f"the shares overlap: together {shown(total_s, 's')} of {shown(of_s, 's')} "
                f"{delay} ({phase}); what is mended first gains its own, the others less"
            )
    return notes


def _rest(evidence: Evidence, findings: Sequence[Finding]) -> list[str]:
    """What no named cause explains of the delay, where the first of them was measured, and of what
    that delay consists."""
    first = next((one for one in findings if one.delay == "transcription delay"), None)
    if first is None and not evidence.delay_missed:
        return []
    if first is not None and (first.cause is Cause.COLD_START or first.share_s < TOLD_S):
        # Of a first turn, or of no time at all: there is no rest of it.
        return []
    name = evidence.worst.name if first is None else first.phase
    phase = next(one for one in evidence.phases if one.name == name)
    delay_s = phase.delay_s
    told_s = sum(one.share_s for one in findings if _is_of(one, phase))
    if delay_s is None or phase.finals_missing or delay_s - told_s < REST_S:
        return []
    parts = _segments(phase)
    told = f"; a turn consists of {parts}" if parts else "; its segments were not told"
    rest = f"{shown(delay_s - told_s, 's')} of {shown(delay_s, 's')} ({name})"
    return [f"the rest of the transcription delay has no cause named: {rest}{told}"]


def _is_of(finding: Finding, phase: Phase) -> bool:
    return (finding.delay, finding.phase) == ("transcription delay", phase.name)


def _segments(phase: Phase) -> str:
    names = {name for turn in phase.timed for name in turn.felt}
    means = sorted(((phase.felt(name) or 0.0, name) for name in names), reverse=True)
    long = [(mean_s, name) for mean_s, name in means if mean_s >= LONG_SEGMENT_S][:SEGMENTS_TOLD]
    return ", ".join(f"{name} {shown(mean_s, 's')}" for mean_s, name in long)


def _unintelligible(evidence: Evidence) -> list[str]:
    rates = [(rate, one) for one in evidence.phases if (rate := one.word_error_rate) is not None]
    rate, phase = max(rates, key=lambda pair: pair[0], default=(0.0, None))
    if phase is None or rate <= UNINTELLIGIBLE:
        return []
    return [
        f"the word error rate is {shown(rate, '%')} ({phase.name}): the transcripts are of no use, "
        "however soon they come"
    ]


def _few_turns(evidence: Evidence) -> list[str]:
    few = [f"{one.name} ({len(one.judged)})" for one in evidence.phases if _has_few(one)]
    if not few:
        return []
    return [f"few turns: {', '.join(few)}; below {FEW_TURNS} a phase, means are rough figures"]


def _has_few(phase: Phase) -> bool:
    return len(phase.judged) < FEW_TURNS
