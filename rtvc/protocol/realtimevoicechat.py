"""RealtimeVoiceChat's protocol at /ws: audio in binary packets, everything else as JSON text.

The server sends nothing on connect and has no error message; see docs/protocol.md.
"""

import base64
import binascii
import json
import struct
from dataclasses import dataclass
from typing import Any, Literal

from rtvc.errors import ProtocolError
from rtvc.protocol.sample_rate_finder import ASSUMED_RATE_HZ, KNOWN_RATES_HZ, SampleRateFinder
from rtvc.protocol.validation import named, read_object

__all__ = [
    "ASSUMED_RATE_HZ",
    "KNOWN_RATES_HZ",
    "PACKET_SAMPLES",
    "REPLY_RATE_HZ",
    "AudioPacket",
    "ClearHistory",
    "ClientMessage",
    "SampleRateFinder",
    "ServerMessage",
    "SetSpeed",
    "TtsStart",
    "TtsStop",
    "decode_packet",
    "encode_client_message",
    "encode_packet",
    "encode_server_message",
    "parse_client_message",
    "parse_server_message",
    "tts_chunk",
]

PACKET_SAMPLES = 2048
"""Samples in each packet of the page."""
REPLY_RATE_HZ = 48_000
"""Sample rate of tts_chunk."""
MAX_PACKET_BYTES = 1024 * 1024

_HEADER = struct.Struct(">II")
_PLAYING = 1


@dataclass(frozen=True, slots=True)
class AudioPacket:
    """A stretch of microphone audio."""

    timestamp_ms: int
    """Milliseconds of the client's wall clock mod 2^32; compare only with its own."""
    playing: bool
    """Whether the client is playing a reply."""
    pcm: bytes
    """16-bit little-endian mono, at a rate that is never stated."""

    @property
    def samples(self) -> int:
        """Samples in the packet."""
        return len(self.pcm) // 2


def decode_packet(packet: bytes) -> AudioPacket:
    """Read a binary message.

    Raises:
        ProtocolError: shorter than its header, half a sample, or far too long.
    """
    if not _HEADER.size <= len(packet) <= MAX_PACKET_BYTES:
        raise ProtocolError(
            f"expected an audio packet of {_HEADER.size} to {MAX_PACKET_BYTES} bytes, "
            f"got {len(packet)}"
        )
    if len(packet) % 2:
        raise ProtocolError(f"expected whole 16-bit samples, got {len(packet)} bytes")
    timestamp_ms, flags = _HEADER.unpack_from(packet)
    return AudioPacket(timestamp_ms, bool(flags & _PLAYING), packet[_HEADER.size :])


def encode_packet(packet: AudioPacket) -> bytes:
    """Write a binary message; the clock is cut to its low 32 bits, as the page does."""
    timestamp_ms = packet.timestamp_ms % 2**32
    return _HEADER.pack(timestamp_ms, _PLAYING if packet.playing else 0) + packet.pcm


# Client → server, text.


@dataclass(frozen=True, slots=True)
class TtsStart:
    """Playback of a reply began."""


@dataclass(frozen=True, slots=True)
class TtsStop:
    """Playback ended, or was stopped on the server's word."""


@dataclass(frozen=True, slots=True)
class ClearHistory:
    """Forget the conversation."""


@dataclass(frozen=True, slots=True)
class SetSpeed:
    """How patiently to wait for the end of a turn."""

    speed: int
    """0 (at once) to 100 (patient); values outside are brought inside."""


ClientMessage = TtsStart | TtsStop | ClearHistory | SetSpeed

_PLAIN: dict[str, ClientMessage] = {
    "tts_start": TtsStart(),
    "tts_stop": TtsStop(),
    "clear_history": ClearHistory(),
}
_NAMES = {message: name for name, message in _PLAIN.items()}


def parse_client_message(text: str | bytes) -> ClientMessage | None:
    """Read a text message; None for a type this protocol does not know.

    Raises:
        ProtocolError: not a JSON object, or a speed that is no number.
    """
    message = read_object(text)
    kind = message.get("type")
    if kind == "set_speed":
        return SetSpeed(_speed(message))
    return _PLAIN.get(kind) if isinstance(kind, str) else None


def _speed(message: dict[str, Any]) -> int:
    speed = message.get("speed", 0)
    if isinstance(speed, bool) or not isinstance(speed, int | float):
        raise ProtocolError(
            f"speed: expected a number from 0 to 100, got {named(speed)}",
            code="invalid_type",
            param="speed",
        )
    return round(min(max(speed, 0), 100))


def encode_client_message(message: ClientMessage) -> str:
    """Write a text message of the client."""
    if isinstance(message, SetSpeed):
        return json.dumps({"type": "set_speed", "speed": message.speed})
    return json.dumps({"type": _NAMES[message]})


# Server → client, text.

ServerMessageType = Literal[
    "partial_user_request",
    "final_user_request",
    "partial_assistant_answer",
    "final_assistant_answer",
    "tts_chunk",
    "stop_tts",
    "tts_interruption",
]
_SERVER_TYPES: dict[str, ServerMessageType] = {
    "partial_user_request": "partial_user_request",
    "final_user_request": "final_user_request",
    "partial_assistant_answer": "partial_assistant_answer",
    "final_assistant_answer": "final_assistant_answer",
    "tts_chunk": "tts_chunk",
    "stop_tts": "stop_tts",
    "tts_interruption": "tts_interruption",
}


@dataclass(frozen=True, slots=True)
class ServerMessage:
    """Everything the server says has one shape."""

    type: ServerMessageType
    """What it means."""
    content: str = ""
    """Full text so far (it replaces what came before), base64 audio, or nothing."""

    def pcm(self) -> bytes:
        """Audio of a tts_chunk: 16-bit little-endian mono, 48 kHz.

        Raises:
            ProtocolError: not strict base64.
        """
        try:
            return binascii.a2b_base64(self.content, strict_mode=True)
        except ValueError as error:
            raise ProtocolError(
                f"content: expected base64, got {named(self.content)} ({error})",
                code="invalid_base64",
                param="content",
            ) from None


def tts_chunk(pcm: bytes) -> ServerMessage:
    """A stretch of the reply; `pcm` as `ServerMessage.pcm` gives it back."""
    return ServerMessage("tts_chunk", base64.b64encode(pcm).decode())


def encode_server_message(message: ServerMessage) -> str:
    """Write a text message of the server."""
    return json.dumps({"type": message.type, "content": message.content}, separators=(",", ":"))


def parse_server_message(text: str | bytes) -> ServerMessage | None:
    """Read a text message; None for a type this protocol does not know.

    Raises:
        ProtocolError: not a JSON object, or content that is no string.
    """
    message = read_object(text)
    kind = message.get("type")
    known = _SERVER_TYPES.get(kind) if isinstance(kind, str) else None
    if known is None:
        return None
    content = message.get("content", "")
    if not isinstance(content, str):
        raise ProtocolError(
            f"content: expected a string, got {named(content)}",
            code="invalid_type",
            param="content",
        )
    return ServerMessage(known, content)
