"""From folders of records to evidence."""

import csv
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from rtvc.errors import RecordError, UsageError, why
from rtvc.profile.diagnose.crowd import read_crowd
from rtvc.profile.diagnose.evidence import Attempt, Evidence, Phase, Turn
from rtvc.profile.diagnose.series import Readings
from rtvc.record import (
    MANIFEST_FILE,
    GeneratorRow,
    Manifest,
    Run,
    SampleRow,
    TurnRow,
    load_run,
)
from rtvc.slo import DEFAULT, Objective
from rtvc.stats import Histogram, quantile
from rtvc.summary import word_errors

PHASES = ("one", "two", "many")
"""Folders of a diagnosis, in the order of their measurement."""

HOST_FILE = "host.csv"
"""What the machine did meanwhile: rows as in samples.csv."""

PLAN_FILE = "phases.json"
"""Names of the phases of a diagnosis, and speakers in each."""

HOST_COLUMNS = ("at_s", "source", "name", "value")

_Segments = dict[tuple[str, str], dict[str, float]]


def read_evidence(folder: Path, objectives: Sequence[Objective] = ()) -> Evidence:
    """From a diagnosis' folder, or from a single run's.

    Raises:
        RecordError: it is neither, or cannot be read.
    """
    folders = phase_folders(Path(folder))
    phases = [read_phase(each, name) for name, each in folders]
    phases = [phase for phase in phases if phase.attempts or phase.turns]
    if not phases:
        raise RecordError(f"{folder} holds no connection and no utterance: there is nothing to see")
    runs = [load_run(each) for _, each in folders]
    return Evidence(
        phases,
        colocated=next((r.manifest.colocated for r in runs if r.manifest.colocated), None),
        interrupted=_is_cut_off(Path(folder), [r.manifest for r in runs]),
        **_targets(objectives),
    )


def phase_folders(folder: Path) -> list[tuple[str, Path]]:
    """(name, folder) of the phases that were run."""
    found = [(name, folder / name) for name in PHASES if (folder / name / MANIFEST_FILE).exists()]
    if found:
        return found
    if (folder / MANIFEST_FILE).exists():
        return [("run", folder)]
    if not folder.exists():
        raise UsageError(f"expected the folder of a diagnosis or of a run, got {folder}: not there")
    raise RecordError(
        f"expected {MANIFEST_FILE} in {folder}, or folders {', '.join(PHASES)} with one each: "
        "this is neither a run's folder nor a diagnosis'"
    )


