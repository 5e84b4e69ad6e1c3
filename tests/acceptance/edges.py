"""Are the first and the last word of an utterance heard, whatever silence goes before?

    python -m tests.acceptance.edges [--utterances 100] [--out FILE]

Each utterance is a session of its own and is spoken in real time after a lead-in of 0 to 1.5 s.
The same audio, whole, is also decoded offline by the same model: what the offline decoding gets
wrong is the model's fault, the rest is lost on the way.
"""

import argparse
import asyncio
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from rtvc.speech.corpus import Clip, builtin_clips
from rtvc.transcript import normalise
from tests.realtime_peer import RATE_HZ, session, silence
from tests.servers import running_server

LEADS_S = (0.0, 0.02, 0.1, 0.3, 0.7, 1.5)
AT_ONCE = 4


@dataclass(frozen=True)
class Heard:
    """One utterance, said and heard."""

    text: str
    """What was said."""
    lead_s: float
    """Silence before it."""
    live: str
    """What the server heard, spoken in real time."""
    whole: str
    """What the same server heard, given the same audio at once by a manual commit."""


async def hear(url: str, clip: Clip, lead_s: float) -> Heard:
    """Speak an utterance, then give the same audio at once."""
    async with session(url, "intent=transcription") as peer:
        await peer.speak(np.concatenate([silence(lead_s), clip.audio, silence(1.0)]))
        await peer.until("conversation.item.input_audio_transcription.completed")
        await asyncio.sleep(0.3)
        live = " ".join(peer.transcripts())
    async with session(url, "intent=transcription") as peer:
        manual = {"type": "transcription", "audio": {"input": {"turn_detection": None}}}
        await peer.send("session.update", session=manual)
        await peer.append((clip.audio * 32767).astype("<i2").tobytes())
        await peer.send("input_audio_buffer.commit")
        await peer.until("conversation.item.input_audio_transcription.completed")
        return Heard(clip.text, lead_s, live, peer.transcripts()[0])


async def measure(url: str, utterances: int) -> list[Heard]:
    """All utterances, a few at a time."""
    clips = builtin_clips(utterances, seed=23, rate_hz=RATE_HZ)
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> Heard:
        async with gate:
            return await hear(url, clips[number], LEADS_S[number % len(LEADS_S)])

    return list(await asyncio.gather(*(one(number) for number in range(utterances))))


def share(heard: list[Heard], attribute: str, place: int) -> float:
    """Share of utterances whose word at `place` (0 or −1) was heard right."""
    right = 0
    for one in heard:
        said, got = normalise(one.text).split(), normalise(getattr(one, attribute)).split()
        right += bool(got) and got[place] == said[place]
    return right / len(heard)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--utterances", type=int, default=100)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    with running_server() as url:
        heard = asyncio.run(measure(url, chosen.utterances))
    result = {
        "model": "self-test model",
        "utterances": len(heard),
        "lead_in_s": LEADS_S,
        "first_word_right_live": share(heard, "live", 0),
        "first_word_right_offline": share(heard, "whole", 0),
        "last_word_right_live": share(heard, "live", -1),
        "last_word_right_offline": share(heard, "whole", -1),
        "differences": [
            asdict(one) for one in heard if normalise(one.live) != normalise(one.whole)
        ],
    }
    if chosen.out:
        chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
