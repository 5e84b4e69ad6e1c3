"""The figures of a bench run, made from what its rounds measured. Pure.

A figure of a cell is made of all its rounds: delays are pooled, what one round measures once is the
median of the rounds. Intervals of error rates are those of clips, however often each was heard; a
ratio of delays is one of the same clips, heard by both cells.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rtvc.normalisers import primary_tag
from rtvc.results.accuracy import Accuracy, Hallucinated, hallucinated, score, score_partials
from rtvc.results.cells import (
    Batch,
    Cell,
    CellFailure,
    Heard,
    Held,
    LongFile,
    RoundResult,
)
from rtvc.results.naming import TEXT_MEANS_NOTHING, labels
from rtvc.results.reading import BenchRun
from rtvc.results.spread import Delay, LengthClass, Spread, by_length, typical_delay
from rtvc.stats import mean, quantile

CLEAN = "clean"
"""The condition that a cell's word error rate is that of."""


@dataclass(frozen=True, slots=True)
class Streaming:
    """What an utterance was like that was heard as it was spoken."""

    clips: int
    """Utterances, of all rounds."""
    final_delay: Delay
    """End of speech → final text; one that never came is infinite."""
    word_latency: Delay
    """End of a word → first seen, of words recognised rightly; empty where text means nothing."""
    corrections: float | None
    """Words shown that later became others, in each utterance on average; None: text means
    nothing."""
    partials: float
    """Partials shown, in each utterance on average."""
    finals: Accuracy | None = None
    """Of the final texts; None: they mean nothing."""
    last_partials: Accuracy | None = None
    """Of the last text shown before the final; None: they mean nothing."""


@dataclass(frozen=True, slots=True)
class Service:
    """Inferences of so many utterances at once."""

    jobs: int
    """Utterances in each."""
    workers: int
    """Inferences that ran at once."""
    n: int
    """Inferences measured."""
    audio_s: float
    """Seconds of audio of an utterance, on average."""
    seconds: Spread
    """Wall time of an inference."""

    @property
    def jobs_per_s(self) -> float | None:
        """Utterances a second; None: it took no time that could be measured."""
        took_s = self.seconds.median
        return self.jobs * self.workers / took_s if took_s > 0 else None


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory and energy; None: unknown."""

    host_peak_bytes: int | None = None
    """Resident, at most, of any round."""
    host_added_bytes: int | None = None
    """The same less what the process held before the model was loaded."""
    device_added_bytes: int | None = None
    """Of the device, at most, less what was taken before: others may use it too."""
    energy_j: float | None = None
    """Joules of the device in a round's measuring, at the median."""
    power_w: float | None = None
    """Watts of the device meanwhile, at the median."""
    cores_busy: float | None = None
    """CPU seconds of the process a second of measuring, at the median."""


@dataclass(frozen=True, slots=True)
class Against:
    """A cell beside the yardstick."""

    faster: float
    """Times: the yardstick's typical delay ÷ this cell's, over the clips that both heard."""
    rounds: Spread | None = None
    """The same of each round that both have; None: they have none together."""
    wer_change: float | None = None
    """Word error rate less the yardstick's, 0.006 for 0.6 points; None: not known of both."""
    memory: float | None = None
    """Times: this cell's memory ÷ the yardstick's; None: not known of both."""
    held: int | None = None
    """Sessions that the yardstick holds; None: not known of both."""


