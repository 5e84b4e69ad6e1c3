"""Objectives, written as in k6, and the verdict on a run.

    transcription_delay_p95<500ms   connection_p95<3s   errors<1%   wer<10%   cross_talk==0

A quantile that the samples cannot support is not judged; the maximum is: within the target the
objective is passed. Above it, it is failed if so many of the n samples miss the target that a
server that meets it would do so with a chance of less than 1 % (one-sided binomial test of a
quantile: P(Binomial(n, 1 − q) ≥ k) < 0.01), and undecided otherwise. An objective without samples
fails. Of a run that was interrupted nothing is judged.
"""

import math
import operator
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args

from rtvc.errors import UsageError
from rtvc.record import StepRow
from rtvc.summary import METRICS, Metric, Summary

Status = Literal["passed", "failed", "undecided", "no data"]
Outcome = Literal["met", "missed", "undecided", "void", "interrupted"]
Unit = Literal["s", "%", ""]

EXIT_CODES: dict[Outcome, int] = {
    "met": 0,
    "missed": 99,
    "undecided": 3,
    "void": 3,
    "interrupted": 3,
}

UNJUDGED: frozenset[Outcome] = frozenset({"void", "interrupted"})
"""Outcomes in which nothing is ticked, however good it looks."""

AGGREGATES = ("p50", "p90", "p95", "p99", "max", "mean", "avg")
"""What may follow a timed metric; avg is another name for mean."""

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}

DIVISORS = {"ms": 1000, "s": 1, "%": 100, "": 1}
"""What a written number is divided by."""

Reading = tuple[float | None, int]
"""Measured value (None without samples) and the n behind it."""

SHARES: dict[str, Callable[[Summary], Reading]] = {
    "errors": lambda run: (run.errors.rate, run.errors.attempts),
    "wer": lambda run: (run.accuracy.wer, run.accuracy.reference_words),
    "premature_finals": lambda run: (run.utterances.premature_share, run.utterances.spoken),
    "late_frames": lambda run: (run.generator.late_share, run.generator.frames),
}
"""Objectives on shares, in percent."""

COUNTS: dict[str, Callable[[Summary], Reading]] = {
    "cross_talk": lambda run: _count(run, run.accuracy.cross_talk_words),
    "finals_missing": lambda run: _count(run, run.utterances.finals_missing),
    "replies_missing": lambda run: _count(run, run.utterances.replies_missing),
}
"""Objectives on counts."""


def _count(run: Summary, counted: int | None) -> Reading:
    spoken = run.utterances.spoken
    return (float(counted) if spoken and counted is not None else None, spoken)


TOLD = 2
"""Findings told in the verdict sentence; the table has them all."""

AT_LEAST = "at least"
"""Judged where n does not support a quantile: what it is not less than, at 99 %."""

STORM = "connect-storm"
"""The scenario in which speakers only connect."""

_SPOKEN = {
    "barge_in_latency": "barge-in latency",
    "cross_talk": "cross-talk words",
    "wer": "word error rate",
    "vad_offset": "VAD offset",
    "vad_delay": "VAD delay",
    "llm_ttft": "LLM first token",
    "llm_sentence": "LLM first sentence",
    "tts_ttfb": "TTS first audio",
    "emit": "sending the transcript",
    "send": "sending the audio",
}

_COUNTED = {
    "connection": "connections",
    "response_latency": "replies",
    "barge_in_latency": "interruptions",
    "generator_lag": "frames",
    "errors": "attempts",
    "wer": "words",
    "late_frames": "frames",
}


def spoken(name: str) -> str:
    """A metric's or segment's name as people say it."""
    return _SPOKEN.get(name, name.replace("_", " "))


@dataclass(frozen=True, slots=True)
class Objective:
    """One target."""

    metric: str
    """A name of METRICS, SHARES or COUNTS."""
    aggregate: str | None
    """One of AGGREGATES; None for shares and counts."""
    comparison: str
    """One of COMPARISONS."""
    target: float
    """Seconds, share or count."""
    unit: Unit
    """"s" for seconds, "%" for a share, "" for a count."""

    def holds(self, value: float) -> bool:
        return COMPARISONS[self.comparison](value, self.target)

    @property
    def name(self) -> str:
        """
        >>> parse_objective("transcription_delay_p95<500ms").name
        'transcription delay p95'
        """
        return " ".join(filter(None, (spoken(self.metric), self.aggregate)))

    @property
    def counted(self) -> str | None:
        """What its samples are; None where they are utterances, as nearly everywhere."""
        return _COUNTED.get(self.metric)

    @property
    def target_text(self) -> str:
        return f"{_SIGNS.get(self.comparison, self.comparison)} {shown(self.target, self.unit)}"

    def __str__(self) -> str:
        """As it would be written: parses to the same objective."""
        subject = self.metric if self.aggregate is None else f"{self.metric}_{self.aggregate}"
        number = 100 * self.target if self.unit == "%" else self.target
        return f"{subject}{self.comparison}{number:.12g}{self.unit}"


