"""What comes of one step of a search: rows as they are recorded in, an outcome out. Pure.

    ordered → ramp (speakers come or go) → settle → measure → passed | failed | void | undecided

A step passes if every objective holds, nothing went wrong, hardly an utterance was cut, delay did
not rise, and the generator kept up. It ends when its samples support what is judged, as soon as a
sequential test has decided it, or as soon as it is hopeless.
"""

import math
from dataclasses import replace
from itertools import takewhile
from typing import Any

from rtvc.loadtest.search.binding import Account, account_of, cause
from rtvc.loadtest.search.capacity import Step
from rtvc.loadtest.search.judging import aborted, at_once, errors_reason, rise, what_is_wrong
from rtvc.loadtest.search.rules import Finding, StepRules
from rtvc.loadtest.search.trend import FEW
from rtvc.record import Run, StepRow, TurnRow
from rtvc.slo import StepStatus, shown, utterance_targets
from rtvc.stats import quantile
from rtvc.summary import Summary, during, summarize, transcription_delay

EARLIEST = 0.5
"""Of the least measuring time: no test ends a step before. A hiccup of a second makes several
utterances late at once, and they are not the independent ones that the test takes them for."""

PATIENCE = 10.0
"""Times the least measuring time after which the largest delay may stand in for a quantile, also
in a step that confirms; four times as long and the step is undecided."""

ARRIVAL_S = 120.0
"""For all speakers to come or go."""

RECOVERY_S = 30.0
"""Longest wait, after an overload, for what it left behind to be worked off."""

RECENT_S = 10.0
"""Utterances that ended in so many last seconds tell whether it has been."""


class StepWatch:
    """One step, from the order to its outcome."""

    def __init__(
        self,
        step: Step,
        rules: StepRules,
        ordered_at_s: float,
        *,
        recover: bool = False,
        baseline: Account | None = None,
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
        self.account = Account()
        """What delay was made of, once the step is over."""

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
        wrong = at_once(during(run, draft), turns, self._rules)
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
        most = shown(max(delays, default=0.0), "s")
        seen = "" if typical is None else f", p50 {shown(typical, 's')}, max {most}"
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
        wrong = errors_reason(during(run, draft))
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

    def _judge(self, run: Run, draft: StepRow, now_s: float) -> StepRow | None:
        elapsed_s = now_s - (draft.measured_from_s or now_s)
        if draft.utterances < FEW:
            long = elapsed_s > 4 * PATIENCE * self._rules.measure_s
            silent = Finding("undecided", f"only {draft.utterances} utterances were answered")
            return self._close(run, draft, silent) if long else None
        if elapsed_s < self._rules.measure_s:
            return self._early(run, draft, elapsed_s)
        summary = summarize(during(run, draft))
        wrong = what_is_wrong(summary, self.turns(run), self._rules, elapsed_s)
        return self._close(run, draft, wrong) if self._enough(run, draft, wrong) else None

    def _early(self, run: Run, draft: StepRow, elapsed_s: float) -> StepRow | None:
        """Before its time: what is to end it when missed, or what a sequential test has decided."""
        may_abort = self._rules.may_abort(elapsed_s)
        if elapsed_s < EARLIEST * self._rules.measure_s and not may_abort:
            return None
        summary = summarize(during(run, draft))
        urgent = aborted(summary, self._rules, elapsed_s) if may_abort else None
        if urgent is not None and summary.generator.valid:
            return self._close(run, draft, urgent, early=True)
        if elapsed_s < EARLIEST * self._rules.measure_s:
            return None
        turns = self.turns(run)
        side = self._rules.decided(turns, draft.measured_until_s)
        # A rise must not matter until the end of the time that the step would have had.
        wrong = what_is_wrong(summary, turns, self._rules, self._rules.measure_s)
        failed = side == "beyond" and wrong is not None and wrong.status == "failed"
        passed = side == "within" and wrong is None and self._supported(draft)
        return self._close(run, draft, wrong, early=True) if failed or passed else None

    def _supported(self, draft: StepRow) -> bool:
        """Whether what is judged can be printed; a step that confirms is a figure of the answer."""
        return self.step.purpose != "confirm" or draft.utterances >= self._rules.samples

    def _enough(self, run: Run, draft: StepRow, wrong: Finding | None) -> bool:
        elapsed_s = draft.measured_until_s - (draft.measured_from_s or draft.measured_until_s)
        patient_s = PATIENCE * self._rules.measure_s
        side = self._rules.decided(self.turns(run), draft.measured_until_s)
        if draft.utterances >= self._rules.samples:
            doubtful = wrong is not None and wrong.weight == "doubtful" and side != "beyond"
            return not doubtful or draft.utterances >= 2 * self._rules.samples
        if wrong is None:
            return self._supported(draft) or elapsed_s > patient_s
        if wrong.status != "failed":
            limit_s = 2 * self._rules.measure_s if wrong.status == "void" else 4 * patient_s
            return elapsed_s > limit_s
        # It is looked at every second: only a test that is valid at all looks may end it.
        return wrong.weight == "sure" or side == "beyond" or elapsed_s > patient_s

    def _close(
        self, run: Run, draft: StepRow, wrong: Finding | None, *, early: bool = False
    ) -> StepRow:
        part = during(run, draft)
        summary = summarize(part, targets=utterance_targets(self._rules.objectives))
        self.account = account_of(summary, part.samples)
        elapsed_s = draft.measured_until_s - (draft.measured_from_s or draft.measured_until_s)
        status: StepStatus = "passed" if wrong is None else wrong.status
        held_back = cause(self.account, self._baseline) if status == "failed" else (None, None)
        return replace(
            draft,
            outcome=status,
            reason=wrong.reason if wrong else None,
            binding=held_back[0],
            evidence=held_back[1],
            stopped_early=early,
            trend=rise(part.turns, self._rules, elapsed_s),
            **_figures(summary),
        )


def _figures(summary: Summary) -> dict[str, Any]:
    """Columns of steps.csv."""
    delay, good = summary.metrics["transcription_delay"], summary.goodput
    return {
        "errors": summary.errors.count,
        "cut_utterances": summary.utterances.cut_utterances or 0,
        "delay_p50_s": delay.p50,
        "delay_p95_s": delay.p95,
        "delay_max_s": delay.max,
        "partial_interval_p50_s": summary.metrics["partial_interval"].p50,
        "lag_p99_s": summary.generator.lag_p99,
        "throughput_per_s": good.throughput_per_s if good else None,
        "goodput_per_s": good.goodput_per_s if good else None,
        "goodput_share": good.share if good else None,
        "good_speakers": good.good_speakers if good else None,
    }
