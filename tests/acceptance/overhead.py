"""What the instruments cost: everything that measures the server on, against all of it off.

    python -m tests.acceptance.overhead [--minutes 40] [--out reports/overhead]

1. A stage of the recorder, and the report of a turn, in microseconds.
2. Saturated: as many jobs as the engine gives, in this process, by turns; six jobs are a turn. On:
   metrics of every job, timings of every turn, a stage around each job, the probe of the event
   loop, a scrape a second. Traced: besides, a trace of every turn to a collector, which shares the
   machine. Off: none of it.
3. Loaded: dictation by a fixed number of speakers, 24 kHz, 60 ms a message, 3 s pauses, against a
   server of its own each time, so that no run inherits another's. Off: `--no-instruments`. On: the
   default and `--otel-endpoint`, the load test scraping once a second, and beside it a reader like
   `rtvc profile live`. Both of a pair have the same texts at the same moments; who goes first
   changes from pair to pair.
4. The same with py-spy at 100 samples a second, which nobody leaves on: against the "on" of its
   pair.

The arrangement of the engine is fixed, so that no run calibrates another. What one says is the
median of the pairs' ratios, with the interval that encloses it in 95 of 100 such runs (from ten
pairs; of fewer, the least and the largest ratio). A run whose load generator was saturated is void
and its pair left out. Every alternation is a file under OUT/raw; the command resumes after the last
one, and begins none after `--minutes`. The machine should do nothing else.
"""

import argparse
import asyncio
import json
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rtvc.clock import Clock, SystemClock
from rtvc.record import this_machine
from rtvc.stats import quantile, quantile_interval
from tests.acceptance.overhead_runs import collector_beside, load, micro_costs, saturated

SPEAKERS = 66
"""60 % of the 110 that the self-test model holds on two cores (reports/stt/table.md)."""
PAIRS = 10
SPY_EVERY = 4
"""Pairs from one with py-spy to the next."""
SECONDS = 60
ROUNDS = 90


# Arithmetic.