_SIGNS = {"<=": "≤", ">=": "≥", "==": "="}

_GRAMMAR = re.compile(
    r"\s*(?P<subject>[a-z][a-z0-9_]*)\s*(?P<comparison><=|>=|==|<|>)"
    r"\s*(?P<number>\d+(?:\.\d*)?(?:e-?\d+)?|\.\d+)\s*(?P<unit>ms|s|%|)\s*"
)


def parse_objective(text: str) -> Objective:
    """Read one objective; UsageError says what was expected."""
    found = _GRAMMAR.fullmatch(text)
    if found is None:
        raise UsageError(
            "expected an objective such as transcription_delay_p95<500ms "
            f"(a name, one of < <= > >= ==, a number, one of ms s %), got {text!r}"
        )
    metric, aggregate = _subject(found["subject"], text)
    unit = _unit(metric, aggregate, found["unit"], text)
    target = float(found["number"]) / DIVISORS[found["unit"]]
    if unit == "%" and not found["unit"] and target > 1:
        raise UsageError(f"expected a share such as 1% or 0.01, got {text!r}")
    return Objective(metric, aggregate, found["comparison"], target, unit)


def _subject(name: str, text: str) -> tuple[str, str | None]:
    if name in SHARES or name in COUNTS:
        return name, None
    metric, _, aggregate = name.rpartition("_")
    if metric in METRICS and aggregate in AGGREGATES:
        return metric, "mean" if aggregate == "avg" else aggregate
    if name in METRICS:
        choices = ", ".join(f"{name}_{each}" for each in AGGREGATES)
        raise UsageError(f"expected one of {choices}, got {name!r} in {text!r}")
    timed = ", ".join(f"{each}_…" for each in METRICS)
    raise UsageError(
        f"expected one of {timed} (… is one of {', '.join(AGGREGATES)}), "
        f"{', '.join([*SHARES, *COUNTS])}, got {name!r} in {text!r}"
    )


def _unit(metric: str, aggregate: str | None, written: str, text: str) -> Unit:
    kind: Unit = "s" if aggregate else "%" if metric in SHARES else ""
    allowed = {"s": ("ms", "s"), "%": ("%", ""), "": ("",)}[kind]
    if written not in allowed:
        wanted = {"s": "ms or s", "%": "%", "": "a plain number"}[kind]
        raise UsageError(f"expected {wanted} for {metric}, got {text!r}")
    return kind


DEFAULT: tuple[Objective, ...] = tuple(
    map(parse_objective, ("connection_p95<3s", "transcription_delay_p95<500ms", "errors<1%"))
)


def load_objectives(path: Path) -> tuple[Objective, ...]:
    """Read `[slo] objectives = ["…", "…"]` from a TOML file."""
    try:
        content = tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read objectives from {path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path}: expected TOML, but {error}") from error
    section = content.get("slo")
    listed = section.get("objectives") if isinstance(section, dict) else None
    if not isinstance(listed, list) or not listed:
        raise UsageError(f'{path}: expected [slo] with objectives = ["connection_p95<3s", …]')
    return tuple(parse_objective(str(text)) for text in listed)


