"""The caller's side of RealtimeVoiceChat's protocol, without a socket or a clock.

    open → packets …      partial_user_request, final_user_request ← …
                          tts_chunk …, final_assistant_answer ← …   tts_start, tts_stop →

Nothing is said on connect, and nothing has a name: what is said up to a final is a turn, and what
is answered up to the next one is a reply.
"""

import binascii
from collections.abc import Callable

from rtvc.loadtest.wire.client import Reader, Seen, TypedClient
from rtvc.loadtest.wire.messages import (
    REALTIMEVOICECHAT,
    Message,
    Outgoing,
    text_of,
)
from rtvc.loadtest.wire.observations import (
    FinalFailed,
    FinalText,
    ItemCommitted,
    PartialText,
    PlaybackStopped,
    ReplyAudio,
    ReplyCreated,
    ReplyDone,
)
from rtvc.protocol.realtimevoicechat import (
    PACKET_SAMPLES,
    REPLY_RATE_HZ,
    AudioPacket,
    TtsStart,
    TtsStop,
    encode_client_message,
    encode_packet,
)

WIRE_RATE_HZ = 48_000
"""The rate that a server assumes; it is never stated."""

PACKET_MS = PACKET_SAMPLES / WIRE_RATE_HZ * 1000
"""Milliseconds in each packet of the page."""

_REPLY_BYTES_PER_S = REPLY_RATE_HZ * 2


class RealtimeVoiceChatClient(TypedClient):
    """Turns messages into observations, and intentions into messages."""

    protocol = REALTIMEVOICECHAT

    usable_at_once = True

    def __init__(self, *, epoch_ms: int, packet_ms: float = PACKET_MS) -> None:
        """`epoch_ms` is the wall clock at the first packet; each counts on from there."""
        self._epoch_ms = epoch_ms
        self._packet_ms = packet_ms
        self._packets = 0
        self._playing = False
        self._turns = 0
        self._shown = ""
        self._replies = 0
        self._answering = False
        readers: dict[str, Callable[[str, float], Seen]] = {
            "partial_user_request": self._partial,
            "final_user_request": self._final,
            "partial_assistant_answer": self._answer,
            "final_assistant_answer": self._answered,
            "tts_chunk": self._chunk,
            "stop_tts": _stop,
        }
        self.readers = {kind: self._of_content(reader) for kind, reader in readers.items()}

    def append(self, pcm16: bytes) -> bytes:
        timestamp_ms = self._epoch_ms + round(self._packets * self._packet_ms)
        self._packets += 1
        return encode_packet(AudioPacket(timestamp_ms, self._playing, pcm16))

    def playing(self, playing: bool) -> list[Outgoing]:
        self._playing = playing
        return [encode_client_message(TtsStart() if playing else TtsStop())]

    def _of_content(self, reader: Callable[[str, float], Seen]) -> Reader:
        def read(event: Message, at_s: float) -> Seen:
            self.introduced = True
            return reader(text_of(event, "content") if "content" in event else "", at_s)

        return read

    @property
    def _turn(self) -> str:
        return f"turn-{self._turns}"

    def _partial(self, content: str, at_s: float) -> Seen:
        text, before = content.strip(), self._shown
        self._shown = text
        if text == before:
            return None
        if text:
            return PartialText(at_s, self._turn, text)
        return FinalFailed(at_s, self._next_turn(), "the server withdrew what it had shown")

    def _next_turn(self) -> str:
        """The turn that ends with this message."""
        ended = self._turn
        self._turns += 1
        self._shown = ""
        return ended

    def _final(self, content: str, at_s: float) -> Seen:
        item_id = self._next_turn()
        self._answering = False
        return ItemCommitted(at_s, item_id), FinalText(at_s, item_id, content)

    @property
    def _reply(self) -> str:
        """The reply to the last turn; the first message about it makes it a new one."""
        if not self._answering:
            self._answering = True
            self._replies += 1
        return f"reply-{self._replies}"

    def _answer(self, content: str, at_s: float) -> Seen:
        del content
        return ReplyCreated(at_s, self._reply)

    def _answered(self, content: str, at_s: float) -> Seen:
        del content
        return ReplyDone(at_s, self._reply, "completed")

    def _chunk(self, content: str, at_s: float) -> Seen:
        pcm = binascii.a2b_base64(content, strict_mode=True)
        audio_s, reply = len(pcm) / _REPLY_BYTES_PER_S, self._reply
        return ReplyAudio(at_s, reply, reply, audio_s)


def _stop(content: str, at_s: float) -> Seen:
    del content
    return PlaybackStopped(at_s)
