"""Who else uses the CPUs: the processes beside the server and the load test that use most."""

import json
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import psutil

from rtvc.clock import Clock
from rtvc.errors import RecordError, why
from rtvc.profile.diagnose.evidence import Neighbour

CROWD_FILE = "others.json"
"""Names and numbers of processes, no command lines: those may hold secrets."""

NAMED = 3
"""Who uses most is enough to look for."""

LEAST_CPUS = 0.02
"""Less crowds nobody."""

_Key = tuple[int, float]
"""Number and start: a number alone is used again."""


class Crowd:
    """CPU time of every process that can be seen, from reading to reading."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._cpu_s: dict[_Key, float] = {}
        self._used_s: defaultdict[_Key, float] = defaultdict(float)
        self._names: dict[_Key, str] = {}
        self._begun_s: float | None = None
        self._ended_s = 0.0

    def read(self, own: frozenset[int]) -> None:
        """Take note; `own`: the server, the load test and what descends from them."""
        now_s, first = self._clock.now(), self._begun_s is None
        self._begun_s = now_s if self._begun_s is None else self._begun_s
        self._ended_s = now_s
        seen = _all_processes()
        for key, (name, cpu_s) in seen.items():
            # Who came since the last reading used all that it has used since then.
            before_s = cpu_s if first else self._cpu_s.get(key, 0.0)
            if key[0] not in own:
                self._used_s[key] += max(0.0, cpu_s - before_s)
                self._names[key] = name
        self._cpu_s = {key: cpu_s for key, (_, cpu_s) in seen.items()}

    def top(self) -> list[Neighbour]:
        """Who used most, the most first."""
        span_s = self._ended_s - (self._begun_s or 0.0)
        if self._begun_s is None or span_s <= 0:
            return []
        most = sorted(self._used_s.items(), key=lambda item: item[1], reverse=True)[:NAMED]
        found = [Neighbour(self._names[key], key[0], used_s / span_s) for key, used_s in most]
        return [one for one in found if one.cpus >= LEAST_CPUS]


def _all_processes() -> dict[_Key, tuple[str, float]]:
    """Name and CPU seconds of everybody who can be seen."""
    found = {}
    for process in psutil.process_iter(["name", "cpu_times", "create_time"]):
        times, started_s = process.info["cpu_times"], process.info["create_time"]
        if times is not None and started_s is not None:
            name = process.info["name"] or "?"
            found[process.pid, started_s] = (name, times.user + times.system)
    return found


def write_crowd(folder: Path, neighbours: list[Neighbour]) -> None:
    content = [{**asdict(one), "cpus": round(one.cpus, 3)} for one in neighbours]
    (folder / CROWD_FILE).write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def read_crowd(folder: Path) -> tuple[Neighbour, ...]:
    """Nobody where nobody looked.

    Raises:
        RecordError: the file is of another kind.
    """
    path = folder / CROWD_FILE
    try:
        content = json.loads(path.read_text("utf-8"))
        return tuple(Neighbour(str(o["name"]), int(o["pid"]), float(o["cpus"])) for o in content)
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RecordError(f"cannot read {path}: {why(error)}") from error
