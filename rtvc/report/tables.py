"""The rows of the report's tables: pure functions from a summary to what is printed."""

import math
from typing import Any

from rtvc.failures import UNKNOWN, meaning
from rtvc.report.figures import segment_class
from rtvc.report.wording import MARKS, VOID_MARK, seconds, unbroken
from rtvc.slo import Unit, Verdict, shown, spoken
from rtvc.summary import INFERRED, Accuracy, Metric, Reason, Summary

NOT_OBSERVABLE = "not observable"
"""Printed where the protocol, or the model, cannot show a figure."""


def target_row(verdict: Verdict, *, judged: bool) -> dict[str, Any]:
    """In a run that is not judged nothing is ticked, however good it looks."""
    return {
        "kind": verdict.status.replace(" ", "-") if judged else "unjudged",
        "mark": MARKS[verdict.status] if judged else VOID_MARK,
        "status": verdict.status if judged else "not judged",
        "name": verdict.objective.name,
        "target": unbroken(verdict.objective.target_text),
        "measured": unbroken(verdict.bare_text),
        "n": " ".join(filter(None, (f"{verdict.n:,}", verdict.objective.counted))),
        "fill": _fill(verdict),
    }


def _fill(verdict: Verdict) -> float | None:
    """Percent of the track; the target stands at two thirds of it."""
    target = verdict.objective.target
    if verdict.measured is None or target <= 0:
        return None
    share = verdict.measured / target
    return 100.0 if math.isinf(share) else round(min(max(share * 66.6, 0.6), 100.0), 1)


def delay_row(name: str, metric: Metric, summary: Summary) -> dict[str, Any]:
    if name in summary.not_observable:
        return {"name": spoken(name), "cells": [NOT_OBSERVABLE, *([""] * 6)]}
    interval = "–"
    if metric.p95_low is not None and metric.p95_high is not None:
        interval = f"{shown(metric.p95_low, 's')} to {shown(metric.p95_high, 's')}"
    cells = [f"{metric.n:,}", f"{metric.missing:,}", seconds(metric.p50), seconds(metric.p95)]
    inferred = ", ready (inferred)" if name == "connection" and summary.ready == INFERRED else ""
    return {
        "name": spoken(name) + inferred,
        "cells": [*cells, interval, seconds(metric.p99), _maximum(metric)],
    }


def _maximum(metric: Metric) -> str:
    """When an answer never came, the largest of those that did stands beside it."""
    if metric.max is None or math.isfinite(metric.max) or metric.max_observed is None:
        return seconds(metric.max)
    return f"missing ({shown(metric.max_observed, 's')} of those that came)"


def legend(summary: Summary) -> list[dict[str, str]]:
    names = dict.fromkeys(name for stack in summary.stacks for name in stack.segments)
    return [{"name": spoken(name), "kind": segment_class(name)} for name in names]


def segment_rows(summary: Summary) -> list[dict[str, Any]]:
    return [
        {
            "stage": segment.stage,
            "name": spoken(segment.name),
            "kind": "swatch-none" if segment.hidden else segment_class(segment.name),
            "nature": "hidden work" if segment.hidden else "wait" if segment.wait else "work",
            "cells": [
                f"{segment.n:,}",
                seconds(segment.p50),
                seconds(segment.p95),
                seconds(segment.max),
            ],
        }
        for segment in summary.segments
    ]


def _number(name: str, value: float | None, unit: Unit = "") -> dict[str, str]:
    return {"name": name, "value": "–" if value is None else shown(value, unit)}


def accuracy_numbers(summary: Summary) -> list[dict[str, str]]:
    accuracy, spoken = summary.accuracy, summary.utterances
    return [
        *_word_numbers(accuracy),
        _premature(summary),
        _number("finals missing", spoken.finals_missing),
        _number(f"utterances ({spoken.warm_up} more to warm up)", spoken.spoken),
    ]


def _premature(summary: Summary) -> dict[str, str]:
    spoken = summary.utterances
    if spoken.cut_utterances is None:
        return {"name": "premature finals", "value": NOT_OBSERVABLE}
    return _number(f"premature finals ({spoken.cut_utterances})", spoken.premature_share, "%")


def _replies_missing(summary: Summary) -> dict[str, str]:
    missing = summary.utterances.replies_missing
    if missing is None:
        return {"name": "replies missing", "value": NOT_OBSERVABLE}
    return _number("replies missing", missing)


def _word_numbers(accuracy: Accuracy) -> list[dict[str, str]]:
    if accuracy.cross_talk_words is None:
        names = ("word errors", "cross-talk words")
        return [{"name": name, "value": NOT_OBSERVABLE} for name in names]
    kinds = f"{accuracy.substitutions} S + {accuracy.deletions} D + {accuracy.insertions} I"
    return [
        _number(f"word errors: {kinds} of {accuracy.reference_words:,}", accuracy.wer, "%"),
        _number(f"cross-talk words ({accuracy.cross_talk_turns} turns)", accuracy.cross_talk_words),
        _number("first words lost", accuracy.first_words_lost),
        _number("last words lost", accuracy.last_words_lost),
        _number("words heard while nothing was said", accuracy.hallucinated_words),
    ]


def connection_numbers(summary: Summary) -> list[dict[str, str]]:
    made, errors = summary.connections, summary.errors
    return [
        _number(f"errors ({errors.count} of {errors.attempts:,})", errors.rate, "%"),
        _number("most sessions at once", made.concurrent),
        _number("refused", made.refused),
        _number("failed", made.failed),
        _number("lost mid-run", made.lost),
        _replies_missing(summary),
    ]


def generator_numbers(summary: Summary) -> list[dict[str, str]]:
    generator = summary.generator
    return [
        _number(f"lag p99 of {generator.frames:,} frames", generator.lag_p99, "s"),
        _number(f"frames late ({generator.late_frames:,})", generator.late_share, "%"),
        _number("CPU of the busiest process, p95", generator.cpu_p95, "%"),
        _number("longest oversleep of its loop", generator.loop_lag_max, "s"),
    ]


def reason_rows(summary: Summary) -> list[dict[str, Any]]:
    made = summary.connections
    rows: list[dict[str, Any]] = [_named(reason) for reason in made.reasons]
    told = {reason.failure for reason in made.reasons}
    rows += [
        {"outcome": name, "reason": meaning(name), "times": times}
        for name, times in summary.failures.items()
        if name not in told and name != UNKNOWN
    ]
    if made.complaint:
        rows.append({"outcome": "complaint", "reason": made.complaint, "times": "first"})
    return rows


def _named(reason: Reason) -> dict[str, Any]:
    """The outcome with the name that stays the same, for whoever looks for it in the files."""
    outcome = " · ".join(filter(None, (reason.outcome, reason.failure)))
    return {"outcome": outcome, "reason": reason.reason, "times": reason.times}


def goodput_numbers(summary: Summary) -> list[dict[str, str]]:
    """What met every target on a single utterance; empty where that was not asked."""
    found = summary.goodput
    if found is None or found.share is None:
        return []
    numbers = [
        _number(f"goodput: {found.good:,} of {found.utterances:,} in time", found.share, "%"),
        _number(f"speakers served well throughout, of {found.speakers:,}", found.good_speakers),
    ]
    for name, rate in (("good", found.goodput_per_s), ("answered", found.throughput_per_s)):
        if rate is not None:
            numbers.append({"name": f"utterances a second, {name}", "value": f"{rate:.3g}"})
    return numbers
