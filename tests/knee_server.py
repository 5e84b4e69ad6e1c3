"""A server whose knee is known: so many workers, and every job takes the same time.

    python -m tests.knee_server --port 0 --service 0.25 --hangover 0.4 [--metrics]

It speaks OpenAI's Realtime protocol and understands nothing. An utterance is over when it was
quiet for the hangover; then it is a job, first come, first served. `knee` computes by brute force
how many speakers such a server holds, with neither the server nor the load test.
"""

import argparse
import asyncio
import base64
import heapq
import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import count
from typing import Any

import numpy as np
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

LOUD = 200
"""Of 32,768: a frame that has such a sample is speech."""

BYTES_PER_S = 48_000
"""PCM16 at 24 kHz, the protocol's only format."""

SHARE_BEYOND = 0.05
"""Of delays that may be beyond a target on p95."""


@dataclass(frozen=True, slots=True)
class Service:
    """What an utterance costs."""

    service_s: float
    """Seconds of one job, always the same."""
    workers: int = 1
    """Jobs under way at once."""
    hangover_s: float = 0.4
    """Seconds of silence that end an utterance."""


class Queue:
    """First come, first served; jobs are handed in in the order of their arrival."""

    def __init__(self, service: Service) -> None:
        self._service_s = service.service_s
        self._free_s = [0.0] * service.workers
        self.jobs = 0
        self.waited_s = 0.0

    def done_at_s(self, arrived_at_s: float) -> float:
        begun_s = max(arrived_at_s, heapq.heappop(self._free_s))
        heapq.heappush(self._free_s, begun_s + self._service_s)
        self.jobs += 1
        self.waited_s += begun_s - arrived_at_s
        return begun_s + self._service_s


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How a speaker talks: each utterance is one of these, at random."""

    utterances: Sequence[tuple[float, float]]
    """Seconds of speech, and of silence until the next."""

    def ends_s(self, rng: random.Random, until_s: float) -> list[float]:
        """When one speaker's utterances end, from a random moment on."""
        speech_s, pause_s = rng.choice(self.utterances)
        at_s = rng.uniform(-(speech_s + pause_s), 0.0)
        ends = []
        while at_s < until_s:
            ends.append(at_s + speech_s)
            at_s += speech_s + pause_s
            speech_s, pause_s = rng.choice(self.utterances)
        return [end_s for end_s in ends if end_s > 0]

    @property
    def cycle_s(self) -> float:
        return sum(speech + pause for speech, pause in self.utterances) / len(self.utterances)


def share_beyond(
    speakers: int, rhythm: Rhythm, service: Service, target_s: float, utterances: int = 20_000
) -> float:
    """Share of delays beyond the target, over so many utterances; from an empty queue on."""
    rng, queue = random.Random(f"knee/{speakers}"), Queue(service)
    until_s = utterances * rhythm.cycle_s / speakers
    ends = sorted(end for _ in range(speakers) for end in rhythm.ends_s(rng, until_s))
    late = sum(queue.done_at_s(end_s + service.hangover_s) - end_s > target_s for end_s in ends)
    return late / len(ends)


def knee(rhythm: Rhythm, service: Service, target_s: float, utterances: int = 20_000) -> int:
    """The most speakers with whom p95 of the delay is within the target."""
    for speakers in count(1):
        if share_beyond(speakers, rhythm, service, target_s, utterances) > SHARE_BEYOND:
            return speakers - 1
    raise AssertionError("count() has no end")


