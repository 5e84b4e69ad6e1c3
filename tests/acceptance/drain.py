"""Two servers behind a proxy, people talking to both; one is told to stop, and comes back.

    python -m tests.acceptance.drain [--stops 4] [--speakers 12] [--out reports/drain]

HAProxy (Debian: apt-get install haproxy) runs with the configuration that ships. `rtvc loadtest`
calls through it all the while: callers come at random, stay for 20 to 40 s, and are answered. The
servers are stopped in turn, by SIGTERM and nothing else, and started again once they have ended,
as a service manager would. Which session was on which server is asked of the servers. Everything
shares this machine, which should do nothing else. The figures go to --out; logs, and the run of the
load test, to --raw, which is not committed.

Exit code: 0 all checks passed, 99 one did not, 3 nothing is proven, 2 there is no HAProxy.
"""

import argparse
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

from rtvc.chaos.load import Load
from rtvc.chaos.server import Server, pause
from rtvc.clock import Clock, SystemClock
from rtvc.config import ServeSettings
from rtvc.errors import RtvcError
from rtvc.hiding import without_places
from rtvc.record import load_run, this_machine
from rtvc.summary.outcomes import CUT_OFF_SPEECH
from tests.acceptance.drain_judge import (
    Place,
    Seen,
    Stop,
    Told,
    checks,
    table,
    told_of,
    why_void,
)
from tests.acceptance.drain_proxy import SERVERS, program, running_proxy, version
from tests.acceptance.drain_watch import LOOK_S, Watch
from tests.acceptance.watched import check_rows, write_json

SCENARIO = Path(__file__).with_name("drain.toml")
SETTLE_S = 45.0
"""Until as many callers are there as there will be: the longest stays 40 s."""
CYCLE_S = 75.0
"""From one stop to the next: 35 s for the slowest drain, then a start, then calm."""
AFTER_S = 20.0
"""Callers go on coming after the last cycle, so that the server that is back gets some."""
AWAY_S = 3.0
"""Between a server's end and its start."""
KILLED_AFTER_S = 60.0


class Drill:
    """One run; instants by our own clock."""

    def __init__(self, servers: dict[str, Server], load: Load, watch: Watch, clock: Clock) -> None:
        self._servers = servers
        self._load = load
        self._watch = watch
        self._clock = clock
        self.stops: list[Stop] = []

    def run(self, count: int) -> None:
        """As many stops, in turn; then until the load test is over."""
        begun_s = self._begun_s()
        self._follow(begun_s + SETTLE_S)
        for number in range(count):
            self._stop(SERVERS[number % len(SERVERS)])
            self._follow(begun_s + SETTLE_S + (number + 1) * CYCLE_S)
        self._follow(None)

    def _begun_s(self) -> float:
        """When the load test's clock began; making all that will be said comes before.

        Raises:
            RtvcError: it never did.
        """
        while self._load.running:
            self._load.follow()
            with suppress(RtvcError):
                return self._load.zero_s
            pause(LOOK_S)
        return self._load.zero_s

    def _stop(self, name: str) -> None:
        server, told_at_s = self._servers[name], self._clock.now()
        _say(f"server {name}: SIGTERM")
        os.kill(server.pid, signal.SIGTERM)
        while server.exit_code is None and self._clock.now() < told_at_s + KILLED_AFTER_S:
            self._load.follow()
            pause(LOOK_S)
        ended_at_s, code = self._clock.now(), server.exit_code
        _say(f"server {name}: ended with {code} after {ended_at_s - told_at_s:.1f} s")
        self._follow(ended_at_s + AWAY_S)
        server.start_again()
        back_at_s = self._until_back(name, ended_at_s)
        noticed_at_s = self._watch.first(name, up=False, after_s=told_at_s)
        self.stops.append(Stop(name, told_at_s, noticed_at_s, ended_at_s, code, back_at_s))

    def _until_back(self, name: str, ended_at_s: float) -> float | None:
        deadline_s = self._clock.now() + CYCLE_S / 2
        while (back_at_s := self._watch.first(name, up=True, after_s=ended_at_s)) is None:
            if self._clock.now() > deadline_s:
                return None
            self._load.follow()
            pause(LOOK_S)
        _say(f"server {name}: gets callers again")
        return back_at_s

    def _follow(self, until_s: float | None) -> None:
        """None: to the end of the load test."""
        while self._load.running and (until_s is None or self._clock.now() < until_s):
            self._load.follow()
            pause(LOOK_S)


