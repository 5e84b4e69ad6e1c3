"""A Realtime server that understands nothing and answers after a known delay.

    python -m tests.sink_server --port 0 --delay 0.2 [--mode …]

It hears speech by level, as loud frames begin and end. It notes what it did, on its own clock:
for each utterance the instant of the last loud frame and of the final, so that a test can compare
what the load test measured with what was really waited, difference against difference.
"""

import argparse
import asyncio
import base64
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from typing import Any

import numpy as np
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

FRAME_S = 0.02
RATE_HZ = 24_000
LOUD = 200
SILENT_FRAMES = 20
REPLY_S = 0.8

MODES = (
    "answer",
    "refuse-503",
    "refuse-1013",
    "never-answer",
    "no-finals",
    "every-other-final",
    "garbage",
    "die",
    "shut-down",
    "fail-replies",
    "hallucinate",
    "mixed",
)

MIXED = ("answer", "refuse-503", "refuse-1013", "never-answer", "garbage", "die", "no-finals")
"""What each caller in turn meets in the mode "mixed"."""


@dataclass
class Heard:
    """One utterance as the server heard it, in seconds of its own clock."""

    last_loud_s: float
    final_s: float | None
    reply_s: float | None


@dataclass
class Notes:
    """What happened, for the test to read."""

    connections: int = 0
    frames: int = 0
    truncated: int = 0
    utterances: list[Heard] = field(default_factory=list)

    def waits_s(self) -> list[float]:
        """Last loud frame received → final sent."""
        return [u.final_s - u.last_loud_s for u in self.utterances if u.final_s is not None]


class Session:
    """One caller."""

    def __init__(self, wire: ServerConnection, sink: "Sink", number: int, mode: str) -> None:
        self._wire = wire
        self._sink = sink
        self._mode = mode
        self._number = number
        self._frames = 0
        self._quiet = 0
        self._items = 0
        self._speaking = False
        self._last_loud_s = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        await self._say("session.created", session={"id": f"s{self._number}", "type": "realtime"})
        async for message in self._wire:
            event = json.loads(message)
            if event["type"] == "input_audio_buffer.append":
                await self._hear(base64.b64decode(event["audio"]))
            elif event["type"] == "conversation.item.truncate":
                self._sink.notes.truncated += 1
        for task in self._tasks:
            task.cancel()

    async def _say(self, kind: str, **fields: Any) -> None:
        await self._wire.send(json.dumps({"type": kind, "event_id": "e", **fields}))

    async def _hear(self, pcm16: bytes) -> None:
        self._frames += 1
        self._sink.notes.frames += 1
        loud = int(np.abs(np.frombuffer(pcm16, "<i2").astype(np.int32)).max()) > LOUD
        if loud:
            self._quiet, self._last_loud_s = 0, self._sink.now()
            if not self._speaking:
                await self._begin()
        elif self._speaking:
            self._quiet += 1
            if self._quiet == SILENT_FRAMES:
                self._speaking = False
                self._answer_later(f"s{self._number}i{self._items}", self._last_loud_s)
        await self._misbehave()

    async def _begin(self) -> None:
        self._speaking = True
        self._items += 1
        item = f"s{self._number}i{self._items}"
        begun_ms = (self._frames - 1) * 1000 * FRAME_S
        await self._say("input_audio_buffer.speech_started", item_id=item, audio_start_ms=begun_ms)
        await self._say("rtvc.hypothesis", item_id=item, text="something")

    async def _misbehave(self) -> None:
        if self._mode == "die" and self._frames == 100:
            self._wire.transport.abort()
        if self._mode == "hallucinate" and self._frames % 50 == 0:
            self._items += 1
            self._answer_later(f"s{self._number}i{self._items}", self._sink.now())
        if self._mode == "shut-down" and self._frames == 100:
            await self._wire.close(1012)
        if self._mode == "garbage" and self._frames % 50 == 0:
            await self._wire.send("not json")
            await self._wire.send("[1]")
            await self._wire.send('{"type":"session.created","session":7}')

    def _answer_later(self, item: str, last_loud_s: float) -> None:
        task = asyncio.create_task(self._answer(item, last_loud_s))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, item: str, last_loud_s: float) -> None:
        heard = Heard(last_loud_s, None, None)
        self._sink.notes.utterances.append(heard)
        mode = self._mode
        if mode == "no-finals" or (mode == "every-other-final" and self._items % 2 == 0):
            return
        await asyncio.sleep(max(0.0, last_loud_s + self._sink.wait_s() - self._sink.now()))
        try:
            await self._say("input_audio_buffer.committed", item_id=item)
            completed = "conversation.item.input_audio_transcription.completed"
            heard.final_s = self._sink.now()
            await self._say(completed, item_id=item, transcript="something else entirely")
            if self._sink.replies:
                await self._reply(item, heard)
        except ConnectionClosed:
            return

    async def _reply(self, item: str, heard: Heard) -> None:
        reply = f"r-{item}"
        await self._say("response.created", response={"id": reply})
        if self._mode == "fail-replies":
            details = {"type": "failed", "error": {"code": "x", "message": "quota exceeded"}}
            response = {"id": reply, "status": "failed", "status_details": details}
            await self._say("response.done", response=response)
            return
        sound = base64.b64encode(bytes(int(RATE_HZ * 2 * REPLY_S / 4))).decode()
        heard.reply_s = self._sink.now()
        for _ in range(4):
            await self._say(
                "response.output_audio.delta", response_id=reply, item_id=f"a-{item}", delta=sound
            )
        await self._say("response.done", response={"id": reply, "status": "completed"})