class Session:
    """One caller."""

    def __init__(self, wire: ServerConnection, number: int, server: "KneeServer") -> None:
        self._wire = wire
        self._name = f"s{number}"
        self._server = server
        self._items = 0
        self._heard_s = 0.0
        self._quiet_s: float | None = None
        self._answers: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        await self._say("session.created", session={"id": self._name, "type": "realtime"})
        async for message in self._wire:
            event = json.loads(message)
            if event["type"] == "input_audio_buffer.append":
                await self._hear(base64.b64decode(event["audio"]))
        for answer in self._answers:
            answer.cancel()

    async def _say(self, kind: str, **fields: Any) -> None:
        await self._wire.send(json.dumps({"type": kind, "event_id": "e", **fields}))

    async def _hear(self, pcm16: bytes) -> None:
        frame_s = len(pcm16) / BYTES_PER_S
        self._heard_s += frame_s
        loud = int(np.abs(np.frombuffer(pcm16, "<i2").astype(np.int32)).max()) > LOUD
        if loud and self._quiet_s is None:
            self._items += 1
            begun_ms = 1000 * (self._heard_s - frame_s)
            item = f"{self._name}i{self._items}"
            await self._say(
                "input_audio_buffer.speech_started", item_id=item, audio_start_ms=begun_ms
            )
            await self._say("rtvc.hypothesis", item_id=item, text="something")
        if loud:
            self._quiet_s = 0.0
        elif self._quiet_s is not None:
            self._quiet_s += frame_s
            if self._quiet_s >= self._server.service.hangover_s - 1e-9:
                self._quiet_s = None
                self._answer_later(f"{self._name}i{self._items}")

    def _answer_later(self, item: str) -> None:
        # The place in the queue is taken now, not when the task gets its turn.
        done_at_s = self._server.queue.done_at_s(self._server.now())
        answer = asyncio.create_task(self._answer(item, done_at_s))
        self._answers.add(answer)
        answer.add_done_callback(self._answers.discard)

    async def _answer(self, item: str, done_at_s: float) -> None:
        await asyncio.sleep(max(0.0, done_at_s - self._server.now()))
        completed = "conversation.item.input_audio_transcription.completed"
        try:
            await self._say("input_audio_buffer.committed", item_id=item)
            await self._say(completed, item_id=item, transcript="something else entirely")
        except ConnectionClosed:
            return


class KneeServer:
    """The server; with `metrics` it tells of its queue what rtvc's own server would."""

    def __init__(self, service: Service, *, metrics: bool = False) -> None:
        self.service = service
        self.queue = Queue(service)
        self.now: Callable[[], float] = lambda: 0.0
        self._metrics = metrics
        self._numbers = count()

    async def listen(self, port: int) -> Server:
        self.now = asyncio.get_running_loop().time
        return await serve(
            self._serve, "127.0.0.1", port, process_request=self._answer_http, compression=None
        )

    async def _answer_http(self, wire: ServerConnection, request: Request) -> Response | None:
        if request.path.startswith("/readyz"):
            return wire.respond(HTTPStatus.OK, '{"state":"ready","model":"knee","sessions":0}')
        if request.path.startswith("/metrics") and self._metrics:
            return wire.respond(HTTPStatus.OK, self._told())
        if not request.path.startswith("/v1/realtime"):
            return wire.respond(HTTPStatus.NOT_FOUND, "not here")
        return None

    def _told(self) -> str:
        queue, kind = self.queue, '{kind="final"}'
        return (
            f"rtvc_engine_workers {self.service.workers}\n"
            f"rtvc_engine_queue_wait_seconds_sum{kind} {queue.waited_s}\n"
            f"rtvc_engine_queue_wait_seconds_count{kind} {queue.jobs}\n"
            f"rtvc_engine_inference_seconds_sum{kind} {queue.jobs * self.service.service_s}\n"
            f"rtvc_engine_inference_seconds_count{kind} {queue.jobs}\n"
        )

    async def _serve(self, wire: ServerConnection) -> None:
        await Session(wire, next(self._numbers), self).run()


async def _main(arguments: argparse.Namespace) -> None:
    service = Service(arguments.service, arguments.workers, arguments.hangover)
    server = await KneeServer(service, metrics=arguments.metrics).listen(arguments.port)
    sys.stdout.write(f"{next(iter(server.sockets)).getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--service", type=float, default=0.25)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--hangover", type=float, default=0.4)
    parser.add_argument("--metrics", action="store_true")
    asyncio.run(_main(parser.parse_args()))
