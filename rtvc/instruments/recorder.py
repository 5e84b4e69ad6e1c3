"""Times the stages of a turn in anybody's code; cheap enough to leave on.

    from rtvc.instruments.recorder import stage, turn

    with turn("call-7/3"):              # groups what happens inside; optional
        with stage("transcribe"):       # a block, in a thread or a coroutine
            ...

    @stage("decode")                    # each call of a function or coroutine function
    async def decode(audio): ...

Stages nest: what a stage spent outside the stages within it is its self time. Which stage is the
outer one follows the context (PEP 567), so concurrent tasks do not mix, and a task started within
a turn belongs to it; a thread begins with an empty context and says `turn(...)` itself. Do not
keep a stage open across a `yield`: the consumer's stages would nest in it.
"""

from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from threading import get_ident
from types import TracebackType
from typing import Any, NamedTuple, ParamSpec, Self, TypeVar

from rtvc.clock import Clock, SystemClock
from rtvc.errors import UsageError
from rtvc.instruments.stages import Segment
from rtvc.stats import Quantile

P = ParamSpec("P")
T = TypeVar("T")

TURN = "turn"
"""Name of the span of a whole turn; its self time is what none of its stages explains."""

KEEP = 65_536
"""Spans kept by default, about 13 MB; the oldest make room."""


class Span(NamedTuple):
    """One stage that ended."""

    name: str
    """Stage."""
    start_s: float
    """Instant on the recorder's clock."""
    end_s: float
    """Instant on the recorder's clock."""
    self_s: float
    """Seconds outside the stages within it."""
    turn: str | None
    """Turn it belongs to; None: to none."""
    parent: str | None
    """Name of the stage around it; None: there is none."""
    thread: int
    """Identifier of the thread it ended in, as of `threading.get_ident`."""
    hidden: bool
    """Whether it was done ahead of need, in the shade of a wait."""
    error: str | None
    """Class of the exception that ended it; None: it ended well."""

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s

    @property
    def has_stages(self) -> bool:
        """Whether time was spent in stages within it."""
        return self.self_s < self.duration_s

    def as_segment(self) -> Segment:
        """For `unaccounted_s`, `critical_path` and their like."""
        return Segment(self.name, self.start_s, self.duration_s)


@dataclass(frozen=True, slots=True)
class StageTimes:
    """All kept spans of one name."""

    name: str
    """Stage."""
    n: int
    """Spans."""
    errors: int
    """Those that an exception ended."""
    p50_s: float | None
    """Seconds; None where n does not support it."""
    p95_s: float | None
    """Seconds; None where n does not support it."""
    max_s: float
    """Seconds."""
    total_s: float
    """Seconds, stages within it included; concurrent ones add up."""
    self_s: float
    """Seconds, stages within it left out."""


class _Open:
    """A span that has not ended; made anew for every use."""

    __slots__ = (
        "_covered_s",
        "_hidden",
        "_inside",
        "_inside_since_s",
        "_name",
        "_parent",
        "_recorder",
        "_running",
        "_start_s",
    )

    def __init__(self, recorder: "Recorder", name: str, hidden: bool = False) -> None:
        self._recorder = recorder
        self._name = name
        self._hidden = hidden
        self._running = False

    def __enter__(self) -> Self:
        if self._running:
            raise UsageError(f"expected a stage that is not running, but {self._name!r} is")
        if not self._recorder.recording:
            return self
        parent = _current.get()
        # A task may outlive the stage it was started in.
        if parent is not None and not parent._running:
            parent = None
        self._parent = parent
        self._inside = 0
        self._inside_since_s = 0.0
        self._covered_s = 0.0
        self._running = True
        _current.set(self)
        self._start_s = start_s = self._recorder.now()
        if parent is not None:
            if not parent._inside:
                parent._inside_since_s = start_s
            parent._inside += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._running:
            return
        end_s = self._recorder.now()
        self._running = False
        parent = self._parent
        # Not a token's reset: that would raise where a generator is closed by another context.
        _current.set(parent)
        covered_s = self._covered_s
        if self._inside:
            covered_s += end_s - self._inside_since_s
        if parent is not None:
            self._parent = None
            # Concurrent stages within one cover its time once.
            parent._inside -= 1
            if not parent._inside:
                parent._covered_s += end_s - parent._inside_since_s
        self._recorder.keep(
            (
                self._name,
                self._start_s,
                end_s,
                end_s - self._start_s - covered_s,
                _turn.get(),
                None if parent is None else parent._name,
                get_ident(),
                self._hidden,
                None if kind is None else kind.__name__,
            )
        )

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)


_current: ContextVar[_Open | None] = ContextVar("rtvc_stage", default=None)
_turn: ContextVar[str | None] = ContextVar("rtvc_turn", default=None)