class Sink:
    """The server."""

    def __init__(
        self,
        mode: str = "answer",
        delay_s: float = 0.45,
        *,
        replies: bool = True,
        knee: int | None = None,
        beyond_s: float = 0.4,
    ) -> None:
        """Each session beyond `knee` makes everybody wait `beyond_s` longer."""
        self.knee = knee
        self.beyond_s = beyond_s
        self.open = 0
        self.mode = mode
        self.delay_s = delay_s
        self.replies = replies
        self.notes = Notes()
        self.now: Callable[[], float] = lambda: 0.0

        self._callers: dict[ServerConnection, int] = {}

    def wait_s(self) -> float:
        beyond = 0 if self.knee is None else max(0, self.open - self.knee)
        return self.delay_s + beyond * self.beyond_s

    def _mode_of(self, number: int) -> str:
        return MIXED[number % len(MIXED)] if self.mode == "mixed" else self.mode

    async def listen(self, port: int) -> Server:
        self.now = asyncio.get_running_loop().time
        return await serve(
            self._serve, "127.0.0.1", port, process_request=self._answer_http, compression=None
        )

    async def _answer_http(self, wire: ServerConnection, request: Request) -> Response | None:
        if request.path.startswith("/readyz"):
            return wire.respond(HTTPStatus.OK, '{"state":"ready","model":"sink","sessions":0}')
        if request.path.startswith("/notes"):
            return wire.respond(HTTPStatus.OK, json.dumps(asdict(self.notes)))
        if not request.path.startswith("/v1/realtime"):
            return wire.respond(HTTPStatus.FORBIDDEN, "not here")
        number, self.notes.connections = self.notes.connections, self.notes.connections + 1
        self._callers[wire] = number
        if self._mode_of(number) == "refuse-503":
            reason = {"error": {"code": "server_full", "message": "8 of 8 sessions are taken"}}
            return wire.respond(HTTPStatus.SERVICE_UNAVAILABLE, json.dumps(reason))
        return None

    async def _serve(self, wire: ServerConnection) -> None:
        number = self._callers.pop(wire)
        mode = self._mode_of(number)
        refused: dict[str, Callable[[], Awaitable[None]]] = {
            "refuse-1013": lambda: wire.close(1013, "try again later"),
            "never-answer": wire.wait_closed,
        }
        if mode in refused:
            await refused[mode]()
            return
        self.open += 1
        try:
            await Session(wire, self, number, mode).run()
        finally:
            self.open -= 1


async def _main(arguments: argparse.Namespace) -> None:
    sink = Sink(
        arguments.mode, arguments.delay, replies=not arguments.no_replies, knee=arguments.knee
    )
    server = await sink.listen(arguments.port)
    sys.stdout.write(f"{next(iter(server.sockets)).getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.45)
    parser.add_argument("--knee", type=int)
    parser.add_argument("--mode", choices=MODES, default="answer")
    parser.add_argument("--no-replies", action="store_true")
    asyncio.run(_main(parser.parse_args()))
