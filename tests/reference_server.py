"""A Realtime server without a model that knows to the sample what it did: it measures the measurer.

    python -m tests.reference_server --clips FOLDER --delay 0.1
        --delay lognormal:0.2:0.8      median and spread; exponential:MEAN, uniform:FROM:TO
        --stall-every 9 --stall 1:3    now and then no answers for so long; --freeze: deaf as well
        --swap transcripts|audio       sessions 0 and 1, 2 and 3, … get each other's
        --cut first|last|both          words lost at an utterance's ends

It prints its port. Of each utterance it notes, on its own clock, when the message with the last
sample of speech arrived, how much of that message came after it, and when the final was written.
GET /notes gives all of it. What a client measured can then be compared, utterance by utterance,
difference against difference; no instant of one clock is ever subtracted from one of another.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import math
import random
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from rtvc.clock import SystemClock
from tests.reference_clips import RATE_HZ, read_lengths

SWAPS = ("none", "transcripts", "audio")
CUTS = ("none", "first", "last", "both")


@dataclass(slots=True)
class Note:
    """One utterance; instants in seconds of the server's clock."""

    item_id: str
    """As the client was told."""
    speaker: int
    """Number of the session whose audio it was."""
    said: str | None
    """What its length says; None if it has none of the clips' lengths."""
    sent: str | None
    """The transcript that was sent; None so far."""
    end_s: float
    """Offset in the stream of its last sample."""
    rest_s: float
    """Audio that came after it in the same message."""
    arrived_at_s: float
    """When that message was read."""
    spoken_at_s: float
    """When the last sample was spoken, by the pace at which the stream came."""
    delay_s: float
    """Meant to pass until the answer."""
    written_at_s: float | None = None
    """Just before the final was written."""


@dataclass(slots=True)
class Notes:
    """All that the server knows."""

    sessions: int = 0
    """Sessions that were opened."""
    messages: int = 0
    """Messages with audio."""
    utterances: list[Note] = field(default_factory=list)
    """In the order in which they ended."""
    stalls: list[tuple[float, float]] = field(default_factory=list)
    """From when until when nothing was answered."""


@dataclass(frozen=True, slots=True)
class Ended:
    """An utterance that is over; positions in samples of the stream."""

    begin: int
    end: int
    message_end: int


class Ear:
    """Finds utterances in a stream in which speech is never zero and nothing else is not."""

    def __init__(self) -> None:
        self.position = 0
        self.origin_s = math.inf
        self._begin: int | None = None

    def hear(self, pcm16: bytes, arrived_at_s: float) -> tuple[int | None, Ended | None]:
        """(where an utterance began, the one that ended); None where none did."""
        first = self.position
        self.position += len(pcm16) // 2
        # The stream's first sample was spoken then, if no message was ever faster than this one.
        self.origin_s = min(self.origin_s, arrived_at_s - self.position / RATE_HZ)
        loud = pcm16.rstrip(b"\0")
        begun = None
        if loud and self._begin is None:
            begun = self._begin = first + (len(pcm16) - len(pcm16.lstrip(b"\0"))) // 2
        end = first + (len(loud) + 1) // 2
        if self._begin is None or end == self.position:
            return begun, None
        ended, self._begin = Ended(self._begin, end, self.position), None
        return begun, ended


def delays(text: str, seed: int) -> Callable[[], float]:
    """What --delay says → seconds, drawn anew for every utterance."""
    kind, *numbers = text.split(":")
    rng, values = random.Random(seed), [float(number) for number in numbers]
    if kind == "lognormal":
        return lambda: rng.lognormvariate(math.log(values[0]), values[1])
    if kind == "exponential":
        return lambda: rng.expovariate(1 / values[0])
    if kind == "uniform":
        return lambda: rng.uniform(values[0], values[1])
    constant = float(kind)
    return lambda: constant


