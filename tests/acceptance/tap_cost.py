"""What does a tap add to a message?

    python -m tests.acceptance.tap_cost [--pairs 1000] [--others 0] [--out FILE]

A message of 20 ms of audio goes to a server that answers at once with 40 ms of audio, in turns
directly and through `rtvc profile tap`, which runs as a process of its own and reads all of it.
A pair's difference is the round trip through the tap less the direct one beside it: the message
and its answer both pass the tap, so it is what two passages cost. `--others` speakers talk through
the same tap meanwhile, 50 messages a second each.
"""

import argparse
import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve

from rtvc.audio import float_to_pcm16
from rtvc.clock import SystemClock
from rtvc.stats import Quantile, quantile
from tests.servers import free_port

FRAME_S = 0.02
RATE_HZ = 24_000

_clock = SystemClock()


def audio_event(kind: str, name: str, seconds: float) -> str:
    noise = np.random.default_rng(1).normal(0, 0.1, round(seconds * RATE_HZ))
    encoded = base64.b64encode(float_to_pcm16(noise)).decode()
    return json.dumps({"type": kind, name: encoded, "event_id": "e"})


MESSAGE = audio_event("input_audio_buffer.append", "audio", FRAME_S)
ANSWER = audio_event("response.output_audio.delta", "delta", 2 * FRAME_S)


async def answer(wire: ServerConnection) -> None:
    await wire.send(json.dumps({"type": "session.created", "session": {"type": "realtime"}}))
    async for _ in wire:
        await wire.send(ANSWER)


async def answer_forever(port: int) -> None:
    async with serve(answer, "127.0.0.1", port, compression=None) as server:
        await server.serve_forever()


@asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[None]:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        child.terminate()
        await child.wait()


@asynccontextmanager
async def session(port: int) -> AsyncIterator[ClientConnection]:
    """Connects as soon as somebody listens."""
    for _ in range(200):
        try:
            wire = await connect(f"ws://127.0.0.1:{port}/v1/realtime", compression=None)
            break
        except OSError:
            await asyncio.sleep(0.05)
    else:
        raise AssertionError(f"nobody listens on port {port}")
    async with wire:
        await wire.recv()
        yield wire


async def round_trip_s(wire: ClientConnection) -> float:
    begun_s = _clock.now()
    await wire.send(MESSAGE)
    await wire.recv()
    return _clock.now() - begun_s


async def talk(wire: ClientConnection) -> None:
    while True:
        await round_trip_s(wire)
        await asyncio.sleep(FRAME_S)


async def measure(pairs: int, others: int) -> tuple[list[float], list[float]]:
    """Round trips, directly and through the tap, by pair."""
    server_port, tap_port = free_port(), free_port()
    target = f"ws://127.0.0.1:{server_port}"
    serving = ("-m", "tests.acceptance.tap_cost", "--serve", str(server_port))
    tapping = ("-m", "rtvc", "profile", "tap", f"127.0.0.1:{tap_port}", target, "--json")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(*serving))
        direct = await stack.enter_async_context(session(server_port))
        await stack.enter_async_context(running(*tapping))
        tapped = await stack.enter_async_context(session(tap_port))
        talking = [
            asyncio.create_task(talk(await stack.enter_async_context(session(tap_port))))
            for _ in range(others)
        ]
        times: tuple[list[float], list[float]] = ([], [])
        for number in range(pairs + 50):
            # Neither always goes first.
            order = [(direct, times[0]), (tapped, times[1])]
            for wire, taken in order if number % 2 else reversed(order):
                taken.append(await round_trip_s(wire))
                await asyncio.sleep(FRAME_S / 4)
        for task in talking:
            task.cancel()
        await asyncio.gather(*talking, return_exceptions=True)
    return times[0][50:], times[1][50:]


def figures_ms(values_s: Sequence[float]) -> dict[str, Any]:
    p95 = Quantile.of(values_s, 0.95)
    median_s = quantile(values_s, 0.5)
    return {
        "p50_ms": None if median_s is None else round(1000 * median_s, 3),
        "p95_ms": None if p95.value is None else round(1000 * p95.value, 3),
        "max_ms": None if p95.maximum is None else round(1000 * p95.maximum, 3),
        "n": p95.n,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--others", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve is not None:
        asyncio.run(answer_forever(chosen.serve))
        return
    direct_s, tapped_s = asyncio.run(measure(chosen.pairs, chosen.others))
    result = {
        "others": chosen.others,
        "message_bytes": len(MESSAGE),
        "answer_bytes": len(ANSWER),
        "direct_round_trip": figures_ms(direct_s),
        "tapped_round_trip": figures_ms(tapped_s),
        "added_by_two_passages": figures_ms(
            [through - beside for beside, through in zip(direct_s, tapped_s, strict=True)]
        ),
    }
    text = json.dumps(result, indent=1) + "\n"
    if chosen.out:
        chosen.out.write_text(text, encoding="utf-8")
    print(text)  # noqa: T201


if __name__ == "__main__":
    main()
