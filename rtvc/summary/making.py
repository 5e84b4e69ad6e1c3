"""From a run's rows to its figures, or to those of one step."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rtvc.record import ConnectionRow, Run, StepRow
from rtvc.summary.figures import Summary
from rtvc.summary.goodput import Target, goodput_of
from rtvc.summary.health import generator_health, merged_lag, nobody_came
from rtvc.summary.observable import as_observed, with_inferred_ready
from rtvc.summary.outcomes import (
    accuracy_of,
    connections_of,
    errors_of,
    failures_of,
    message_counts,
    not_observable,
    utterances_of,
)
from rtvc.summary.server_turns import segments_of, stacks_of, without_warm_up
from rtvc.summary.storage import SCHEMA_VERSION
from rtvc.summary.timed import timed_metrics


def summarize(
    run: Run, step: StepRow | None = None, targets: Sequence[Target] | None = None
) -> Summary:
    """The figures of a run, or of one step of it; pure.

    `targets` on single utterances are what goodput is counted by; None: it is not.
    """
    if step is not None:
        part = during(run, step)
        found = summarize(part, targets=targets)
        before = message_counts(run.samples, step.measured_until_s - (_duration(part) or 0.0))
        messages = message_counts(run.samples, step.measured_until_s + 1) - before
        failures = failures_of(part.attempts, found.utterances, messages)
        return replace(found, cut_off=run.cut_off, steps=run.steps, failures=failures)
    run = with_inferred_ready(run)
    turns = [turn for turn in run.turns if not turn.warm_up]
    utterances = utterances_of(run.turns)
    connections = connections_of(run.attempts)
    lag = merged_lag(run)
    server_turns = without_warm_up(run)
    measured_s = _measured_s(run)
    made = Summary(
        schema_version=SCHEMA_VERSION,
        started_at=run.manifest.started_at,
        duration_s=_duration(run),
        cut_off=run.cut_off or run.manifest.interrupted,
        speakers=len({row.speaker for row in run.attempts}),
        model=run.manifest.model,
        model_kind=run.manifest.model_kind,
        self_test=run.manifest.is_self_test,
        metrics=timed_metrics(run.attempts, turns, lag),
        connections=connections,
        utterances=utterances,
        accuracy=(
            accuracy_of(turns, run.samples)
            if run.manifest.text_observable
            else not_observable(turns)
        ),
        errors=errors_of(connections, utterances),
        generator=generator_health(
            run.generator,
            lag,
            refused=nobody_came(connections),
            lost=run.manifest.lost_generators,
        ),
        segments=segments_of(server_turns),
        stacks=stacks_of(server_turns),
        steps=run.steps,
        interrupted=run.manifest.interrupted,
        planned_duration_s=run.manifest.planned_duration_s,
        measured_s=measured_s,
        scenario=_text(run.manifest.settings.get("scenario")),
        url=run.manifest.url,
        failures=failures_of(run.attempts, utterances, message_counts(run.samples)),
        goodput=None if targets is None else goodput_of(run, targets, measured_s),
        aborted=run.manifest.aborted,
    )
    return as_observed(made, run.manifest)


def _measured_s(run: Run) -> float | None:
    """Without the warm-up, and without the last words after the planned end."""
    length_s, warm_up_s = _duration(run), run.manifest.settings.get("warm_up_s")
    if length_s is None:
        return None
    measured_s = max(0.0, length_s - (warm_up_s if isinstance(warm_up_s, int | float) else 0.0))
    return min(measured_s, run.manifest.planned_duration_s or measured_s)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def during(run: Run, step: StepRow) -> Run:
    """The part of a run that one step is judged by."""
    run = with_inferred_ready(run)
    begin_s = step.measured_from_s
    begin_s = step.measured_until_s if begin_s is None else begin_s
    until_s = step.measured_until_s
    # Rows are in the order in which they were told, and a step is judged by those told till then.
    turns = [turn for turn in run.turns if turn.speech_start_at_s >= begin_s][: step.utterances]
    items = {(turn.session_id, turn.item_id) for turn in turns}
    return replace(
        run,
        # A search ends with the step in which a generator is lost, and does not keep it.
        manifest=replace(run.manifest, duration_s=until_s - begin_s, lost_generators=()),
        connections=[row for row in run.attempts if _belongs(row, step, begin_s)],
        turns=turns,
        server_turns=[row for row in run.server_turns if (row.session_id, row.item_id) in items],
        samples=[row for row in run.samples if begin_s <= row.at_s <= until_s + 1],
        generator=[row for row in run.generator if begin_s < row.at_s <= until_s + 1],
        steps=[],
    )


def _belongs(row: ConnectionRow, step: StepRow, begin_s: float) -> bool:
    """Sessions that were open while the step was measured, and those that should have been."""
    if row.opened_at_s > step.measured_until_s:
        return False
    wrong = row.outcome != "ok" and (row.closed_at_s or row.opened_at_s) >= step.ordered_at_s
    stayed = row.closed_at_s is None or row.closed_at_s > begin_s
    begun = row.connection_s is not None or row.handshake_s is not None
    return begun and stayed if row.outcome == "ok" else wrong


def _duration(run: Run) -> float | None:
    """As noted at the end, or the last instant recorded by a run that was cut off."""
    if run.manifest.duration_s is not None:
        return run.manifest.duration_s
    instants = [row.at_s for row in run.generator] + [row.at_s for row in run.samples]
    instants += [turn.final_at_s or turn.speech_end_at_s for turn in run.turns]
    return max(instants, default=None)