class Stage(_Open):
    """A stage: a block to enter, or a decorator of what is one each time it is called."""

    __slots__ = ()

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """The same function, timed; UsageError for generators, which run in pieces."""
        recorder, name, hidden = self._recorder, self._name, self._hidden
        if isgeneratorfunction(function) or isasyncgenfunction(function):
            raise UsageError(
                f"expected a function or coroutine function for stage {name!r}, but "
                f"{function.__qualname__} is a generator: time what it does between two yields"
            )
        if iscoroutinefunction(function):
            return _timed_coroutine(recorder, name, hidden, function)

        @wraps(function)
        def timed(*args: P.args, **kwargs: P.kwargs) -> T:
            with Stage(recorder, name, hidden):
                return function(*args, **kwargs)

        return timed


def _timed_coroutine(
    recorder: "Recorder", name: str, hidden: bool, function: Callable[P, Coroutine[Any, Any, Any]]
) -> Callable[P, Any]:
    @wraps(function)
    async def timed(*args: P.args, **kwargs: P.kwargs) -> Any:
        with Stage(recorder, name, hidden):
            return await function(*args, **kwargs)

    return timed


class Turn(_Open):
    """A turn: what is recorded inside carries its id; it is a span itself, named TURN."""

    __slots__ = ("_id", "_outer")

    def __init__(self, recorder: "Recorder", turn_id: str) -> None:
        super().__init__(recorder, TURN)
        self._id = turn_id

    def __enter__(self) -> Self:
        super().__enter__()
        self._outer = _turn.get()
        _turn.set(self._id)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, traceback)
        _turn.set(self._outer)


_Kept = tuple[str, float, float, float, str | None, str | None, int, bool, str | None]
"""A span before it is one: a plain tuple takes a third of the time."""


class Recorder:
    """Keeps the latest spans; safe to use from several threads and tasks."""

    def __init__(self, clock: Clock | None = None, *, keep: int = KEEP) -> None:
        self.now = (clock or SystemClock()).now
        self.recording = True
        """Set to False, stages cost next to nothing and keep nothing."""
        self.recorded = 0
        """Spans since the start, or since the last `clear`."""
        self._kept: deque[_Kept] = deque(maxlen=keep)

    def stage(self, name: str, *, hidden: bool = False) -> Stage:
        """To be entered, or put above a function; `hidden`: done ahead of need."""
        return Stage(self, name, hidden)

    def turn(self, turn_id: str) -> Turn:
        """To be entered around the stages of one turn."""
        return Turn(self, turn_id)

    def record(
        self,
        name: str,
        start_s: float,
        end_s: float,
        *,
        turn: str | None = None,
        hidden: bool = False,
    ) -> None:
        """A stage that begins and ends in different callbacks; instants as of `now()`."""
        if end_s < start_s:
            raise UsageError(f"expected stage {name!r} to end after {start_s}, got {end_s}")
        if self.recording:
            whose = _turn.get() if turn is None else turn
            length_s = end_s - start_s
            self.keep((name, start_s, end_s, length_s, whose, None, get_ident(), hidden, None))

    def keep(self, span: _Kept) -> None:
        """For the stages themselves."""
        self._kept.append(span)
        self.recorded += 1

    @property
    def dropped(self) -> int:
        """Spans that had to make room."""
        return max(0, self.recorded - len(self._kept))

    def spans(self) -> list[Span]:
        """Those kept, in the order in which they ended."""
        return [Span._make(span) for span in list(self._kept)]

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
        self.recorded = 0

    def times(self) -> list[StageTimes]:
        """The kept spans by stage, those with most self time first."""
        by_name: dict[str, list[Span]] = {}
        for span in self.spans():
            by_name.setdefault(span.name, []).append(span)
        rows = [_times(name, spans) for name, spans in by_name.items()]
        return sorted(rows, key=lambda row: row.self_s, reverse=True)


def _times(name: str, spans: list[Span]) -> StageTimes:
    lengths_s = [span.duration_s for span in spans]
    return StageTimes(
        name=name,
        n=len(spans),
        errors=sum(span.error is not None for span in spans),
        p50_s=Quantile.of(lengths_s, 0.5).value,
        p95_s=Quantile.of(lengths_s, 0.95).value,
        max_s=max(lengths_s),
        total_s=sum(lengths_s),
        self_s=sum(span.self_s for span in spans),
    )


def innermost(spans: Iterable[Span]) -> list[Segment]:
    """The spans that no other was spent in, as segments: what a critical path is made of."""
    return [span.as_segment() for span in spans if not span.has_stages and span.name != TURN]


RECORDER = Recorder()
"""The one that `stage` and `turn` of this module record to."""

stage = RECORDER.stage
turn = RECORDER.turn
