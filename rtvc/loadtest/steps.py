"""What comes of one step of a search: rows as they are recorded in, an outcome out. Pure.

    ordered → ramp (speakers come or go) → settle → measure → passed | failed | void | undecided

A step passes if every objective holds, nothing went wrong, hardly an utterance was cut, delay did
not rise, and the generator kept up. It ends when its samples support what is judged, or as soon
as it is hopeless.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from statistics import NormalDist

import numpy as np

from rtvc.loadtest.capacity import Step
from rtvc.record import Run, StepRow, TurnRow
from rtvc.slo import Objective, StepStatus, Verdict, evaluate, finding, shown
from rtvc.stats import SAMPLES_BEYOND, quantile
from rtvc.summary import Stack, Summary, during, summarize, transcription_delay

FEW = 10
"""Utterances below which a step says nothing, and of which hopelessness takes as many."""

HOPELESS = 4.0
"""Times the target."""

PATIENCE = 10.0
"""Times the least measuring time after which the largest delay may stand in for a quantile, also
in a step that confirms; four times as long and the step is undecided."""

ARRIVAL_S = 120.0
"""For all speakers to come or go."""

RECOVERY_S = 30.0
"""Longest wait, after an overload, for what it left behind to be worked off."""

RECENT_S = 10.0
"""Utterances that ended in so many last seconds tell whether it has been."""

CUT_SHARE = 0.02
"""Premature finals that are tolerated."""

SURE = 0.05
"""A share of cuts, or a trend in delay, as large by chance is no reason to fail."""

RISE = 0.25
"""Of the target: a rise of delay within the step that is not tolerated."""

BINDINGS = {
    "queue_wait": "inference",
    "features": "inference",
    "encode": "inference",
    "decode": "inference",
    "vad_offset": "voice activity detection",
    "vad_delay": "voice activity detection",
    "framing": "load generator",
    "transport": "network or event loop",
    "endpoint_wait": "turn policy",
    "emit": "the server's event loop",
    "send": "the server's event loop",
    "unaccounted": "the server's event loop",
    "llm_ttft": "language model",
    "tts_ttfb": "speech synthesis",
    "outside": "network or event loop",
}
"""What people call the cause when this part of the delay grew most."""


@dataclass(frozen=True, slots=True)
class StepRules:
    """What every step of a search is judged by."""

    objectives: tuple[Objective, ...]
    """Targets."""
    measure_s: float = 30.0
    """Least seconds of measuring."""
    settle_s: float = 5.0
    """Seconds from all speakers being there to the first that counts."""
    explicit: bool = False
    """Whether the user named the objectives, so that errors and cuts named there are theirs."""

    @property
    def delay_target_s(self) -> float | None:
        """The tightest upper bound on transcription delay; None if there is none."""
        return min((o.target for o in self._delays), default=None)

    @property
    def _delays(self) -> list[Objective]:
        return [
            o
            for o in self.objectives
            if o.metric == "transcription_delay" and o.comparison.startswith("<")
        ]

    @property
    def samples(self) -> int:
        """Utterances that the quantiles asked for need."""
        asked = [o.aggregate for o in self.objectives if o.metric != "connection" and o.aggregate]
        tails = [1 - int(name[1:]) / 100 for name in asked if name[1:].isdigit()]
        return max([FEW, *(math.ceil(SAMPLES_BEYOND / min(t, 1 - t) - 1e-9) for t in tails)])

    @property
    def share_beyond(self) -> float:
        """Share of delays that may be beyond the target."""
        names = [o.aggregate or "" for o in self._delays]
        shares = [1 - int(name[1:]) / 100 for name in names if name[1:].isdigit()]
        return min(shares, default=0.05)

    def leaves_to_us(self, metric: str) -> bool:
        """Whether the user said nothing of it."""
        return not self.explicit or all(o.metric != metric for o in self.objectives)


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a step did not pass."""

    status: StepStatus
    """failed, void or undecided."""
    reason: str
    """One line."""


