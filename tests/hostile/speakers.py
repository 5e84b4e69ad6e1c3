"""People who mean well while others do not: do they still get in, and what do they wait for?

    python -m tests.hostile.speakers URL [--speakers 2]

Each opens a transcription session, says a few sentences in real time, waits for each transcript,
leaves and comes again, until standard input is closed. Then one line of JSON is printed.
"""

import argparse
import asyncio
import contextlib
import json
import sys
from dataclasses import asdict, dataclass, field

import numpy as np
from websockets.exceptions import InvalidHandshake, WebSocketException

from rtvc.clock import SystemClock
from rtvc.transcript import word_errors
from tests.realtime_peer import Peer, session, silence, speech

SENTENCES = ("turn on the kitchen light.", "what time is it now?", "could you play some music?")
TURNS = 4
"""In a session."""
QUERY = "intent=transcription"


@dataclass(slots=True)
class Seen:
    """By all speakers."""

    delays_s: list[float] = field(default_factory=list)
    """From the last sample of speech to the transcript."""
    connections_s: list[float] = field(default_factory=list)
    """Until a session was there."""
    refused: int = 0
    """Sessions that were not let in."""
    lost: int = 0
    """Sentences whose transcript never came."""
    broken: int = 0
    """Sessions that ended by themselves."""
    word_errors: int = 0
    """In all transcripts."""


class Speaker:
    """One of them."""

    def __init__(self, url: str, number: int, seen: Seen, stop: asyncio.Event) -> None:
        self._url = url
        self._seen = seen
        self._stop = stop
        self._clock = SystemClock()
        self._said = [
            (text, np.trim_zeros(speech(text).audio, "b"))
            for text in (SENTENCES[number % 3 :] + SENTENCES[: number % 3])
        ]

    async def run(self) -> None:
        while not self._stop.is_set():
            begun_s = self._clock.now()
            try:
                async with session(self._url, QUERY) as peer:
                    self._seen.connections_s.append(self._clock.now() - begun_s)
                    await self._talk(peer)
            except InvalidHandshake:
                self._seen.refused += 1
                await asyncio.sleep(0.5)
            except (WebSocketException, OSError):
                self._seen.broken += 1
                await asyncio.sleep(0.5)
            except AssertionError:
                # Of the peer: nothing came in time.
                self._seen.lost += 1

    async def _talk(self, peer: Peer) -> None:
        for turn in range(TURNS):
            if self._stop.is_set():
                return
            text, audio = self._said[turn % len(self._said)]
            await peer.speak(audio)
            ended_s = self._clock.now()
            waiting = asyncio.create_task(self._transcript(peer, turn + 1, ended_s))
            await peer.speak(silence(1.2))
            await waiting
            self._seen.word_errors += word_errors(text, peer.transcripts()[turn]).errors

    async def _transcript(self, peer: Peer, count: int, ended_s: float) -> None:
        kind = "conversation.item.input_audio_transcription.completed"
        await peer.until(kind, count=count, seconds=15.0)
        self._seen.delays_s.append(round(self._clock.now() - ended_s, 4))


async def _main(url: str, speakers: int) -> None:
    stop, seen = asyncio.Event(), Seen()
    loop = asyncio.get_running_loop()
    told_to_stop = loop.run_in_executor(None, sys.stdin.read)
    talking = [asyncio.create_task(Speaker(url, n, seen, stop).run()) for n in range(speakers)]
    await told_to_stop
    stop.set()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(*talking), 40)
    sys.stdout.write(json.dumps(asdict(seen)) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--speakers", type=int, default=2)
    chosen = parser.parse_args()
    asyncio.run(_main(chosen.url, chosen.speakers))
