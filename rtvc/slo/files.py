"""Objectives in a TOML file, beside others on the command line.

[slo]
objectives = [
    "connection_p95<3s",
    { objective = "transcription_delay_p95<500ms", abort_on_fail = true, delay = "30s" },
]

[slo.thresholds]                      # or as k6 has them: by metric
transcription_delay = ["p(95)<500", { threshold = "p(99)<1000", abortOnFail = true }]
errors = "rate<0.01"
"""

import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rtvc.duration import parse_duration
from rtvc.errors import UsageError
from rtvc.slo.grammar import DEFAULT, parse_objective
from rtvc.slo.objectives import Objective

_TEXTS = ("objective", "threshold")
_ABORTS = ("abort_on_fail", "abortOnFail")
_DELAYS = ("delay", "delayAbortEval")


def parse_objectives(texts: Iterable[str]) -> tuple[Objective, ...]:
    """Objectives and TOML files of them, as given on the command line; DEFAULT if none."""
    objectives: list[Objective] = []
    for text in texts:
        is_file = _is_file(text.strip())
        objectives.extend(load_objectives(Path(text)) if is_file else (parse_objective(text),))
    return tuple(objectives) or DEFAULT


def _is_file(text: str) -> bool:
    """What compares nothing and is written as a file is one, also where its ending is misspelt."""
    is_named = Path(text).suffix[1:].isalpha() and not set(text) & set("<>=:")
    return text.endswith(".toml") or is_named


def load_objectives(path: Path) -> tuple[Objective, ...]:
    """Read `[slo]` of a TOML file; UsageError says what was expected, and where."""
    try:
        content = tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read objectives from {path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path}: expected TOML, but {error}") from error
    try:
        found = tuple(_objectives(content.get("slo")))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    if not found:
        raise UsageError(f'{path}: expected [slo] with objectives = ["connection_p95<3s", …]')
    return found


def _objectives(section: Any) -> Iterator[Objective]:
    if not isinstance(section, dict):
        return
    unknown = sorted(set(section) - {"objectives", "thresholds"})
    if unknown:
        raise UsageError(f"expected objectives or thresholds in [slo], got {unknown[0]!r}")
    for entry in _listed(section.get("objectives", [])):
        yield _objective(entry, "")
    thresholds = section.get("thresholds", {})
    if not isinstance(thresholds, dict):
        raise UsageError(f"expected [slo.thresholds] by metric, got {thresholds!r}")
    for metric, entries in thresholds.items():
        for entry in _listed(entries):
            yield _objective(entry, f"{metric}: ")


def _listed(entries: Any) -> list[Any]:
    return entries if isinstance(entries, list) else [entries]


def _objective(entry: Any, metric: str) -> Objective:
    """A text, or a table with a text and what happens when it is missed."""
    if not isinstance(entry, dict):
        return parse_objective(f"{metric}{entry}")
    unknown = sorted(set(entry) - {*_TEXTS, *_ABORTS, *_DELAYS})
    text = next((entry[name] for name in _TEXTS if name in entry), None)
    if unknown or not isinstance(text, str):
        raise UsageError(
            'expected { objective = "…", abort_on_fail = true, delay = "30s" }, '
            f"got {unknown[0] if unknown else entry!r}"
        )
    found = parse_objective(f"{metric}{text}")
    abort = next((entry[name] for name in _ABORTS if name in entry), False)
    delay = next((entry[name] for name in _DELAYS if name in entry), None)
    if not isinstance(abort, bool) or (delay is not None and not abort):
        raise UsageError(
            f"expected abort_on_fail = true or false, and a delay only with true, "
            f"in {text!r}, got {abort!r}"
        )
    if not abort:
        return found
    delay_s = parse_duration(str(0 if delay is None else delay), f"a delay of {text!r}")
    return replace(found, abort_on_fail=True, abort_after_s=delay_s)