def without_ends(text: str, cut: str) -> str:
    """
    >>> without_ends("turn on the light", "first"), without_ends("turn on the light", "both")
    ('on the light', 'on the')
    """
    words = text.split()
    from_, to = cut in ("first", "both"), cut in ("last", "both")
    return " ".join(words[from_ : len(words) - to])


class Session:
    """One caller."""

    def __init__(self, wire: ServerConnection, house: "House", number: int) -> None:
        self.number = number
        self.last_said: str | None = None
        self._wire = wire
        self._house = house
        self._ear = Ear()
        self._items = 0
        self._told, self._told_item_id = self, ""
        self._silence = ""
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        await self.say("session.created", session={"id": f"s{self.number}", "type": "realtime"})
        try:
            async for message in self._wire:
                arrived_at_s = self._house.now()
                pcm16 = self._audio(str(message))
                if pcm16:
                    await self._hear(pcm16, arrived_at_s)
        finally:
            for task in self._tasks:
                task.cancel()

    def _audio(self, message: str) -> bytes:
        """Silence is always the same message."""
        if message == self._silence:
            return bytes(2 * self._house.silent_samples)
        event = json.loads(message)
        if event["type"] != "input_audio_buffer.append":
            return b""
        pcm16 = base64.b64decode(event["audio"])
        if not pcm16.strip(b"\0"):
            self._silence, self._house.silent_samples = message, len(pcm16) // 2
        return pcm16

    async def say(self, kind: str, **fields: Any) -> None:
        await self._wire.send(json.dumps({"type": kind, "event_id": "e", **fields}))

    async def _hear(self, pcm16: bytes, arrived_at_s: float) -> None:
        house = self._house
        house.notes.messages += 1
        begun, ended = self._ear.hear(pcm16, arrived_at_s)
        if begun is not None:
            self._told = house.told_instead_of(self)
            self._told_item_id = await self._told.begin(begun)
        if ended is not None:
            self._told.answer_later(self._note(ended, arrived_at_s))

    async def begin(self, at: int) -> str:
        """An utterance began at that sample; returns its item."""
        self._items += 1
        item_id = f"s{self.number}-{self._items}"
        with contextlib.suppress(ConnectionClosed):
            await self.say(
                "input_audio_buffer.speech_started",
                item_id=item_id,
                audio_start_ms=1000 * at / RATE_HZ,
            )
        return item_id

    def _note(self, ended: Ended, arrived_at_s: float) -> Note:
        self.last_said = self._house.texts.get(ended.end - ended.begin)
        note = Note(
            item_id=self._told_item_id,
            speaker=self.number,
            said=self.last_said,
            sent=None,
            end_s=ended.end / RATE_HZ,
            rest_s=(ended.message_end - ended.end) / RATE_HZ,
            arrived_at_s=arrived_at_s,
            spoken_at_s=self._ear.origin_s + ended.end / RATE_HZ,
            delay_s=self._house.delay_s(),
        )
        self._house.notes.utterances.append(note)
        return note

    def answer_later(self, note: Note) -> None:
        task = asyncio.create_task(self._answer(note))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, note: Note) -> None:
        house = self._house
        await house.until(note.arrived_at_s + note.delay_s)
        text = house.transcript(self, note)
        try:
            await self.say("input_audio_buffer.committed", item_id=note.item_id)
            note.sent, note.written_at_s = text, house.now()
            completed = "conversation.item.input_audio_transcription.completed"
            await self.say(completed, item_id=note.item_id, transcript=text)
        except ConnectionClosed:
            note.sent = note.written_at_s = None


