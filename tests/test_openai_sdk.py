"""The official `openai` client, unmodified, against `/v1/realtime`."""

import asyncio
import base64
from typing import Any

import numpy as np
import pytest
from openai import AsyncOpenAI

from rtvc.audio import float_to_pcm16
from rtvc.clock import SystemClock
from rtvc.transcript import word_errors
from tests.realtime_peer import FRAME_BYTES, FRAME_S, silence, speech

pytestmark = [pytest.mark.model, pytest.mark.slow]

SAID = "could you please turn off the lights?"


def client(url: str) -> AsyncOpenAI:
    return AsyncOpenAI(
        api_key="none",
        base_url=f"{url}/v1",
        websocket_base_url=url.replace("http", "ws", 1) + "/v1",
    )


async def speak(connection: Any, text: str, trail_s: float) -> None:
    clock = SystemClock()
    audio = np.concatenate([silence(0.3), speech(text).audio, silence(trail_s)])
    pcm16 = float_to_pcm16(audio)
    start_s = clock.now()
    for number, at in enumerate(range(0, len(pcm16), FRAME_BYTES)):
        await asyncio.sleep(max(0.0, start_s + (number + 1) * FRAME_S - clock.now()))
        frame = base64.b64encode(pcm16[at : at + FRAME_BYTES]).decode()
        await connection.input_audio_buffer.append(audio=frame)


async def test_a_conversation(server_url: str) -> None:
    heard, reply, audio = "", "", b""
    async with client(server_url) as openai, openai.realtime.connect(model="any") as connection:
        await connection.session.update(
            session={
                "type": "realtime",
                "instructions": "Be brief.",
                "output_modalities": ["audio"],
            }
        )
        speaking = asyncio.create_task(speak(connection, SAID, trail_s=1.0))
        async with asyncio.timeout(30):
            async for event in connection:
                assert event.type != "error", event
                if event.type == "conversation.item.input_audio_transcription.completed":
                    heard = event.transcript
                elif event.type == "response.output_audio.delta":
                    audio += base64.b64decode(event.delta)
                elif event.type == "response.output_audio_transcript.done":
                    reply = event.transcript
                elif event.type == "response.done":
                    assert event.response.status == "completed"
                    break
        await speaking
    assert word_errors(SAID, heard).errors <= 1
    assert reply
    samples = np.frombuffer(audio, "<i2")
    assert len(samples) > 24_000
    assert np.abs(samples).max() > 1000


async def test_cancel_stops_a_reply(server_url: str) -> None:
    async with client(server_url) as openai, openai.realtime.connect(model="any") as connection:
        await connection.conversation.item.create(
            item={
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "tell me a very long story"}],
            }
        )
        await connection.response.create()
        cancelled = False
        async with asyncio.timeout(30):
            async for event in connection:
                assert event.type != "error", event
                if event.type == "response.output_audio_transcript.delta" and not cancelled:
                    cancelled = True
                    await connection.response.cancel()
                elif event.type == "response.done":
                    assert event.response.status == "cancelled"
                    break
        assert cancelled


async def test_a_transcription_session(server_url: str) -> None:
    deltas, heard = "", ""
    async with (
        client(server_url) as openai,
        openai.realtime.connect(extra_query={"intent": "transcription"}) as connection,
    ):
        await connection.session.update(
            session={
                "type": "transcription",
                "audio": {"input": {"turn_detection": {"type": "server_vad"}}},
            }
        )
        speaking = asyncio.create_task(speak(connection, SAID, trail_s=1.0))
        async with asyncio.timeout(30):
            async for event in connection:
                assert event.type != "error", event
                assert not event.type.startswith("response.")
                if event.type == "conversation.item.input_audio_transcription.delta":
                    deltas += event.delta or ""
                elif event.type == "conversation.item.input_audio_transcription.completed":
                    heard = event.transcript
                    break
        await speaking
    assert word_errors(SAID, heard).errors <= 1
    assert deltas
