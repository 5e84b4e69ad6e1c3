"""The grammar of objectives: ours, and k6's thresholds on one of our metrics.

transcription_delay_p95 < 500ms        our own: the aggregate belongs to the name
transcription_delay: p(95) < 500ms     k6's: metric, method, operator, number; without a unit
                                       times are milliseconds, as k6 has them
errors: rate < 0.01                    rate of a share, count of a count
… abort_on_fail delay=30s              ends the run as soon as it is missed, after 30 s
"""

import difflib
import re
from collections.abc import Iterable
from dataclasses import replace

from rtvc.duration import parse_duration
from rtvc.errors import UsageError
from rtvc.slo.objectives import AGGREGATES, COUNTS, DIVISORS, SHARES, Objective
from rtvc.slo.wording import Unit
from rtvc.summary import METRICS, QUANTILES

METHODS = (*(f"p({name[1:]})" for name in QUANTILES), "min", "med", "max", "avg")
"""What k6's form knows of a timed metric."""

ALIASES = {"avg": "mean", "med": "p50"}

_OPTIONS = re.compile(
    r"(?P<expression>.*?)\s+(?:abort_on_fail|abortOnFail)"
    r"(?:\s+(?:delay|delayAbortEval)\s*=\s*(?P<delay>\S+))?\s*",
    re.DOTALL,
)

_COMPARED = (
    r"\s*(?P<comparison>===|==|!=|<=|>=|<|>)"
    r"\s*(?P<number>\d+(?:\.\d*)?(?:e-?\d+)?|\.\d+)\s*(?P<unit>ms|s|%|)\s*"
)
_OURS = re.compile(r"\s*(?P<subject>[a-z][a-z0-9_]*(?:\.\d+)?)" + _COMPARED)
_K6 = re.compile(
    r"\s*(?P<subject>[a-z][a-z0-9_]*)\s*:\s*(?P<method>p\(\s*[0-9.]+\s*\)|[a-z][a-z0-9_.]*)"
    + _COMPARED
)


def parse_objective(text: str) -> Objective:
    """Read one objective; UsageError says what was expected.

    >>> str(parse_objective("transcription_delay: p(95)<500 abort_on_fail delay=30s"))
    'transcription_delay_p95<0.5s abort_on_fail delay=30s'
    """
    options = _OPTIONS.fullmatch(text)
    found = _expression(options["expression"] if options else text, text)
    if options is None:
        return found
    delay_s = parse_duration(options["delay"] or "0", f"a delay in {text!r}")
    return replace(found, abort_on_fail=True, abort_after_s=delay_s)


def _expression(expression: str, text: str) -> Objective:
    found = _OURS.fullmatch(expression) or _K6.fullmatch(expression)
    if found is None:
        raise UsageError(
            "expected an objective such as transcription_delay_p95<500ms or "
            "transcription_delay: p(95)<500ms (a name, one of < <= > >= == !=, a number, "
            f"one of ms s %), got {text!r}"
        )
    k6 = "method" in found.groupdict()
    metric, aggregate = _k6_subject(found, text) if k6 else _subject(found["subject"], text)
    written = found["unit"] or ("ms" if k6 and aggregate else "")
    unit = _unit(metric, aggregate, written, text)
    target = float(found["number"]) / DIVISORS[written]
    if unit == "%" and not written and target > 1:
        raise UsageError(f"expected a share such as 1% or 0.01, got {text!r}")
    comparison = "==" if found["comparison"] == "===" else found["comparison"]
    return Objective(metric, aggregate, comparison, target, unit)


def _subject(name: str, text: str) -> tuple[str, str | None]:
    if name in SHARES or name in COUNTS:
        return name, None
    metric, _, aggregate = name.rpartition("_")
    if metric in METRICS and aggregate in AGGREGATES:
        return metric, ALIASES.get(aggregate, aggregate)
    if name in METRICS:
        choices = ", ".join(f"{name}_{each}" for each in AGGREGATES)
        raise UsageError(f"expected one of {choices}, got {name!r} in {text!r}")
    timed = ", ".join(f"{each}_…" for each in METRICS)
    raise UsageError(
        f"expected one of {timed} (… is one of {', '.join(AGGREGATES)}), "
        f"{', '.join([*SHARES, *COUNTS])}, got {name!r} in {text!r}{_meant(name)}"
    )


def _meant(name: str) -> str:
    """The nearest name, to be said behind what came."""
    timed = [f"{metric}_{aggregate}" for metric in METRICS for aggregate in AGGREGATES]
    near = difflib.get_close_matches(name, [*timed, *SHARES, *COUNTS], n=1, cutoff=0.8)
    return "".join(f": did you mean {each}?" for each in near)


def _k6_subject(found: re.Match[str], text: str) -> tuple[str, str | None]:
    metric, method = found["subject"], re.sub(r"\s", "", found["method"])
    if metric in METRICS:
        aggregate = _aggregate(method)
        if aggregate is not None:
            return metric, aggregate
        raise UsageError(
            f"expected one of {', '.join(METHODS)} for {metric}, got {method!r} in {text!r}"
        )
    for known, word in ((SHARES, "rate"), (COUNTS, "count")):
        if metric in known:
            if method != word:
                raise UsageError(f"expected {word} for {metric}, got {method!r} in {text!r}")
            return metric, None
    known_names = ", ".join([*METRICS, *SHARES, *COUNTS])
    raise UsageError(f"expected one of {known_names}, got {metric!r} in {text!r}")


def _aggregate(method: str) -> str | None:
    """Ours for one of k6's methods of a timed metric; None if it is none.

    >>> _aggregate("p(99.90)"), _aggregate("med"), _aggregate("p95"), _aggregate("p(42)")
    ('p99.9', 'p50', None, None)
    """
    if re.fullmatch(r"p\(\d+(\.\d+)?\)", method):
        name = f"p{float(method[2:-1]):g}"
        return name if name in QUANTILES else None
    return ALIASES.get(method, method) if method in METHODS else None


def _unit(metric: str, aggregate: str | None, written: str, text: str) -> Unit:
    kind: Unit = "s" if aggregate else "%" if metric in SHARES else ""
    allowed = {"s": ("ms", "s"), "%": ("%", ""), "": ("",)}[kind]
    if written not in allowed:
        wanted = {"s": "ms or s", "%": "%", "": "a plain number"}[kind]
        raise UsageError(f"expected {wanted} for {metric}, got {text!r}")
    return kind


def parse_all(texts: Iterable[str]) -> tuple[Objective, ...]:
    return tuple(map(parse_objective, texts))


DEFAULT: tuple[Objective, ...] = parse_all(
    ("connection_p95<3s", "transcription_delay_p95<500ms", "errors<1%")
)
