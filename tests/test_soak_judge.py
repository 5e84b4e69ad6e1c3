"""The judge of the soak on lives that are written here: does each of its promises break?"""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.acceptance.soak import seeds
from tests.acceptance.soak_judge import FIELDS, STOLEN, judged, longest, stolen, table

MIB = 2**20
SAMPLES = 240

Row = dict[str, float]


def steady(number: int) -> Row:
    noise = np.random.default_rng(number)
    return {
        "at_s": 15.0 * number,
        "server_bytes": 200 * MIB + noise.normal(0, 2 * MIB),
        "engine_bytes": 270 * MIB + noise.normal(0, MIB),
        "threads": 15,
        "descriptors": 90 + int(noise.integers(-9, 10)),
        "sessions": 70,
    }


def life(folder: Path, row: Callable[[int], Row], **told: Any) -> Path:
    folder.mkdir()
    with (folder / "samples.csv").open("w", encoding="utf-8", newline="") as sink:
        rows = csv.DictWriter(sink, FIELDS)
        rows.writeheader()
        rows.writerows(row(number) for number in range(SAMPLES))
    ended = {"alive": True, "troubles": [], "engine_restarts": 0, **told}
    (folder / "life.json").write_text(json.dumps(ended), encoding="utf-8")
    return folder


def broken(folder: Path) -> set[str]:
    """Those that have to do with turns left out: none were."""
    found = judged(folder)["checks"]
    return {name for name, kept in found.items() if not kept and not name.startswith("delay")}


NO_TURNS = "no final is lost"


def test_a_life_without_turns_has_shown_nothing_of_them(tmp_path: Path) -> None:
    told = judged(life(tmp_path / "life-1", steady))
    assert (told["turns"], told["delays"], told["kept"]) == (0, None, False)
    assert broken(tmp_path / "life-1") == {NO_TURNS}


@pytest.mark.parametrize(
    ("column", "per_sample", "promise"),
    [
        ("server_bytes", 0.1 * MIB, "server memory does not rise"),
        ("engine_bytes", 0.1 * MIB, "engine memory does not rise"),
        ("threads", 0.1, "threads are flat"),
        ("descriptors", 0.5, "descriptors are flat"),
    ],
)
def test_what_creeps_up_is_found(
    tmp_path: Path, column: str, per_sample: float, promise: str
) -> None:
    def creeping(number: int) -> Row:
        row = steady(number)
        row[column] += round(per_sample * number)
        return row

    assert broken(life(tmp_path / "life-1", creeping)) == {NO_TURNS, promise}


def test_what_rises_while_it_warms_up_is_no_leak(tmp_path: Path) -> None:
    def warming(number: int) -> Row:
        row = steady(number)
        row["server_bytes"] -= 40 * MIB * max(0, 24 - number) / 24
        return row

    assert broken(life(tmp_path / "life-1", warming)) == {NO_TURNS}


@pytest.mark.parametrize(
    ("told", "promise"),
    [
        ({"alive": False}, "the server lives, its engine was not restarted"),
        ({"engine_restarts": 1}, "the server lives, its engine was not restarted"),
        ({"troubles": ["ERROR rtvc: no"]}, "no ERROR and no traceback in its log"),
    ],
)
def test_what_the_server_said_counts(tmp_path: Path, told: dict[str, Any], promise: str) -> None:
    assert broken(life(tmp_path / "life-1", steady, **told)) == {NO_TURNS, promise}


def test_the_longest_life_is_judged(tmp_path: Path) -> None:
    short = tmp_path / "life-2"
    short.mkdir()
    (short / "samples.csv").write_text("at_s,server_bytes\n", encoding="utf-8")
    assert longest([short, life(tmp_path / "life-1", steady)]) == tmp_path / "life-1"
    assert longest([]) is None


@pytest.mark.parametrize("minutes", [1, 20, 60, 600])
def test_the_last_callers_are_the_first_again(minutes: float) -> None:
    numbers = seeds(minutes, 600)
    assert numbers[0] == numbers[-1]
    assert len(set(numbers)) == len(numbers) - 1


def test_what_the_host_gave_to_others_is_told_where_it_was_recorded(tmp_path: Path) -> None:
    folder = life(tmp_path / "life-1", steady)
    assert stolen(folder, 0.0, 60.0) is None
    with (folder / "samples.csv").open("w", encoding="utf-8", newline="") as sink:
        rows = csv.DictWriter(sink, [*FIELDS, STOLEN])
        rows.writeheader()
        rows.writerows({**steady(n), STOLEN: 0.3 if n > 5 else 0.1} for n in range(SAMPLES))
    assert stolen(folder, 0.0, 75.0) == pytest.approx(0.1)
    assert stolen(folder, 60.0, 105.0) == pytest.approx(0.2)
    assert stolen(folder, -2.0, -1.0) is None
    found = judged(folder) | {"speakers": 8, "capacity": 10}
    assert "host gave to others" not in table(found)
    found["stolen_ratios"] = [0.1, 0.25]
    assert "| CPU time that the host gave to others | 10.0 % → 25.0 % |" in table(found)
