"""Whole files over HTTP: what comes back, in which format, and what is refused."""

import asyncio
import io
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import numpy as np
import pytest
import soundfile
from fastapi import FastAPI
from openai import APIStatusError, OpenAI
from starlette.datastructures import FormData, UploadFile

from rtvc.clock import FakeClock
from rtvc.config import ServeSettings, Settings
from rtvc.errors import AudioError, ProtocolError, TranscriberError
from rtvc.server.services import Services
from rtvc.server.web.recordings import decoded
from rtvc.server.web.transcriptions import (
    MAX_FILES,
    add_transcriptions,
    srt,
    understood,
    vtt,
)
from rtvc.speech.synthesis import Synthesizer
from rtvc.stt.files import FileHypothesis, FileJob, Segment, joined, parts
from rtvc.stt.transcriber import SAMPLE_RATE_HZ, AudioArray
from rtvc.transcript import word_errors

model = pytest.mark.model
SAID = "could you please turn off the lights?"
THEN = "what is the weather like tomorrow?"


def encoded(audio: AudioArray, rate_hz: int = SAMPLE_RATE_HZ, container: str = "WAV") -> io.BytesIO:
    file = io.BytesIO()
    soundfile.write(file, audio, rate_hz, format=container)
    file.seek(0)
    file.name = f"speech.{container.lower()}"
    return file


def speech(text: str) -> AudioArray:
    audio: AudioArray = Synthesizer().say(text).audio
    return audio


def silence(seconds: float) -> AudioArray:
    return np.zeros(round(seconds * SAMPLE_RATE_HZ), np.float32)


@pytest.fixture(scope="module")
def two_sentences() -> AudioArray:
    pause = silence(1.5)
    return np.concatenate([pause, speech(SAID), pause, speech(THEN), pause])


@pytest.fixture
def openai(server_url: str) -> Iterator[OpenAI]:
    with OpenAI(api_key="none", base_url=f"{server_url}/v1", max_retries=0) as client:
        yield client


def mistakes(said: str, heard: str) -> int:
    return word_errors(said, heard).errors


# Through OpenAI's own client


@model
@pytest.mark.slow
def test_the_official_client_gets_the_text(openai: OpenAI) -> None:
    answer = openai.audio.transcriptions.create(
        file=encoded(speech(SAID)), model="whisper-1", language="en"
    )
    assert mistakes(SAID, answer.text) <= 1


@model
@pytest.mark.slow
@pytest.mark.parametrize(("rate_hz", "container"), [(44_100, "FLAC"), (24_000, "OGG")])
def test_other_rates_and_containers(
    openai: OpenAI, two_sentences: AudioArray, rate_hz: int, container: str
) -> None:
    from rtvc.audio import resample

    audio = resample(two_sentences, SAMPLE_RATE_HZ, rate_hz)
    answer = openai.audio.transcriptions.create(
        file=encoded(audio, rate_hz, container), model="selftest"
    )
    assert mistakes(f"{SAID} {THEN}", answer.text) <= 3