def parse_objectives(texts: Iterable[str]) -> tuple[Objective, ...]:
    """Objectives and TOML files of them, as given on the command line; DEFAULT if none."""
    objectives: list[Objective] = []
    for text in texts:
        found = load_objectives(Path(text)) if text.endswith(".toml") else (parse_objective(text),)
        objectives.extend(found)
    return tuple(objectives) or DEFAULT


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one objective."""

    objective: Objective
    """What was asked."""
    status: Status
    """"passed", "failed", "undecided" (too few samples) or "no data" (counts as failed)."""
    measured: float | None
    """What was judged, in seconds, share or count; None without data."""
    judged: str | None
    """Aggregate judged: the objective's, or "max" or AT_LEAST where n does not support it."""
    n: int
    """Samples behind it."""

    @property
    def substituted(self) -> bool:
        """Whether something else stood in for a quantile that n does not support."""
        return self.judged != self.objective.aggregate

    @property
    def few(self) -> bool:
        """Whether it passed only for want of samples that could say otherwise."""
        return self.substituted and self.status == "passed"

    @property
    def bare_text(self) -> str:
        """What was measured, without its n."""
        return self.measured_text.partition(", n=")[0]

    @property
    def measured_text(self) -> str:
        if self.measured is None:
            return "no data"
        value = self._distinct_from_target(self.measured)
        if not self.substituted or math.isinf(self.measured):
            return f"{value}, n={self.n}" if self.substituted else value
        return f"{'≥' if self.judged == AT_LEAST else 'max'} {value}, n={self.n}"

    def _distinct_from_target(self, measured: float) -> str:
        """Rounded, but never onto a target that was not hit exactly (499.7 ms is not 500)."""
        objective = self.objective
        target = shown(objective.target, objective.unit)
        for more_digits in range(4):
            text = shown(measured, objective.unit, more_digits)
            if text != target or measured == objective.target:
                return text
        return text


@dataclass(frozen=True, slots=True)
class Judgement:
    """What came of a run."""

    outcome: Outcome
    """"met", "missed", "undecided", "void" or "interrupted"; the later outweighs the former,
    but missed outweighs undecided."""
    sentence: str
    """The verdict, for a person."""
    verdicts: tuple[Verdict, ...]
    """One for each objective, in their order."""

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.outcome]


def evaluate(objectives: Iterable[Objective], summary: Summary) -> tuple[Verdict, ...]:
    return tuple(_verdict(objective, summary) for objective in objectives)


def _verdict(objective: Objective, summary: Summary) -> Verdict:
    if objective.aggregate is not None:
        return _timed_verdict(objective, objective.aggregate, summary.metrics[objective.metric])
    reading = SHARES.get(objective.metric) or COUNTS[objective.metric]
    measured, n = reading(summary)
    return _judged(objective, measured, None, n)


def _timed_verdict(objective: Objective, aggregate: str, metric: Metric) -> Verdict:
    value: float | None = getattr(metric, aggregate)
    if value is not None or metric.max is None:
        return _judged(objective, value, aggregate, metric.n)
    least = metric.at_least.get(aggregate)
    if objective.comparison in ("<", "<=") and least is not None and not objective.holds(least):
        return Verdict(objective, "failed", least, AT_LEAST, metric.n)
    return Verdict(objective, _by_maximum(objective, metric.max), metric.max, "max", metric.n)


def _judged(objective: Objective, value: float | None, judged: str | None, n: int) -> Verdict:
    if value is None:
        return Verdict(objective, "no data", None, judged, n)
    return Verdict(objective, "passed" if objective.holds(value) else "failed", value, judged, n)


def _by_maximum(objective: Objective, maximum: float) -> Status:
    """The quantile lies at or below the maximum: that decides some cases, not all."""
    within = objective.holds(maximum)
    if objective.comparison in ("<", "<="):
        return "passed" if within else "undecided"
    return "undecided" if within or objective.comparison == "==" else "failed"


def judge(summary: Summary, objectives: Sequence[Objective] = DEFAULT) -> Judgement:
    """Verdicts, their sum and one sentence; of a search, its answer."""
    verdicts = evaluate(objectives, summary)
    if summary.steps:
        found = capacity(summary.steps)
        model = "on the self-test model: " if summary.self_test else ""
        if summary.interrupted:
            said = f"interrupted, not judged; so far: {model}{found.sentence}"
            return Judgement("interrupted", _begun(said), verdicts)
        return Judgement(found.outcome, _begun(model + found.sentence), verdicts)
    outcome = _outcome(summary, verdicts)
    return Judgement(outcome, _sentence(outcome, summary, verdicts), verdicts)


def _outcome(summary: Summary, verdicts: Iterable[Verdict]) -> Outcome:
    seen = {verdict.status for verdict in verdicts}
    if summary.interrupted:
        return "interrupted"
    if not summary.generator.valid:
        return "void"
    made = summary.connections
    if made.attempts and not made.ok:
        return "missed"
    if seen & {"failed", "no data"}:
        return "missed"
    return "undecided" if "undecided" in seen else "met"


