"""What can be said of a run that is still going, from the files it appends to."""

from dataclasses import dataclass
from pathlib import Path

from rtvc.errors import RecordError
from rtvc.record import Run, load_run
from rtvc.stats import quantile


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
    """Transcription delay; None so far."""
    delay_max_s: float | None
    """Largest one; None so far."""
    lag_max_s: float | None
    """Largest lag of the generator in the last second; None so far."""

    def line(self) -> str:
        """One line; p50 and max are those of the transcription delay.

        >>> Tally(12.0, 3, 3, 0, 7, 1, 0.31, 0.62, 0.002).line()
        '12 s · 3 speakers · 7 utterances · p50 310 ms, max 620 ms · 1 error · lag 2 ms'
        """
        errors = self.not_connected + self.missing
        parts = [f"{self.at_s:.0f} s", _counted(self.speakers, "speaker")]
        parts.append(_counted(self.utterances, "utterance"))
        if self.delay_p50_s is not None and self.delay_max_s is not None:
            parts.append(f"p50 {_ms(self.delay_p50_s)}, max {_ms(self.delay_max_s)}")
        parts.append(_counted(errors, "error"))
        if self.lag_max_s is not None:
            parts.append(f"lag {_ms(self.lag_max_s)}")
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
    delays = [t.transcription_delay_s for t in run.turns if t.transcription_delay_s is not None]
    # A session that was lost has two rows; the later one says so.
    outcomes = {(row.speaker, row.opened_at_s): row.outcome for row in run.connections}.values()
    connected = sum(outcome == "ok" for outcome in outcomes)
    return Tally(
        at_s=last.at_s if last else 0.0,
        speakers=last.speakers if last else 0,
        connected=connected,
        not_connected=len(outcomes) - connected,
        utterances=len(run.turns),
        missing=sum(turn.final_at_s is None for turn in run.turns),
        delay_p50_s=quantile(delays, 0.5),
        delay_max_s=max(delays, default=None),
        lag_max_s=last.lag_max_s if last else None,
    )
