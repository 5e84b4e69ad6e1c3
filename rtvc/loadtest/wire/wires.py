"""The wire protocols that simulated speakers know, each with what it can and cannot show.

What a protocol cannot show is named in `not_observable`: it is never reported as 0, and an
objective on it is neither met nor missed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from types import MappingProxyType
from typing import Literal
from urllib.parse import urlsplit
from uuid import uuid4

from rtvc.clock import SystemClock
from rtvc.errors import UsageError
from rtvc.loadtest.spec import LoadSpec
from rtvc.loadtest.wire import realtime, realtimestt, realtimevoicechat, whisperlive
from rtvc.loadtest.wire.client import ProtocolClient
from rtvc.loadtest.wire.messages import (
    OPENAI_REALTIME,
    REALTIMESTT,
    REALTIMEVOICECHAT,
    WHISPERLIVE,
    Outgoing,
)
from rtvc.loadtest.wire.realtime import RealtimeClient
from rtvc.loadtest.wire.realtimestt import RealtimeSTTClient
from rtvc.loadtest.wire.realtimevoicechat import RealtimeVoiceChatClient
from rtvc.loadtest.wire.whisperlive import WhisperLiveClient

Ready = Literal["message", "inferred"]

AUTO = "auto"
"""As --protocol: the server is asked."""

NO_REPLIES = frozenset({"response_latency", "barge_in_latency", "replies_missing"})
"""What a server that only transcribes cannot show."""

NO_TURNS = frozenset({"premature_finals"})
"""What a server cannot show whose finals do not claim that somebody has finished."""

FRAME_MATCH_MS = 0.01
"""A --frame-ms is meant that is as near as this: 2048 samples at 48 kHz are 42.67 ms."""


@dataclass(frozen=True, slots=True)
class Wire:
    """One wire protocol, from the caller's side."""

    name: str
    """As --protocol names it."""
    path: str
    """Of the endpoint, where the URL has none."""
    rate_hz: int
    """Hertz of the audio that is sent."""
    frames_ms: tuple[float, ...]
    """Milliseconds of audio that one message may hold; the first is the default."""
    conversation: bool
    """Whether the server replies with speech."""
    ready: Ready
    """How a session is known to be usable: the server says so, or its first text tells."""
    not_observable: frozenset[str]
    """Metrics, shares and counts, named as objectives name them."""
    new_client: Callable[[LoadSpec], ProtocolClient]
    """One for each call."""
    append: Callable[[bytes], Outgoing] | None
    """Audio → message, where the same audio always makes the same message; None: it does not."""
    settle_s: float = 1.0
    """Seconds after a final in which more of the same utterance may come."""
    may_transcribe_only: bool = False
    """Whether a session may be asked to transcribe and not to reply."""

    def frame_s(self, frame_ms: float | None) -> float:
        """Seconds of audio in one message; None means the default.

        Raises:
            UsageError: not a length that is in use here.
        """
        if frame_ms is None:
            return self.frames_ms[0] / 1000
        for known_ms in self.frames_ms:
            if abs(known_ms - frame_ms) <= FRAME_MATCH_MS:
                return known_ms / 1000
        known = ", ".join(f"{each:.4g}" for each in self.frames_ms)
        raise UsageError(f"expected --frame-ms of {known} for {self.name}, got {frame_ms:g}")

    @property
    def finals_end_turns(self) -> bool:
        """Whether a final claims that the utterance is over."""
        return not NO_TURNS & self.not_observable


_SPEAKERS = count()
_RUN = uuid4().hex[:8]


def _whisperlive(spec: LoadSpec) -> ProtocolClient:
    return WhisperLiveClient(f"rtvc-{_RUN}-{next(_SPEAKERS)}", spec.url)


def _voicechat(spec: LoadSpec) -> ProtocolClient:
    epoch_ms = int(SystemClock().utc().timestamp() * 1000)
    return RealtimeVoiceChatClient(epoch_ms=epoch_ms, packet_ms=spec.frame_s * 1000)


_WIRES = (
    Wire(
        name=OPENAI_REALTIME,
        path="/v1/realtime",
        rate_hz=realtime.WIRE_RATE_HZ,
        frames_ms=(20, 40, 60, 100),
        conversation=True,
        ready="message",
        not_observable=frozenset(),
        new_client=lambda spec: RealtimeClient(transcription=spec.transcription),
        append=RealtimeClient.append,
        may_transcribe_only=True,
    ),
    Wire(
        name=REALTIMEVOICECHAT,
        path="/ws",
        rate_hz=realtimevoicechat.WIRE_RATE_HZ,
        # As its page sends them, or shorter.
        frames_ms=(realtimevoicechat.PACKET_MS, 20, 40),
        conversation=True,
        ready="inferred",
        not_observable=frozenset(),
        new_client=_voicechat,
        append=None,
    ),
    Wire(
        name=REALTIMESTT,
        path="/ws/transcribe",
        rate_hz=realtimestt.WIRE_RATE_HZ,
        frames_ms=(20, 40, 60, 100),
        conversation=False,
        ready="message",
        not_observable=NO_REPLIES,
        new_client=lambda _: RealtimeSTTClient(),
        append=RealtimeSTTClient.append,
    ),
    Wire(
        name=WHISPERLIVE,
        path="/",
        rate_hz=whisperlive.WIRE_RATE_HZ,
        # Its own client sends 4096 samples at a time.
        frames_ms=(256, 20, 40, 60, 100),
        conversation=False,
        ready="message",
        not_observable=NO_REPLIES | NO_TURNS,
        new_client=_whisperlive,
        append=WhisperLiveClient.append,
        # More of an utterance is looked at only with another second of audio.
        settle_s=3.0,
    ),
)

WIRES = MappingProxyType({wire.name: wire for wire in _WIRES})
"""By name."""


def wire_of_path(path: str) -> Wire | None:
    """Whose endpoint a path is, as far as it tells.

    >>> [wire.name for wire in map(wire_of_path, ["/v1/realtime", "/box/ws/"]) if wire]
    ['openai-realtime', 'realtimevoicechat']
    """
    endings = sorted(_WIRES, key=lambda wire: -len(wire.path))
    bare = path.rstrip("/")
    return next((wire for wire in endings if wire.path != "/" and bare.endswith(wire.path)), None)


def is_told(url: str) -> bool:
    """Whether a URL says which protocol is spoken there."""
    return wire_of_path(urlsplit(url).path) is not None


def wire_for(protocol: str, url: str) -> Wire:
    """The protocol that was named; of "auto", what the path tells, or our own until asked.

    Raises:
        UsageError: nobody knows it.
    """
    if protocol == AUTO:
        return wire_of_path(urlsplit(url).path) or WIRES[OPENAI_REALTIME]
    wire = WIRES.get(protocol)
    if wire is None:
        known = ", ".join([AUTO, *WIRES])
        raise UsageError(f"expected a protocol ({known}), got {protocol!r}")
    return wire
