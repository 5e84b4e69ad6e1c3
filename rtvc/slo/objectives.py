"""Objectives: one target each, written as in k6."""

import operator
import re
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from rtvc.errors import UsageError
from rtvc.slo.wording import Unit, shown, spoken
from rtvc.summary import METRICS, Summary

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


_COUNTED = {
    "connection": "connections",
    "response_latency": "replies",
    "barge_in_latency": "interruptions",
    "generator_lag": "frames",
    "errors": "attempts",
    "wer": "words",
    "late_frames": "frames",
}


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
