"""Recordings that strangers send: which are opened at all, and how much may come out of them.

A file's first bytes decide how it is read; FFmpeg is never left to guess, since some of what it
knows (playlists, lists of files) would have it open other files and addresses. A small file may
claim to be hours long, or a sample rate that makes an hour of one second: what comes out is
counted while it comes out.
"""

from typing import Any, BinaryIO

import numpy as np

from rtvc.clock import Clock, SystemClock
from rtvc.errors import AudioError, ProtocolError
from rtvc.stt.transcriber import SAMPLE_RATE_HZ, AudioArray

CONTAINERS = "wav, flac, ogg, mp3, m4a, webm"
RATES_HZ = (4_000, 192_000)
MAX_CHANNELS = 8
MAX_FRAME_SAMPLES = 1 << 18
"""Of one channel in one packet; the widest codec has 65 536."""
DECODING_S = 120.0
"""For a whole recording: an hour takes a few seconds."""
HEAD_BYTES = 16
_CODECS = ("pcm_", "adpcm_", "flac", "opus", "vorbis", "mp3", "aac", "alac")
_NO_OTHER_ADDRESSES = {"protocol_whitelist": "none"}


def container_of(head: bytes) -> str | None:
    """FFmpeg's name for what a file with these first bytes is; None: nothing that is taken.

    >>> container_of(b"fLaC...."), container_of(b"#EXTM3U")
    ('flac', None)
    """
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return "wav"
    if head[4:8] == b"ftyp":
        return "mov"
    for magic, name in ((b"fLaC", "flac"), (b"OggS", "ogg"), (b"\x1aE\xdf\xa3", "matroska")):
        if head.startswith(magic):
            return name
    return "mp3" if head.startswith(b"ID3") or _is_mpeg_frame(head) else None


def _is_mpeg_frame(head: bytes) -> bool:
    """Eleven set bits, then a layer and a bit rate that exist."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    return head[1] & 0x06 != 0 and head[2] & 0xF0 != 0xF0


def check_container(file: BinaryIO) -> str:
    """
    Raises:
        ProtocolError: it is nothing that is taken.
    """
    file.seek(0)
    found = container_of(file.read(HEAD_BYTES))
    file.seek(0)
    if found is None:
        raise ProtocolError(
            f"expected a recording ({CONTAINERS}), got a file that begins like none of them",
            code="unsupported_media_type",
            param="file",
        )
    return found


def decoded(
    file: BinaryIO,
    longest_s: float,
    *,
    clock: Clock | None = None,
    within_s: float = DECODING_S,
) -> AudioArray:
    """Samples of a recording: 16 kHz mono.

    Raises:
        ProtocolError: it is no recording by its first bytes.
        AudioError: there is no audio in it, more than is allowed, or it takes too long to find out.
    """
    import av  # heavy, and only uploads need it

    container = check_container(file)
    tally = _Tally(longest_s, clock or SystemClock(), within_s)
    try:
        with av.open(
            file, mode="r", format=container, options=_NO_OTHER_ADDRESSES, metadata_errors="ignore"
        ) as opened:
            _read(av, opened, tally)
    except (av.FFmpegError, OSError, ValueError, OverflowError, MemoryError) as error:
        # Not what FFmpeg says: it may name files and addresses of this machine.
        kind = type(error).__name__
        raise AudioError(f"expected a recording that can be read ({CONTAINERS}): {kind}") from error
    if not tally.blocks:
        raise AudioError("expected a recording, found no samples in it")
    return np.concatenate(tally.blocks).astype(np.float32) / np.float32(32768)


class _Tally:
    """What came out so far."""

    def __init__(self, longest_s: float, clock: Clock, within_s: float) -> None:
        self.blocks: list[np.ndarray[Any, np.dtype[np.int16]]] = []
        self._longest_s = longest_s
        self._left = longest_s * SAMPLE_RATE_HZ
        self._clock = clock
        self._over_at_s = clock.now() + within_s

    def add(self, block: Any) -> None:
        self._left -= block.samples
        if self._left < 0:
            raise AudioError(f"expected at most {self._longest_s:.0f} s of audio, found more")
        self.blocks.append(block.to_ndarray()[0])

    def check_frame(self, frame: Any) -> None:
        """Before it is resampled, which may make more of it."""
        check_shape(frame.sample_rate, frame.layout.nb_channels)
        if frame.samples > MAX_FRAME_SAMPLES:
            raise AudioError(f"expected packets of audio, got one of {frame.samples} samples")
        if frame.samples / frame.sample_rate > self._left / SAMPLE_RATE_HZ + 1:
            raise AudioError(f"expected at most {self._longest_s:.0f} s of audio, found more")
        if self._clock.now() > self._over_at_s:
            raise AudioError("expected a recording that can be read in time")


def check_shape(rate_hz: int, channels: int) -> None:
    """
    Raises:
        AudioError: nobody records like that.
    """
    low, high = RATES_HZ
    if not low <= rate_hz <= high:
        raise AudioError(f"expected a sample rate of {low} to {high} Hz, got {rate_hz}")
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(f"expected 1 to {MAX_CHANNELS} channels, got {channels}")


def _read(av: Any, opened: Any, tally: _Tally) -> None:
    if not opened.streams.audio:
        raise AudioError("expected a recording, found no audio in the file")
    codec = opened.streams.audio[0].codec_context
    if not str(codec.name).startswith(_CODECS):
        raise AudioError(f"expected a usual codec of speech or music, got {str(codec.name)[:40]}")
    check_shape(codec.sample_rate, codec.channels)
    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE_HZ)
    for frame in opened.decode(audio=0):
        tally.check_frame(frame)
        for block in resampler.resample(frame):
            tally.add(block)
    for block in resampler.resample(None):
        tally.add(block)
