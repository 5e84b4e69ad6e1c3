"""Does the server interrupt itself when it hears its own reply, and do people still get through?

    python -m tests.acceptance.echo [--trials 50] [--echo-db -20] [--out FILE]

Each trial is a session of its own: a sentence is spoken, and while the reply plays, the microphone
hears that reply at −20 dB, delayed by 20 to 400 ms. In the second half of the trials a person
speaks over it, 1.2 s into the reply. Counted: replies cut though nobody spoke, and people who
were not let in.
"""

import argparse
import asyncio
import base64
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtvc.audio import float_to_pcm16, pcm16_to_float
from rtvc.clock import SystemClock
from rtvc.speech.corpus import builtin_clips
from tests.realtime_peer import FRAME_S, RATE_HZ, Peer, session, silence
from tests.servers import running_server

FRAME_SAMPLES = round(FRAME_S * RATE_HZ)
SPEAKS_AFTER_S = 1.2
AT_ONCE = 5


@dataclass(frozen=True)
class Trial:
    """What happened in one session."""

    delay_ms: int
    """Of the echo."""
    person_speaks: bool
    """Whether someone spoke over the reply."""
    interrupted: bool
    """Whether the reply was cut."""
    latency_ms: float | None
    """First spoken word → speech_started; None: nobody spoke, or nobody was heard."""
    late_ms: float
    """How late the latest frame was sent: the echo was as much later than its delay says."""


async def trial(
    url: str,
    question: NDArray[np.float32],
    over: NDArray[np.float32] | None,
    delay_ms: int,
    gain: float,
) -> Trial:
    """One reply, heard by the microphone that it answers."""
    clock = SystemClock()
    async with session(url) as peer:
        await peer.speak(np.concatenate([silence(0.3), question, silence(0.35)]))
        started_s, number, late_s, heard = clock.now(), 0, 0.0, _Heard()
        reply_from_s: float | None = None
        spoke_at_s: float | None = None
        while reply_from_s is None or number * FRAME_S < reply_from_s + 5.5:
            frame = np.zeros(FRAME_SAMPLES, np.float32)
            reply = heard.so_far(peer)
            if reply_from_s is None and len(reply):
                reply_from_s = number * FRAME_S + delay_ms / 1000
            if reply_from_s is not None:
                at = round((number * FRAME_S - reply_from_s) * RATE_HZ)
                frame += gain * _slice(reply, at)
                if over is not None:
                    begin = at - round(SPEAKS_AFTER_S * RATE_HZ)
                    frame += _slice(over, begin)
                    if spoke_at_s is None and begin >= 0:
                        spoke_at_s = clock.now()
            await asyncio.sleep(max(0.0, started_s + (number + 1) * FRAME_S - clock.now()))
            await peer.append(float_to_pcm16(frame))
            number += 1
            late_s = max(late_s, clock.now() - started_s - number * FRAME_S)
            if len(peer.of("input_audio_buffer.speech_started")) > 1:
                break
        begun = len(peer.of("input_audio_buffer.speech_started")) > 1
        latency = (clock.now() - spoke_at_s) * 1000 if begun and spoke_at_s is not None else None
        return Trial(delay_ms, over is not None, begun, latency, late_s * 1000)


class _Heard:
    """The reply so far, decoded once."""

    def __init__(self) -> None:
        self._events = 0
        self._audio = np.zeros(0, np.float32)

    def so_far(self, peer: Peer) -> NDArray[np.float32]:
        fresh = peer.events[self._events :]
        self._events += len(fresh)
        deltas = [e["delta"] for e in fresh if e["type"] == "response.output_audio.delta"]
        if deltas:
            pcm16 = b"".join(map(base64.b64decode, deltas))
            self._audio = np.concatenate([self._audio, pcm16_to_float(pcm16)])
        return self._audio


def _slice(audio: NDArray[np.float32], at: int) -> NDArray[np.float32]:
    piece = np.zeros(FRAME_SAMPLES, np.float32)
    part = audio[max(0, at) : max(0, at + FRAME_SAMPLES)]
    offset = max(0, -at)
    if offset < FRAME_SAMPLES:
        piece[offset : offset + len(part)] = part[: FRAME_SAMPLES - offset]
    return piece


async def measure(url: str, trials: int, gain: float) -> list[Trial]:
    """All trials, a few sessions at a time."""
    rng = random.Random(5)
    clips = [clip.audio for clip in builtin_clips(2 * trials, seed=11, rate_hz=RATE_HZ)]
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> Trial:
        async with gate:
            over = clips[trials + number] if number % 2 else None
            return await trial(url, clips[number], over, rng.choice((20, 80, 200, 400)), gain)

    return list(await asyncio.gather(*(one(number) for number in range(trials))))


def figures(trials: Sequence[Trial], echo_db: float) -> dict[str, object]:
    quiet = [t for t in trials if not t.person_speaks]
    spoken = [t for t in trials if t.person_speaks]
    latencies = sorted(t.latency_ms for t in spoken if t.latency_ms is not None)
    return {
        "echo_db": echo_db,
        "replies_with_echo_only": len(quiet),
        "interrupted_itself": sum(t.interrupted for t in quiet),
        "replies_spoken_over": len(spoken),
        "person_let_in": sum(t.interrupted for t in spoken),
        "interruption_latency_ms_median": latencies[len(latencies) // 2] if latencies else None,
        "interruption_latency_ms_max": latencies[-1] if latencies else None,
        "late_ms_max": max(t.late_ms for t in trials),
        "trials": [asdict(t) for t in trials],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--echo-db", type=float, default=-20.0)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    with running_server() as url:
        trials = asyncio.run(measure(url, chosen.trials, 10 ** (chosen.echo_db / 20)))
    result = figures(trials, chosen.echo_db)
    if chosen.out:
        chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    shown = {key: value for key, value in result.items() if key != "trials"}
    print(json.dumps(shown, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
