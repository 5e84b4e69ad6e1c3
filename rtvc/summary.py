"""What one run says: a pure function from its rows to figures, each with its n.

Seconds and shares are stored; units are converted only where they are drawn. Warm-up turns are
left out. A final or a reply that never came counts as infinite, so that losing answers cannot
improve a quantile.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rtvc.errors import RecordError
from rtvc.record import (
    ConnectionRow,
    GeneratorRow,
    Run,
    ServerTurnRow,
    StepRow,
    TurnRow,
    check_version,
    read_json,
)
from rtvc.stats import (
    Histogram,
    Quantile,
    mean,
    quantile,
    quantile_at_least,
    quantile_interval,
    supports,
)

SCHEMA_VERSION = 1
"""Raised when a reader of older summaries would misread newer ones."""

SUMMARY_FILE = "summary.json"

FRAME_S = 0.02
"""Seconds: one frame; a generator later than this at p99 proves nothing."""

CPU_LIMIT = 0.9
"""CPU seconds per second of one generator process, at p95 of its seconds."""

METRICS = (
    "connection",
    "transcription_delay",
    "time_to_first_partial",
    "partial_interval",
    "response_latency",
    "barge_in_latency",
    "generator_lag",
)
"""Every timed metric, in the order in which people ask."""

REASONS = 8
"""Different reasons why attempts to connect were not ok, kept at most."""

TALKING_S = 1.0
"""Seconds of speech after the first word in which some text must have become visible."""

WAITS = frozenset(
    {
        *("vad_offset", "framing", "vad_delay", "endpoint_wait", "queue_wait"),
        *("transport", "send", "unaccounted"),
    }
)
"""Segments in which nothing is computed for the turn."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One timed metric over the run."""

    n: int
    """Samples, missing ones included where they count as infinite."""
    missing: int
    """Answers that never came."""
    p50: float | None
    """Seconds; None where n does not support it."""
    p90: float | None
    """Seconds; None where n does not support it."""
    p95: float | None
    """Seconds; None where n does not support it."""
    p95_low: float | None
    """Seconds: 95 % confidence interval of p95; None where n does not support it."""
    p95_high: float | None
    """Seconds: its other end."""
    p99: float | None
    """Seconds; None where n does not support it."""
    max: float | None
    """Seconds; None without samples, infinite if one is."""
    max_observed: float | None
    """Seconds: largest of the answers that came; None if none did."""
    mean: float | None
    """Seconds; infinite if one sample is."""
    at_least: dict[str, float] = field(default_factory=dict)
    """Seconds, by quantile that n does not support: it is no less, at 99 %; if that is known."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why attempts to connect were not ok."""

    outcome: str
    """"refused", "failed" or "lost"."""
    reason: str
    """One line."""
    times: int
    """Attempts that ended so."""


@dataclass(frozen=True, slots=True)
class Connections:
    """Attempts to connect, by how they ended; refused is not failed."""

    attempts: int
    """All of them."""
    ok: int
    """Usable and closed by us."""
    refused: int
    """Told to come back later (503 or 1013)."""
    failed: int
    """Never usable."""
    lost: int
    """Closed by the server mid-run."""
    concurrent: int
    """Largest number of sessions open at once."""
    reasons: list[Reason] = field(default_factory=list)
    """Why those that were not ok were not, the most frequent first."""
    complaint: str | None = None
    """The first thing the server complained of in a session; None if it did not."""

    @property
    def usable(self) -> int:
        """Those that came to be a session."""
        return self.ok + self.lost