@dataclass(slots=True)
class House:
    """The server: what all sessions share."""

    texts: dict[int, str]
    """Samples of a clip → what is said in it."""
    delay_s: Callable[[], float]
    """Of the next utterance."""
    swap: str = "none"
    """One of SWAPS."""
    cut: str = "none"
    """One of CUTS."""
    stall_every_s: float | None = None
    """Seconds from the end of a stall to the next one; None: there are none."""
    stall_s: tuple[float, float] = (1.0, 3.0)
    """How long each is."""
    freeze: bool = False
    """Whether a stall stops everything, not only the answers."""
    notes: Notes = field(default_factory=Notes)
    """For whoever asks."""
    stalled_until_s: float = -math.inf
    """Nothing is answered before."""
    silent_samples: int = 0
    """In a message of silence."""
    now: Callable[[], float] = field(default_factory=lambda: SystemClock().now)
    """The server's clock."""
    sessions: dict[int, Session] = field(default_factory=dict)
    """That are open, by number."""
    _callers: dict[ServerConnection, int] = field(default_factory=dict)

    def told_instead_of(self, session: Session) -> Session:
        """Who is told what this one said."""
        partner = self.sessions.get(session.number ^ 1)
        return partner if self.swap == "audio" and partner else session

    def transcript(self, session: Session, note: Note) -> str:
        partner = self.sessions.get(session.number ^ 1)
        swapped = partner.last_said if self.swap == "transcripts" and partner else None
        return without_ends(swapped or note.said or "something else", self.cut)

    async def until(self, due_s: float) -> None:
        """That instant, or the end of the stall in which it lies."""
        wait_s = max(due_s, self.stalled_until_s) - self.now()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
            # A stall may have begun meanwhile.
            await self.until(due_s)

    async def listen(self, port: int) -> Server:
        return await serve(
            self._serve, "127.0.0.1", port, process_request=self._answer_http, compression=None
        )

    async def _answer_http(self, wire: ServerConnection, request: Request) -> Response | None:
        if request.path.startswith("/readyz"):
            return wire.respond(HTTPStatus.OK, '{"state":"ready","model":"reference"}')
        if request.path.startswith("/notes"):
            return wire.respond(HTTPStatus.OK, json.dumps(asdict(self.notes)))
        if not request.path.startswith("/v1/realtime"):
            return wire.respond(HTTPStatus.NOT_FOUND, "not here")
        # Numbered as they come, not as their handshakes end.
        self._callers[wire], self.notes.sessions = self.notes.sessions, self.notes.sessions + 1
        return None

    async def _serve(self, wire: ServerConnection) -> None:
        session = Session(wire, self, self._callers.pop(wire))
        self.sessions[session.number] = session
        try:
            await session.run()
        finally:
            del self.sessions[session.number]

    async def stall_now_and_then(self, seed: int) -> None:
        """Until cancelled; only while somebody is there."""
        rng, loop = random.Random(seed), asyncio.get_running_loop()
        while self.stall_every_s is not None:
            await asyncio.sleep(self.stall_every_s)
            if not self.sessions:
                continue
            length_s, from_s = rng.uniform(*self.stall_s), self.now()
            self.stalled_until_s = from_s + length_s
            if self.freeze:
                loop.call_soon(time.sleep, length_s)
            await asyncio.sleep(length_s)
            self.notes.stalls.append((from_s, self.now()))


async def _main(chosen: argparse.Namespace) -> None:
    house = House(
        texts=read_lengths(chosen.clips),
        delay_s=delays(chosen.delay, chosen.seed),
        swap=chosen.swap,
        cut=chosen.cut,
        stall_every_s=chosen.stall_every,
        stall_s=chosen.stall,
        freeze=chosen.freeze,
    )
    server = await house.listen(chosen.port)
    sys.stdout.write(f"{next(iter(server.sockets)).getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.gather(server.serve_forever(), house.stall_now_and_then(chosen.seed))


def _range(text: str) -> tuple[float, float]:
    low, high = map(float, text.split(":"))
    return low, high


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay", default="0.1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stall-every", type=float)
    parser.add_argument("--stall", type=_range, default=(1.0, 3.0))
    parser.add_argument("--freeze", action="store_true")
    parser.add_argument("--swap", choices=SWAPS, default="none")
    parser.add_argument("--cut", choices=CUTS, default="none")
    asyncio.run(_main(parser.parse_args()))
