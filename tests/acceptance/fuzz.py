"""A million hostile messages, while two people talk: does anyone notice?

    python -m tests.acceptance.fuzz [--messages 1000000] [--out reports/hostile]

One server (self-test model), one round after another: people talk alone, then people talk while
messages come that know the protocol (see tests/hostile/messages.py), and frames that break it.
After each round the server is left alone for a moment and looked at. Progress is kept, and goes on
where it stopped; a new server is then a new life, and memory is judged within a life. Server and
fuzzer share this machine; the fuzzer gives way (nice 10). Hostile clients call from 127.0.0.2.
"""

import argparse
import asyncio
import json
import os
import shlex
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from rtvc.clock import SystemClock
from tests.acceptance.steadiness import longer, slope
from tests.acceptance.watched import (
    Watched,
    heard,
    speaking,
    watched_server,
    write_json,
)
from tests.hostile.client import Tally, Target, frames, talk

HOSTILE_FROM = "127.0.0.2"
ROUND = 50_000
QUIET_S = 20.0
MAX_RATIO = 1.5
"""Delay p95 beside the fuzz ÷ without, at most: both share this machine's cores."""
SETTLE_S = 33.0
"""Within that the server hands back what is free in its heaps, which it does every 30 s."""
ROOM_BYTES = 32 << 20
"""More memory at the end of a life than after its first round."""
ALLOWED = ("101", "400", "403", "404", "405", "414", "426", "429", "431", "503", "505")
"""Documented answers to a handshake; "none" and "silent" are no answer."""


async def attack(server: Watched, number: int, messages: int, rate_per_s: float) -> Tally:
    """One round."""
    target, tally = Target(server.port, HOSTILE_FROM), Tally()
    shares = [("realtime", 0.24)] * 3 + [("realtimevoicechat", 0.09)] * 2
    jobs = [
        talk(
            target,
            "realtime" if wire == "realtime" else "realtimevoicechat",
            f"{number}/{place}",
            round(messages * share),
            rate_per_s=rate_per_s * share,
        )
        for place, (wire, share) in enumerate(shares)
    ]
    jobs.append(
        frames(
            target,
            f"{number}/frames",
            round(messages * 0.1),
            rate_per_s=rate_per_s * 0.1,
        )
    )
    for one in await asyncio.gather(*jobs):
        tally.add(one)
    return tally


def one_round(server: Watched, number: int, chosen: argparse.Namespace) -> dict[str, Any]:
    clock = SystemClock()
    quiet = heard(server.url, chosen.speakers, chosen.quiet)
    begun_s = clock.now()
    with speaking(server.url, chosen.speakers) as people:
        time.sleep(2)
        fuzz_s = clock.now()
        # A thread of its own has a niceness of its own.
        with ThreadPoolExecutor(1, initializer=os.nice, initargs=(10,)) as pool:
            attacking = attack(server, number, chosen.round, chosen.rate)
            tally = pool.submit(asyncio.run, attacking).result()
        fuzzed_s = clock.now() - fuzz_s
        beside = people.done()
    left = server.sessions_gone(30) if server.alive else -1
    return {
        "round": number,
        "seconds": round(clock.now() - begun_s + chosen.quiet, 1),
        "rate_per_s": round(tally.messages / fuzzed_s, 1),
        "tally": tally.to_json(),
        "quiet": quiet,
        "beside": beside,
        "sessions_left": left,
        "alive": server.alive,
        "engine_restarts": server.sessions()["engine_restarts"] if server.alive else None,
        "vitals": asdict(server.settled(SETTLE_S)) if server.alive else None,
        "troubles": server.troubles(),
    }


def verdict(progress: dict[str, Any]) -> dict[str, Any]:
    """All rounds together, each promise with whether it is kept."""
    rounds = progress["rounds"]
    total = Counter[str]()
    by: dict[str, Counter[str]] = {
        name: Counter() for name in ("kinds", "mutations", "closes", "statuses")
    }
    for row in rounds:
        total.update({key: row["tally"][key] for key in ("messages", "unread", "connections")})
        for name, counter in by.items():
            counter.update(row["tally"][name])
    people = {key: _people(rounds, key) for key in ("quiet", "beside")}
    delays = longer(people["quiet"]["delays_s"], people["beside"]["delays_s"])
    undocumented = [
        status for status in by["statuses"] if status.isdigit() and status not in ALLOWED
    ]
    checks = {
        "the server lives": all(row["alive"] for row in rounds),
        "its engine was not restarted": not any(row["engine_restarts"] for row in rounds),
        "no answer that is not documented": not undocumented,
        "no ERROR and no traceback in its log": not any(row["troubles"] for row in rounds),
        "no session is left": not any(row["sessions_left"] for row in rounds),
        "no transcript of the others is lost": not people["beside"]["lost"],
        "nobody else is refused or cut off": not (
            people["beside"]["refused"] + people["beside"]["broken"]
        ),
        f"their delay p95 is at most {MAX_RATIO} times as long": (
            delays is not None and delays.ratio_p95 <= MAX_RATIO
        ),
        **_memory_checks(rounds),
    }
    return {
        **total,
        **{name: dict(counter.most_common()) for name, counter in by.items()},
        "rounds": len(rounds),
        "fuzz_per_s": round(sum(row["rate_per_s"] for row in rounds) / max(1, len(rounds)), 1),
        "seconds": round(sum(row["seconds"] for row in rounds)),
        "delays": None if delays is None else asdict(delays),
        "lives": [_life(rows) for rows in _lives(rounds)],
        "checks": checks,
        "kept": all(checks.values()),
    }


