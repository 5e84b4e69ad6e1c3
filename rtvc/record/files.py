"""Whole JSON files, read and written."""

import json
from pathlib import Path
from typing import Any

from rtvc.errors import RecordError


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all: a reader never meets half a file."""
    draft = path.with_name(path.name + ".part")
    draft.write_text(json.dumps(content, indent=2, default=str) + "\n", "utf-8")
    draft.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise RecordError(
            f"this is no run folder: {path.parent} (expected {path.name} in it)"
        ) from error
    except ValueError as error:
        raise RecordError(f"{path}: expected JSON, but {error}") from error
    if not isinstance(content, dict):
        raise RecordError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def check_version(path: Path, found: object, known: int) -> None:
    if found != known:
        raise RecordError(f"{path}: expected schema version {known}, got {found!r}")
