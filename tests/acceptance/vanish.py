"""Ten thousand callers who vanish, and hundreds who never finish, while people talk.

    python -m tests.acceptance.vanish [--clients 10000] [--half-open 500] [--out reports/hostile]

Each caller goes as far as a stage (connected, half a handshake, upgraded, in the middle of a
message, in the middle of an utterance) and is gone, by a reset or a plain close, without a close
frame. The half-open are there all the while: without a byte, with half a request, or upgraded and
silent (they answer no ping). People talk before and meanwhile, from another address: what they wait
for is held against each other. Then everything has to be as it was. What protects the people is the
server's own business: limits are given by --serve-args.
"""

import argparse
import asyncio
import base64
import json
import random
import shlex
import socket
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rtvc.clock import SystemClock
from rtvc.stats import quantile
from tests.acceptance.steadiness import longer
from tests.acceptance.watched import (
    Watched,
    check_rows,
    heard,
    speaking,
    watched_server,
    write_json,
)
from tests.hostile.client import RawClient, Target
from tests.hostile.frames import TEXT, frame, handshake

GONE_FROM, SILENT_FROM = "127.0.0.2", "127.0.0.3"
REQUEST = handshake("/v1/realtime")
MAX_DELAY_P95_S = 1.0
"""From the last sample of speech; the load test's own target is 0.5 from its true end."""
MAX_CONNECTION_P95_S = 3.0
ROOM_BYTES = 32 << 20
WAIT_S = 5.0


async def _connected(client: RawClient, rng: random.Random) -> None:
    del client, rng


async def _in_handshake(client: RawClient, rng: random.Random) -> None:
    client.write(REQUEST[: rng.randrange(1, len(REQUEST) - 1)])


async def _asked(client: RawClient, rng: random.Random) -> None:
    """Gone before the answer comes."""
    del rng
    client.write(REQUEST)


async def _upgraded(client: RawClient, rng: random.Random) -> None:
    await _asked(client, rng)
    await client.answered(WAIT_S)


async def _mid_message(client: RawClient, rng: random.Random) -> None:
    await _upgraded(client, rng)
    message = frame(TEXT, _audio(rng))
    client.write(message[: rng.randrange(1, len(message))])


async def _mid_utterance(client: RawClient, rng: random.Random) -> None:
    await _upgraded(client, rng)
    client.write(b"".join(frame(TEXT, _audio(rng)) for _ in range(20)))


def _audio(rng: random.Random) -> bytes:
    audio = base64.b64encode(rng.randbytes(2400)).decode()
    return json.dumps({"type": "input_audio_buffer.append", "audio": audio}).encode()


STAGES: dict[str, Callable[[RawClient, random.Random], Awaitable[None]]] = {
    "connected": _connected,
    "in the handshake": _in_handshake,
    "before the answer": _asked,
    "upgraded": _upgraded,
    "mid-message": _mid_message,
    "mid-utterance": _mid_utterance,
}
HALF_OPEN: dict[str, Callable[[RawClient, random.Random], Awaitable[None]]] = {
    "no byte": _connected,
    "half a request": _in_handshake,
    "upgraded and silent": _upgraded,
}


def reset(client: RawClient) -> None:
    """Gone without a word: the other side gets RST."""
    raw: socket.socket = client.transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.transport.abort()


async def vanish(target: Target, count: int, at_once: int, seed: str) -> Counter[str]:
    """Callers, one after the other, so many at once; how they fared, by stage."""
    counted, rng, left = Counter[str](), random.Random(seed), iter(range(count))

    async def some() -> None:
        for _ in left:
            stage = rng.choice(list(STAGES))
            try:
                client = await target.connect()
                await STAGES[stage](client, rng)
            except OSError as error:
                counted[f"{stage}: {type(error).__name__}"] += 1
                continue
            counted[f"{stage}: {client.status or 'no answer'}"] += 1
            if rng.random() < 0.5:
                reset(client)
            else:
                client.transport.close()

    await asyncio.gather(*(some() for _ in range(at_once)))
    return counted


async def half_open(target: Target, count: int) -> list[tuple[str, RawClient]]:
    """Callers who stay, and finish nothing."""
    rng, there = random.Random(1), []
    for number in range(count):
        stage = list(HALF_OPEN)[number % len(HALF_OPEN)]
        client = await target.connect()
        await HALF_OPEN[stage](client, rng)
        there.append((stage, client))
    return there


