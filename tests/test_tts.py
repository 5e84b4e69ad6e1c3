"""The synthesizers: espeak-ng itself, and the HTTP one against a real server on loopback."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.audio import pcm16_to_float, rms
from rtvc.errors import ReplyError
from rtvc.server.replies.tts import (
    ESPEAK_VOICES,
    PIECE_BYTES,
    EspeakSynthesizer,
    OpenAiSynthesizer,
    SpeechSynthesizer,
    whole_samples,
)
from rtvc.speech.synthesis import VOICES, Synthesizer
from tests.fake_openai import FakeOpenAi

KEY = "sk-very-secret"
TEXT = "Good morning, how are you today?"


async def say(
    tts: SpeechSynthesizer, text: str = TEXT, voice: str | None = None, speed: float = 1.0
) -> list[bytes]:
    try:
        return [piece async for piece in tts.synthesize(text, voice=voice, speed=speed)]
    finally:
        await tts.close()


def seconds(pieces: list[bytes]) -> float:
    return len(b"".join(pieces)) / 2 / 24_000


async def test_espeak_speaks_in_short_pieces() -> None:
    pieces = await say(EspeakSynthesizer())
    assert all(0 < len(piece) <= PIECE_BYTES and len(piece) % 2 == 0 for piece in pieces)
    assert 1.0 < seconds(pieces) < 4.0
    assert rms(pcm16_to_float(b"".join(pieces))) > 0.01


async def test_espeak_keeps_the_speed_it_is_given() -> None:
    lengths_s = [seconds(await say(EspeakSynthesizer(), speed=speed)) for speed in (0.5, 1, 1.5)]
    assert lengths_s == sorted(lengths_s, reverse=True)
    assert lengths_s[0] > 1.5 * lengths_s[1]


def test_every_known_voice_name_exists() -> None:
    assert set(ESPEAK_VOICES.values()) <= set(VOICES)
    assert all(Synthesizer().has_voice(name) for name in ESPEAK_VOICES.values())


async def test_voices_differ_and_an_unknown_one_is_refused() -> None:
    one, other = await say(EspeakSynthesizer()), await say(EspeakSynthesizer(), voice="marin")
    assert one != other
    with pytest.raises(ReplyError, match="alloy"):
        await say(EspeakSynthesizer(), voice="no-such-voice")


async def test_espeak_runs_beside_the_event_loop_one_at_a_time() -> None:
    threads: set[str] = set()

    class Watched(Synthesizer):
        def has_voice(self, name: str) -> bool:
            threads.add(threading.current_thread().name)
            return super().has_voice(name)

    tts = EspeakSynthesizer(synthesizer=Watched())

    async def one() -> bytes:
        return b"".join([piece async for piece in tts.synthesize(TEXT, voice=None, speed=1)])

    first, *others = await asyncio.gather(*(one() for _ in range(4)))
    await tts.close()
    assert len(threads) == 1
    assert threads != {threading.main_thread().name}
    # espeak-ng's noise differs from call to call; the length hardly does
    assert all(abs(len(other) - len(first)) < 480 for other in others)


async def test_closing_espeak_ends_its_thread() -> None:
    await say(EspeakSynthesizer())
    assert not [t for t in threading.enumerate() if t.name.startswith("espeak")]


async def test_asks_as_the_protocol_says() -> None:
    async with FakeOpenAi([b"\x01\x00" * 50], content_type="audio/pcm") as server:
        tts = OpenAiSynthesizer(server.url, "kokoro", "af_sky", KEY)
        assert b"".join(await say(tts, speed=9)) == b"\x01\x00" * 50
    request = server.requests[0]
    assert request.path == "/v1/audio/speech"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.body == {
        "model": "kokoro",
        "input": TEXT,
        "voice": "af_sky",
        "response_format": "pcm",
        "speed": 4.0,
    }


async def test_samples_split_between_chunks_are_put_together() -> None:
    chunks = [b"\x01", b"\x02\x03", b"\x04\x05\x06\x07"]
    async with FakeOpenAi(chunks, content_type="audio/pcm") as server:
        pieces = await say(OpenAiSynthesizer(server.url, "m", "v"), voice="other")
    assert b"".join(pieces) == bytes(range(1, 7))  # half a sample at the end is no sample
    assert all(len(piece) % 2 == 0 for piece in pieces)
    assert server.requests[0].body["voice"] == "other"


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=60), st.lists(st.integers(0, 9), max_size=20), st.booleans())
def test_whole_samples_whatever_the_chunks(data: bytes, sizes: list[int], is_long: bool) -> None:
    whole = b"\x00\x00" + data * (1000 if is_long else 1)

    async def chunks() -> AsyncIterator[bytes]:
        rest = whole
        for size in sizes:
            yield rest[:size]
            rest = rest[size:]
        yield rest

    async def read() -> list[bytes]:
        return [piece async for piece in whole_samples(chunks())]

    pieces = asyncio.run(read())
    assert b"".join(pieces) == whole[: len(whole) // 2 * 2]
    assert all(0 < len(piece) <= PIECE_BYTES and len(piece) % 2 == 0 for piece in pieces)


async def test_the_first_piece_comes_before_the_last_was_made() -> None:
    async with FakeOpenAi([bytes(480)], content_type="audio/pcm", hang=True) as server:
        tts = OpenAiSynthesizer(server.url, "m", "v")
        stream = tts.synthesize(TEXT, voice=None, speed=1)
        assert len(await anext(stream)) == 480
        await stream.aclose()
        await asyncio.wait_for(server.client_gone.wait(), 5)
        await tts.close()


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (FakeOpenAi([b"no voice v\nmore"], status=400, content_type="text/plain"), "400.*no voice"),
        (FakeOpenAi([b'{"error": 1}'], content_type="application/json"), "application/json"),
        (FakeOpenAi([b"RIFF", bytes(40)], content_type="audio/wav"), "RIFF"),
        (FakeOpenAi([bytes(40)], break_off=True, content_type="audio/pcm"), "RemoteProtocolError"),
        (FakeOpenAi(silent=True), "in time"),
    ],
    ids=["refused", "json", "wav", "broken off", "silent"],
)
async def test_trouble_is_a_reply_error_without_the_key(server: FakeOpenAi, expected: str) -> None:
    async with server:
        tts = OpenAiSynthesizer(server.url, "m", "v", KEY, timeout_s=0.1)
        with pytest.raises(ReplyError, match=expected) as caught:
            await say(tts)
    assert KEY not in str(caught.value)
