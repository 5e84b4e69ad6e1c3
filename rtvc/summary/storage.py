"""A summary as a file."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rtvc.errors import RecordError
from rtvc.record import check_version, read_json
from rtvc.summary.figures import Summary

SCHEMA_VERSION = 1
"""Raised when a reader of older summaries would misread newer ones."""

SUMMARY_FILE = "summary.json"


def to_json(summary: Summary) -> dict[str, Any]:
    """Plain JSON values; JSON has no infinity, so an answer that never came is "inf"."""
    plain: dict[str, Any] = _plain(asdict(summary))
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return "inf" if value == math.inf else value


def write_summary(folder: Path, summary: Summary, **more: Any) -> Path:
    """`more` is what a reader may want beside it, as plain JSON values."""
    path = Path(folder) / SUMMARY_FILE
    path.write_text(
        json.dumps({**to_json(summary), **more}, indent=2, allow_nan=False) + "\n", "utf-8"
    )
    return path


def load_summary(folder: Path) -> Summary:
    """Read what write_summary wrote; RecordError if it cannot be."""
    path = Path(folder) / SUMMARY_FILE
    content = read_json(path)
    check_version(path, content.get("schema_version"), SCHEMA_VERSION)
    try:
        return TypeAdapter(Summary).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{path}: {where}: {first['msg']}") from error
