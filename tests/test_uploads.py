"""Files that strangers send: refused before they cost memory, time or somebody else's place."""

import asyncio
import io
import os
import struct
import tracemalloc
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message, Scope

from rtvc.clock import FakeClock
from rtvc.errors import AudioError, ProtocolError, RtvcError
from rtvc.server.web.bodies import MAX_FIELD_BYTES, MAX_FIELDS, bounded, read_form
from rtvc.server.web.recordings import check_shape, container_of, decoded
from rtvc.stt.transcriber import SAMPLE_RATE_HZ
from tests.test_transcriptions import ToldFiles, door, encoded, post, silence

PATH = "/v1/audio/transcriptions"


def wav(
    rate_hz: int, samples: int, *, channels: int = 1, claimed_bytes: int | None = None
) -> bytes:
    """A WAV file that claims what it likes."""
    data = bytes(2 * samples * channels)
    size = len(data) if claimed_bytes is None else claimed_bytes
    align = 2 * channels
    form = struct.pack("<HHIIHH", 1, channels, rate_hz, (rate_hz * align) % 2**32, align, 16)
    head = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", size)
    return b"RIFF" + struct.pack("<I", min(len(head) + size, 2**32 - 1)) + head + data


def flac_header(rate_hz: int, channels: int, bits: int, total: int) -> bytes:
    """A FLAC file that is nothing but its own description."""
    packed = (rate_hz << 44) | ((channels - 1) << 41) | ((bits - 1) << 36) | total
    info = struct.pack(">HH", 4096, 4096) + bytes(6) + struct.pack(">Q", packed) + bytes(16)
    return b"fLaC" + bytes([0x80]) + len(info).to_bytes(3, "big") + info


def flac_of_silence(seconds: float) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(round(seconds * 16_000), np.int16), 16_000, format="FLAC")
    return file.getvalue()


# Containers


@pytest.mark.parametrize(
    ("container", "subtype", "name"),
    [
        ("WAV", None, "wav"),
        ("RF64", None, "wav"),
        ("FLAC", None, "flac"),
        ("OGG", "VORBIS", "ogg"),
        ("OGG", "OPUS", "ogg"),
        ("MP3", None, "mp3"),
    ],
)
def test_what_people_record_is_read(container: str, subtype: str | None, name: str) -> None:
    tone = np.sin(np.arange(32_000) / 10).astype(np.float32) / 2
    file = io.BytesIO()
    soundfile.write(file, tone, 16_000, format=container, subtype=subtype)
    assert container_of(file.getvalue()[:16]) == name
    audio = decoded(file, longest_s=10.0)
    assert abs(len(audio) - 32_000) < 4_000
    assert np.abs(audio).max() > 0.3


@pytest.mark.parametrize("suffix", ["mp4", "webm"])
def test_what_browsers_and_telephones_record_is_read(suffix: str, tmp_path: Path) -> None:
    import av

    path = tmp_path / f"x.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac" if suffix == "mp4" else "libopus", rate=48_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.int16), "s16", "mono")
        frame.sample_rate = 48_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert abs(len(decoded(io.BytesIO(path.read_bytes()), longest_s=5.0)) - 16_000) < 2_000


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"RIFF\x00\x00\x00\x00AVI ",
        b"ffconcat version 1.0\nfile /etc/hostname\n",
        b"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1,\nfile:///etc/hostname\n",
        b"<?xml version='1.0'?><MPD/>",
        b"PK\x03\x04" + bytes(100),
        b"\x1f\x8b" + bytes(100),
        b"caff" + bytes(100),
        b"\xff\xf1" + bytes(100),
    ],
)
async def test_nothing_else_is_opened(content: bytes) -> None:
    files = ToldFiles()
    async with door(files) as client:
        answer = await client.post(PATH, files={"file": ("speech.wav", content)})
    assert answer.status_code == 415
    assert answer.json()["error"]["code"] == "unsupported_media_type"
    assert files.asked == 0


async def test_a_playlist_in_a_recordings_clothes_opens_nothing(tmp_path: Path) -> None:
    """FFmpeg would guess; it is told what to take it for."""
    secret = tmp_path / "secret.wav"
    secret.write_bytes(wav(16_000, 16_000))
    for magic in (b"fLaC", b"OggS", b"ID3\x03", b"RIFF\0\0\0\0WAVE", b"\0\0\0\x18ftyp"):
        text = magic + b"\n#EXTM3U\n#EXTINF:1,\nfile://" + str(secret).encode() + b"\n"
        with pytest.raises(AudioError) as refused:
            decoded(io.BytesIO(text), longest_s=5.0)
        assert str(tmp_path) not in str(refused.value)


@given(st.binary(max_size=400), st.sampled_from([b"fLaC", b"OggS", b"ID3", b"\x1aE\xdf\xa3"]))
def test_noise_is_refused_and_nothing_worse(noise: bytes, magic: bytes) -> None:
    with pytest.raises(RtvcError):
        decoded(io.BytesIO(magic + noise), longest_s=1.0)


# Bombs