@dataclass(frozen=True, slots=True)
class CellSummary:
    """One row of the table."""

    cell: Cell
    """Which."""
    name: str
    """What it is called."""
    model_kind: str
    """"whisper", "synthetic weights", "self-test model", "random weights", "pocketsphinx"."""
    rounds: int
    """Rounds measured."""
    delay: Delay
    """Short turns: from handing in the audio to the text."""
    lengths: tuple[LengthClass, ...] = ()
    """The same by length of the audio."""
    typical_s: float | None = None
    """Seconds: mean over clips of each clip's median delay; None: no short turns."""
    round_means: Spread | None = None
    """Seconds: mean delay of a round; None: no short turns."""
    rtfx: float | None = None
    """Audio ÷ wall time of long recordings, pooled; None: none were transcribed."""
    rtfx_rounds: Spread | None = None
    """The same of each round."""
    load_cold_s: float | None = None
    """Seconds to load the weights for the first time in this bench; None: not measured."""
    load_warm: Spread | None = None
    """Seconds to load them again; None: there was one round."""
    warm_up_s: float | None = None
    """Seconds of the first inferences, at the median of the rounds."""
    accuracy: Accuracy | None = None
    """Of short clean turns, or of all where none is clean; None: the text means nothing."""
    conditions: dict[str, Accuracy] = field(default_factory=dict)
    """The same by condition."""
    long_accuracy: Accuracy | None = None
    """Of long recordings; None: none, or the text means nothing."""
    unsteady_clips: int = 0
    """Short turns whose text was not the same in all rounds."""
    guarded_turns: int = 0
    """Short turns, of all rounds, in which a guard fired."""
    quiet: Hallucinated | None = None
    """What was made of audio in which nobody speaks; None: not measured, or it means nothing."""
    streaming: Streaming | None = None
    """None: the engine has no streaming path."""
    services: tuple[Service, ...] = ()
    """By workers and size of the batch."""
    held: Held | None = None
    """Of the middle round, the lower one of two; None: not measured."""
    held_rounds: tuple[int, ...] = ()
    """Sessions that each round held."""
    footprint: Footprint = field(default_factory=Footprint)
    """Memory and energy."""
    packages: dict[str, str] = field(default_factory=dict)
    """Versions of what did the work."""
    language: str | None = None
    """ISO-639-1: what it was told that every turn is in; None: there were several, or none."""
    against: Against | None = None
    """Beside the yardstick; None: nothing can be compared."""

    @property
    def text_means_something(self) -> bool:
        return self.model_kind not in TEXT_MEANS_NOTHING

    @property
    def wer(self) -> float | None:
        """Word error rate, or character error rate; None: unknown."""
        return None if self.accuracy is None else self.accuracy.wer

    @property
    def memory_bytes(self) -> int | None:
        """What it takes where it runs: of the device for cuda, else of the process; None: nobody
        read it there."""
        found = self.footprint
        return found.device_added_bytes if self.cell.device == "cuda" else found.host_peak_bytes


def summarize_cells(run: BenchRun) -> tuple[CellSummary, ...]:
    """Of each cell with a result, in the order of the cells; `against` is left open."""
    names = labels([*run.cells, *(failure.cell for failure in run.failures)])
    return tuple(summarize_cell(names[cell.key], run.of(cell)) for cell in run.cells)