def write_plan(folder: Path, phases: Sequence[tuple[str, int]]) -> None:
    """Which phases there are to be, so that a reader sees whether any is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PLAN_FILE).write_text(json.dumps(dict(phases)) + "\n", "utf-8")
    except OSError as error:
        raise RecordError(f"cannot write to {folder}: {why(error)}") from error


def _is_cut_off(folder: Path, manifests: Sequence[Manifest]) -> bool:
    """Whether a run was stopped before its time, or a phase that was planned is not there."""
    if any(one.interrupted and one.planned_duration_s is not None for one in manifests):
        return True
    try:
        planned = json.loads((folder / PLAN_FILE).read_text("utf-8"))
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as error:
        raise RecordError(f"cannot read {folder / PLAN_FILE}: {why(error)}") from error
    missing = any(not (folder / name / MANIFEST_FILE).exists() for name in planned)
    return missing or any(one.duration_s is None for one in manifests)


def _targets(objectives: Sequence[Objective]) -> dict[str, float]:
    """Seconds asked for, where the objectives name them; those that ask least of a p95 or max."""
    fields = {"transcription_delay": "delay_target_s", "connection": "connection_target_s"}
    return {
        fields[objective.metric]: objective.target
        for objective in (*DEFAULT, *objectives)
        if objective.metric in fields
    }


def read_phase(folder: Path, name: str) -> Phase:
    run = load_run(folder)
    speakers = run.manifest.settings.get("speakers")
    lag = _lag(run.generator)
    return Phase(
        name=name,
        speakers=int(speakers or len({row.speaker for row in run.attempts}) or 1),
        duration_s=_length_s(run),
        turns=_turns(run),
        attempts=[
            Attempt(row.opened_at_s, row.connection_s, row.handshake_s, row.outcome)
            for row in sorted(run.attempts, key=lambda row: row.opened_at_s)
        ],
        server=Readings(row for row in run.samples if row.source == "server"),
        host=Readings(_host_rows(folder / HOST_FILE)),
        lag_p99_s=lag.quantile(0.99) if lag.n else None,
        generator_cpu=_busiest_cpu(run.generator),
        word_error_rate=_word_error_rate(run),
        neighbours=read_crowd(folder),
    )


def _word_error_rate(run: Run) -> float | None:
    """Of the finals that came."""
    scored = [row for row in run.turns if row.heard is not None and row.reference_words]
    errors = [found for row in scored if (found := word_errors(row)) is not None]
    if not errors or len(errors) < len(scored) or not run.manifest.text_observable:
        return None
    return sum(map(sum, errors)) / sum(row.reference_words for row in scored)


def _length_s(run: Run) -> float:
    ends = [row.closed_at_s or row.opened_at_s for row in run.connections]
    ends += [row.speech_end_at_s for row in run.turns]
    ends += [row.at_s for row in run.generator[-1:]]
    return run.manifest.duration_s or max(ends, default=0.0)


def _turns(run: Run) -> list[Turn]:
    transcript, reply, hidden = _segments(run)
    turns = [
        _turn(
            row,
            felt=transcript.get(_key(row), {}),
            reply=reply.get(_key(row), {}),
            hidden=hidden.get(_key(row), {}),
        )
        for row in run.turns
    ]
    return sorted(turns, key=lambda turn: turn.ended_at_s)


def _key(row: TurnRow) -> tuple[str, str]:
    return row.session_id or "", row.item_id or ""


def _turn(
    row: TurnRow, *, felt: dict[str, float], reply: dict[str, float], hidden: dict[str, float]
) -> Turn:
    latency_s = row.response_latency_s
    if latency_s is None and row.reply_expected:
        latency_s = math.inf
    delay_s = row.transcription_delay_s
    return Turn(
        speaker=row.speaker,
        utterance=row.utterance,
        ended_at_s=row.speech_end_at_s,
        spoke_s=max(0.0, row.speech_end_at_s - row.speech_start_at_s),
        delay_s=math.inf if delay_s is None else delay_s,
        latency_s=latency_s,
        first_partial_s=row.time_to_first_partial_s,
        partial_interval_s=row.partial_interval_s,
        warm_up=row.warm_up,
        felt=felt,
        reply=reply,
        hidden=hidden,
    )


def _segments(run: Run) -> tuple[_Segments, _Segments, _Segments]:
    """Seconds by turn and segment: up to the transcript, up to the reply, and hidden."""
    transcript: _Segments = defaultdict(dict)
    reply: _Segments = defaultdict(dict)
    hidden: _Segments = defaultdict(dict)
    for row in run.server_turns:
        if row.hidden and row.stage != "transcript":
            continue
        kept = hidden if row.hidden else transcript if row.stage == "transcript" else reply
        turn = kept[row.session_id, row.item_id]
        turn[row.segment] = turn.get(row.segment, 0.0) + row.duration_s
    return transcript, reply, hidden


def _lag(rows: Iterable[GeneratorRow]) -> Histogram:
    merged = Histogram()
    for row in rows:
        try:
            merged.merge(Histogram.parse(row.lag_histogram))
        except ValueError as error:
            raise RecordError(f"generator.csv at {row.at_s:g} s: {error}") from error
    return merged


def _busiest_cpu(rows: Iterable[GeneratorRow]) -> float | None:
    by_process: defaultdict[int, list[float]] = defaultdict(list)
    for row in rows:
        if row.cpu_ratio is not None:
            by_process[row.process].append(row.cpu_ratio)
    busy = (quantile(ratios, 0.95) for ratios in by_process.values())
    return max((ratio for ratio in busy if ratio is not None), default=None)


def _host_rows(path: Path) -> list[SampleRow]:
    """None of a file that is not there; a row that was being written is left out."""
    try:
        text = path.read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RecordError(f"cannot read {path}: {why(error)}") from error
    whole = text[: text.rfind("\n") + 1].splitlines()
    rows = csv.DictReader(whole)
    if rows.fieldnames is not None and not set(HOST_COLUMNS) <= set(rows.fieldnames):
        raise RecordError(f"{path}: expected columns {', '.join(HOST_COLUMNS)}")
    return [row for cells in rows if (row := _host_row(cells, path)) is not None]


def _host_row(cells: dict[str, str], path: Path) -> SampleRow | None:
    try:
        value = float(cells["value"])
        at_s = float(cells["at_s"])
    except (TypeError, ValueError):
        raise RecordError(f"{path}: expected numbers, got {cells!r}") from None
    if not math.isfinite(value):
        return None
    return SampleRow(at_s, cells["source"], cells["name"], value)
