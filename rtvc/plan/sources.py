"""Where service times come from: a bench run, cell by cell, or a live run, as its server timed it.

Pure functions from what was read to `Source`s: one for each way of running a model whose inferences
were measured, with one set of times for each number of threads.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median

from rtvc.errors import RecordError, UsageError
from rtvc.plan.arrangement import Model
from rtvc.plan.service import ServiceTimes, Turn, fit
from rtvc.record import Manifest, Run, ServerTurnRow, TurnRow, load_run
from rtvc.results.cells import Cell, RoundResult
from rtvc.results.naming import POCKETSPHINX, SERVED_ENGINES, label, serve_flags
from rtvc.results.reading import BenchRun, is_bench, load_bench

WORK = ("features", "encode", "decode")
"""Segments of a turn that add up to its inference."""

IDLE_S = 0.005
"""A job that waited less found a free worker."""

LEAST_BUSY = 0.1
"""Cores that an inference is taken to keep busy at least."""

FEWEST_LIVE = 20
"""Turns of a live run that found one, before the others are left aside."""


@dataclass(frozen=True, slots=True)
class Source:
    """One way of running a model, as measured."""

    name: str
    """As it is told from the others."""
    model_name: str
    """As the user named it."""
    model_kind: str
    """"whisper", "synthetic weights", …; empty: not known."""
    model: Model
    """Times, device, window."""
    cores: int
    """Of the machine it was measured on."""
    gpu: str | None
    """Of that machine; None: none was used."""
    load_s: float | None = None
    """Seconds to load the weights once the files are in memory; None: not known."""
    memory_bytes: int | None = None
    """That one loaded model takes, of the device it runs on; None: not known."""
    host_bytes: int | None = None
    """Memory of the machine; None: not known."""
    speech_s: tuple[float, ...] = ()
    """Lengths of utterances as people spoke them; empty: not known."""
    serve_flags: tuple[str, ...] = ()
    """Of `rtvc serve`; empty: it does not run this engine."""
    folder: str = ""
    """Name of the run."""
    notes: tuple[str, ...] = ()
    """What must be known of these times."""


def load_sources(folders: Iterable[Path]) -> tuple[list[Source], list[str]]:
    """All that the runs measured, and what of them is of no use here.

    Raises:
        RecordError: a folder is no run, or nothing of it can be planned with.
    """
    sources: list[Source] = []
    left_out: list[str] = []
    for folder in folders:
        if is_bench(folder):
            found, useless = from_bench(load_bench(folder), Path(folder).resolve().name)
            sources += found
            left_out += useless
        else:
            sources.append(from_live(load_run(folder)))
    return sources, left_out


# A bench run.


def from_bench(run: BenchRun, name: str) -> tuple[list[Source], list[str]]:
    """A source for each model, precision and beam; a line for each cell that is of no use.

    Raises:
        RecordError: no cell is of use.
    """
    groups: dict[Cell, list[RoundResult]] = {}
    left_out: dict[Cell, str] = {}
    for result in run.rounds:
        reason = _useless(result)
        if reason is None:
            groups.setdefault(_alike(result.cell), []).append(result)
        else:
            left_out[result.cell] = reason
    lines = [f"{label(cell)}: {reason}" for cell, reason in left_out.items()]
    if not groups:
        why = f" ({'; '.join(lines)})" if lines else ""
        raise RecordError(f"{name}: expected a cell that a server can run, found none{why}")
    return [
        _from_rounds(cell, rounds, run.manifest, name) for cell, rounds in groups.items()
    ], lines


def _useless(result: RoundResult) -> str | None:
    """Why a plan cannot be made of it; None: it can."""
    if result.cell.engine not in (*SERVED_ENGINES, POCKETSPHINX):
        return "`rtvc serve` does not run this engine"
    if result.cell.vad_filter:
        return "`rtvc serve` knows no VAD filter"
    if not result.batches and not result.heard:
        return "its inferences were not timed"
    return None


def _alike(cell: Cell) -> Cell:
    """The same for all cells that differ in what a server finds by itself: threads and batch."""
    engine = cell.engine if cell.engine == POCKETSPHINX else "faster-whisper"
    return replace(cell, engine=engine, threads=1, batch=1)


def _from_rounds(
    cell: Cell, rounds: Sequence[RoundResult], manifest: Manifest, name: str
) -> Source:
    times = {
        threads: _times([each for each in rounds if each.cell.threads == threads])
        for threads in sorted({each.cell.threads for each in rounds})
    }
    one_by_one = cell.engine == POCKETSPHINX
    notes = [] if one_by_one else _notes(times)
    gpus = manifest.machine.gpus
    return Source(
        name=label(cell),
        model_name=cell.model,
        model_kind=rounds[0].model_kind,
        model=Model(times, cell.device, cell.context == "full", one_by_one),
        cores=manifest.machine.cores,
        gpu=gpus[0] if gpus and cell.device == "cuda" else None,
        load_s=_load_s(rounds),
        memory_bytes=_memory_bytes(cell, rounds),
        host_bytes=manifest.machine.memory_bytes,
        serve_flags=serve_flags(cell),
        folder=name,
        notes=tuple(notes),
    )


def _times(rounds: Sequence[RoundResult]) -> ServiceTimes:
    """Of cells with the same threads; each round is worth the same."""
    turns: list[Turn] = [
        (turn.audio_s, turn.delay_s)
        for each in rounds
        if each.cell.batch == 1
        for turn in each.heard
    ]
    if not turns:
        turns = [(turn.audio_s, turn.delay_s) for each in rounds for turn in each.heard]
    fitted = fit([batch for each in rounds for batch in each.batches], turns)
    return replace(fitted, busy_cores=_busy_cores(rounds))


def _busy_cores(rounds: Sequence[RoundResult]) -> float | None:
    """That an inference keeps busy by itself; threads that sleep while others work count less."""
    measured_s = sum(each.measured_s for each in rounds)
    cpu_s = sum(each.cpu_s for each in rounds)
    if measured_s <= 0 or cpu_s <= 0:
        return None
    return min(
        max(cpu_s / measured_s, LEAST_BUSY), float(max(each.cell.threads for each in rounds))
    )


def _notes(times: dict[int, ServiceTimes]) -> list[str]:
    notes = []
    if all(each.most_jobs == 1 for each in times.values()):
        notes.append("batches were not timed: one is taken to cost what its jobs cost")
    if all(len(each.contention) == 1 for each in times.values()):
        notes.append(
            "inferences at once were not timed: cores are taken to be shared out evenly, and a GPU "
            "to take turns"
        )
    return notes


def _load_s(rounds: Sequence[RoundResult]) -> float | None:
    warm = [each.load_s for each in rounds if not each.load_is_cold]
    known = warm or [each.load_s for each in rounds]
    return median(known) if known else None


def _memory_bytes(cell: Cell, rounds: Sequence[RoundResult]) -> int | None:
    """Of what runs out first where models are many: the device's memory, or the host's."""
    on_gpu = cell.device == "cuda"
    pairs = [
        (each.memory.device_before, each.memory.device_peak)
        if on_gpu
        else (each.memory.host_before, each.memory.host_peak)
        for each in rounds
    ]
    taken = [peak - before for before, peak in pairs if before is not None and peak is not None]
    return round(median(taken)) if taken else None


# A live run.


def from_live(run: Run) -> Source:
    """What the server of a load test timed, turn by turn; lengths of utterances come with it.

    Raises:
        RecordError: the server timed nothing.
    """
    name = run.folder.resolve().name
    timed = live_turns(run)
    if not timed:
        raise RecordError(
            f"{name}: expected a bench run, or a run against `rtvc serve` with server_turns.csv "
            "(features, encode and decode of each turn); found neither"
        )
    manifest = run.manifest
    gpus = manifest.machine.gpus
    return Source(
        name=manifest.model or name,
        model_name=manifest.model or "",
        model_kind=manifest.model_kind or "",
        model=Model({1: fit([], timed)}, "cuda" if gpus else "cpu", full_window=True),
        cores=manifest.machine.cores,
        gpu=gpus[0] if gpus else None,
        speech_s=speech_lengths_of(run),
        serve_flags=("--model", manifest.model) if manifest.model else (),
        folder=name,
        notes=(
            "times are those of finals under load: what slowed them down then is in them",
            "batches were not timed apart: one is taken to cost what its jobs cost",
            "device, cores and threads are those of the machine that generated the load",
        ),
    )


def live_turns(run: Run) -> list[Turn]:
    """(seconds of speech, seconds of inference) of turns that found a free worker; of all, where
    hardly any did."""
    lengths = {
        (turn.session_id, turn.item_id): turn.speech_end_at_s - turn.speech_start_at_s
        for turn in _spoken(run)
    }
    by_turn: dict[tuple[str, str], list[ServerTurnRow]] = {}
    for row in run.server_turns:
        if row.stage == "transcript":
            by_turn.setdefault((row.session_id, row.item_id), []).append(row)
    usual_s = fmean(lengths.values()) if lengths else 3.5
    timed = [
        (_sum(rows, ("queue_wait",)), (lengths.get(turn, usual_s), _sum(rows, WORK)))
        for turn, rows in by_turn.items()
    ]
    timed = [(wait_s, turn) for wait_s, turn in timed if turn[1] > 0]
    unhindered = [turn for wait_s, turn in timed if wait_s < IDLE_S]
    return unhindered if len(unhindered) >= FEWEST_LIVE else [turn for _, turn in timed]


def speech_lengths_of(run: Run) -> tuple[float, ...]:
    """Seconds of everything that was said in a load test."""
    return tuple(turn.speech_end_at_s - turn.speech_start_at_s for turn in _spoken(run))


def _spoken(run: Run) -> list[TurnRow]:
    return [turn for turn in run.turns if turn.speech_end_at_s > turn.speech_start_at_s]


def _sum(rows: Iterable[ServerTurnRow], segments: Sequence[str]) -> float:
    """Hidden work counts: it was done."""
    return sum(row.duration_s for row in rows if row.segment in segments)


def chosen(sources: Sequence[Source], models: Sequence[str]) -> list[Source]:
    """Those of the models named; empty: all.

    Raises:
        UsageError: a model was not measured.
    """
    known = {source.model_name for source in sources} | {source.name for source in sources}
    for model in models:
        if model not in known:
            raise UsageError(
                f"expected a model that was measured ({', '.join(sorted(known))}), got {model!r}"
            )
    return [
        source
        for source in sources
        if not models or source.model_name in models or source.name in models
    ]
