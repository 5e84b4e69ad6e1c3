"""How much was served well: within every target that one utterance, or one connection, can meet.

Throughput counts what was answered; goodput counts what was answered in time.
"""

from collections.abc import Sequence
from typing import Protocol

from rtvc.record import ConnectionRow, Run, TurnRow
from rtvc.summary.figures import Goodput
from rtvc.summary.timed import UTTERANCE_METRICS, transcription_delay


class Target(Protocol):
    """The part of an objective that matters here."""

    @property
    def metric(self) -> str: ...
    def holds(self, value: float) -> bool: ...


def goodput_of(run: Run, targets: Sequence[Target], measured_s: float | None) -> Goodput:
    """`targets` are upper bounds on times; those that the protocol cannot show are ignored."""
    hidden = run.manifest.not_observable
    targets = [target for target in targets if target.metric not in hidden]
    turns = [turn for turn in run.turns if not turn.warm_up]
    good = [turn for turn in turns if is_good(turn, targets)]
    answered = sum(turn.final_at_s is not None for turn in turns)
    speakers = {row.speaker for row in run.attempts}
    well = _good_speakers(run.attempts, turns, targets)
    return Goodput(
        utterances=len(turns),
        good=len(good),
        share=_ratio(len(good), len(turns)),
        throughput_per_s=_ratio(answered, measured_s),
        goodput_per_s=_ratio(len(good), measured_s),
        speakers=len(speakers),
        good_speakers=len(well),
        speakers_share=_ratio(len(well), len(speakers)),
    )


def is_good(turn: TurnRow, targets: Sequence[Target]) -> bool:
    """Whether it was answered, and within every target for which it has a sample."""
    answered = transcription_delay(turn) != float("inf")
    replied = not turn.reply_expected or turn.response_latency_s is not None
    return answered and replied and all(_within(turn, target) for target in targets)


def _within(turn: TurnRow, target: Target) -> bool:
    sample = UTTERANCE_METRICS.get(target.metric)
    value = sample(turn) if sample else None
    return value is None or target.holds(value)


def _good_speakers(
    attempts: Sequence[ConnectionRow], turns: Sequence[TurnRow], targets: Sequence[Target]
) -> set[int]:
    spoke = {turn.speaker for turn in turns}
    badly = {turn.speaker for turn in turns if not is_good(turn, targets)}
    badly |= {row.speaker for row in attempts if not _connected_well(row, targets)}
    return {row.speaker for row in attempts} & spoke - badly


def _connected_well(row: ConnectionRow, targets: Sequence[Target]) -> bool:
    if row.outcome != "ok" or row.connection_s is None:
        return False
    wanted = [target for target in targets if target.metric == "connection"]
    return all(target.holds(row.connection_s) for target in wanted)


def _ratio(count: int, whole: float | None) -> float | None:
    return count / whole if whole else None
