"""Small servers of other people's protocols that understand nothing and answer after a delay.

    python -m tests.stranger_servers --protocol whisperlive [--mode ok|full|garbage] [--delay 0.2]

Each hears speech by level, in the audio that its protocol carries, and says where it was. The port
is printed first.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import struct
import sys
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

MODES = ("ok", "full", "garbage")
LOUD = 200
SILENT_S = 0.4
TEXT = "play some jazz"
REPLY_S = 0.6

Samples = NDArray[np.int16]


class Hearing:
    """Finds speech in audio that arrives in pieces; positions in seconds of it."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._samples = 0
        self.start_s: float | None = None
        self.end_s = 0.0

    def feed(self, piece: Samples) -> str | None:
        """ "started" or "ended", when it does."""
        loud = np.flatnonzero(np.abs(piece.astype(np.int32)) > LOUD)
        before_s = self._samples / self._rate_hz
        self._samples += len(piece)
        if len(loud):
            self.end_s = before_s + (loud[-1] + 1) / self._rate_hz
            if self.start_s is None:
                self.start_s = before_s + loud[0] / self._rate_hz
                return "started"
        elif self.start_s is not None and self.now_s - self.end_s >= SILENT_S:
            return "ended"
        return None

    @property
    def now_s(self) -> float:
        return self._samples / self._rate_hz

    def forget(self) -> tuple[float, float]:
        """Where the speech was that has ended."""
        start_s, self.start_s = self.start_s or 0.0, None
        return start_s, self.end_s


class Session:
    """One caller; each protocol has its own."""

    rate_hz = 16_000

    def __init__(self, wire: ServerConnection, delay_s: float, mode: str) -> None:
        self._wire = wire
        self._delay_s = delay_s
        self._mode = mode
        self._hearing = Hearing(self.rate_hz)
        self._tasks: set[asyncio.Task[None]] = set()

    async def send(self, **fields: Any) -> None:
        with contextlib.suppress(ConnectionClosed):
            await self._wire.send(json.dumps(fields))

    async def run(self) -> None:
        if await self.welcome():
            async for message in self._wire:
                if isinstance(message, bytes):
                    await self._hear(self.samples(message))
                else:
                    await self.told(json.loads(message))

    async def _hear(self, piece: Samples) -> None:
        match self._hearing.feed(piece):
            case "started":
                await self.started()
            case "ended":
                task = asyncio.create_task(self._answer(*self._hearing.forget()))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _answer(self, start_s: float, end_s: float) -> None:
        await asyncio.sleep(self._delay_s)
        await self.ended(start_s, end_s)

    async def welcome(self) -> bool:
        """Whether the caller may stay."""
        raise AssertionError("every protocol has its own")

    def samples(self, message: bytes) -> Samples:
        raise AssertionError("every protocol has its own")

    async def told(self, message: dict[str, Any]) -> None:
        """A text message that is not the first."""

    async def started(self) -> None:
        raise AssertionError("every protocol has its own")

    async def ended(self, start_s: float, end_s: float) -> None:
        raise AssertionError("every protocol has its own")


class WhisperLiveSession(Session):
    """Segments with their places, repeated with every message."""

    uid = ""
    done: list[dict[str, Any]]

    async def welcome(self) -> bool:
        self.done = []
        options = json.loads(await self._wire.recv())
        self.uid = options["uid"]
        assert {"language", "task", "model", "use_vad"} <= options.keys()
        if self._mode == "full":
            await self.send(uid=self.uid, status="WAIT", message=4.5)
            return False
        if self._mode == "garbage":
            await self.send(uid="somebody-else", segments=[])
            await self._wire.send('{"uid": 7}')
        await self.send(uid=self.uid, message="SERVER_READY", backend="faster_whisper")
        return True

    def samples(self, message: bytes) -> Samples:
        if message == b"END_OF_AUDIO":
            return np.zeros(0, np.int16)
        return (np.frombuffer(message, "<f4") * 32767).astype(np.int16)

    async def started(self) -> None:
        heard = self._hearing
        await self._tell(_segment(heard.start_s or 0.0, heard.now_s, TEXT.split()[0], done=False))

    async def ended(self, start_s: float, end_s: float) -> None:
        self.done.append(_segment(start_s, end_s, TEXT, done=True))
        await self._tell()

    async def _tell(self, *more: dict[str, Any]) -> None:
        await self.send(uid=self.uid, segments=[*self.done[-9:], *more])


def _segment(start_s: float, end_s: float, text: str, *, done: bool) -> dict[str, Any]:
    return {"start": f"{start_s:.3f}", "end": f"{end_s:.3f}", "text": f" {text}", "completed": done}


