"""What is to be known beside the verdict: one line each."""

from collections import defaultdict
from collections.abc import Sequence

from rtvc.profile.diagnose.causes import Found
from rtvc.profile.diagnose.evidence import Evidence, Phase
from rtvc.profile.diagnose.finding import Cause, Delay, Finding
from rtvc.profile.diagnose.wording import SAID
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
    """What no named cause explains of the delay, and of what the delay consists."""
    phase = evidence.worst
    delay_s = phase.delay_s
    of_it = [
        one
        for one in findings
        if (one.delay, one.phase) == ("transcription delay", phase.name)
        and one.cause is not Cause.COLD_START
    ]
    if delay_s is None or not (of_it or evidence.delay_missed):
        return []
    rest_s = delay_s - sum(one.share_s for one in of_it)
    if rest_s < REST_S:
        return []
    parts = _segments(phase)
    told = f"; a turn consists of {parts}" if parts else "; its segments were not told"
    rest = f"{shown(rest_s, 's')} of {shown(delay_s, 's')} transcription delay ({phase.name})"
    return [f"no cause explains {rest}{told}"]


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
