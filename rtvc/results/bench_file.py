"""The figures of a bench run as a file: bench.json."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rtvc.errors import RecordError, why
from rtvc.record import check_version, read_json
from rtvc.results.recommendation import Recommendation
from rtvc.results.summary import BenchSummary
from rtvc.results.targets import Targets

SCHEMA_VERSION = 1
"""Raised when a reader of older files would misread newer ones."""

BENCH_FILE = "bench.json"


def bench_json(
    summary: BenchSummary, recommendation: Recommendation, targets: Targets
) -> dict[str, Any]:
    """Plain JSON values; JSON has no infinity, so an answer that never came is "inf"."""
    return {
        "schema_version": SCHEMA_VERSION,
        "recommendation": _plain(asdict(recommendation)),
        "targets": list(targets.texts),
        **_plain(asdict(summary)),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return "inf" if isinstance(value, float) and math.isinf(value) else value


def write_bench(
    folder: Path, summary: BenchSummary, recommendation: Recommendation, targets: Targets
) -> Path:
    """Returns the file's path.

    Raises:
        RecordError: it cannot be written.
    """
    path = Path(folder) / BENCH_FILE
    content = bench_json(summary, recommendation, targets)
    try:
        path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
    except OSError as error:
        raise RecordError(f"cannot write {path}: {why(error)}") from error
    return path


def load_bench_summary(folder: Path) -> BenchSummary:
    """What `write_bench` wrote, without the recommendation.

    Raises:
        RecordError: there is none, or it cannot be understood.
    """
    path = Path(folder) / BENCH_FILE
    content = read_json(path)
    check_version(path, content.get("schema_version"), SCHEMA_VERSION)
    try:
        return TypeAdapter(BenchSummary).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{path}: {where}: {first['msg']}") from error
