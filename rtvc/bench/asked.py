"""What a bench is asked for, and what of it this machine has: models, devices, interpreters."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rtvc.bench.cell_process import WHISPERX
from rtvc.bench.conditions import QUIET_KINDS
from rtvc.bench.grid import ABILITIES, POCKETSPHINX, Grid, Here, Wish
from rtvc.bench.input import USUAL_CONDITIONS
from rtvc.bench.spec import Measures
from rtvc.errors import ModelError, UsageError
from rtvc.normalisers.choice import primary_tag
from rtvc.results.cells import Cell, CellFailure
from rtvc.results.naming import labels
from rtvc.results.targets import Targets
from rtvc.results.yardstick import SEED_BASELINE
from rtvc.stt.models import ALIASES, CATALOGUE, cuda_device_count, is_here, resolve_model
from rtvc.stt.synthetic import LANGUAGES, PREFIX
from rtvc.stt.transcriber import ReportProgress

SOME = 4
"""Rows named where a name is not understood."""

FETCH = "--pull fetches it"
"""What helps where weights are not here."""

OWN_ENVIRONMENT = (
    "whisperx needs packages that clash with rtvc's: give it an environment of its own "
    "(python3 -m venv wx && wx/bin/pip install whisperx) and name its interpreter: "
    "--engine-python whisperx=wx/bin/python"
)


@dataclass(frozen=True, slots=True)
class Listening:
    """What the cells listen to; as `rtvc.bench.input.gather` takes it."""

    clips: int = 24
    """Turns at most, each in every condition."""
    conditions: tuple[str, ...] = USUAL_CONDITIONS
    """Such as "clean", "babble:10"."""
    speech: Path | None = None
    """Folder of recordings; None: built-in speakers."""
    language: str | None = None
    """ISO-639-1 of what is said in the folder; None: as it says itself."""
    long_files: int = 1
    """Long recordings."""
    long_s: float = 300.0
    """Seconds of each."""
    quiet_s: float = 10.0
    """Seconds of each kind of quiet."""
    quiet_kinds: tuple[str, ...] = QUIET_KINDS
    """Kinds of quiet."""
    seed: int = 0
    """Of texts, voices and noise."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A bench as the user wants it."""

    grid: Wish
    """What the rows are combined from."""
    preset: bool = False
    """Whether the row of the preset seed-baseline is wanted too."""
    synthetic: bool = False
    """Whether every model is replaced by random weights of its shape."""
    rounds: int = 3
    """Times that each cell is measured."""
    listening: Listening = field(default_factory=Listening)
    """What the cells listen to."""
    measures: Measures = field(default_factory=Measures)
    """What is measured."""
    targets: Targets = field(default_factory=Targets)
    """What the recommendation keeps to."""
    yardstick: str | None = None
    """Cell to compare with; None: the preset, or else the slowest."""
    pythons: Mapping[str, Path] = field(default_factory=dict)
    """Engine → interpreter."""
    pull: bool = False
    """Whether weights that are not here are fetched."""
    hang_s: float | None = None
    """Seconds without a sign of life after which a cell is ended; None: as long as is usual."""


def usual_models() -> tuple[str, ...]:
    """What is measured if no model is named: those here, or else what needs no download."""
    found = tuple(name for name, entry in CATALOGUE.items() if is_here(entry))
    return found or ("selftest", POCKETSPHINX)


def as_synthetic(model: str) -> str:
    """Random weights of a model's shape; what has no shape of Whisper's stays as it is.

    >>> as_synthetic("turbo"), as_synthetic("synthetic:tiny.en"), as_synthetic("pocketsphinx")
    ('synthetic:large-v3-turbo', 'synthetic:tiny.en', 'pocketsphinx')
    """
    if model.startswith(PREFIX) or model in ("selftest", POCKETSPHINX):
        return model
    return f"{PREFIX}{ALIASES.get(model, model)}"


def check_models(models: Iterable[str]) -> None:
    """Find out now what is no name of a model at all.

    Raises:
        ModelError: one is neither a name, a folder nor a file.
    """
    for model in models:
        if ALIASES.get(model, model) in CATALOGUE or Path(model).expanduser().exists():
            continue
        if resolve_model(model, offline=True).kind == "scripted":
            raise ModelError('expected a model that listens, got "scripted"')


def check_pythons(pythons: Mapping[str, Path]) -> None:
    """Raises UsageError for an engine that is unknown, or an interpreter that is not there."""
    for engine, python in pythons.items():
        if engine not in ABILITIES:
            known = ", ".join(ABILITIES)
            raise UsageError(f'expected --engine-python of {known}, got "{engine}"')
        if not (python.is_file() and os.access(python, os.X_OK)):
            raise UsageError(
                f"expected an interpreter for {engine} in {python}, found no file that can be run"
            )


