"""Predicted beside measured: what `rtvc plan` says of a bench, and what a load test then finds.

    python -m tests.acceptance.prediction [--minutes 55] [--out reports/plan]

Two models, each shared, in a pool of two and one a session: a bench of both, six searches, a plan
of each model beside its searches. Everything that is there already is not made again, so the
command resumes where it stopped. Server and load generator share this machine, which should do
nothing else; both take cores from the inferences.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from rtvc.clock import SystemClock
from rtvc.plan.variants import GENERATOR_CORES
from rtvc.report.plan_wording import measured_text
from rtvc.results.plan import Plan, load_plan
from tests.acceptance.stt import FULL, SHORT, TINY, Bench, Case

SHARINGS: dict[str, tuple[str, ...]] = {
    "shared": (),
    "pool:2": ("--sharing", "pool", "--pool-size", "2"),
    "per-session": ("--sharing", "per-session"),
}
"""By the name that a plan gives them: flags of `rtvc serve`."""

MODELS: dict[str, tuple[str, tuple[str, ...], int, int, int]] = {
    "selftest": ("short", SHORT, 500, 96, 160),
    TINY: ("full", FULL, 1000, 4, 48),
}
"""Context as a bench calls it, as `rtvc serve` does, target, where a search begins and ends."""

PLANNED = ("errors<1%", "premature_finals<2%", "partial_interval_p50<1.5s")
"""Met by every step beside the delay; a plan says nothing of how long connecting takes."""

THREADS = "1,2"
"""Of the bench: an engine for all finds its own, one a session takes up to four."""


def case_of(model: str, sharing: str) -> Case:
    """The search that a prediction is set beside."""
    _, context, target_ms, start, most = MODELS[model]
    begins = start if sharing == "shared" else max(start // 4, 1)
    name = f"{model}-{sharing}".replace(":", "-")
    flags = (*context, *SHARINGS[sharing])
    return Case(name, model, flags, target_ms, begins, most, PLANNED, generator_first=True)


def bench(out: Path, model: str) -> Path:
    """Service times of a model; goes on where it stopped."""
    folder = out / f"bench-{model}".replace(":", "-")
    context, *_ = MODELS[model]
    command = [
        *(sys.executable, "-m", "rtvc", "bench", "--model", model, "--engine", "faster-whisper"),
        *("--device", "cpu", "--threads", THREADS, "--context", context, "--rounds", "3"),
        *("--no-held", "--streaming", "0", "--long-files", "0", "--out", str(folder)),
    ]
    subprocess.run(command, check=True)
    return folder


def plan(out: Path, model: str, measured: Path, searches: dict[str, Path]) -> Plan:
    """The same three ways, each beside its search."""
    folder = out / f"plan-{model}".replace(":", "-")
    _, _, target_ms, _, _ = MODELS[model]
    beside = [flag for name, found in searches.items() for flag in ("--beside", f"{name}={found}")]
    command = [
        *(sys.executable, "-m", "rtvc", "plan", str(measured), "--sharing", ",".join(SHARINGS)),
        *("--delay-ms", str(target_ms), "--scenario", "dictation"),
        *("--frame-ms", "60", "--beside-cpu", str(GENERATOR_CORES), "--out", str(folder), *beside),
    ]
    # 99: a prediction is off, which the table says.
    if subprocess.run(command, check=False).returncode not in (0, 99):
        raise SystemExit(f"{model}: the plan could not be made")
    return load_plan(folder)


def table(plans: dict[str, Plan]) -> str:
    """In Markdown, one row a combination."""
    rows = [
        "| Model | Shared how | Target p95 | Predicted | Measured | Off by | Near |",
        "|---|---|---|---|---|---|---|",
    ]
    for model, found in plans.items():
        for each in found.variants:
            measured = "–" if each.measured is None else measured_text(each.measured)
            off = "–" if each.off_by is None else f"{100 * each.off_by:+.0f} %"
            near = {None: "–", True: "yes", False: "no"}[each.close]
            target = f"{1000 * found.delay_target_s:.0f} ms"
            rows.append(
                f"| {model} | {each.sharing} | {target} | {each.holds} | {measured} | {off} "
                f"| {near} |"
            )
    return "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=55.0)
    parser.add_argument("--out", type=Path, default=Path("reports/plan"))
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    searches = Bench(chosen.out, chosen.minutes, SystemClock())
    plans = {}
    for model in MODELS:
        measured = bench(chosen.out, model)
        for sharing in SHARINGS:
            searches.run(case_of(model, sharing))
        done = {
            sharing: chosen.out / case_of(model, sharing).name
            for sharing in SHARINGS
            if case_of(model, sharing).name in searches.done
        }
        plans[model] = plan(chosen.out, model, measured, done)
    text = table(plans)
    (chosen.out / "table.md").write_text(text, encoding="utf-8")
    print(text)  # noqa: T201
    if searches.out_of_time:
        sys.exit("time is up: run the command again, it goes on where it stopped")


if __name__ == "__main__":
    main()