def _sentence(outcome: Outcome, summary: Summary, verdicts: Sequence[Verdict]) -> str:
    if outcome == "interrupted":
        return f"Interrupted {_progress(summary)}: not judged."
    if outcome == "void":
        return f"Void: {summary.generator.reason}, so nothing follows about the server."
    if not summary.connections.usable and summary.connections.reasons:
        return f"Missed: no speaker could connect: {_who_said_no(summary)}."
    wanted: dict[Outcome, tuple[Status, ...]] = {
        "met": get_args(Status),
        "missed": ("failed", "no data"),
        "undecided": ("undecided",),
    }
    told = [verdict for verdict in verdicts if verdict.status in wanted[outcome]]
    # What people ask about first comes first.
    told.sort(key=lambda verdict: verdict.objective.metric != "transcription_delay")
    facts = _missed_facts(told, summary) if outcome == "missed" else _facts(told[:1], summary)
    opening = _opening(outcome, summary)
    return f"{opening}: {'; '.join(facts)}." if facts else f"{opening}."


def _progress(summary: Summary) -> str:
    done_s, planned_s = summary.measured_s, summary.planned_duration_s
    if not done_s:
        return "before anything was measured"
    planned = "" if planned_s is None else f"of {planned_s:g} "
    return f"after {done_s:.0f} {planned}s"


def _who_said_no(summary: Summary) -> str:
    """The most frequent reason, and who gave it.

    A status is an answer of the server's; all else is said by whoever tried.
    """
    first, *others = summary.connections.reasons
    where = (summary.url or "the server").partition("?")[0]
    answered = " answered" if first.reason.startswith("HTTP ") else ":"
    said = f"{where}{answered} {first.reason.rstrip('.')}"
    return f"{said} ({first.times} times; {len(others)} other reasons)" if others else said


def _missed_facts(told: Sequence[Verdict], summary: Summary) -> list[str]:
    """Figures that are too large; then answers that never came, with their cause."""
    causes = _causes(summary)
    explained = [verdict for verdict in told if causes and _is_loss(verdict)]
    others = [verdict for verdict in told if verdict not in explained]
    facts = _facts(others[:TOLD], summary)
    if others[TOLD:]:
        facts.append(f"and {len(others) - TOLD} more")
    if causes and (explained or not told):
        rate = [v for v in explained if v.objective.metric == "errors"]
        share = [f"errors {v.measured_text}, target {v.objective.target_text}" for v in rate]
        facts.append("; ".join(causes[:TOLD]) + "".join(f" ({text})" for text in share))
    return facts


def _is_loss(verdict: Verdict) -> bool:
    """Whether it was missed because an answer never came."""
    lost = verdict.objective.metric in ("errors", "finals_missing", "replies_missing")
    return lost or verdict.measured is None or math.isinf(verdict.measured)


def _causes(summary: Summary) -> list[str]:
    """What never came, connections first: they explain the rest."""
    made, spoken = summary.connections, summary.utterances
    causes = []
    for outcome in ("lost", "refused", "failed"):
        name = "sessions" if outcome == "lost" else "connections"
        count = sum(each.times for each in made.reasons if each.outcome == outcome)
        why = next((each.reason for each in made.reasons if each.outcome == outcome), None)
        if why is not None:
            causes.append(f"{count} of {made.attempts} {name} {outcome}: {why.rstrip('.')}")
    said = f"; server said: {made.complaint.rstrip('.')}" if made.complaint else ""
    if spoken.finals_missing:
        causes.append(f"{spoken.finals_missing} of {spoken.spoken} finals missing{said}")
        said = ""
    if spoken.replies_missing:
        missing = f"{spoken.replies_missing} of {spoken.replies_expected} replies missing"
        causes.append(f"{missing}{said}")
    return causes


def _facts(verdicts: Iterable[Verdict], summary: Summary) -> list[str]:
    return [_fact(verdict, summary) for verdict in verdicts]


def _fact(verdict: Verdict, summary: Summary) -> str:
    """One figure of the headline, as short as can be.

    >>> _n_text(Verdict(parse_objective("connection_p95<3s"), "passed", 0.2, "max", 7))
    ' (n=7 connections)'
    """
    objective = verdict.objective
    target = f"target {objective.target_text}"
    if verdict.measured is None:
        return f"no data for {objective.name}, {target}"
    subject = objective.name
    if verdict.judged == "max" and verdict.substituted:
        subject = spoken(objective.metric)
    if summary.scenario == STORM and objective.metric == "connection":
        # The opening has said what was counted, and how many.
        aggregate = None if verdict.judged == "max" else objective.aggregate
        return f"{' '.join(filter(None, (aggregate, verdict.bare_text)))}, {target}"
    n = _n_text(verdict) if verdict.substituted else ""
    return f"{subject} {verdict.bare_text}{n}, {target}"


