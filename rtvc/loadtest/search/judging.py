"""Why a step does not pass, as far as its samples say. Pure."""

import math
from collections.abc import Sequence

from rtvc.loadtest.search.rules import Finding, StepRules, Weight
from rtvc.loadtest.search.trend import FEW, SURE, chance_of, trend
from rtvc.record import Run, TurnRow
from rtvc.slo import Verdict, evaluate, finding, shown
from rtvc.stats import quantile
from rtvc.summary import UTTERANCE_METRICS, Summary, transcription_delay

WEIGHTS: tuple[Weight, ...] = ("sure", "complete", "doubtful")
"""The most decisive first."""

HOPELESS = 4.0
"""Times the target."""

CUT_SHARE = 0.02
"""Premature finals that are tolerated."""

RISE = 0.25
"""Of the target: a rise of delay within the step that is not tolerated."""


def at_once(part: Run, turns: Sequence[TurnRow], rules: StepRules) -> Finding | None:
    """What no further utterance can put right."""
    wrong = errors_reason(part) if rules.leaves_to_us("errors") else None
    if wrong is None:
        wrong = _hopeless(turns, rules)
    return None if wrong is None else Finding("failed", wrong)


def _hopeless(turns: Sequence[TurnRow], rules: StepRules) -> str | None:
    target_s = rules.delay_target_s
    if target_s is None:
        return None
    delays = [transcription_delay(turn) for turn in turns]
    beyond = sum(delay > HOPELESS * target_s for delay in delays)
    if beyond < FEW or beyond < 2 * rules.share_beyond * len(delays):
        return None
    median = shown(quantile(delays, 0.5) or 0.0, "s")
    return (
        f"transcription delay above {shown(HOPELESS * target_s, 's')} in {beyond} of "
        f"{len(delays)} utterances (p50 {median}, target {shown(target_s, 's')})"
    )


def what_is_wrong(
    summary: Summary, turns: Sequence[TurnRow], rules: StepRules, elapsed_s: float
) -> Finding | None:
    """None: the step passes."""
    verdicts = evaluate(rules.objectives, summary)
    failed = _failures(verdicts, summary, turns, rules, elapsed_s)
    if not summary.generator.valid and not _beyond_doubt(summary, rules):
        return Finding("void", summary.generator.reason or "the generator was saturated")
    if failed:
        told = ", ".join(each.reason for each in failed)
        return Finding("failed", told, min((each.weight for each in failed), key=WEIGHTS.index))
    undecided = [finding(verdict) for verdict in verdicts if verdict.status == "undecided"]
    return Finding("undecided", ", ".join(undecided)) if undecided else None


def aborted(summary: Summary, rules: StepRules, elapsed_s: float) -> Finding | None:
    """An objective that is to end the step as soon as it is missed."""
    urgent = [o for o in rules.objectives if o.abort_on_fail and elapsed_s >= o.abort_after_s]
    missed = [verdict for verdict in evaluate(urgent, summary) if verdict.status == "failed"]
    return Finding("failed", ", ".join(map(finding, missed))) if missed else None


def _failures(
    verdicts: Sequence[Verdict],
    summary: Summary,
    turns: Sequence[TurnRow],
    rules: StepRules,
    elapsed_s: float,
) -> list[Finding]:
    missed = [v for v in verdicts if v.status in ("failed", "no data") or _never_more(v)]
    missed = [verdict for verdict in missed if not _by_chance(verdict, summary)]
    missed.sort(key=lambda verdict: verdict.objective.metric != "transcription_delay")
    told = [Finding("failed", finding(verdict), _weight(verdict)) for verdict in missed]
    if rules.leaves_to_us("premature_finals"):
        told += _cut_reason(summary)
    if not told:
        told += _trend_reason(turns, rules, elapsed_s)
    return told


def _weight(verdict: Verdict) -> Weight:
    """A quantile of utterances: every look at it is one more chance to be wrong."""
    objective = verdict.objective
    guess = objective.quantile is not None and objective.metric in UTTERANCE_METRICS
    return "doubtful" if guess and verdict.n else "sure"


def _never_more(verdict: Verdict) -> bool:
    """Above its target and without hope of more samples: each speaker connects but once."""
    return verdict.status == "undecided" and verdict.objective.metric == "connection"


def _by_chance(verdict: Verdict, summary: Summary) -> bool:
    """A share of few utterances jumps: one cut in twenty is no 5 %."""
    objective, spoken = verdict.objective, summary.utterances
    if objective.metric != "premature_finals" or not objective.is_upper_bound:
        return False
    return bool(spoken.spoken) and (
        chance_of(spoken.cut_utterances or 0, spoken.spoken, objective.target) > SURE
    )


def _cut_reason(summary: Summary) -> list[Finding]:
    """A few cuts among few utterances prove nothing: more must be there than chance explains."""
    cut, spoken = summary.utterances.cut_utterances, summary.utterances.spoken
    if not cut or chance_of(cut, spoken, CUT_SHARE) > SURE:
        return []
    share, limit = shown(cut / spoken, "%"), shown(CUT_SHARE, "%")
    return [Finding("failed", f"premature finals {share} (target ≤ {limit})", "complete")]


def _trend_reason(turns: Sequence[TurnRow], rules: StepRules, elapsed_s: float) -> list[Finding]:
    slope = rise(turns, rules, elapsed_s)
    if slope is None:
        return []
    text = f"transcription delay rose by {1000 * slope:.2g} ms a second"
    return [Finding("failed", text, "complete")]


def rise(turns: Sequence[TurnRow], rules: StepRules, elapsed_s: float) -> float | None:
    """Seconds of delay added per second, where that matters within the step; else None."""
    slope = trend([(turn.speech_end_at_s, transcription_delay(turn)) for turn in turns])
    if slope is None or slope * elapsed_s < RISE * (rules.delay_target_s or 0.4):
        return None
    return slope


def _beyond_doubt(summary: Summary, rules: StepRules) -> bool:
    """Missed by more than a late generator can explain."""
    target_s, metric = rules.delay_target_s, summary.metrics["transcription_delay"]
    late_s = max(summary.generator.lag_p99 or 0.0, summary.generator.loop_lag_max or 0.0)
    return target_s is not None and (metric.p50 or 0.0) - 2 * late_s > target_s


def errors_reason(part: Run) -> str | None:
    """Connections first: they explain the rest."""
    wrong = [row for row in part.connections if row.outcome != "ok"]
    if wrong:
        last = wrong[-1]
        return f"{len(wrong)} of {len(part.connections)} sessions {last.outcome}: {last.reason}"
    missing = sum(math.isinf(transcription_delay(turn)) for turn in part.turns)
    silent = sum(turn.reply_expected and turn.response_latency_s is None for turn in part.turns)
    if missing:
        return f"{missing} of {len(part.turns)} final transcripts never came"
    return f"{silent} of {len(part.turns)} replies never came" if silent else None