@model
@pytest.mark.slow
def test_segments_and_words_are_where_they_were_said(
    openai: OpenAI, two_sentences: AudioArray
) -> None:
    answer = openai.audio.transcriptions.create(
        file=encoded(two_sentences),
        model="whisper-1",
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    duration_s = len(two_sentences) / SAMPLE_RATE_HZ
    assert answer.duration == pytest.approx(duration_s, abs=0.01)
    assert answer.segments is not None
    assert answer.words is not None
    assert len(answer.segments) == 2
    first, second = answer.segments
    assert 1.0 < first.start < 2.0
    assert first.end < second.start < second.end <= duration_s
    spans = [(word.start, word.end) for word in answer.words]
    assert len(spans) >= 8
    assert all(0 <= start <= end <= duration_s for start, end in spans)
    assert [start for start, _ in spans] == sorted(start for start, _ in spans)


@model
@pytest.mark.slow
@pytest.mark.parametrize(
    ("wanted", "pattern"),
    [
        ("text", r"[a-z].*\n"),
        ("srt", r"1\n00:00:01,\d{3} --> 00:00:0\d,\d{3}\n.+\n\n2\n(.|\n)+\n\n"),
        ("vtt", r"WEBVTT\n\n00:00:01\.\d{3} --> 00:00:0\d\.\d{3}\n.+\n\n(.|\n)+\n\n"),
    ],
)
def test_plain_formats(
    openai: OpenAI, two_sentences: AudioArray, wanted: Any, pattern: str
) -> None:
    answer: Any = openai.audio.transcriptions.create(
        file=encoded(two_sentences), model="whisper-1", response_format=wanted
    )
    assert re.fullmatch(pattern, str(answer))


@model
@pytest.mark.slow
def test_text_is_streamed_as_it_is_found(openai: OpenAI, two_sentences: AudioArray) -> None:
    stream = openai.audio.transcriptions.create(
        file=encoded(two_sentences), model="whisper-1", stream=True
    )
    deltas, done = [], None
    for event in stream:
        if event.type == "transcript.text.delta":
            deltas.append(event.delta)
        elif event.type == "transcript.text.done":
            done = event.text
    assert len(deltas) == 2
    assert "".join(deltas) == done


@model
@pytest.mark.slow
def test_nothing_said_is_no_text(openai: OpenAI) -> None:
    answer = openai.audio.transcriptions.create(file=encoded(silence(3.0)), model="whisper-1")
    assert answer.text == ""


@model
@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"model": "large-v9"}, 404, 'expected model "selftest"'),
        ({"model": "whisper-1", "language": "xx"}, 400, "ISO-639-1"),
        ({"model": "whisper-1", "response_format": "docx"}, 400, "json, text, srt"),
        ({"model": "whisper-1", "temperature": 7}, 400, "0 to 1"),
        ({"model": "whisper-1", "response_format": "srt", "stream": True}, 400, "with stream"),
    ],
)
def test_a_wrong_field_is_named(
    openai: OpenAI, fields: dict[str, Any], status: int, words: str
) -> None:
    with pytest.raises(APIStatusError, match=words) as raised:
        openai.audio.transcriptions.create(file=encoded(silence(0.2)), **fields)
    assert raised.value.status_code == status


@model
@pytest.mark.slow
def test_what_is_no_recording_is_refused(openai: OpenAI) -> None:
    with pytest.raises(APIStatusError, match="expected a recording") as raised:
        openai.audio.transcriptions.create(
            file=("notes.txt", b"no audio at all"), model="whisper-1"
        )
    assert raised.value.status_code == 415


# Reading requests, without a server


def form(**fields: str) -> FormData:
    return FormData([("file", UploadFile(io.BytesIO(b""))), *fields.items()])


def test_defaults() -> None:
    wanted = understood(form(), "base.en")
    assert (wanted.response_format, wanted.language, wanted.stream) == ("json", None, False)
    assert (wanted.words, wanted.segments, wanted.temperature) == (False, True, 0.0)


def test_a_prompt_has_an_end() -> None:
    with pytest.raises(ProtocolError, match="at most 4000 characters, got 4001"):
        understood(form(prompt="x" * 4001), "base.en")


def test_times_of_words_need_a_format_that_has_them() -> None:
    with pytest.raises(ProtocolError, match="verbose_json with times of words, got json"):
        understood(form(**{"timestamp_granularities[]": "word"}), "base.en")


def test_a_recording_that_is_too_long_is_not_read_to_its_end() -> None:
    with pytest.raises(AudioError, match="at most 2 s of audio"):
        decoded(encoded(silence(5.0)), longest_s=2.0)


def test_a_recording_is_read_as_it_was_written(two_sentences: AudioArray) -> None:
    audio = decoded(encoded(two_sentences), longest_s=60.0)
    assert len(audio) == len(two_sentences)
    assert np.abs(audio - two_sentences).max() < 1e-3


def test_a_picture_of_sound_is_no_sound(tmp_path: Path) -> None:
    for bytes_ in (b"", b"RIFF", b"\x00" * 1000):
        with pytest.raises(ProtocolError, match="expected a recording"):
            decoded(io.BytesIO(bytes_), longest_s=60.0)


# Subtitles and parts


def test_subtitles_number_and_time_their_lines() -> None:
    lines = [Segment(0.0, 1.5, "a < b & c"), Segment(3661.0, 3662.25, "end")]
    assert srt(lines) == (
        "1\n00:00:00,000 --> 00:00:01,500\na < b & c\n\n2\n01:01:01,000 --> 01:01:02,250\nend\n\n"
    )
    assert vtt(lines).startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.500\na &lt; b &amp; c\n\n")


def test_parts_follow_each_other_and_lose_nothing() -> None:
    audio = np.random.default_rng(1).normal(0, 0.1, 150 * SAMPLE_RATE_HZ).astype(np.float32)
    told = list(parts(audio))
    assert np.array_equal(np.concatenate([part for _, part in told]), audio)
    ends_s = [offset_s + len(part) / SAMPLE_RATE_HZ for offset_s, part in told]
    assert [offset_s for offset_s, _ in told[1:]] == pytest.approx(ends_s[:-1])
    assert all(len(part) <= 60 * SAMPLE_RATE_HZ for _, part in told)


