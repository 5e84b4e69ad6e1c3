"""What can be said of a run that is still going, from the files it appends to."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rtvc.errors import RecordError
from rtvc.loadtest.spec import LoadSpec
from rtvc.record import (
    ConnectionRow,
    GeneratorRow,
    RowTail,
    Run,
    StepRow,
    TurnRow,
    load_manifest,
    load_run,
)
from rtvc.slo import STORM, Objective, Verdict, evaluate
from rtvc.stats import Quantile
from rtvc.summary import summarize, transcription_delay

RECENT_SECONDS = 60
"""Of which a sparkline is drawn."""


@dataclass(frozen=True, slots=True)
class Tally:
    """A run so far."""

    at_s: float
    """Seconds since the run's start, as last recorded."""
    speakers: int
    """Speakers on the line now."""
    connected: int
    """Attempts to connect that succeeded."""
    not_connected: int
    """Attempts refused or failed, and sessions lost."""
    utterances: int
    """Utterances told."""
    missing: int
    """Utterances without a final."""
    delay_p50_s: float | None
    """What is measured, see `only_connects`; None where there are too few to say."""
    delay_max_s: float | None
    """Largest one; None so far."""
    lag_max_s: float | None
    """Largest lag of the generator in the last second; None so far."""
    only_connects: bool = False
    """A connect storm: the delays are connection times, not transcription delays."""

    def line(self) -> str:
        """
        >>> Tally(12.0, 3, 3, 0, 27, 1, 0.31, 0.62, 0.002).line()[:73]
        '12 s · 3 speakers · 27 utterances · transcription delay p50 310 ms, max 6'
        >>> Tally(3.0, 0, 30, 0, 0, 0, None, 0.062, 0.002, only_connects=True).line()
        '3 s · 30 connections · connection time max 62 ms · 0 errors · generator lag 2 ms'
        """
        parts = [f"{self.at_s:.0f} s"]
        if self.only_connects:
            parts.append(_counted(self.connected + self.not_connected, "connection"))
        else:
            parts.append(_counted(self.speakers, "speaker"))
            parts.append(_counted(self.utterances, "utterance"))
        if self.delay_max_s is not None:
            typical = "" if self.delay_p50_s is None else f"p50 {_ms(self.delay_p50_s)}, "
            name = "connection time" if self.only_connects else "transcription delay"
            parts.append(f"{name} {typical}max {_ms(self.delay_max_s)}")
        parts.append(_counted(self.not_connected + self.missing, "error"))
        if self.lag_max_s is not None:
            parts.append(f"generator lag {_ms(self.lag_max_s)}")
        return " · ".join(parts)


def _counted(count: int, name: str) -> str:
    return f"{count} {name}" if count == 1 else f"{count} {name}s"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"


def read_tally(folder: Path) -> Tally | None:
    """None while there is nothing to read."""
    try:
        return tally(load_run(folder))
    except RecordError:
        return None


def tally(run: Run) -> Tally:
    last = run.generator[-1] if run.generator else None
    outcomes = [row.outcome for row in run.attempts]
    connected = outcomes.count("ok")
    storm = run.manifest.settings.get("scenario") == STORM
    measured = (
        [row.connection_s for row in run.attempts]
        if storm
        else [turn.transcription_delay_s for turn in run.turns]
    )
    delays = [delay for delay in measured if delay is not None]
    return Tally(
        at_s=last.at_s if last else 0.0,
        speakers=last.speakers if last else 0,
        connected=connected,
        not_connected=len(outcomes) - connected,
        utterances=len(run.turns),
        missing=sum(turn.final_at_s is None for turn in run.turns),
        delay_p50_s=Quantile.of(delays, 0.5).value,
        delay_max_s=max(delays, default=None),
        lag_max_s=last.lag_max_s if last else None,
        only_connects=storm,
    )


