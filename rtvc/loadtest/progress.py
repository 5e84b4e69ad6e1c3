"""What can be said of a run that is still going, from the files it appends to."""

from dataclasses import dataclass
from pathlib import Path

from rtvc.errors import RecordError
from rtvc.record import Run, load_run
from rtvc.slo import STORM
from rtvc.stats import Quantile


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
