"""Objectives, written as in k6, and the verdict on a run.

    transcription_delay_p95<500ms   connection_p95<3s   errors<1%   wer<10%   cross_talk==0
    transcription_delay: p(95)<500ms   errors: rate<0.01   … abort_on_fail delay=30s

A quantile that the samples cannot support is not judged; the maximum is: within the target the
objective is passed. Above it, it is failed if so many of the n samples miss the target that a
server that meets it would do so with a chance of less than 1 % (one-sided binomial test of a
quantile: P(Binomial(n, 1 − q) ≥ k) < 0.01), and undecided otherwise. An objective without samples
fails. Of a run that was interrupted nothing is judged.
"""

from rtvc.slo.answer import LOST_RUNS, Capacity, Level, Trial, capacity, levels, telling_step
from rtvc.slo.files import load_objectives, parse_objectives
from rtvc.slo.goodput import goodput_text, utterance_targets
from rtvc.slo.grammar import DEFAULT, parse_objective
from rtvc.slo.judgement import STORM, TOLD, Judgement, judge
from rtvc.slo.objectives import (
    AGGREGATES,
    COMPARISONS,
    COUNTS,
    DIVISORS,
    SHARES,
    Objective,
    Reading,
)
from rtvc.slo.outcomes import EXIT_CODES, UNJUDGED, Outcome, Status, StepStatus
from rtvc.slo.verdicts import AT_LEAST, Verdict, evaluate, finding
from rtvc.slo.wording import Unit, shown, spoken

__all__ = [
    "AGGREGATES",
    "AT_LEAST",
    "COMPARISONS",
    "COUNTS",
    "DEFAULT",
    "DIVISORS",
    "EXIT_CODES",
    "LOST_RUNS",
    "SHARES",
    "STORM",
    "TOLD",
    "UNJUDGED",
    "Capacity",
    "Judgement",
    "Level",
    "Objective",
    "Outcome",
    "Reading",
    "Status",
    "StepStatus",
    "Trial",
    "Unit",
    "Verdict",
    "capacity",
    "evaluate",
    "finding",
    "goodput_text",
    "judge",
    "levels",
    "load_objectives",
    "parse_objective",
    "parse_objectives",
    "shown",
    "spoken",
    "telling_step",
    "utterance_targets",
]