@pytest.mark.parametrize(
    "content",
    [
        wav(1, 60_000),
        wav(100, 60_000),
        wav(4_000_000_000, 60_000),
        wav(16_000, 1_000, channels=255),
        wav(16_000, 1_000, claimed_bytes=2**32 - 1)[:44],
        flac_header(655_350, 8, 32, 2**36 - 1),
        flac_header(1, 8, 32, 2**36 - 1),
        flac_header(16_000, 1, 16, 2**36 - 1),
    ],
)
def test_a_header_that_promises_the_moon_costs_nothing(content: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(AudioError):
            decoded(io.BytesIO(content), longest_s=60.0)
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()


def test_a_wav_that_claims_more_than_it_holds_is_what_it_holds() -> None:
    audio = decoded(io.BytesIO(wav(16_000, 8_000, claimed_bytes=2**32 - 1)), longest_s=60.0)
    assert len(audio) <= 8_000


def test_hours_of_silence_in_a_small_file_end_at_the_limit() -> None:
    bomb = flac_of_silence(3600.0)
    assert len(bomb) < 500_000, "it is small"
    tracemalloc.start()
    try:
        with pytest.raises(AudioError, match="at most 30 s of audio"):
            decoded(io.BytesIO(bomb), longest_s=30.0)
        # Decoded whole it would be 115 MB.
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


class Hasty(FakeClock):
    """A minute passes with every look."""

    def now(self) -> float:
        self.advance(60.0)
        return super().now()


def test_a_file_that_takes_too_long_is_given_up() -> None:
    with pytest.raises(AudioError, match="in time"):
        decoded(io.BytesIO(wav(16_000, 160_000)), longest_s=60.0, clock=Hasty(), within_s=120.0)


@pytest.mark.parametrize(("rate_hz", "channels"), [(0, 1), (3_999, 1), (192_001, 1), (8_000, 9)])
def test_nobody_records_like_that(rate_hz: int, channels: int) -> None:
    with pytest.raises(AudioError, match="expected"):
        check_shape(rate_hz, channels)


# Bodies


async def test_a_compressed_body_is_refused() -> None:
    async with door(ToldFiles()) as client:
        answer = await client.post(
            PATH,
            content=b"\x1f\x8b",
            headers={"content-type": "multipart/form-data; boundary=b", "content-encoding": "gzip"},
        )
    assert answer.status_code == 415
    assert "not compressed" in answer.json()["error"]["message"]


@pytest.mark.parametrize("told", ["-1", "1e9", "9" * 5000, "²"])
async def test_a_length_that_is_none_is_refused(told: str) -> None:
    scope = a_scope(("content-length", told))
    with pytest.raises(ProtocolError):
        bounded(Request(scope, never), 1000)


async def test_many_parts_and_long_fields_are_refused() -> None:
    fields = {f"f{number}": "x" for number in range(MAX_FIELDS + 1)}
    long = {"prompt": "x" * (MAX_FIELD_BYTES + 1)}
    async with door(ToldFiles()) as client:
        for wrong in (fields, long):
            files = {"file": ("speech.wav", encoded(silence(0.5)))}
            answer = await client.post(PATH, files=files, data=wrong)
            assert answer.status_code == 400
        two = [("file", ("a.wav", encoded(silence(0.5)))) for _ in range(2)]
        assert (await client.post(PATH, files=two)).status_code == 400


async def test_a_charset_that_is_none_is_refused() -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n\xff\xfe\r\n--b--\r\n'
    async with door(ToldFiles()) as client:
        for charset in ("hex", "punycode", "idna", "zlib", "utf-7", "nothing"):
            kind = f"multipart/form-data; boundary=b; charset={charset}"
            answer = await client.post(PATH, content=body, headers={"content-type": kind})
            assert answer.status_code == 400


def a_scope(*headers: tuple[str, str]) -> Scope:
    raw = [(name.encode(), value.encode("utf-8")) for name, value in headers]
    return {"type": "http", "method": "POST", "path": "/", "headers": raw, "query_string": b""}


async def never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError("not reached")


async def test_a_sender_that_stops_loses_its_place() -> None:
    request = bounded(
        Request(a_scope(("content-type", "multipart/form-data; boundary=b")), never),
        1000,
        silence_s=0.05,
    )
    with pytest.raises(ProtocolError, match="whole body within") as refused:
        await read_form(request, 1000)
    assert refused.value.code == "request_timeout"


async def test_a_sender_that_dawdles_loses_its_place_too() -> None:
    async def drop() -> Message:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"x", "more_body": True}

    request = bounded(Request(a_scope(), drop), 1000, silence_s=10.0, upload_s=0.1)
    with pytest.raises(ProtocolError, match="whole body within"):
        await request.body()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files would go."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


async def test_no_file_is_left_behind(temporary: Path) -> None:
    async def broken_off() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        yield bytes(1_500_000)
        raise ConnectionError("gone")

    async with door(ToldFiles()) as client:
        assert (await post(client, seconds=60.0)).status_code == 200
        assert (await post(client, seconds=60.0, response_format="docx")).status_code == 400
        headers = {"content-type": "multipart/form-data; boundary=b"}
        with pytest.raises(ConnectionError):
            await client.post(PATH, content=broken_off(), headers=headers)
    assert not any(os.scandir(temporary))


def test_clean_speech_is_untouched_by_the_limits() -> None:
    with wave.open(io.BytesIO(wav(48_000, 48_000, channels=2))) as read:
        assert read.getnframes() == 48_000
    audio = decoded(io.BytesIO(wav(48_000, 48_000, channels=2)), 2.0, clock=FakeClock())
    assert abs(len(audio) - SAMPLE_RATE_HZ) < 100