class RealtimeSTTSession(Session):
    """Packets that describe themselves; audio before "start" is an error."""

    streaming = False
    segment = 1

    async def welcome(self) -> bool:
        if self._mode == "full":
            await self.send(type="error", where="admission", message="the session limit is reached")
            await self._wire.close(1013)
            return False
        await self.send(type="hello", sessionId="s", clientId="s")
        if self._mode == "garbage":
            await self._wire.send("[")
            await self.send(type="realtime", sessionId="s")
            await self.send(type="final", sessionId="another", text="not yours")
        await self.send(type="ready", sessionId="s", ok=True)
        return True

    async def told(self, message: dict[str, Any]) -> None:
        self.streaming = message["type"] == "start"
        await self.send(type="status", sessionId="s", state="listening")

    def samples(self, message: bytes) -> Samples:
        (length,) = struct.unpack_from("<I", message)
        metadata = json.loads(message[4 : 4 + length])
        pcm = np.frombuffer(message[4 + length :], "<i2")
        assert self.streaming, "audio before the start"
        assert metadata == {
            "sampleRate": 16_000,
            "channels": 1,
            "format": "pcm_s16le",
            "frames": len(pcm),
        }
        return pcm

    async def started(self) -> None:
        await self._timeline("recording_started")
        await self.send(
            type="realtime", sessionId="s", segmentId=self.segment, text=TEXT.split()[0]
        )

    async def ended(self, start_s: float, end_s: float) -> None:
        await self._timeline("recording_ended")
        await self.send(type="final", sessionId="s", segmentId=self.segment, text=TEXT)
        await self._timeline("final_transcript")
        self.segment += 1

    async def _timeline(self, event: str) -> None:
        await self.send(type="timeline", sessionId="s", event=event, segmentId=self.segment)


class VoiceChatSession(Session):
    """Says nothing until somebody speaks; answers with sound."""

    rate_hz = 48_000
    commands: list[str]
    last_ms: int | None = None

    async def welcome(self) -> bool:
        self.commands = []
        if self._mode == "garbage":
            await self._wire.send("hello?")
            await self.send(type="tts_chunk", content="=?=")
        return True

    def samples(self, message: bytes) -> Samples:
        timestamp_ms, flags = struct.unpack_from(">II", message)
        if self.last_ms is not None:
            assert 0 < (timestamp_ms - self.last_ms) % 2**32 < 100, "a clock that goes"
        self.last_ms = timestamp_ms
        assert flags in (0, 1)
        return np.frombuffer(message[8:], "<i2")

    async def told(self, message: dict[str, Any]) -> None:
        self.commands.append(message["type"])

    async def started(self) -> None:
        await self.send(type="partial_user_request", content=TEXT.split()[0])

    async def ended(self, start_s: float, end_s: float) -> None:
        await self.send(type="final_user_request", content=TEXT)
        await self.send(type="partial_assistant_answer", content="Certainly")
        sound = base64.b64encode(bytes(2 * int(48_000 * REPLY_S))).decode()
        await self.send(type="tts_chunk", content=sound)
        await self.send(type="final_assistant_answer", content="Certainly.")


SESSIONS: dict[str, tuple[type[Session], str]] = {
    "whisperlive": (WhisperLiveSession, ""),
    "realtimestt": (RealtimeSTTSession, "/ws/transcribe"),
    "realtimevoicechat": (VoiceChatSession, "/ws"),
}
"""And the path at which each is found; WhisperLive takes any."""

PAGES: dict[str, dict[str, tuple[str, str]]] = {
    "whisperlive": {},
    "realtimestt": {
        "/health": ("application/json", '{"ok": true, "activeSessions": 0, "scheduler": {}}'),
        "/api/config": (
            "application/json",
            '{"settings": {"model": "/models/base.en", "beam_size": 5}, "limits": '
            '{"maxSessions": 4}}',
        ),
    },
    "realtimevoicechat": {
        "/": (
            "text/html; charset=utf-8",
            '<title>Real-Time Voice Chat</title><script src="/static/app.js"></script>',
        ),
    },
}


def answers_http(
    protocol: str,
) -> Callable[[ServerConnection, Request], Awaitable[Response | None]]:
    """Pages as the real server has them; a WebSocket at its path and nowhere else."""
    path, pages = SESSIONS[protocol][1], PAGES[protocol]

    async def process(wire: ServerConnection, request: Request) -> Response | None:
        asked = request.path.partition("?")[0]
        if request.headers.get("Upgrade", "").lower() == "websocket":
            wrong = path and asked != path
            return wire.respond(HTTPStatus.FORBIDDEN, "no such place\n") if wrong else None
        if asked in pages:
            kind, body = pages[asked]
            headers = Headers({"Content-Type": kind, "Content-Length": str(len(body))})
            return Response(200, "OK", headers, body.encode())
        return None if protocol == "whisperlive" else wire.respond(HTTPStatus.NOT_FOUND, "\n")

    return process


async def listen(protocol: str, port: int = 0, delay_s: float = 0.2, mode: str = "ok") -> Server:
    kind = SESSIONS[protocol][0]

    async def take(wire: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            await kind(wire, delay_s, mode).run()

    return await serve(
        take, "127.0.0.1", port, process_request=answers_http(protocol), compression=None
    )


async def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--protocol", choices=tuple(SESSIONS), required=True)
    parser.add_argument("--mode", choices=MODES, default="ok")
    parser.add_argument("--delay", type=float, default=0.2)
    wanted = parser.parse_args()
    server = await listen(wanted.protocol, 0, wanted.delay, wanted.mode)
    sys.stdout.write(f"{next(iter(server.sockets)).getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())