class StepWatch:
    """One step, from the order to its outcome."""

    def __init__(
        self,
        step: Step,
        rules: StepRules,
        ordered_at_s: float,
        *,
        recover: bool = False,
        baseline: dict[str, float] | None = None,
    ) -> None:
        """`recover`: the step before left a backlog, which must not be held against this one.
        `baseline` is what delay was made of where the targets were met; None: unknown."""
        self.step = step
        self._rules = rules
        self._ordered_at_s = ordered_at_s
        self._recover = recover
        self._baseline = baseline
        self._from_s: float | None = None
        self._recover_until_s = ordered_at_s
        self.parts: dict[str, float] | None = None
        """What delay was made of, once the step is over; None if the server does not tell."""

    def look(self, run: Run) -> StepRow | None:
        """The outcome, as soon as there is one."""
        now_s = run.generator[-1].at_s if run.generator else 0.0
        if self._from_s is None and not self._arrived(run):
            return self._not_arriving(run, now_s)
        if self._recover and not self._recovered(run, now_s):
            self._from_s = max(self._from_s or 0.0, now_s)
            return None
        turns = self.turns(run)
        draft = self._draft(now_s, len(turns))
        wrong = self._at_once(during(run, draft), turns)
        if wrong is not None:
            return self._close(run, draft, wrong, early=True)
        return self._judge(run, draft, now_s)

    def turns(self, run: Run) -> list[TurnRow]:
        """Utterances that count so far."""
        begin_s = math.inf if self._from_s is None else self._from_s
        return [turn for turn in run.turns if turn.speech_start_at_s >= begin_s]

    def line(self, run: Run) -> str:
        """What the step is about, while it runs."""
        speakers = f"{self.step.speakers} speaker{'' if self.step.speakers == 1 else 's'}"
        if self._from_s is None:
            here = run.generator[-1].speakers if run.generator else 0
            return f"{speakers}: {here} here"
        turns = self.turns(run)
        delays = [transcription_delay(turn) for turn in turns]
        typical = quantile(delays, 0.5)
        seen = "" if typical is None else f", p50 {shown(typical, 's')}, max {_max_text(delays)}"
        many = "utterance" if len(turns) == 1 else "utterances"
        return f"{speakers}: {len(turns)} {many}{seen}"

    def _arrived(self, run: Run) -> bool:
        """Everyone wanted is here, and no one else."""
        since = takewhile(lambda row: row.at_s > self._ordered_at_s, reversed(run.generator))
        here = [row.at_s for row in since if row.speakers == self.step.speakers]
        if here:
            self._from_s = min(here) + self._rules.settle_s
            self._recover_until_s = min(here) + RECOVERY_S
        return bool(here)

    def _recovered(self, run: Run, now_s: float) -> bool:
        """Once it has, or after a while, it is not asked again."""
        recent = takewhile(
            lambda turn: turn.speech_end_at_s > self._ordered_at_s, reversed(run.turns)
        )
        delays = [transcription_delay(t) for t in recent if t.speech_end_at_s > now_s - RECENT_S]
        target_s = self._rules.delay_target_s
        typical_s = quantile(delays, 0.5) if len(delays) >= 3 else None
        well = target_s is None or (typical_s is not None and typical_s <= target_s)
        self._recover = not well and now_s < self._recover_until_s
        return not self._recover

    def _not_arriving(self, run: Run, now_s: float) -> StepRow | None:
        draft = self._draft(now_s, 0)
        wrong = _errors_reason(during(run, draft))
        if wrong is None and now_s < self._ordered_at_s + ARRIVAL_S:
            return None
        here = run.generator[-1].speakers if run.generator else 0
        reason = wrong or f"only {here} of {self.step.speakers} speakers were connected in time"
        return self._close(run, draft, Finding("failed", reason), early=True)

    def _draft(self, now_s: float, utterances: int) -> StepRow:
        return StepRow(
            step=self.step.number,
            speakers=self.step.speakers,
            purpose=self.step.purpose,
            ordered_at_s=self._ordered_at_s,
            measured_from_s=self._from_s,
            measured_until_s=now_s,
            outcome="undecided",
            reason=None,
            binding=None,
            stopped_early=False,
            utterances=utterances,
            errors=0,
            cut_utterances=0,
            delay_p50_s=None,
            delay_p95_s=None,
            delay_max_s=None,
            partial_interval_p50_s=None,
            trend=None,
            lag_p99_s=None,
        )

    def _at_once(self, part: Run, turns: Sequence[TurnRow]) -> Finding | None:
        """What no further utterance can put right."""
        wrong = _errors_reason(part) if self._rules.leaves_to_us("errors") else None
        if wrong is None:
            wrong = self._hopeless(turns)
        return None if wrong is None else Finding("failed", wrong)

    def _hopeless(self, turns: Sequence[TurnRow]) -> str | None:
        target_s = self._rules.delay_target_s
        if target_s is None:
            return None
        delays = [transcription_delay(turn) for turn in turns]
        beyond = sum(delay > HOPELESS * target_s for delay in delays)
        if beyond < FEW or beyond < 2 * self._rules.share_beyond * len(delays):
            return None
        median = shown(quantile(delays, 0.5) or 0.0, "s")
        return (
            f"transcription delay above {shown(HOPELESS * target_s, 's')} in {beyond} of "
            f"{len(delays)} utterances (p50 {median}, target {shown(target_s, 's')})"
        )

    def _judge(self, run: Run, draft: StepRow, now_s: float) -> StepRow | None:
        elapsed_s = now_s - (draft.measured_from_s or now_s)
        if elapsed_s < self._rules.measure_s or draft.utterances < FEW:
            long = elapsed_s > 4 * PATIENCE * self._rules.measure_s
            silent = Finding("undecided", f"only {draft.utterances} utterances were answered")
            return self._close(run, draft, silent) if long else None
        summary = summarize(during(run, draft))
        wrong = self._find(summary, self.turns(run), elapsed_s)
        return self._close(run, draft, wrong) if self._enough(draft, wrong, elapsed_s) else None

    def _enough(self, draft: StepRow, wrong: Finding | None, elapsed_s: float) -> bool:
        patient_s = PATIENCE * self._rules.measure_s
        if draft.utterances >= self._rules.samples:
            return True
        if wrong is None:
            return self.step.purpose != "confirm" or elapsed_s > patient_s
        return wrong.status == "failed" or elapsed_s > 4 * patient_s

    def _find(self, summary: Summary, turns: Sequence[TurnRow], elapsed_s: float) -> Finding | None:
        """Why the step does not pass, as far as its samples say; None: it does."""
        verdicts = evaluate(self._rules.objectives, summary)
        failed = self._failures(verdicts, summary, turns, elapsed_s)
        if not summary.generator.valid and not self._beyond_doubt(summary):
            return Finding("void", summary.generator.reason or "the generator was saturated")
        if failed:
            return Finding("failed", ", ".join(failed))
        undecided = [finding(verdict) for verdict in verdicts if verdict.status == "undecided"]
        return Finding("undecided", ", ".join(undecided)) if undecided else None

    def _failures(
        self,
        verdicts: Sequence[Verdict],
        summary: Summary,
        turns: Sequence[TurnRow],
        elapsed_s: float,
    ) -> list[str]:
        missed = [v for v in verdicts if v.status in ("failed", "no data") or _never_more(v)]
        missed = [verdict for verdict in missed if not _by_chance(verdict, summary)]
        missed.sort(key=lambda verdict: verdict.objective.metric != "transcription_delay")
        told = list(map(finding, missed))
        if self._rules.leaves_to_us("premature_finals"):
            told += _cut_reason(summary)
        if not told:
            told += self._trend_reason(turns, elapsed_s)
        return told

    def _trend_reason(self, turns: Sequence[TurnRow], elapsed_s: float) -> list[str]:
        slope = self._trend(turns, elapsed_s)
        return (
            [] if slope is None else [f"transcription delay rose by {1000 * slope:.2g} ms a second"]
        )

    def _trend(self, turns: Sequence[TurnRow], elapsed_s: float) -> float | None:
        target_s = self._rules.delay_target_s
        slope = trend([(turn.speech_end_at_s, transcription_delay(turn)) for turn in turns])
        if slope is None or slope * elapsed_s < RISE * (target_s or 0.4):
            return None
        return slope

    def _beyond_doubt(self, summary: Summary) -> bool:
        """Missed by more than a late generator can explain."""
        target_s, metric = self._rules.delay_target_s, summary.metrics["transcription_delay"]
        late_s = max(summary.generator.lag_p99 or 0.0, summary.generator.loop_lag_max or 0.0)
        return target_s is not None and (metric.p50 or 0.0) - 2 * late_s > target_s

    def _close(
        self, run: Run, draft: StepRow, wrong: Finding | None, *, early: bool = False
    ) -> StepRow:
        part = during(run, draft)
        summary = summarize(part)
        delay, interval = (
            summary.metrics["transcription_delay"],
            summary.metrics["partial_interval"],
        )
        self.parts = delay_parts(summary)
        elapsed_s = draft.measured_until_s - (draft.measured_from_s or draft.measured_until_s)
        status: StepStatus = "passed" if wrong is None else wrong.status
        return replace(
            draft,
            outcome=status,
            reason=wrong.reason if wrong else None,
            binding=binding(self.parts, self._baseline) if status == "failed" else None,
            stopped_early=early,
            errors=summary.errors.count,
            cut_utterances=summary.utterances.cut_utterances,
            delay_p50_s=delay.p50,
            delay_p95_s=delay.p95,
            delay_max_s=delay.max,
            partial_interval_p50_s=interval.p50,
            trend=self._trend(part.turns, elapsed_s),
            lag_p99_s=summary.generator.lag_p99,
        )