def _people(rounds: list[dict[str, Any]], key: str) -> dict[str, Any]:
    told = [row[key] for row in rounds]
    lists = {name: list(chain(*(one[name] for one in told))) for name in ("delays_s",)}
    sums = {name: sum(one[name] for one in told) for name in ("refused", "lost", "broken")}
    return {**lists, **sums}


def _lives(rounds: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    return [list(rows) for _, rows in groupby(rounds, key=lambda row: row["life"])]


def _life(rows: list[dict[str, Any]]) -> dict[str, Any]:
    seen = [row["vitals"] for row in rows if row["vitals"]]
    at_s = [float(sum(row["seconds"] for row in rows[: n + 1])) for n in range(len(seen))]
    # Warm-up, as in the soak: buffers and heaps grow to their sizes. A dozen more make a slope.
    warm = max(1, len(seen) // 5)
    bent = slope(at_s[warm:], [one["server_bytes"] / 2**20 for one in seen[warm:]])
    return {
        "rounds": len(rows),
        "first": seen[0] if seen else None,
        "last": seen[-1] if seen else None,
        "server_mib_per_hour": None if bent is None else asdict(bent),
        "creeps": None if bent is None else bent.rises,
    }


def _memory_checks(rounds: list[dict[str, Any]]) -> dict[str, bool]:
    lives = [life for life in map(_life, _lives(rounds)) if life["first"]]
    return {
        "memory is back": all(
            life["last"]["server_bytes"] - life["first"]["server_bytes"] <= ROOM_BYTES
            for life in lives
        ),
        "memory does not creep up": all(life["creeps"] is False for life in lives),
        "descriptors are back": all(
            life["last"]["descriptors"] <= life["first"]["descriptors"] + 2 for life in lives
        ),
        "threads are back": all(
            life["last"]["threads"] <= life["first"]["threads"] + 2 for life in lives
        ),
    }


def table(found: dict[str, Any]) -> str:
    lines = [
        "| What | Result |",
        "|---|---|",
        f"| Messages sent and read | {found.get('messages', 0):,} |",
        f"| Connections | {found.get('connections', 0):,} |",
        f"| Messages a second | {found['fuzz_per_s']:,} |",
    ]
    if found["delays"]:
        told = found["delays"]
        lines.append(
            f"| Others' delay p95 | {told['before_p95_s'] * 1000:.0f} ms without, "
            f"{told['after_p95_s'] * 1000:.0f} ms beside: × {told['ratio_p95']:.2f} "
            f"({told['ratio_low']:.2f} to {told['ratio_high']:.2f}; p = {told['p_value']:.3f}) |"
        )
    for life in found["lives"]:
        if life["first"]:
            first, last = (life[key]["server_bytes"] / 2**20 for key in ("first", "last"))
            bent = life["server_mib_per_hour"]
            told = "" if bent is None else "; {per_hour:+.1f} MiB/h ({low:+.1f} to {high:+.1f})"
            told = told.format(**(bent or {}))
            lines.append(
                f"| Memory, {life['rounds']} rounds | {first:.1f} → {last:.1f} MiB{told} |"
            )
    lines += [
        f"| {name} | {'yes' if kept else '**no**'} |" for name, kept in found["checks"].items()
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--round", type=int, default=ROUND)
    parser.add_argument("--rate", type=float, default=1000.0, help="messages a second; 0: no limit")
    parser.add_argument("--speakers", type=int, default=2)
    parser.add_argument("--quiet", type=float, default=QUIET_S, help="seconds without fuzz a round")
    parser.add_argument("--minutes", type=float, default=58.0, help="begin no round after")
    parser.add_argument("--serve-args", type=shlex.split, default=["--max-sessions", "64"])
    parser.add_argument("--out", type=Path, default=Path("reports/hostile"))
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    file = chosen.out / "fuzz-progress.json"
    progress: dict[str, Any] = {"rounds": []}
    if file.exists():
        progress = json.loads(file.read_text("utf-8"))
    _run(progress, file, chosen)
    found = verdict(progress)
    write_json(chosen.out / "fuzz.json", found)
    (chosen.out / "fuzz.md").write_text(table(found), encoding="utf-8")
    print(table(found))  # noqa: T201
    if found.get("messages", 0) < chosen.messages:
        sys.exit("time is up: run the command again, it goes on where it stopped")
    raise SystemExit(0 if found["kept"] else 99)


def _run(progress: dict[str, Any], file: Path, chosen: argparse.Namespace) -> None:
    rounds, clock = progress["rounds"], SystemClock()
    ends_s = clock.now() + 60 * chosen.minutes

    def wanted() -> bool:
        sent = sum(row["tally"]["messages"] for row in rounds)
        return bool(sent < chosen.messages and clock.now() < ends_s)

    if not wanted():
        return
    life = 1 + max((row["life"] for row in rounds), default=0)
    log = chosen.out / f"fuzz-server-{life}.log"
    with watched_server(log, chosen.serve_args) as server:
        while wanted():
            row = one_round(server, len(rounds), chosen)
            rounds.append({**row, "life": life})
            write_json(file, progress)
            if not server.alive:
                return


if __name__ == "__main__":
    main()