def drill(haproxy: str, chosen: argparse.Namespace, clock: Clock) -> dict[str, Any]:
    """All of it; what is written down."""
    raw: Path = chosen.raw
    length_s = SETTLE_S + chosen.stops * CYCLE_S + AFTER_S
    with ExitStack() as stack:
        servers: dict[str, Server] = {}
        for name in SERVERS:
            log = raw / f"server-{name}.log"
            log.unlink(missing_ok=True)
            servers[name] = Server(chosen.model, None, log, clock)
            stack.callback(servers[name].stop)
        for server in servers.values():
            server.wait_until_ready()
        urls = {name: server.url for name, server in servers.items()}
        behind = [url.removeprefix("http://") for url in urls.values()]
        proxy = stack.enter_context(running_proxy(haproxy, behind, raw / "haproxy.log"))
        watch = Watch(urls, proxy, clock)
        watch.start()
        stack.callback(watch.end)
        folder = raw / f"load-{1 + len(list(raw.glob('load-*.log')))}"
        load = Load(proxy.url, folder, chosen.speakers, length_s, chosen.seed, clock, SCENARIO)
        stack.callback(load.stop)
        run = Drill(servers, load, watch, clock)
        run.run(chosen.stops)
    return {
        "haproxy": version(haproxy),
        "machine": asdict(this_machine()),
        "model": chosen.model,
        "speakers": chosen.speakers,
        "seed": chosen.seed,
        "load": folder.name,
        "asked_again_by_the_proxy": watch.asked_again,
        "sessions": len(watch.places),
        **judged(load, run.stops, watch.places),
    }


class Over(Protocol):
    """A load test that is over."""

    @property
    def folder(self) -> Path:
        """Of its run."""

    @property
    def zero_s(self) -> float:
        """By our clock: when its own began."""

    def trouble(self) -> str | None:
        """Why its figures prove nothing; None: they do."""


def judged(load: Over, stops: Sequence[Stop], places: Mapping[str, Place]) -> dict[str, Any]:
    """By the load test's clock; stops and places are by ours."""
    zero_s = load.zero_s
    by_load = [_earlier(stop, zero_s) for stop in stops]
    run = load_run(load.folder)
    seen = Seen(
        connections=run.attempts,
        turns=run.turns,
        places={name: replace(place, at_s=place.at_s - zero_s) for name, place in places.items()},
        deadline_s=ServeSettings().shutdown_s,
        cut_off_s={row.at_s: row.value for row in run.samples if row.name == CUT_OFF_SPEECH},
    )
    trouble = load.trouble()
    told = [
        told_of(stop, begin_s, end_s, seen)
        for stop, begin_s, end_s in zip(by_load, _begins(by_load), _ends(by_load), strict=True)
    ]
    return {
        "stops": [asdict(one) for one in told],
        "instants": [asdict(stop) for stop in by_load],
        "turns": len(run.turns),
        "void": why_void(told, seen, None if trouble is None else without_places(trouble)),
        "checks": checks(told, seen),
    }


def _earlier(stop: Stop, zero_s: float) -> Stop:
    def moved(at_s: float | None) -> float | None:
        return None if at_s is None else at_s - zero_s

    return Stop(
        stop.server,
        stop.told_at_s - zero_s,
        moved(stop.noticed_at_s),
        stop.ended_at_s - zero_s,
        stop.exit_code,
        moved(stop.back_at_s),
    )


def _begins(stops: Sequence[Stop]) -> list[float]:
    """Of the calm before each."""
    backs = [stop.ended_at_s if stop.back_at_s is None else stop.back_at_s for stop in stops]
    return [0.0, *backs][: len(stops)]


def _ends(stops: Sequence[Stop]) -> list[float]:
    """When the next one began; the last: never."""
    return [*(stop.told_at_s for stop in stops), float("inf")][1:]


def markdown(found: dict[str, Any]) -> str:
    """The table, and what it says."""
    told = [Told(**one) for one in found["stops"]]
    lines = [
        *table(told),
        "",
        f"{found['sessions']} sessions and {found['turns']:,} turns in all, "
        f"{found['speakers']} speakers on the line on average, {found['model']}; "
        f"{found['asked_again_by_the_proxy']} retries and redispatches by the proxy; "
        f"{found['haproxy']}; {found['machine']['cpu']}, "
        f"{found['machine']['cores']} cores, all on this machine.",
        "",
        "| Check | Kept |",
        "|---|---|",
        *check_rows(found["checks"]),
    ]
    if found["void"]:
        lines += ["", f"Void: {found['void']}."]
    return "\n".join(lines) + "\n"


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stops", type=int, default=4)
    parser.add_argument("--speakers", type=int, default=12)
    parser.add_argument("--model", default="selftest")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("reports/drain"))
    parser.add_argument("--raw", type=Path, default=Path("reports/runs/drain"))
    chosen = parser.parse_args()
    haproxy = program()
    if haproxy is None:
        _say("there is no HAProxy here: apt-get install haproxy")
        return 2
    # Whoever stops this stops all of it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for folder in (chosen.out, chosen.raw):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        found = drill(haproxy, chosen, SystemClock())
    except RtvcError as error:
        _say(str(error))
        return error.exit_code
    write_json(chosen.out / "drain.json", found)
    (chosen.out / "drain.md").write_text(markdown(found), encoding="utf-8")
    sys.stdout.write(markdown(found))
    if found["void"]:
        return 3
    return 0 if all(found["checks"].values()) else 99


if __name__ == "__main__":
    sys.exit(main())