@dataclass(frozen=True, slots=True)
class Utterances:
    """What was spoken and what came back."""

    spoken: int
    """Utterances, interruptions included, warm-up left out."""
    warm_up: int
    """Utterances left out."""
    interruptions: int
    """Spoken over a reply."""
    finals_missing: int
    """Utterances without a final transcript."""
    premature_finals: int
    """Finals that came while their utterance went on."""
    cut_utterances: int
    """Utterances with at least one premature final."""
    premature_share: float | None
    """cut_utterances ÷ spoken; None if nothing was spoken."""
    replies_expected: int
    """Utterances that a reply should have followed."""
    replies_missing: int
    """Replies that never came."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Word errors, pooled over utterances; a missing final loses all its words."""

    utterances: int
    """Utterances scored."""
    unscored: int
    """Utterances whose text could not be observed."""
    reference_words: int
    """Words spoken, after normalisation."""
    substitutions: int
    """Words replaced."""
    deletions: int
    """Words lost."""
    insertions: int
    """Words invented."""
    wer: float | None
    """(S + D + I) ÷ reference words, may exceed 1; None without reference words."""
    cross_talk_words: int | None
    """Words of one speaker found in another's transcript; None if no text is observable."""
    cross_talk_turns: int | None
    """Utterances with at least one such word; None if no text is observable."""


@dataclass(frozen=True, slots=True)
class Errors:
    """What went wrong among what was asked for."""

    count: int
    """Connections refused, failed or lost, finals missing, replies missing."""
    attempts: int
    """Connection attempts, utterances, replies expected."""
    rate: float | None
    """count ÷ attempts; None without attempts."""


@dataclass(frozen=True, slots=True)
class Generator:
    """Whether the load generator kept up; if not, the run proves nothing."""

    valid: bool
    """Lag p99 within one frame, CPU within its limit."""
    reason: str | None
    """Why not valid; None if valid."""
    frames: int
    """Frames sent."""
    late_frames: int
    """Frames sent more than one frame late."""
    late_share: float | None
    """late_frames ÷ frames; None without frames."""
    lag_p99: float | None
    """Seconds; None without frames."""
    cpu_p95: float | None
    """CPU seconds per second of the busiest process, p95 of its seconds; None if unknown."""
    loop_lag_max: float | None
    """Seconds: largest oversleep of the loop probe; None if unknown."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of the server's turns."""

    stage: str
    """"transcript" or "reply"."""
    name: str
    """As the server named it."""
    hidden: bool
    """Hidden by speculation: shown apart, not part of the sum."""
    wait: bool
    """Whether nothing was computed for the turn meanwhile."""
    n: int
    """Turns with this segment."""
    p50: float | None
    """Seconds; None where n does not support it."""
    p95: float | None
    """Seconds; None where n does not support it."""
    max: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A turn whose length is typical of one quantile, taken apart; its parts add up.

    Quantiles of segments do not add up, so the segments are averaged over the turns whose
    length is nearest in rank to the quantile (the middle one and 2.5 % of turns either side).
    """

    stage: str
    """"transcript" or "reply"."""
    label: str
    """"p50", "p95" or "max", of the turn's length."""
    n: int
    """Turns in this stage."""
    turns: int
    """Turns averaged."""
    total_s: float
    """Sum of the segments."""
    segments: dict[str, float]
    """Seconds by segment, in order."""
    hidden: dict[str, float]
    """Seconds of hidden work by segment, in order."""


@dataclass(frozen=True, slots=True)
class Summary:
    """All that is judged, compared and drawn of a run."""

    schema_version: int
    """Version of this structure."""
    started_at: str
    """UTC, ISO 8601."""
    duration_s: float | None
    """Length of the run; None if nothing was recorded."""
    cut_off: bool
    """Whether the run ended before its time: it was interrupted, or never closed."""
    speakers: int
    """Simulated speakers that tried to connect."""
    model: str | None
    """As the server named it; None if it did not say."""
    model_kind: str | None
    """What it is, in words; None if the server did not say."""
    self_test: bool
    """Whether the figures come from the self-test model."""
    metrics: dict[str, Metric]
    """By name, one for each of METRICS."""
    connections: Connections
    """Attempts to connect."""
    utterances: Utterances
    """What was spoken and what came back."""
    accuracy: Accuracy
    """Word errors and cross-talk."""
    errors: Errors
    """What went wrong."""
    generator: Generator
    """Whether the load generator kept up."""
    segments: list[Segment]
    """Server time by segment; empty if the server sends none."""
    stacks: list[Stack]
    """Typical turns taken apart; empty if the server sends none."""
    steps: list[StepRow] = field(default_factory=list)
    """Steps of a search for the capacity; the other figures are those of one of them."""
    interrupted: bool = False
    """Whether somebody stopped the run: then nothing is judged."""
    planned_duration_s: float | None = None
    """Seconds that were to be measured after the warm-up; None if that was left open."""
    measured_s: float | None = None
    """Seconds that were; None if nothing was recorded."""
    scenario: str | None = None
    """What the speakers did; None if not recorded."""
    url: str | None = None
    """The server; None if not recorded."""