class RunSoFar:
    """A run as far as it is recorded, kept up to date at the cost of what is new."""

    def __init__(self, folder: Path) -> None:
        """Raises RecordError while there is nothing to read."""
        self.run = Run(folder, load_manifest(folder), [], [], [], [], [], [])
        self._connections = RowTail(folder, ConnectionRow)
        self._turns = RowTail(folder, TurnRow)
        self._generator = RowTail(folder, GeneratorRow)
        self._steps = RowTail(folder, StepRow)

    def read(self) -> Run:
        """Without the server's account and the gauges, which a glance does not need."""
        generator = self._generator.read()
        self.run.connections.extend(self._connections.read())
        self.run.turns.extend(self._turns.read())
        self.run.steps.extend(self._steps.read())
        self.run.generator.extend(generator)
        return self.run


@dataclass(frozen=True, slots=True)
class Glance:
    """All that a live view shows of a run that is going on."""

    tally: Tally
    """Counts of the whole run."""
    asked: int | None
    """Speakers wanted now; None where callers come and go."""
    length_s: float | None
    """Seconds from the run's start to its planned end; None: a search, or a connect storm."""
    warming_up: bool
    """Whether what is recorded now will not count."""
    verdicts: tuple[Verdict, ...]
    """What came of each objective so far; of a search, in the current step."""
    delays_s: list[float | None]
    """Largest delay of each of the last seconds, infinite if a final is missing; None: none."""
    lags_s: list[float | None]
    """The generator's largest lag of each of the last seconds."""
    cpu_ratio: float | None
    """CPU seconds per second of the busiest generator process; None if unknown."""
    steps: list[StepRow]
    """Steps of a search that are over."""

    @property
    def left_s(self) -> float | None:
        """Seconds until the speakers end what they are saying."""
        return None if self.length_s is None else max(0.0, self.length_s - self.tally.at_s)


def glance(run: Run, spec: LoadSpec, objectives: Sequence[Objective], asked: int | None) -> Glance:
    """Pure: what is recorded so far → what is shown of it."""
    seen = tally(run)
    summary = summarize(_current(run))
    return Glance(
        tally=seen,
        asked=asked,
        length_s=spec.warm_up_s + spec.duration_s if spec.kind == "calls" else None,
        warming_up=spec.kind == "calls" and seen.at_s < spec.warm_up_s,
        verdicts=evaluate(objectives, summary),
        delays_s=by_second(
            ((turn.speech_end_at_s, transcription_delay(turn)) for turn in run.turns), seen.at_s
        ),
        lags_s=by_second(((row.at_s, row.lag_max_s) for row in run.generator), seen.at_s),
        cpu_ratio=_cpu(run.generator, seen.at_s),
        steps=run.steps,
    )


def _current(run: Run) -> Run:
    """Of a search, what came after the last step that is over; else all."""
    if not run.steps:
        return run
    since_s = run.steps[-1].measured_until_s
    return replace(
        run,
        turns=[turn for turn in run.turns if turn.speech_start_at_s > since_s],
        generator=[row for row in run.generator if row.at_s > since_s],
        steps=[],
    )


def by_second(
    readings: Iterable[tuple[float, float]], now_s: float, seconds: int = RECENT_SECONDS
) -> list[float | None]:
    """Largest reading of each of the last seconds, the latest last.

    >>> by_second([(0.5, 1.0), (0.7, 3.0), (2.2, 2.0)], 3.0, 4)
    [None, 3.0, None, 2.0]
    """
    first = math.ceil(now_s) - seconds
    largest: list[float | None] = [None] * seconds
    for at_s, value in readings:
        place = math.floor(at_s) - first
        if 0 <= place < seconds:
            before = largest[place]
            largest[place] = value if before is None else max(before, value)
    return largest


def _cpu(rows: Sequence[GeneratorRow], now_s: float) -> float | None:
    recent = [row.cpu_ratio for row in rows[-32:] if row.at_s > now_s - 2]
    return max((ratio for ratio in recent if ratio is not None), default=None)