def _max_text(delays: Sequence[float]) -> str:
    return shown(max(delays), "s")


def _never_more(verdict: Verdict) -> bool:
    """Above its target and without hope of more samples: each speaker connects but once."""
    return verdict.status == "undecided" and verdict.objective.metric == "connection"


def _by_chance(verdict: Verdict, summary: Summary) -> bool:
    """A share of few utterances jumps: one cut in twenty is no 5 %."""
    objective, spoken = verdict.objective, summary.utterances
    if objective.metric != "premature_finals" or not objective.comparison.startswith("<"):
        return False
    return bool(spoken.spoken) and (
        chance_of(spoken.cut_utterances, spoken.spoken, objective.target) > SURE
    )


def _errors_reason(part: Run) -> str | None:
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


def _cut_reason(summary: Summary) -> list[str]:
    """A few cuts among few utterances prove nothing: more must be there than chance explains."""
    cut, spoken = summary.utterances.cut_utterances, summary.utterances.spoken
    if not cut or chance_of(cut, spoken, CUT_SHARE) > SURE:
        return []
    share, limit = shown(cut / spoken, "%"), shown(CUT_SHARE, "%")
    return [f"premature finals {share} (target ≤ {limit})"]


def chance_of(count: int, n: int, share: float) -> float:
    """Probability of at least so many among n where each has the probability `share`.

    >>> round(chance_of(1, 2, 0.5), 3), chance_of(0, 5, 0.02)
    (0.75, 1.0)
    """
    less = sum(math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(count))
    return max(0.0, 1.0 - less)