async def attack(server: Watched, chosen: argparse.Namespace) -> dict[str, Any]:
    silent = await half_open(Target(server.port, SILENT_FROM), chosen.half_open)
    let_in = sum(client.status == 101 for _, client in silent)
    clock = SystemClock()
    begun_s = clock.now()
    gone = await vanish(Target(server.port, GONE_FROM), chosen.clients, chosen.at_once, "vanish")
    seconds = clock.now() - begun_s
    await asyncio.sleep(max(0.0, chosen.hold - seconds))
    closed = Counter(stage for stage, client in silent if not client.open)
    for _, client in silent:
        client.cut()
    return {
        "vanished": dict(gone.most_common()),
        "seconds": round(seconds, 1),
        "half_open": chosen.half_open,
        "half_open_let_in": let_in,
        "half_open_closed_by_server": dict(closed),
    }


def measure(server: Watched, chosen: argparse.Namespace) -> dict[str, Any]:
    heard(server.url, chosen.speakers, 5)
    before = server.settled()
    quiet = heard(server.url, chosen.speakers, chosen.quiet)
    with speaking(server.url, chosen.speakers) as people:
        time.sleep(2)
        with ThreadPoolExecutor(1) as pool:
            attacked = pool.submit(asyncio.run, attack(server, chosen)).result()
        beside = people.done()
    left = server.sessions_gone(60)
    after = server.settled()
    return {
        **attacked,
        "quiet": quiet,
        "beside": beside,
        "sessions_left": left,
        "before": asdict(before),
        "after": asdict(after),
        "alive": server.alive,
        "engine_restarts": server.sessions()["engine_restarts"],
        "troubles": server.troubles(),
    }


def verdict(found: dict[str, Any]) -> dict[str, bool]:
    beside, before, after = found["beside"], found["before"], found["after"]
    delay_s = quantile(beside["delays_s"], 0.95)
    connection_s = quantile(beside["connections_s"], 0.95)
    return {
        "the server lives": found["alive"],
        "its engine was not restarted": not found["engine_restarts"],
        "no ERROR and no traceback in its log": not found["troubles"],
        "people get in": not beside["refused"] and not beside["broken"],
        "no transcript is lost": not beside["lost"],
        f"delay p95 < {MAX_DELAY_P95_S:g} s": delay_s is not None and delay_s < MAX_DELAY_P95_S,
        f"connection p95 < {MAX_CONNECTION_P95_S:g} s": (
            connection_s is not None and connection_s < MAX_CONNECTION_P95_S
        ),
        "no session is left": not found["sessions_left"],
        "descriptors are back": after["descriptors"] <= before["descriptors"] + 2,
        "threads are back": after["threads"] <= before["threads"] + 2,
        "memory is back": after["server_bytes"] <= before["server_bytes"] + ROOM_BYTES,
    }


def table(found: dict[str, Any]) -> str:
    lines = [
        "| What | Result |",
        "|---|---|",
        f"| Callers who vanished | {sum(found['vanished'].values()):,} in {found['seconds']} s |",
        f"| Half-open | {found['half_open']}, of whom {found['half_open_let_in']} were let in |",
    ]
    for key in ("delays_s", "connections_s"):
        values = [quantile(found[when][key], 0.95) for when in ("quiet", "beside")]
        shown = ["–" if value is None else f"{value * 1000:.0f} ms" for value in values]
        lines.append(f"| {key[:-3]} p95 | {shown[0]} before, {shown[1]} meanwhile |")
    return "\n".join([*lines, *check_rows(found["checks"])]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--half-open", type=int, default=500)
    parser.add_argument("--at-once", type=int, default=20)
    parser.add_argument("--hold", type=float, default=60.0, help="least seconds of the half-open")
    parser.add_argument("--speakers", type=int, default=3)
    parser.add_argument("--quiet", type=float, default=40.0, help="seconds of people alone")
    parser.add_argument("--serve-args", type=shlex.split, default=[])
    parser.add_argument("--out", type=Path, default=Path("reports/hostile"))
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    with watched_server(chosen.out / "vanish-server.log", chosen.serve_args) as server:
        found = measure(server, chosen)
    compared = longer(found["quiet"]["delays_s"], found["beside"]["delays_s"])
    found["delays"] = None if compared is None else asdict(compared)
    found["checks"] = verdict(found)
    write_json(chosen.out / "vanish.json", found)
    (chosen.out / "vanish.md").write_text(table(found), encoding="utf-8")
    print(table(found))  # noqa: T201
    raise SystemExit(0 if all(found["checks"].values()) else 99)


if __name__ == "__main__":
    main()