def summarize(run: Run, step: StepRow | None = None) -> Summary:
    """The figures of a run, or of one step of it; pure."""
    if step is not None:
        return replace(summarize(during(run, step)), cut_off=run.cut_off, steps=run.steps)
    turns = [turn for turn in run.turns if not turn.warm_up]
    utterances = _utterances(run.turns)
    connections = _connections(run.attempts)
    lag = _merged_lag(run)
    server_turns = _without_warm_up(run)
    return Summary(
        schema_version=SCHEMA_VERSION,
        started_at=run.manifest.started_at,
        duration_s=_duration(run),
        cut_off=run.cut_off or run.manifest.interrupted,
        speakers=len({row.speaker for row in run.attempts}),
        model=run.manifest.model,
        model_kind=run.manifest.model_kind,
        self_test=run.manifest.is_self_test,
        metrics=_metrics(run.attempts, turns, lag),
        connections=connections,
        utterances=utterances,
        accuracy=_accuracy(turns) if run.manifest.text_observable else _not_observable(turns),
        errors=_errors(connections, utterances),
        generator=_generator(run.generator, lag, refused=_nobody_came(connections)),
        segments=_segments(server_turns),
        stacks=_stacks(server_turns),
        steps=run.steps,
        interrupted=run.manifest.interrupted,
        planned_duration_s=run.manifest.planned_duration_s,
        measured_s=_measured_s(run),
        scenario=_text(run.manifest.settings.get("scenario")),
        url=run.manifest.url,
    )


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
    begin_s = step.measured_from_s
    begin_s = step.measured_until_s if begin_s is None else begin_s
    until_s = step.measured_until_s
    # Rows are in the order in which they were told, and a step is judged by those told till then.
    turns = [turn for turn in run.turns if turn.speech_start_at_s >= begin_s][: step.utterances]
    items = {(turn.session_id, turn.item_id) for turn in turns}
    return replace(
        run,
        manifest=replace(run.manifest, duration_s=until_s - begin_s),
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
    return row.connection_s is not None and stayed if row.outcome == "ok" else wrong


def _duration(run: Run) -> float | None:
    """As noted at the end, or the last instant recorded by a run that was cut off."""
    if run.manifest.duration_s is not None:
        return run.manifest.duration_s
    instants = [row.at_s for row in run.generator] + [row.at_s for row in run.samples]
    instants += [turn.final_at_s or turn.speech_end_at_s for turn in run.turns]
    return max(instants, default=None)


def _metrics(
    connections: Sequence[ConnectionRow], turns: Sequence[TurnRow], lag: Histogram
) -> dict[str, Metric]:
    opened = [row.connection_s for row in connections]
    partials = [turn.time_to_first_partial_s for turn in turns]
    replies = [turn.response_latency_s for turn in turns if turn.reply_expected]
    interrupted = [turn.barge_in_latency_s for turn in turns if turn.interrupted_reply]
    return {
        "connection": _metric(opened),
        "transcription_delay": _metric(map(transcription_delay, turns)),
        "time_to_first_partial": _metric(partials),
        "partial_interval": _metric(filter(_is_number, map(partial_interval, turns))),
        "response_latency": _metric(math.inf if reply is None else reply for reply in replies),
        "barge_in_latency": _metric(interrupted),
        "generator_lag": _lag_metric(lag),
    }


def transcription_delay(turn: TurnRow) -> float:
    """Seconds; infinite if no final came."""
    missing = turn.final_at_s is None or turn.transcription_delay_s is None
    return math.inf if missing else turn.transcription_delay_s or 0.0


def partial_interval(turn: TurnRow) -> float | None:
    """Seconds; infinite if nothing became visible while there was time; None if there was not."""
    if turn.partial_interval_s is not None:
        return turn.partial_interval_s
    talked_s = turn.speech_end_at_s - turn.first_word_end_at_s
    shown = turn.first_partial_at_s is not None and turn.first_partial_at_s <= turn.speech_end_at_s
    # Shown in time and not timed: a record from before intervals were.
    return math.inf if talked_s >= TALKING_S and not shown else None


def _is_number(value: float | None) -> bool:
    return value is not None


def _metric(values: Iterable[float | None]) -> Metric:
    """Absent values are counted as missing; infinite ones are missing and judged too."""
    asked = list(values)
    samples = [value for value in asked if value is not None]
    came = [value for value in samples if math.isfinite(value)]
    low, high = quantile_interval(samples, 0.95) or (None, None)
    return Metric(
        n=len(samples),
        missing=len(asked) - len(came),
        p50=Quantile.of(samples, 0.5).value,
        p90=Quantile.of(samples, 0.9).value,
        p95=Quantile.of(samples, 0.95).value,
        p95_low=low,
        p95_high=high,
        p99=Quantile.of(samples, 0.99).value,
        max=max(samples, default=None),
        max_observed=max(came, default=None),
        mean=mean(samples),
        at_least=_at_least(samples),
    )


def _at_least(samples: Sequence[float]) -> dict[str, float]:
    n = len(samples)
    bounds = {
        name: quantile_at_least(samples, q)
        for name, q in {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}.items()
        if not supports(n, q)
    }
    return {name: bound for name, bound in bounds.items() if bound is not None}


def _lag_metric(lag: Histogram) -> Metric:
    def at(q: float) -> float | None:
        return lag.quantile(q) if supports(lag.n, q) else None

    return Metric(
        n=lag.n,
        missing=0,
        p50=at(0.5),
        p90=at(0.9),
        p95=at(0.95),
        p95_low=None,
        p95_high=None,
        p99=at(0.99),
        max=lag.maximum,
        max_observed=lag.maximum,
        mean=lag.mean,
    )


def _connections(rows: Sequence[ConnectionRow]) -> Connections:
    outcomes = [row.outcome for row in rows]
    return Connections(
        attempts=len(rows),
        ok=outcomes.count("ok"),
        refused=outcomes.count("refused"),
        failed=outcomes.count("failed"),
        lost=outcomes.count("lost"),
        concurrent=_concurrent(rows),
        reasons=_reasons(rows),
        complaint=next((row.reason for row in rows if row.outcome == "ok" and row.reason), None),
    )


def _reasons(rows: Sequence[ConnectionRow]) -> list[Reason]:
    counted = Counter(
        (row.outcome, row.reason or "no reason given") for row in rows if row.outcome != "ok"
    )
    return [Reason(*why, times) for why, times in counted.most_common(REASONS)]


def _concurrent(rows: Sequence[ConnectionRow]) -> int:
    """Largest number of usable sessions open at once."""
    edges: list[tuple[float, int]] = []
    for row in rows:
        if row.connection_s is not None:
            edges.append((row.opened_at_s + row.connection_s, 1))
            edges.append((math.inf if row.closed_at_s is None else row.closed_at_s, -1))
    open_now = most = 0
    for _, change in sorted(edges):
        open_now += change
        most = max(most, open_now)
    return most


def _utterances(all_turns: Sequence[TurnRow]) -> Utterances:
    turns = [turn for turn in all_turns if not turn.warm_up]
    cut = sum(turn.premature_finals > 0 for turn in turns)
    expected = [turn for turn in turns if turn.reply_expected]
    return Utterances(
        spoken=len(turns),
        warm_up=len(all_turns) - len(turns),
        interruptions=sum(turn.kind == "interruption" for turn in turns),
        finals_missing=sum(math.isinf(transcription_delay(turn)) for turn in turns),
        premature_finals=sum(turn.premature_finals for turn in turns),
        cut_utterances=cut,
        premature_share=cut / len(turns) if turns else None,
        replies_expected=len(expected),
        replies_missing=sum(turn.response_latency_s is None for turn in expected),
    )


def word_errors(turn: TurnRow) -> tuple[int, int, int] | None:
    """(S, D, I); all words lost if no final came; None if the text was not observable."""
    counts = (turn.substitutions, turn.deletions, turn.insertions)
    if None not in counts:
        return (turn.substitutions or 0, turn.deletions or 0, turn.insertions or 0)
    return (0, turn.reference_words, 0) if turn.final_at_s is None else None


def _accuracy(turns: Sequence[TurnRow]) -> Accuracy:
    scored = [(turn, errors) for turn in turns if (errors := word_errors(turn)) is not None]
    words = sum(turn.reference_words for turn, _ in scored)
    substitutions, deletions, insertions = (
        sum(errors[kind] for _, errors in scored) for kind in range(3)
    )
    total = substitutions + deletions + insertions
    return Accuracy(
        utterances=len(scored),
        unscored=len(turns) - len(scored),
        reference_words=words,
        substitutions=substitutions,
        deletions=deletions,
        insertions=insertions,
        wer=total / words if words else None,
        cross_talk_words=sum(turn.cross_talk_words for turn in turns),
        cross_talk_turns=sum(turn.cross_talk_words > 0 for turn in turns),
    )


def _not_observable(turns: Sequence[TurnRow]) -> Accuracy:
    """Of a model whose text means nothing, not even that a word was lost."""
    return Accuracy(
        utterances=0,
        unscored=len(turns),
        reference_words=0,
        substitutions=0,
        deletions=0,
        insertions=0,
        wer=None,
        cross_talk_words=None,
        cross_talk_turns=None,
    )


def _errors(connections: Connections, utterances: Utterances) -> Errors:
    count = connections.refused + connections.failed + connections.lost
    count += utterances.finals_missing + utterances.replies_missing
    attempts = connections.attempts + utterances.spoken + utterances.replies_expected
    return Errors(count, attempts, count / attempts if attempts else None)


def _merged_lag(run: Run) -> Histogram:
    merged = Histogram()
    for row in run.generator:
        try:
            merged.merge(Histogram.parse(row.lag_histogram))
        except ValueError as error:
            raise RecordError(f"{run.folder}: generator.csv at {row.at_s} s: {error}") from error
    return merged


def _nobody_came(connections: Connections) -> bool:
    return connections.attempts > 0 and not connections.usable


def _generator(rows: Sequence[GeneratorRow], lag: Histogram, *, refused: bool) -> Generator:
    """Where nobody was let in there was nothing to be late with."""
    frames = sum(row.frames for row in rows)
    late = sum(row.late_frames for row in rows)
    lag_p99, cpu = lag.quantile(0.99), _busiest_cpu(rows)
    reason = None if refused else _void_reason(lag_p99, cpu)
    oversleeps = [row.loop_lag_max_s for row in rows if row.loop_lag_max_s is not None]
    return Generator(
        valid=reason is None,
        reason=reason,
        frames=frames,
        late_frames=late,
        late_share=late / frames if frames else None,
        lag_p99=lag_p99,
        cpu_p95=cpu,
        loop_lag_max=max(oversleeps, default=None),
    )


def _busiest_cpu(rows: Sequence[GeneratorRow]) -> float | None:
    """p95 of a process's seconds, so that one busy second at the start does not void a run."""
    by_process: defaultdict[int, list[float]] = defaultdict(list)
    for row in rows:
        if row.cpu_ratio is not None:
            by_process[row.process].append(row.cpu_ratio)
    busy = [quantile(ratios, 0.95) or 0.0 for ratios in by_process.values()]
    return max(busy, default=None)


def _void_reason(lag_p99: float | None, cpu: float | None) -> str | None:
    if lag_p99 is None:
        return "the load generator left no record of its own lag"
    if lag_p99 > FRAME_S + 1e-9:
        late, frame = f"{1000 * lag_p99:.1f}", f"{1000 * FRAME_S:.0f}"
        return f"the load generator sent its frames {late} ms late at p99 (limit {frame} ms)"
    if cpu is not None and cpu > CPU_LIMIT:
        used, limit = f"{100 * cpu:.0f}", f"{100 * CPU_LIMIT:.0f}"
        return f"the load generator used {used} % of a core (limit {limit} %)"
    return None


def _without_warm_up(run: Run) -> list[ServerTurnRow]:
    warm = {(turn.session_id, turn.item_id) for turn in run.turns if turn.warm_up}
    return [row for row in run.server_turns if (row.session_id, row.item_id) not in warm]


def _segments(rows: Sequence[ServerTurnRow]) -> list[Segment]:
    durations: dict[tuple[str, str, bool], list[float]] = {}
    for row in rows:
        durations.setdefault((row.stage, row.segment, row.hidden), []).append(row.duration_s)
    return [
        Segment(
            stage=stage,
            name=name,
            hidden=hidden,
            wait=name in WAITS,
            n=len(values),
            p50=Quantile.of(values, 0.5).value,
            p95=Quantile.of(values, 0.95).value,
            max=max(values),
        )
        for (stage, name, hidden), values in durations.items()
    ]


def _stacks(rows: Sequence[ServerTurnRow]) -> list[Stack]:
    by_stage: dict[str, dict[tuple[str, str], list[ServerTurnRow]]] = {}
    for row in rows:
        turns = by_stage.setdefault(row.stage, {})
        turns.setdefault((row.session_id, row.item_id), []).append(row)
    return [stack for stage, turns in by_stage.items() for stack in _stage_stacks(stage, turns)]


def _stage_stacks(stage: str, turns: dict[Any, list[ServerTurnRow]]) -> list[Stack]:
    ordered = sorted(turns.values(), key=_length)
    n = len(ordered)
    high = 0.95 if supports(n, 0.95) else 1.0
    stacks = []
    for q, label in ((0.5, "p50"), (high, "max" if high == 1 else "p95")):
        middle = round(q * (n - 1))
        around = 0 if q == 1 else round(0.025 * n)
        chosen = ordered[max(0, middle - around) : middle + around + 1]
        stacks.append(_stack(stage, label, n, chosen))
    return stacks


def _length(segments: Iterable[ServerTurnRow]) -> float:
    return math.fsum(row.duration_s for row in segments if not row.hidden)


def _stack(stage: str, label: str, n: int, turns: Sequence[Sequence[ServerTurnRow]]) -> Stack:
    rows = [row for turn in turns for row in turn]
    segments, hidden = (
        _average([row for row in rows if row.hidden == kind], len(turns)) for kind in (False, True)
    )
    return Stack(stage, label, n, len(turns), math.fsum(segments.values()), segments, hidden)


def _average(rows: Sequence[ServerTurnRow], turns: int) -> dict[str, float]:
    """Seconds a turn by segment, in order of the segments' average start."""
    by_name: dict[str, list[ServerTurnRow]] = {}
    for row in rows:
        by_name.setdefault(row.segment, []).append(row)
    order = sorted(by_name, key=lambda name: mean([row.start_s for row in by_name[name]]) or 0.0)
    return {name: math.fsum(row.duration_s for row in by_name[name]) / turns for name in order}


def to_json(summary: Summary) -> dict[str, Any]:
    """Plain JSON values; JSON has no infinity, so an answer that never came is "inf"."""
    plain: dict[str, Any] = _plain(asdict(summary))
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return "inf" if value == math.inf else value


def write_summary(folder: Path, summary: Summary, **more: Any) -> Path:
    """`more` is what a reader may want beside it, as plain JSON values."""
    path = Path(folder) / SUMMARY_FILE
    path.write_text(
        json.dumps({**to_json(summary), **more}, indent=2, allow_nan=False) + "\n", "utf-8"
    )
    return path


def load_summary(folder: Path) -> Summary:
    """Read what write_summary wrote; RecordError if it cannot be."""
    path = Path(folder) / SUMMARY_FILE
    content = read_json(path)
    check_version(path, content.get("schema_version"), SCHEMA_VERSION)
    try:
        return TypeAdapter(Summary).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{path}: {where}: {first['msg']}") from error