def test_utterances_are_joined_only_into_windows() -> None:
    clips = [(0.0, 10.0), (11.0, 20.0), (21.0, 30.0), (40.0, 41.0)]
    assert joined(clips, 28.0) == [(0.0, 20.0), (21.0, 41.0)]
    assert joined([], 28.0) == []


# The door, with an engine that is told what to answer


class ToldFiles:
    """A file engine that says where each part begins, or fails, once it is let go on."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.all_asked = asyncio.Event()
        self.asked = 0
        self.fails_at: int | None = None

    async def transcribe(self, model: str, job: FileJob) -> FileHypothesis:
        self.asked += 1
        if self.asked == MAX_FILES:
            self.all_asked.set()
        await self.go_on.wait()
        if self.asked == self.fails_at:
            raise TranscriberError("the engine said no")
        said = Segment(job.offset_s, job.offset_s + 1, f"part at {job.offset_s:.0f}")
        return FileHypothesis(said.text, 1.0, 0, 0, 0, 0, 1, 1, segments=(said,), language="en")


def door(files: ToldFiles | None, *, ready: bool = True) -> httpx.AsyncClient:
    services = SimpleNamespace(
        files=files,
        readiness=SimpleNamespace(ready=ready, lets_in=ready, restarting=False),
        engine=SimpleNamespace(status=SimpleNamespace(model="told")),
        settings=Settings(serve=ServeSettings(max_upload_mb=5)),
        clock=FakeClock(),
    )
    app = FastAPI()
    add_transcriptions(app, cast(Services, services))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://door")


async def post(client: httpx.AsyncClient, seconds: float = 0.5, **fields: str) -> httpx.Response:
    files = {"file": ("speech.wav", encoded(silence(seconds)))}
    return await client.post("/v1/audio/transcriptions", files=files, data=fields)


async def test_a_file_too_large_is_refused_however_it_is_sent() -> None:
    async def unannounced() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        for _ in range(60):
            yield b"\0" * 100_000

    files = ToldFiles()
    async with door(files) as client:
        announced = await post(client, seconds=200.0)
        headers = {"content-type": "multipart/form-data; boundary=b"}
        path = "/v1/audio/transcriptions"
        chunked = await client.post(path, content=unannounced(), headers=headers)
    for answer in (announced, chunked):
        assert answer.status_code == 413
        assert "at most 5 MB" in answer.json()["error"]["message"]
    assert files.asked == 0


async def test_one_file_too_many_is_told_to_come_back() -> None:
    files = ToldFiles()
    files.go_on.clear()
    async with door(files) as client:
        held = [asyncio.create_task(post(client)) for _ in range(MAX_FILES)]
        await files.all_asked.wait()
        refused = await post(client)
        files.go_on.set()
        answers = await asyncio.gather(*held)
        again = await post(client)
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) > 0
    assert [answer.status_code for answer in [*answers, again]] == [200] * (MAX_FILES + 1)


async def test_places_are_given_back_after_streams_and_failures() -> None:
    files = ToldFiles()
    async with door(files) as client:
        for _ in range(2 * MAX_FILES):
            files.fails_at = files.asked + 1
            assert (await post(client, stream="true")).status_code == 503
            assert (await post(client, stream="true")).status_code == 200


async def test_a_stream_that_fails_says_so() -> None:
    files = ToldFiles()
    files.fails_at = 2
    async with door(files) as client:
        answer = await post(client, seconds=70.0, stream="true")
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line]
    assert events[0] == {"type": "transcript.text.delta", "delta": "part at 0"}
    assert events[1]["error"]["message"] == "the engine said no"
    assert len(events) == 2


async def test_nothing_is_taken_before_the_model_is_there() -> None:
    async with door(ToldFiles(), ready=False) as loading, door(None) as without:
        assert [(await post(client)).status_code for client in (loading, without)] == [503, 503]


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (b'{"model": "told"}', "application/json", "expected multipart/form-data"),
        (b"nothing of the kind", "multipart/form-data; boundary=b", "that can be read"),
        (b"--b--\r\n", "multipart/form-data; boundary=b", "form field file"),
        (b"", "multipart/form-data", "that can be read"),
    ],
)
async def test_what_is_no_form_is_refused(content: bytes, kind: str, words: str) -> None:
    async with door(ToldFiles()) as client:
        path = "/v1/audio/transcriptions"
        answer = await client.post(path, content=content, headers={"content-type": kind})
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]