def check_yardstick(wanted: str | None, rows: Grid) -> None:
    """Raises UsageError if the row to compare with is none of those."""
    if wanted in (None, SEED_BASELINE):
        return
    cells = [*rows.cells, *(failure.cell for failure in rows.unsupported)]
    known = labels(cells)
    if wanted not in known and wanted not in known.values():
        some = ", ".join(f'"{name}"' for name in list(known.values())[:SOME])
        raise UsageError(f'expected --compare-with one of the rows, such as {some}, got "{wanted}"')


def known_language(language: str | None) -> str | None:
    """As Whisper names it, without script and region; None: as recordings say themselves.

    >>> known_language("en-US"), known_language("DE"), known_language(None)
    ('en', 'de', None)

    Raises:
        UsageError: Whisper knows no such language.
    """
    if language is None:
        return None
    tag = primary_tag(language)
    if tag not in LANGUAGES:
        raise UsageError(
            f'expected an ISO-639-1 language that Whisper knows, such as en or de, got "{language}"'
        )
    return tag


def usual_device() -> str:
    """Where models run if the user does not say."""
    return "cuda" if cuda_device_count() > 0 else "cpu"


def what_is_here() -> Here:
    """Devices, and the types CTranslate2 computes in on each."""
    import ctranslate2  # takes a while, and only a bench that is about to run asks

    devices = ("cpu", "cuda") if cuda_device_count() > 0 else ("cpu",)
    return Here(
        {device: frozenset(ctranslate2.get_supported_compute_types(device)) for device in devices}
    )


@dataclass(frozen=True, slots=True)
class Found:
    """Cells that can be tried, and why others cannot."""

    cells: tuple[Cell, ...]
    """To be measured."""
    failures: tuple[CellFailure, ...]
    """Rows without a result."""
    weights: Mapping[str, Path]
    """Model → CTranslate2 folder."""


def find_weights(
    grid: Grid, pythons: Mapping[str, Path], report: ReportProgress, *, pull: bool
) -> Found:
    """Make or fetch what may be, and name what is missing; blocks."""
    weights: dict[str, Path] = {}
    missing: dict[str, str] = {}
    for model in dict.fromkeys(cell.model for cell in grid.cells if _reads_folders(cell)):
        try:
            path = _resolved(model, report, pull=pull)
        except ModelError as error:
            missing[model] = str(error)
            continue
        if path is not None:
            weights[model] = path
    skipped = [
        CellFailure(cell, "skipped", reason)
        for cell in grid.cells
        if (reason := _reason(cell, missing, pythons))
    ]
    without = {failure.cell for failure in skipped}
    cells = tuple(cell for cell in grid.cells if cell not in without)
    return Found(cells, (*grid.unsupported, *skipped), weights)


def _reads_folders(cell: Cell) -> bool:
    """Whether it loads a CTranslate2 folder."""
    return cell.engine != POCKETSPHINX and ABILITIES[cell.engine].own_weights


def _resolved(model: str, report: ReportProgress, *, pull: bool) -> Path | None:
    """Random weights are made where they are not there yet: that takes seconds."""
    may = pull or model.startswith(PREFIX)
    try:
        return resolve_model(model, report=report, offline=not may).path
    except ModelError as error:
        in_catalogue = ALIASES.get(model, model) in CATALOGUE
        if may or not in_catalogue:
            raise
        raise ModelError(f'"{model}" is not on this machine; {FETCH}') from error


def _reason(cell: Cell, missing: Mapping[str, str], pythons: Mapping[str, Path]) -> str | None:
    if cell.engine == WHISPERX and WHISPERX not in pythons:
        return OWN_ENVIRONMENT
    return missing.get(cell.model) if _reads_folders(cell) else None


def numbers(texts: Sequence[str], flag: str) -> tuple[int, ...]:
    """
    >>> numbers(["1", "3"], "--beam")
    (1, 3)

    Raises:
        UsageError: one is none.
    """
    try:
        return tuple(int(text) for text in texts)
    except ValueError:
        wrong = ", ".join(texts)
        raise UsageError(f"expected numbers for {flag}, such as 1,3, got {wrong!r}") from None


def switches(texts: Sequence[str], flag: str) -> tuple[bool, ...]:
    """
    >>> switches(["on", "off"], "--vad-filter")
    (True, False)

    Raises:
        UsageError: one is neither.
    """
    known = {"on": True, "off": False}
    for text in texts:
        if text not in known:
            raise UsageError(f"expected on, off or on,off for {flag}, got {text!r}")
    return tuple(known[text] for text in texts)


def pairs(texts: Sequence[str], flag: str) -> dict[str, Path]:
    """
    >>> pairs(["whisperx=/opt/wx/bin/python"], "--engine-python")["whisperx"].name
    'python'

    Raises:
        UsageError: one is no pair.
    """
    found: dict[str, Path] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not name.strip() or not path.strip():
            raise UsageError(f"expected {flag} NAME=PATH, got {text!r}")
        found[name.strip()] = Path(path.strip()).expanduser()
    return found