def _n_text(verdict: Verdict) -> str:
    return f" (n={' '.join(filter(None, (str(verdict.n), verdict.objective.counted)))})"


def _opening(outcome: Outcome, summary: Summary) -> str:
    model = _named_model(summary)
    if summary.scenario == STORM:
        made = f"{summary.connections.attempts} connections, {summary.speakers} at once"
        return made if outcome == "met" else f"{_OPENINGS[outcome]} with {made}"
    if outcome == "met":
        held = f"{_speakers(summary.connections.concurrent)} held"
        return f"{held} with {model}" if model else held
    said = f"{_OPENINGS[outcome]} with {_speakers(summary.speakers)}"
    return f"{said} on {model}" if model else said


_OPENINGS: dict[Outcome, str] = {"missed": "Missed", "undecided": "Undecided, too few samples"}


def _named_model(summary: Summary) -> str | None:
    """A model that nobody talks to for its own sake is named wherever its numbers appear."""
    if summary.self_test:
        return "the self-test model"
    return summary.model_kind if summary.model_kind == "synthetic weights" else None


def _speakers(count: int) -> str:
    return f"{count} speaker" if count == 1 else f"{count} speakers"


def finding(verdict: Verdict) -> str:
    objective = verdict.objective
    if verdict.measured is None:
        return f"no data for {objective.name} (target {objective.target_text})"
    if not verdict.substituted:
        return f"{objective.name} {verdict.measured_text} (target {objective.target_text})"
    metric = spoken(objective.metric)
    target = f"target {objective.aggregate} {objective.target_text}"
    return f"{metric} {verdict.measured_text} ({target})"


# The verdict on a search for the capacity.

StepStatus = Literal["passed", "failed", "void", "undecided"]

LOST_RUNS = 3
"""Void or undecided runs of one number of speakers after which it is given up."""


class Trial(Protocol):
    """The part of a step that an answer is made of."""

    @property
    def speakers(self) -> int: ...
    @property
    def outcome(self) -> str: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def binding(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Level:
    """One number of speakers and what came of its runs."""

    passed: int
    """Runs that met every target."""
    failed: int
    """Runs that did not."""
    lost: int
    """Runs that say nothing: void or undecided."""

    @property
    def decided(self) -> int:
        return self.passed + self.failed

    @property
    def held(self) -> bool:
        return self.passed > self.failed

    @property
    def given_up(self) -> bool:
        """Whether it could not be measured."""
        return self.lost >= LOST_RUNS

    @property
    def missed(self) -> bool:
        """Not held, as far as is known; what cannot be measured bounds the search as well."""
        return self.failed > self.passed or (not self.decided and self.given_up)


def levels(trials: Iterable[Trial]) -> dict[int, Level]:
    """By number of speakers, in ascending order."""
    seen: dict[int, Counter[str]] = {}
    for trial in trials:
        seen.setdefault(trial.speakers, Counter())[trial.outcome] += 1
    return {
        speakers: Level(tally["passed"], tally["failed"], tally["void"] + tally["undecided"])
        for speakers, tally in sorted(seen.items())
    }


@dataclass(frozen=True, slots=True)
class Capacity:
    """The answer of a search: an interval, a sentence and a reason."""

    holds: int
    """Most speakers that met every target, with nothing below in doubt; 0: not even one."""
    fails_at: int | None
    """Fewest that missed a target, with nothing above that met them; None if unknown."""
    sentence: str
    """For a person."""
    binding: str | None
    """What held it back at `fails_at`; None if unknown."""
    outcome: Outcome
    """"met": a capacity was found; "missed": not even one speaker; else nothing is known."""
    confirmed: bool
    """Whether both sides of the boundary were run twice."""

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.outcome]


