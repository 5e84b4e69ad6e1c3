"""Two benches of the same cells, in words: `rtvc compare`, `make bench-check`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rtvc.errors import UsageError
from rtvc.record import Machine, Manifest
from rtvc.results.reading import is_bench, load_bench
from rtvc.results.repeat import Repeat, Repeated, compare_benches
from rtvc.results.yardstick import summarize_bench


def _row(one: Repeated, tolerance: float) -> str:
    """A row of the table."""
    words = "–" if one.wer_change is None else f"{100 * one.wer_change:+.1f} points"
    memory = "–" if one.memory is None else f"× {one.memory:.2f}"
    verdict = "as it was" if one.drift <= 1 + tolerance else "**another**"
    return (
        f"| {one.name} | {one.before:.3f} | {one.after:.3f} | {100 * (one.drift - 1):.1f} % "
        f"| {words} | {memory} | {verdict} |"
    )


def repeat_table(found: Repeat, before: Manifest, after: Manifest) -> str:
    """Both benches side by side, as Markdown."""
    speed = "–" if found.speed is None else f"{found.speed:.2f}"
    lines = [
        f"Measured {before.started_at} (baseline) and {after.started_at}, "
        f"{after.machine.cpu}, {after.machine.cores} cores"
        f"{''.join(f', {gpu}' for gpu in after.machine.gpus)}. "
        f"The later bench took {speed} times as long. "
        f"Allowed: {100 * found.tolerance:g} %.",
        *_elsewhere(before.machine, after.machine),
        "",
        "| Cell | baseline, × middle | now, × middle | apart | word errors | memory | |",
        "|---|---|---|---|---|---|---|",
        *(_row(one, found.tolerance) for one in found.cells),
        "",
        *(f"- {problem}" for problem in found.problems),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _elsewhere(before: Machine, after: Machine) -> list[str]:
    """What to know where machines differ."""
    if (before.cpu, before.cores, before.gpus) == (after.cpu, after.cores, after.gpus):
        return []
    was = ", ".join([f"{before.cpu}, {before.cores} cores", *before.gpus])
    return ["", f"The baseline is another machine's ({was}): ratios between cells may differ."]


def repeat_json(found: Repeat, before: Manifest, after: Manifest) -> dict[str, Any]:
    """The same for a program."""
    return {
        "baseline": {"started_at": before.started_at, "commit": before.commit},
        "now": {"started_at": after.started_at, "commit": after.commit},
        "problems": found.problems,
        "largest_drift": max((one.drift - 1 for one in found.cells), default=None),
        **asdict(found),
    }


def compare_folders(before: Path, after: Path) -> tuple[str, dict[str, Any]]:
    """The table, and the same for a program; its "problems" are what is not as it was.

    Raises:
        UsageError: one of them is no bench, or they heard different clips.
        RecordError: one of them cannot be read.
    """
    for folder in (before, after):
        if not is_bench(folder):
            raise UsageError(f"expected two benches or two load tests, got a bench and {folder}")
    old, new = load_bench(before), load_bench(after)
    if old.manifest.corpus_hash != new.manifest.corpus_hash:
        raise UsageError(
            f"expected two benches that heard the same clips, got {old.manifest.corpus_hash} in "
            f"{before} and {new.manifest.corpus_hash} in {after}: give both the same --speech, "
            "--clips, --condition, --long and --seed"
        )
    found = compare_benches(summarize_bench(old), summarize_bench(new))
    shown = repeat_table(found, old.manifest, new.manifest)
    return shown, repeat_json(found, old.manifest, new.manifest)
