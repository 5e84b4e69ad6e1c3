"""What a stage costs: nanoseconds on top of an empty block, recording and not recording.

    python -m tests.acceptance.stage_cost [--stages 200000] [--rounds 15] [--out FILE]

Rounds of each kind are taken in turn, so that a busy machine slows them alike; the median round
and the fastest are told. The recorder is full, as it is in a server that runs for long.
"""

import argparse
import json
import platform
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rtvc.clock import SystemClock
from rtvc.instruments.recorder import Recorder

clock = SystemClock()
recorder = Recorder(keep=4096)


def empty(stages: int) -> None:
    for _ in range(stages):
        pass


def block(stages: int) -> None:
    for _ in range(stages):
        with recorder.stage("decode"):
            pass


def nested(stages: int) -> None:
    """Pairs, one inside the other."""
    for _ in range(stages // 2):
        with recorder.stage("transcribe"), recorder.stage("decode"):
            pass


@recorder.stage("decode")
def _decorated() -> None:
    pass


def decorated(stages: int) -> None:
    """The cost of the call itself is in it."""
    for _ in range(stages):
        _decorated()


def once(work: Callable[[int], None], stages: int, *, recording: bool) -> float:
    """Nanoseconds a stage."""
    recorder.recording = recording
    begun_s = clock.now()
    work(stages)
    return 1e9 * (clock.now() - begun_s) / stages


def measure(stages: int, rounds: int) -> dict[str, Any]:
    kinds = {"loop alone": (empty, True)}
    for work in (block, nested, decorated):
        kinds[f"{work.__name__}, recording"] = (work, True)
        kinds[f"{work.__name__}, off"] = (work, False)
    took: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, (work, recording) in kinds.items():
            took[name].append(once(work, stages, recording=recording))
    loop_ns = statistics.median(took.pop("loop alone"))
    return {
        "python": platform.python_version(),
        "stages_a_round": stages,
        "rounds": rounds,
        "loop_ns": round(loop_ns, 1),
        "ns_per_stage": {
            name: {
                "median": round(statistics.median(values) - loop_ns, 1),
                "fastest": round(min(values) - loop_ns, 1),
            }
            for name, values in took.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stages", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    text = json.dumps(measure(chosen.stages, chosen.rounds), indent=1) + "\n"
    if chosen.out:
        chosen.out.write_text(text, encoding="utf-8")
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