def capacity(trials: Sequence[Trial]) -> Capacity:
    """What steps say together; also of a search that was cut off.

    >>> from typing import NamedTuple
    >>> class Run(NamedTuple):
    ...     speakers: int
    ...     outcome: str
    ...     reason: str | None = None
    ...     binding: str | None = None
    >>> missed = Run(10, "failed", "transcription delay p95 812 ms", "inference")
    >>> capacity([Run(8, "passed"), missed, missed, Run(8, "passed")]).sentence
    'holds 8 speakers, not 10: transcription delay p95 812 ms; binding: inference'
    """
    seen = levels(trials)
    doubted = min((n for n, level in seen.items() if not level.held), default=None)
    holds = max((n for n in seen if doubted is None or n < doubted), default=0)
    hopeful = max((n for n, level in seen.items() if level.held), default=0)
    missed = (n for n, level in seen.items() if n > hopeful and level.failed > level.passed)
    fails_at = min(missed, default=None)
    causes = [t for t in trials if t.speakers == fails_at and t.outcome == "failed"]
    binding = next((cause.binding for cause in reversed(causes) if cause.binding), None)
    once = [n for n in (holds, fails_at) if n and seen[n].decided < 2]
    return Capacity(
        holds=holds,
        fails_at=fails_at,
        sentence=_capacity_sentence(trials, holds, fails_at, binding, confirmed=not once),
        binding=binding,
        outcome=_capacity_outcome(trials, holds, fails_at),
        confirmed=bool(trials) and not once,
    )


def telling_step(steps: Sequence[StepRow]) -> StepRow | None:
    """The step whose figures stand for the search: the last one that held the most speakers."""
    found = capacity(steps)
    held = [s for s in steps if s.speakers == found.holds and s.outcome == "passed"]
    missed = [s for s in steps if s.speakers == found.fails_at and s.outcome == "failed"]
    return ([None, *steps[-1:], *missed[-1:], *held[-1:]])[-1]


def _begun(sentence: str) -> str:
    return f"{sentence[:1].upper()}{sentence[1:]}."


def _capacity_outcome(trials: Sequence[Trial], holds: int, fails_at: int | None) -> Outcome:
    if holds:
        return "met"
    if fails_at is not None:
        return "missed"
    return "void" if any(trial.outcome == "void" for trial in trials) else "undecided"


def _capacity_sentence(
    trials: Sequence[Trial],
    holds: int,
    fails_at: int | None,
    binding: str | None,
    *,
    confirmed: bool,
) -> str:
    if fails_at is None:
        return _open_sentence(trials, holds)
    held = f"holds {_speakers(holds)}, not {fails_at}" if holds else _nobody(fails_at)
    apart = _between(trials, holds, fails_at) if holds else ""
    reasons = [t.reason for t in trials if t.speakers == fails_at and t.outcome == "failed"]
    why = f": {reasons[-1]}" if reasons and reasons[-1] else ""
    bound = f"; binding: {binding}" if binding else ""
    return f"{held}{apart if confirmed else ''}{why}{bound}{'' if confirmed else _ONCE}"


def _between(trials: Sequence[Trial], holds: int, fails_at: int) -> str:
    """Why the two are apart, if they are."""
    seen = levels([trial for trial in trials if holds < trial.speakers < fails_at])
    lost = [str(n) for n, level in seen.items() if not level.decided]
    if lost:
        return f" ({', '.join(lost)} could not be measured)"
    return " (runs between them contradict each other)" if seen else ""


_ONCE = " (not confirmed by a second run)"


def _nobody(fails_at: int) -> str:
    fewer = "" if fails_at == 1 else "; fewer were not tried"
    return f"does not hold even {_speakers(fails_at)}{fewer}"


def _open_sentence(trials: Sequence[Trial], holds: int) -> str:
    """Nothing was missed: what was not measurable, or simply the most that was tried."""
    if not trials:
        return "nothing is known: no step was finished"
    lost = [t for t in trials if t.outcome in ("void", "undecided") and t.speakers > holds]
    known = f"holds at least {_speakers(holds)}" if holds else "nothing is known"
    if not lost:
        return f"{known}, the most that were tried"
    return f"{known}; {lost[-1].speakers} could not be measured: {lost[-1].reason}"


def shown(value: float, unit: Unit, more_digits: int = 0) -> str:
    """A value as people read it.

    >>> shown(0.2914, "s"), shown(3.0, "s"), shown(0.01, "%"), shown(2.0, ""), shown(-1e-9, "s")
    ('291 ms', '3 s', '1 %', '2', '0 ms')
    """
    if math.isinf(value):
        return "missing"
    if unit == "%":
        return f"{_rounded(100 * value, more_digits)} %"
    if unit == "s":
        number, name = (value, "s") if abs(value) >= 1 else (1000 * value, "ms")
        return f"{_rounded(number, more_digits)} {name}"
    return f"{value:g}"


def _rounded(number: float, more_digits: int) -> str:
    """About three significant digits, trailing zeros left out."""
    digits = 0 if abs(number) >= 100 else 1 if abs(number) >= 10 else 2
    text = f"{number:.{digits + more_digits}f}"
    shortest = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if shortest == "-0" else shortest.replace("-", "−")
