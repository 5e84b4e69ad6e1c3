"""Reads the part of PromQL that the dashboard and the alerts use, and checks what it would yield.

A type checker: which labels a result has, and whether it still counts. It refuses what Prometheus
refuses, and what Prometheus answers without meaning: a rate of a gauge, a bare counter, a quantile
of something without buckets, two sides of an operator that have no labels in common.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["gauge", "counter", "buckets"]
"""gauge: a value of now, or a rate; counter: rises for ever; buckets: a histogram's, rated."""


class PromqlError(Exception):
    """What is wrong, for a person."""


@dataclass(frozen=True)
class Sample:
    """What there is to select."""

    kind: Literal["gauge", "counter"]
    labels: frozenset[str]
    bucket: bool = False


@dataclass(frozen=True)
class Scalar:
    """A number."""

    value: float | None = None
    """None: not known before it is asked for."""


@dataclass(frozen=True)
class Vector:
    """Series at one instant."""

    kind: Kind
    labels: frozenset[str]
    bucket: bool = False
    """Counters only: of a histogram, by `le`."""


@dataclass(frozen=True)
class Matrix:
    """Series over a stretch of time."""

    kind: Literal["gauge", "counter"]
    labels: frozenset[str]
    bucket: bool


Value = Scalar | Vector | Matrix

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>\d+(?:\.\d+)?(?:e-?\d+)?)(?![\w.])
      | (?P<range>\[(?:\d+[smhd]|\$__rate_interval)\])
      | (?P<name>[a-zA-Z_:][\w:]*)
      | (?P<string>"[^"]*")
      | (?P<sign>=~|!~|!=|==|<=|>=|[-+*/%^<>=(){},])
    )""",
    re.VERBOSE,
)
_RATES = frozenset({"rate", "increase", "irate"})
_SLOPES = frozenset({"deriv", "delta", "idelta"})
_OVER_TIME = frozenset({"avg_over_time", "max_over_time", "min_over_time"})
_AGGREGATIONS = frozenset({"sum", "min", "max", "avg", "count"})
_LEVELS: tuple[frozenset[str], ...] = (
    frozenset({"or"}),
    frozenset({"and", "unless"}),
    frozenset({"==", "!=", "<=", ">=", "<", ">"}),
    frozenset({"+", "-"}),
    frozenset({"*", "/", "%"}),
)
_SETS = frozenset({"or", "and", "unless"})


def check(expression: str, samples: Mapping[str, Sample]) -> Vector:
    """What the expression yields; PromqlError says what is wrong with it."""
    reader = _Reader(_tokens(expression), samples)
    value = reader.expression()
    reader.end()
    if not isinstance(value, Vector):
        raise PromqlError(f"expected series, got {type(value).__name__.lower()}")
    return _counted(value)


def _tokens(expression: str) -> list[str]:
    tokens, at = [], 0
    while expression[at:].strip():
        found = _TOKEN.match(expression, at)
        if found is None:
            raise PromqlError(f"cannot read {expression[at:].strip()[:20]!r}")
        tokens.append(found.group().strip())
        at = found.end()
    return tokens


def _counted(vector: Vector) -> Vector:
    """A counter by itself says since when the server runs, and nothing else."""
    if vector.kind == "counter":
        raise PromqlError("a counter without rate or increase")
    return vector


def _instant(value: Value) -> Vector:
    if not isinstance(value, Vector):
        raise PromqlError(f"expected series at an instant, got {type(value).__name__.lower()}")
    return value


class _Reader:
    """Recursive descent over the tokens."""

    def __init__(self, tokens: Sequence[str], samples: Mapping[str, Sample]) -> None:
        self._tokens = [*tokens, ""]
        self._at = 0
        self._samples = samples

    # Tokens.

    @property
    def _next(self) -> str:
        return self._tokens[self._at]

    def _take(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1]

    def _expect(self, *tokens: str) -> str:
        if self._next not in tokens:
            raise PromqlError(f"expected {' or '.join(tokens)}, got {self._next or 'the end'!r}")
        return self._take()

    def end(self) -> None:
        if self._next:
            raise PromqlError(f"expected the end, got {self._next!r}")

    # Grammar.

    def expression(self, level: int = 0) -> Value:
        if level == len(_LEVELS):
            return self._factor()
        left = self.expression(level + 1)
        while self._next in _LEVELS[level]:
            operator = self._take()
            on = self._matching()
            left = _binary(operator, left, self.expression(level + 1), on)
        return left

    def _matching(self) -> frozenset[str] | None:
        if self._next != "on":
            return None
        self._take()
        return frozenset(self._names())

    def _names(self) -> list[str]:
        self._expect("(")
        names = []
        while self._next != ")":
            names.append(self._take())
            if self._next != ")":
                self._expect(",")
        self._take()
        return names

    def _factor(self) -> Value:
        token = self._take()
        if token == "(":
            value = self.expression()
            self._expect(")")
            return value
        if token == "-":
            return self._factor()
        if re.fullmatch(r"[\d.]+(?:e-?\d+)?", token):
            return Scalar(float(token))
        if token in _AGGREGATIONS:
            return self._aggregation(token)
        if self._next == "(":
            return self._call(token)
        return self._selector(token)

    def _selector(self, name: str) -> Value:
        if name not in self._samples:
            raise PromqlError(f"no such metric: {name or 'nothing'}")
        sample = self._samples[name]
        if self._next == "{":
            self._matchers(name, sample)
        if self._next.startswith("["):
            self._take()
            return Matrix(sample.kind, sample.labels, sample.bucket)
        return Vector(sample.kind, sample.labels, sample.bucket)

    def _matchers(self, name: str, sample: Sample) -> None:
        self._expect("{")
        while self._next != "}":
            label = self._take()
            if label not in sample.labels:
                raise PromqlError(f"{name} has no label {label}")
            self._expect("=", "!=", "=~", "!~")
            if not self._take().startswith('"'):
                raise PromqlError(f"expected a value of {label} in quotes")
            if self._next != "}":
                self._expect(",")
        self._take()

    def _aggregation(self, name: str) -> Vector:
        by = self._by()
        self._expect("(")
        value = _counted(_instant(self.expression()))
        self._expect(")")
        by = self._by() if by is None else by
        return _aggregated(name, value, by or frozenset())

    def _by(self) -> frozenset[str] | None:
        if self._next != "by":
            return None
        self._take()
        return frozenset(self._names())

    def _call(self, name: str) -> Value:
        self._expect("(")
        arguments = [self.expression()]
        while self._next == ",":
            self._take()
            arguments.append(self.expression())
        self._expect(")")
        if name not in _FUNCTIONS:
            raise PromqlError(f"no such function: {name}")
        return _FUNCTIONS[name](name, arguments)


def _aggregated(name: str, value: Vector, by: frozenset[str]) -> Vector:
    if missing := by - value.labels:
        raise PromqlError(f"grouped by {sorted(missing)}, which the series do not have")
    buckets = value.kind == "buckets" and name == "sum" and "le" in by
    return Vector("buckets" if buckets else "gauge", by)


def _binary(operator: str, left: Value, right: Value, on: frozenset[str] | None) -> Value:
    sides = (left, right)
    if any(isinstance(side, Matrix) for side in sides):
        raise PromqlError(f"{operator} of series over a stretch of time")
    vectors = [_counted(side) for side in sides if isinstance(side, Vector)]
    if operator in _SETS and len(vectors) < 2:
        raise PromqlError(f"{operator} wants series on both sides")
    if not vectors:
        return Scalar()
    if len(vectors) == 2:
        one, other = vectors
        if on is None and one.labels != other.labels:
            raise PromqlError(f"sides of {operator} are labelled differently: nothing matches")
        if on is not None and on - (one.labels & other.labels):
            raise PromqlError(f"{operator} on {sorted(on)}, which a side does not have")
    return replace(vectors[0], kind="gauge")


# Functions.


def _one(name: str, arguments: Sequence[Value]) -> Value:
    if len(arguments) != 1:
        raise PromqlError(f"{name} takes one argument, got {len(arguments)}")
    return arguments[0]


def _rate(name: str, arguments: Sequence[Value]) -> Value:
    matrix = _one(name, arguments)
    if not isinstance(matrix, Matrix):
        raise PromqlError(f"{name} without a [range]")
    if matrix.kind != "counter":
        raise PromqlError(f"{name} of a gauge")
    return Vector("buckets" if matrix.bucket else "gauge", matrix.labels)


def _of_gauge(name: str, arguments: Sequence[Value]) -> Value:
    matrix = _one(name, arguments)
    if not isinstance(matrix, Matrix):
        raise PromqlError(f"{name} without a [range]")
    if matrix.kind != "gauge":
        raise PromqlError(f"{name} of a counter")
    return Vector("gauge", matrix.labels)


def _quantile(name: str, arguments: Sequence[Value]) -> Value:
    if len(arguments) != 2:
        raise PromqlError(f"{name} takes two arguments, got {len(arguments)}")
    q, value = arguments
    if not isinstance(q, Scalar) or q.value is None or not 0 < q.value < 1:
        raise PromqlError(f"{name} wants a share between 0 and 1 first")
    vector = _instant(value)
    if vector.kind != "buckets" or "le" not in vector.labels:
        raise PromqlError(f"{name} of what are no rated buckets by le")
    return Vector("gauge", vector.labels - {"le"})


def _scalar(name: str, arguments: Sequence[Value]) -> Value:
    vector = _counted(_instant(_one(name, arguments)))
    if vector.labels:
        raise PromqlError(f"{name} of series that are told apart by {sorted(vector.labels)}")
    return Scalar()


def _absent(name: str, arguments: Sequence[Value]) -> Value:
    _instant(_one(name, arguments))
    return Vector("gauge", frozenset())


_FUNCTIONS: Mapping[str, Callable[[str, Sequence[Value]], Value]] = {
    **dict.fromkeys(_RATES, _rate),
    **dict.fromkeys(_SLOPES | _OVER_TIME, _of_gauge),
    "histogram_quantile": _quantile,
    "scalar": _scalar,
    "absent": _absent,
}