def summarize_cell(name: str, rounds: Sequence[RoundResult]) -> CellSummary:
    """Of one cell's rounds, at least one."""
    first = rounds[0]
    heard = [turn for result in rounds for turn in result.heard]
    long = [file for result in rounds for file in result.long]
    languages = list(dict.fromkeys(primary_tag(turn.language) for turn in heard))
    means = [mean([turn.delay_s for turn in result.heard]) for result in rounds]
    means_something = first.model_kind not in TEXT_MEANS_NOTHING
    conditions = _by_condition(heard) if means_something else {}
    held = sorted((r.held for r in rounds if r.held is not None), key=lambda h: h.sessions)
    quiet = [one for result in rounds for one in result.quiet] if means_something else []
    return CellSummary(
        cell=first.cell,
        name=name,
        model_kind=first.model_kind,
        rounds=len(rounds),
        delay=Delay.of([turn.delay_s for turn in heard]),
        lengths=by_length(heard),
        typical_s=typical_delay(heard),
        round_means=Spread.of([one for one in means if one is not None]),
        rtfx=rtfx(long),
        rtfx_rounds=Spread.of([x for r in rounds if (x := rtfx(r.long)) is not None]),
        load_cold_s=next((r.load_s for r in rounds if r.load_is_cold), None),
        load_warm=Spread.of([r.load_s for r in rounds if not r.load_is_cold]),
        warm_up_s=quantile([r.warm_up_s for r in rounds], 0.5),
        accuracy=_headline(heard, conditions) if means_something else None,
        conditions=conditions,
        long_accuracy=score(long) if long and means_something else None,
        unsteady_clips=_unsteady(heard),
        guarded_turns=sum(bool(turn.guards) for turn in heard),
        quiet=hallucinated(quiet, *languages[:1]) if quiet else None,
        streaming=streaming(rounds, means_something=means_something),
        services=services([batch for result in rounds for batch in result.batches]),
        held=held[(len(held) - 1) // 2] if held else None,
        held_rounds=tuple(r.held.sessions for r in rounds if r.held is not None),
        footprint=footprint(rounds),
        packages={name: v for result in rounds for name, v in result.packages.items()},
        language=languages[0] if len(languages) == 1 else None,
    )


def rtfx(files: Iterable[LongFile]) -> float | None:
    """Seconds of audio ÷ seconds of work, both summed up; None: there was no work.

    >>> rtfx([LongFile("a", 60.0, 2.0, "", None), LongFile("b", 30.0, 7.0, "", None)])
    10.0
    """
    known = list(files)
    took_s = sum(file.seconds for file in known)
    return sum(file.audio_s for file in known) / took_s if took_s > 0 else None


# What was understood.


def _by_condition(heard: Iterable[Heard]) -> dict[str, Accuracy]:
    groups: dict[str, list[Heard]] = {}
    for turn in heard:
        groups.setdefault(turn.condition, []).append(turn)
    return {condition: score(turns) for condition, turns in groups.items()}


def _headline(heard: Sequence[Heard], conditions: Mapping[str, Accuracy]) -> Accuracy | None:
    return conditions.get(CLEAN) or (score(heard) if heard else None)


def _unsteady(heard: Iterable[Heard]) -> int:
    texts: dict[tuple[str, str], set[str]] = {}
    for turn in heard:
        texts.setdefault((turn.clip, turn.condition), set()).add(turn.text)
    return sum(len(found) > 1 for found in texts.values())


def streaming(rounds: Sequence[RoundResult], *, means_something: bool) -> Streaming | None:
    """Of utterances heard as they were spoken; None: there were none."""
    rows = [row for result in rounds for row in result.streamed]
    if not rows:
        return None
    finals = [row.final_delay_s for row in rows]
    return Streaming(
        clips=len(rows),
        final_delay=Delay.of([float("inf") if delay is None else delay for delay in finals]),
        word_latency=Delay.of(
            [s for row in rows for s in row.word_latency_s] if means_something else []
        ),
        corrections=mean([float(row.corrections) for row in rows]) if means_something else None,
        partials=sum(row.partials for row in rows) / len(rows),
        finals=score(rows) if means_something else None,
        last_partials=score_partials(rows) if means_something else None,
    )


# What it costs.


def services(batches: Iterable[Batch]) -> tuple[Service, ...]:
    """Service times by workers and size of the batch."""
    groups: dict[tuple[int, int], list[Batch]] = {}
    for batch in batches:
        groups.setdefault((batch.workers, batch.jobs), []).append(batch)
    found = []
    for (workers, jobs), alike in sorted(groups.items()):
        seconds = Spread.of([batch.seconds for batch in alike])
        audio_s = mean([batch.audio_s for batch in alike])
        if seconds is not None and audio_s is not None:
            found.append(Service(jobs, workers, len(alike), audio_s, seconds))
    return tuple(found)


def footprint(rounds: Sequence[RoundResult]) -> Footprint:
    """Peaks of any round; energy and CPU at the median of the rounds that know them."""
    memory = [result.memory for result in rounds]
    added = [_less(each.host_peak, each.host_before) for each in memory]
    on_device = [_less(each.device_peak, each.device_before) for each in memory]
    measured = [result for result in rounds if result.measured_s > 0]
    energy = [result.energy_j for result in rounds if result.energy_j is not None]
    power = [r.energy_j / r.measured_s for r in measured if r.energy_j is not None]
    return Footprint(
        host_peak_bytes=_most(each.host_peak for each in memory),
        host_added_bytes=_most(added),
        device_added_bytes=_most(on_device),
        energy_j=quantile(energy, 0.5),
        power_w=quantile(power, 0.5),
        cores_busy=quantile([result.cpu_s / result.measured_s for result in measured], 0.5),
    )


def _less(peak: int | None, before: int | None) -> int | None:
    return None if peak is None or before is None else max(0, peak - before)


def _most(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


@dataclass(frozen=True, slots=True)
class BenchSummary:
    """A whole bench run, summed up."""

    cells: tuple[CellSummary, ...]
    """Those with a result, the fastest first."""
    failures: tuple[CellFailure, ...] = ()
    """Why others have none, or not all of their rounds."""
    yardstick: str | None = None
    """Key of the cell that the others are compared with; None: there is none."""
    yardstick_is: str = ""
    """Why that one: "seed-baseline", "named", "slowest here"."""
    front: tuple[str, ...] = ()
    """Keys of cells that no other beats in both delay and word error rate."""
    notes: tuple[str, ...] = ()
    """What a reader must know, a sentence each."""

    def of(self, key: str | None) -> CellSummary | None:
        """The cell of that key; None: it has no result."""
        return next((one for one in self.cells if one.cell.key == key), None)
