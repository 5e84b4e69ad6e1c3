"""What a search for the capacity says to Terraform: one variable, and where it comes from."""

import json
from pathlib import Path
from typing import Any

from rtvc import __version__
from rtvc.errors import RunVoid, UsageError, why
from rtvc.record import MANIFEST_FILE, Run, load_run
from rtvc.record.files import write_json
from rtvc.slo import Capacity, capacity
from rtvc.summary import SUMMARY_FILE, load_summary

VARIABLE = "capacity_per_instance"
UNIT = "sessions at once on one instance"

COMMENT = "//"
"""A key that Terraform leaves aside."""

ENDING = ".auto.tfvars.json"
"""Of files that Terraform reads by itself."""
BY_ITSELF = "terraform.tfvars.json"
"""The one other file that it does."""


def capacity_found(run: Run) -> Capacity:
    """What a search found, if that can be relied upon.

    Raises:
        UsageError: the run was no search, was cut off, or found that not even one is held.
        RunVoid: it ends where the load generator was late, or lost, and not where the server was.
    """
    folder, manifest = run.folder, run.manifest
    if not run.steps:
        raise UsageError(
            f"{folder}: expected a run of `rtvc loadtest --find-capacity`, got a run without "
            f"steps: `{manifest.command}`"
        )
    if manifest.interrupted or run.cut_off or manifest.aborted is not None:
        raise UsageError(f"{folder}: expected a search that came to its end, it was cut off")
    if manifest.lost_generators:
        raise RunVoid(
            f"{folder}: the search ended when it lost {len(manifest.lost_generators)} of its load "
            "generators, so that nobody knows what the server holds: search again"
        )
    found = capacity(run.steps)
    if _late_where_it_matters(run, found) or not _kept_up(folder):
        raise RunVoid(
            f"{folder}: the load generator was late, so that nobody knows what the server holds: "
            "give it more cores (--processes, --join) and search again"
        )
    if not found.holds:
        raise UsageError(f"{folder}: expected a capacity, but {found.sentence}")
    return found


def _late_where_it_matters(run: Run, found: Capacity) -> bool:
    """Beyond what is held, and short of what is missed anyway."""
    late = [step.speakers for step in run.steps if step.outcome == "void"]
    return any(found.holds < n < (found.fails_at or n + 1) for n in late)


def _kept_up(folder: Path) -> bool:
    """Whether the generator did in the step that stands for the search, as far as is known."""
    return not (folder / SUMMARY_FILE).is_file() or load_summary(folder).generator.valid


def provenance(run: Run, found: Capacity) -> dict[str, Any]:
    """Where a capacity comes from."""
    manifest = run.manifest
    return {
        "written_by": f"rtvc fleet vars, {__version__}",
        "unit": UNIT,
        "run": run.folder.resolve().name,
        "said": found.sentence,
        "confirmed": found.confirmed,
        "started_at": manifest.started_at,
        "command": manifest.command,
        "commit": manifest.commit,
        "model": manifest.model,
        "model_kind": manifest.model_kind,
        "server": dict(manifest.server),
        "scenario": manifest.settings.get("scenario"),
        "transcription": manifest.settings.get("transcription"),
        "targets": list(manifest.targets),
        "load_generator_on_the_same_machine": manifest.colocated,
        "load_generator": {
            "cpu": manifest.machine.cpu,
            "cores": manifest.machine.cores,
            "gpus": list(manifest.machine.gpus),
        },
    }


def doubts(run: Run, found: Capacity) -> list[str]:
    """What must be known of a capacity, a line each."""
    manifest = run.manifest
    told = {
        "measured with the self-test model": manifest.is_self_test,
        "measured with synthetic weights": not manifest.text_observable,
        "not confirmed by a second run": not found.confirmed,
        "it may hold more: nothing more was tried": found.fails_at is None,
        "it may hold more: the server had no more slots (max_sessions)": _all_slots(run, found),
        "it may hold more: the load generator ran on the same machine": bool(manifest.colocated),
    }
    return [line for line, holds in told.items() if holds]


def _all_slots(run: Run, found: Capacity) -> bool:
    """Whether as many are held as the server lets in."""
    slots = run.manifest.server.get("max_sessions")
    return isinstance(slots, int) and found.holds >= slots


def write_vars(out: Path, run: Run, found: Capacity) -> None:
    """Write the variable; what else stands in the file stays.

    Raises:
        UsageError: Terraform would not read a file of this name by itself, or it cannot be written.
    """
    if not out.name.endswith(ENDING) and out.name != BY_ITSELF:
        raise UsageError(f"expected --out to end with {ENDING}, got {out.name!r}")
    content = _content(out) if out.exists() else {}
    content[COMMENT] = provenance(run, found)
    content[VARIABLE] = found.holds
    try:
        write_json(out, content)
    except OSError as error:
        raise UsageError(f"cannot write {out}: {why(error)}") from error


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {why(error)}") from error
    except ValueError as error:
        raise UsageError(f"{path}: expected JSON, but {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def capacity_given(text: str) -> tuple[int, str]:
    """Sessions that an instance holds, and where the number comes from: itself, a file of variables
    or a search's run directory.

    >>> capacity_given("40")
    (40, 'as given')

    Raises:
        UsageError: it is none of these.
        RecordError: a folder is no run.
        RunVoid: a search proves nothing.
    """
    path = Path(text)
    if text.isdecimal():
        return _whole(int(text), text), "as given"
    if (path / MANIFEST_FILE).is_file():
        return capacity_found(load_run(path)).holds, path.resolve().name
    if path.is_file():
        return _whole(_content(path).get(VARIABLE), str(path)), path.name
    raise UsageError(
        "expected --capacity as a whole number from 1 on, a file of `rtvc fleet vars` or a run of "
        f"`rtvc loadtest --find-capacity`, got {text!r}"
    )


def _whole(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 100_000:
        raise UsageError(
            f"{where}: expected {VARIABLE} as a whole number from 1 to 100,000, got {value!r}"
        )
    return value