TREND_POINTS = 200
"""Points of a trend at most; more are thinned out evenly."""


def trend(points: Sequence[tuple[float, float]]) -> float | None:
    """Upward slope of values over time (Theil and Sen), if it is no chance (Mann and Kendall).

    None if there is none, or too few points to tell.
    """
    came = sorted(point for point in points if math.isfinite(point[1]))
    if len(came) < 2 * FEW:
        return None
    chosen = came[:: math.ceil(len(came) / TREND_POINTS)]
    at, value = (np.array(column) for column in zip(*chosen, strict=True))
    first, second = np.triu_indices(len(at), 1)
    rises, apart = value[second] - value[first], at[second] - at[first]
    n = len(at)
    score = float(np.sign(rises).sum()) / math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    if score < NormalDist().inv_cdf(1 - SURE / 10) or not apart.any():
        return None
    slope = float(np.median(rises[apart > 0] / apart[apart > 0]))
    return slope if slope > 0 else None


def delay_parts(summary: Summary) -> dict[str, float] | None:
    """Seconds by segment of a turn as slow as the 95th of 100, and what was outside the server."""
    stacks = [stack for stack in summary.stacks if stack.stage == "transcript"]
    if not stacks:
        return None
    slow: Stack = stacks[-1]
    delay = summary.metrics["transcription_delay"]
    seen_s = delay.p95 if slow.label == "p95" else delay.max_observed
    outside_s = 0.0 if seen_s is None or math.isinf(seen_s) else max(0.0, seen_s - slow.total_s)
    return {**slow.segments, "outside": outside_s}


def binding(parts: dict[str, float] | None, baseline: dict[str, float] | None) -> str | None:
    """The part that grew most since the targets were met; without a baseline, the largest.

    >>> binding({"endpoint_wait": 0.3, "queue_wait": 0.25}, {"endpoint_wait": 0.3})
    'inference'
    >>> binding({"endpoint_wait": 0.3, "queue_wait": 0.25}, None)
    'turn policy'
    """
    if not parts:
        return None
    growth: dict[str, float] = {}
    for name, seconds in parts.items():
        cause = BINDINGS.get(name, name.replace("_", " "))
        before = 0.0 if baseline is None else baseline.get(name, 0.0)
        growth[cause] = growth.get(cause, 0.0) + seconds - before
    return max(growth, key=lambda cause: growth[cause])