@dataclass(frozen=True)
class Ratios:
    """Of one figure: what it was on ÷ what it was off, pair by pair."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def interval(self) -> tuple[float, float]:
        """Encloses the median in 95 of 100 such runs; of too few pairs, all of them."""
        found = quantile_interval(self.values, 0.5)
        return (min(self.values), max(self.values)) if found is None else found

    def verdict(self, limit: float, *, more_is_better: bool = False) -> str:
        """Whether the median loses at most `limit`, and whether the whole interval says so.

        >>> Ratios((1.01, 1.0, 1.015)).verdict(0.02), Ratios((1.01, 1.0, 1.03)).verdict(0.02)
        ('met', 'met at the median')
        >>> Ratios((0.97, 0.98)).verdict(0.01, more_is_better=True)
        'missed'
        """
        sign = -1 if more_is_better else 1
        worst = max(sign * (bound - 1) for bound in self.interval)
        best = min(sign * (bound - 1) for bound in self.interval)
        if worst <= limit:
            return "met"
        if sign * (self.median - 1) <= limit:
            return "met at the median"
        return "missed" if best > limit else "missed at the median"


def ratios(pairs: Sequence[tuple[float | None, float | None]]) -> Ratios | None:
    """On ÷ off of (off, on) pairs; pairs without both are left out; None: none has."""
    known = [on / off for off, on in pairs if on is not None and off]
    return Ratios(tuple(known)) if known else None


# All of it, in order, resumable.


class Bench:
    """Runs what is not there yet, until time is up."""

    def __init__(self, out: Path, minutes: float, clock: Clock) -> None:
        self._raw = out / "raw"
        self._raw.mkdir(parents=True, exist_ok=True)
        self._clock = clock
        self._ends_s = clock.now() + 60 * minutes
        self.out_of_time = False

    def has_time(self) -> bool:
        self.out_of_time = self.out_of_time or self._clock.now() > self._ends_s
        return not self.out_of_time

    def kept(self, name: str) -> Any:
        """A measurement of before; None: there is none."""
        file = self._raw / f"{name}.json"
        return json.loads(file.read_text("utf-8")) if file.exists() else None

    def keep(self, name: str, result: Any) -> None:
        text = json.dumps(result, indent=None if "delays_ms" in result else 1) + "\n"
        (self._raw / f"{name}.json").write_text(text, encoding="utf-8")

    def once(self, name: str, measure: Callable[[], Any]) -> None:
        if self.kept(name) is None and self.has_time():
            print(f"— {name}", file=sys.stderr)  # noqa: T201
            self.keep(name, measure())


def everything(bench: Bench, pairs: int, rounds: int, speakers: int, seconds: int) -> None:
    with collector_beside() as collector:
        bench.once("micro", lambda: micro_costs(collector))
        done = sum(bench.kept(f"saturated-{number:03}") is not None for number in range(rounds))
        if done < rounds and bench.has_time():
            print(f"— saturated, {rounds - done} pairs", file=sys.stderr)  # noqa: T201
            asyncio.run(
                saturated(
                    collector,
                    range(done, rounds),
                    lambda number, pair: bench.keep(f"saturated-{number:03}", pair),
                )
            )
    for pair in range(pairs):
        kinds = ["off", "on"] if pair % 2 == 0 else ["on", "off"]
        for kind in kinds + (["spy"] if pair % SPY_EVERY == 0 else []):
            alternation = partial(load, kind, pair, speakers, seconds)
            bench.once(f"load-{pair:02}-{kind}", alternation)


# What came of it.


@dataclass(frozen=True)
class Row:
    """A figure with and without."""

    name: str
    off: float | None
    on: float | None
    found: Ratios | None
    limit: float | None = None
    """Most that may be lost; None: told, not judged."""
    more_is_better: bool = False

    def as_json(self) -> dict[str, Any]:
        found = self.found
        if found is None:
            return {"name": self.name, "pairs": 0}
        return {
            "name": self.name,
            "off_median": self.off,
            "on_median": self.on,
            "ratio_median": found.median,
            "ratio_interval": found.interval,
            "ratios": found.values,
            "pairs": len(found.values),
            "limit": self.limit,
            "verdict": self.verdict,
        }

    @property
    def verdict(self) -> str:
        if self.found is None or self.limit is None:
            return "–"
        return self.found.verdict(self.limit, more_is_better=self.more_is_better)

    def line(self) -> str:
        if self.found is None:
            return f"| {self.name} | – | – | not measured | | |"
        low, high = (100 * (bound - 1) for bound in self.found.interval)
        sign = "≥ −" if self.more_is_better else "≤ +"
        target = "–" if self.limit is None else f"{sign}{self.limit:.0%}"
        return (
            f"| {self.name} | {shown(self.off)} | {shown(self.on)} "
            f"| {100 * (self.found.median - 1):+.1f} % ({low:+.1f} to {high:+.1f}, "
            f"n={len(self.found.values)}) | {target} | {self.verdict} |"
        )


def shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def row(name: str, pairs: Sequence[tuple[float | None, float | None]], **more: Any) -> Row:
    both = [(off, on) for off, on in pairs if off is not None and on is not None]
    if not both:
        return Row(name, None, None, None, **more)
    offs, ons = zip(*both, strict=True)
    return Row(name, statistics.median(offs), statistics.median(ons), ratios(both), **more)


def loaded_pairs(bench: Bench, pairs: int, first: str, second: str) -> list[tuple[Any, Any]]:
    """Alternations of both kinds, void ones and unfinished pairs left out."""
    both = [
        (bench.kept(f"load-{pair:02}-{first}"), bench.kept(f"load-{pair:02}-{second}"))
        for pair in range(pairs)
    ]
    return [(a, b) for a, b in both if a and b and not a["void"] and not b["void"]]


def of(name: str, pairs: Sequence[tuple[Any, Any]], scale: float = 1.0) -> list[tuple[Any, Any]]:
    """One figure of each pair."""

    def scaled(found: Any) -> float | None:
        return None if found[name] is None else scale * found[name]

    return [(scaled(first), scaled(second)) for first, second in pairs]


def rows(bench: Bench, pairs: int, rounds: int, speakers: int) -> list[Row]:
    full = [kept for n in range(rounds) if (kept := bench.kept(f"saturated-{n:03}"))]
    at_full = [(found["off"], found["on"]) for found in full]
    traced = [(found["off"], found["traced"]) for found in full]
    loaded = loaded_pairs(bench, pairs, "off", "on")
    spied = [
        (on, spy) for on, spy in loaded_pairs(bench, pairs, "on", "spy") if not spy["spy"]["code"]
    ]
    rate = of("jobs_per_s", at_full)
    return [
        row("Jobs a second, saturated", rate, limit=0.01, more_is_better=True),
        row("CPU a job, saturated, ms", of("cpu_ms_per_job", at_full)),
        row("Jobs a second, saturated, with traces", of("jobs_per_s", traced)),
        row("CPU a job, saturated, with traces, ms", of("cpu_ms_per_job", traced)),
        row(
            f"Transcription delay p95, {speakers} speakers, ms",
            of("delay_p95_s", loaded, 1e3),
            limit=0.02,
        ),
        row("Transcription delay p50, ms", of("delay_p50_s", loaded, 1e3)),
        row("Server's CPU a turn, ms", of("cpu_ms_per_turn", loaded)),
        row("With py-spy, against on: delay p95, ms", of("delay_p95_s", spied, 1e3)),
        row("With py-spy, against on: CPU a turn, ms", of("cpu_ms_per_turn", spied)),
    ]


def pooled_p95_ms(bench: Bench, pairs: int) -> dict[str, Any]:
    """p95 of all utterances of all valid pairs together, with its 95 % interval."""
    loaded = loaded_pairs(bench, pairs, "off", "on")
    found: dict[str, Any] = {}
    for place, kind in enumerate(("off", "on")):
        delays = [delay for pair in loaded for delay in pair[place]["delays_ms"]]
        interval = quantile_interval(delays, 0.95)
        found[kind] = {"n": len(delays), "p95": quantile(delays, 0.95), "interval": interval}
    return found


def micro_lines(micro: Any) -> Iterator[str]:
    stage = micro["stage"]["ns_per_stage"]
    recorded, off = (stage[f"block, {kind}"]["median"] / 1000 for kind in ("recording", "off"))
    met = "met" if recorded < 2 else "missed"
    yield f"| A stage, µs | {off:.2f} | {recorded:.2f} | | < 2 | {met} |"
    for name, took_us in micro["turn_us"].items():
        yield f"| {name[0].upper()}{name[1:]}, µs | 0 | {took_us:.1f} | | – | – |"


def write(bench: Bench, out: Path, pairs: int, rounds: int, speakers: int, seconds: int) -> str:
    found, micro = rows(bench, pairs, rounds, speakers), bench.kept("micro")
    lines = [
        "| Figure | Off | On | On against off | Target | Verdict |",
        "|---|---|---|---|---|---|",
    ]
    lines += [each.line() for each in found]
    lines += [] if micro is None else list(micro_lines(micro))
    machine = this_machine()
    result = {
        "machine": {"cpu": machine.cpu, "cores": machine.cores, "python": machine.python},
        "speakers": speakers,
        "seconds_a_run": seconds,
        "figures": [each.as_json() for each in found],
        "pooled_delay_p95_ms": pooled_p95_ms(bench, pairs),
        "micro": micro,
        "traces_exported": micro is not None and "a turn to the traces" in micro["turn_us"],
    }
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    (out / "overhead.json").write_text(text, encoding="utf-8")
    table = "\n".join(lines) + "\n"
    (out / "table.md").write_text(table, encoding="utf-8")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--out", type=Path, default=Path("reports/overhead"))
    parser.add_argument("--pairs", type=int, default=PAIRS, help="of loaded runs")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="pairs of saturated rounds")
    parser.add_argument("--speakers", type=int, default=SPEAKERS)
    parser.add_argument("--seconds", type=int, default=SECONDS, help="of a loaded run")
    chosen = parser.parse_args()
    bench = Bench(chosen.out, chosen.minutes, SystemClock())
    everything(bench, chosen.pairs, chosen.rounds, chosen.speakers, chosen.seconds)
    size = (chosen.pairs, chosen.rounds, chosen.speakers, chosen.seconds)
    print(write(bench, chosen.out, *size))  # noqa: T201
    if bench.out_of_time:
        sys.exit("time is up: run the command again, it goes on where it stopped")


if __name__ == "__main__":
    main()
