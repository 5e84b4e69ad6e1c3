"""Messages that know the protocol well enough to be wrong where it hurts.

Each wire has a grammar: one builder for each event a client may send, which makes a good one from
chance. A mutation then damages it: types, bounds, unicode, nesting, missing and doubled fields,
base64, JSON, and which kind of frame it comes in. Ids come from a small pool and events in any
order, so that what refers to something sometimes hits it. The same seed gives the same messages.
"""

import base64
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

from tests.hostile.frames import BINARY, TEXT, frame

Wire = Literal["realtime", "realtimevoicechat"]
PATHS: dict[Wire, str] = {"realtime": "/v1/realtime?rtvc=1", "realtimevoicechat": "/ws"}
Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One WebSocket message."""

    kind: str
    """The event it is, or was before it was damaged."""
    mutation: str
    """What was done to it."""
    payload: bytes
    """As it is sent."""
    binary: bool
    """Whether it is sent as a binary frame."""
    ends: bool = False
    """Whether the server has to close the connection for it."""

    def frame(self) -> bytes:
        return frame(BINARY if self.binary else TEXT, self.payload)


# Good ones

_IDS = tuple(f"item_{number}" for number in range(12))
_WORDS = ("hello", "turn on the light", "", "ünïcödé 語 🎈", "a" * 400)
_SILENCE = {size: base64.b64encode(bytes(size)).decode() for size in (0, 2, 960, 2880, 9600)}


def _audio(rng: random.Random) -> str:
    chance = rng.random()
    if chance < 0.75:
        return _SILENCE[rng.choice((0, 2, 960, 2880, 9600))]
    noise = rng.randbytes(rng.choice((1, 2, 320, 960, 2880)))
    return base64.b64encode(noise).decode()


def _part(rng: random.Random, role: str) -> Event:
    if role == "assistant":
        return {"type": "output_text", "text": rng.choice(_WORDS)}
    if role == "user" and rng.random() < 0.3:
        return {"type": "input_audio", "audio": _audio(rng), "transcript": rng.choice(_WORDS)}
    return {"type": "input_text", "text": rng.choice(_WORDS)}


def _item(rng: random.Random) -> Event:
    kind = rng.randrange(4)
    if kind == 0:
        return {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c"}
    if kind == 1:
        return {"type": "function_call_output", "call_id": "c", "output": rng.choice(_WORDS)}
    role = rng.choice(("user", "assistant", "system"))
    content = [_part(rng, role) for _ in range(rng.randrange(4))]
    return {"id": rng.choice(_IDS), "type": "message", "role": role, "content": content}


def _session(rng: random.Random) -> Event:
    detection = rng.choice(
        (
            None,
            {"type": "server_vad", "threshold": rng.random(), "silence_duration_ms": 300},
            {"type": "semantic_vad", "eagerness": rng.choice(("low", "medium", "high", "auto"))},
        )
    )
    audio_format = {"type": rng.choice(("audio/pcm", "audio/pcmu", "audio/pcma"))}
    tools = [{"type": "function", "name": "f", "parameters": {"a": 1}}]
    return {
        "type": "realtime",
        "instructions": rng.choice(_WORDS),
        "tools": rng.choice(([], tools)),
        "tracing": rng.choice((None, "auto", {"workflow_name": "w", "metadata": {"a": 1}})),
        "max_output_tokens": rng.choice(("inf", 1, 4096)),
        "audio": {
            "input": {
                "format": audio_format,
                "turn_detection": detection,
                "transcription": rng.choice((None, {"language": "en", "prompt": "p"})),
            },
            "output": {"voice": rng.choice(("en-us", {"id": "x"})), "speed": 1.0},
        },
    }


def _response(rng: random.Random) -> Event:
    return {
        "output_modalities": ["text"],
        "conversation": "none",
        "instructions": rng.choice(_WORDS),
        "input": [_item(rng) for _ in range(rng.randrange(3))],
        "metadata": {"a": "b"},
    }


def _of(kind: str, **fields: Callable[[random.Random], Any]) -> Callable[[random.Random], Event]:
    def build(rng: random.Random) -> Event:
        event: Event = {"type": kind}
        if rng.random() < 0.5:
            event["event_id"] = f"e{rng.randrange(1000)}"
        return event | {name: make(rng) for name, make in fields.items()}

    return build


def _id(rng: random.Random) -> str:
    return rng.choice(_IDS)


REALTIME: dict[str, tuple[float, Callable[[random.Random], Event]]] = {
    "session.update": (6, _of("session.update", session=_session)),
    "input_audio_buffer.append": (30, _of("input_audio_buffer.append", audio=_audio)),
    "input_audio_buffer.commit": (4, _of("input_audio_buffer.commit")),
    "input_audio_buffer.clear": (6, _of("input_audio_buffer.clear")),
    "conversation.item.create": (
        14,
        _of(
            "conversation.item.create",
            item=_item,
            previous_item_id=lambda rng: rng.choice((None, "root", *_IDS)),
        ),
    ),
    "conversation.item.delete": (10, _of("conversation.item.delete", item_id=_id)),
    "conversation.item.retrieve": (8, _of("conversation.item.retrieve", item_id=_id)),
    "conversation.item.truncate": (
        8,
        _of(
            "conversation.item.truncate",
            item_id=_id,
            content_index=lambda rng: 0,
            audio_end_ms=lambda rng: rng.randrange(10_000),
        ),
    ),
    "response.create": (2, _of("response.create", response=_response)),
    "response.cancel": (8, _of("response.cancel", response_id=lambda rng: "resp_1")),
    "output_audio_buffer.clear": (4, _of("output_audio_buffer.clear")),
}
"""Event → how often, and its builder."""

PACKET = "audio packet"
REALTIMEVOICECHAT: dict[str, tuple[float, Callable[[random.Random], Event]]] = {
    "tts_start": (6, lambda rng: {"type": "tts_start"}),
    "tts_stop": (6, lambda rng: {"type": "tts_stop"}),
    "clear_history": (6, lambda rng: {"type": "clear_history"}),
    "set_speed": (10, lambda rng: {"type": "set_speed", "speed": rng.randrange(101)}),
    PACKET: (40, lambda rng: {}),
}


def packet(rng: random.Random) -> bytes:
    """Audio as the page sends it; damaged one time in three."""
    samples = rng.choice((0, 1, 160, 480, 2048))
    pcm = bytes(2 * samples) if rng.random() < 0.8 else rng.randbytes(2 * samples)
    head = rng.randrange(2**32).to_bytes(4, "big") + rng.choice((0, 1, 2**32 - 1)).to_bytes(
        4, "big"
    )
    whole = head + pcm
    damage = rng.randrange(12)
    if damage == 0:
        return whole[: rng.randrange(8)]
    if damage == 1:
        return whole + b"\x01"
    if damage == 2:
        return rng.randbytes(rng.randrange(64))
    return whole


# Damage to the event

_ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**53 + 1, -(2**63), 10**30, 10**400, 0.5, -0.0, 1e308),
    *(
        "",
        "x",
        "\x00",
        "\ud800",
        "\u202e",
        "a\u0300" * 50,
        "🏴" * 9,
        "../../etc/passwd",
        "x" * 5000,
    ),
    *([], [[]], [None] * 70, {}, {"type": None}, {"type": "x"}, {"id": {"id": {}}}, ["text"] * 3),
)
_STRANGE = ("\ud800", "\udfff\ud800", "\x00\x01", "\ufeff", "\u2028", "﷽" * 40, "𝟏", "İ", "'\"\\")


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of everything inside."""
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    for key in list(keys):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


def _somewhere(rng: random.Random, event: Event) -> tuple[Any, Any]:
    return rng.choice(list(_places(event)))


def _wrong_value(rng: random.Random, event: Event) -> None:
    container, key = _somewhere(rng, event)
    container[key] = rng.choice(_ODD)


def _missing(rng: random.Random, event: Event) -> None:
    container, key = _somewhere(rng, event)
    del container[key]


def _extra(rng: random.Random, event: Event) -> None:
    container, _ = _somewhere(rng, event)
    if isinstance(container, dict):
        container[rng.choice(("extra", "__proto__", "", "type ", "\ud800"))] = rng.choice(_ODD)
    else:
        container.append(rng.choice(_ODD))


def _bounds(rng: random.Random, event: Event) -> None:
    for container, key in list(_places(event)):
        value = container[key]
        if isinstance(value, bool):
            continue
        if isinstance(value, int | float):
            container[key] = rng.choice((-1, 2**31, 2**63, -(2**63) - 1, 10**25, 1e300, 0.1))
        elif isinstance(value, str) and key != "type" and rng.random() < 0.3:
            container[key] = rng.choice(("", "x" * 513, "y" * 20_000))


def _unicode(rng: random.Random, event: Event) -> None:
    for container, key in list(_places(event)):
        if isinstance(container[key], str) and key != "type":
            container[key] = rng.choice(_STRANGE)


def _nesting(rng: random.Random, event: Event) -> None:
    deep: Any = rng.choice(([], {}))
    for _ in range(rng.choice((30, 150, 400))):
        deep = [deep] if rng.random() < 0.5 else {"a": deep}
    container, key = _somewhere(rng, event)
    container[key] = deep


def _unknown_type(rng: random.Random, event: Event) -> None:
    event["type"] = rng.choice(("", "error", "session.created", "rtvc.turn", "x" * 300, "\ud800"))


def _base64(rng: random.Random, event: Event) -> None:
    text = _audio(rng)
    event["audio"] = rng.choice((text[:-1], text + "=", text + "====", "*" + text, " " + text, "ü"))
    event["type"] = event.get("type") if "item" in event else "input_audio_buffer.append"


IN_EVENT: dict[str, Callable[[random.Random, Event], None]] = {
    "wrong value": _wrong_value,
    "missing field": _missing,
    "extra field": _extra,
    "bounds": _bounds,
    "unicode": _unicode,
    "nesting": _nesting,
    "unknown type": _unknown_type,
    "base64": _base64,
}

# Damage to the text


def _truncated(rng: random.Random, text: bytes) -> bytes:
    return text[: rng.randrange(len(text))]


def _flipped(rng: random.Random, text: bytes) -> bytes:
    at = rng.randrange(len(text))
    return text[:at] + bytes((rng.randrange(32, 127),)) + text[at + 1 :]


def _doubled(rng: random.Random, text: bytes) -> bytes:
    more = rng.choice((b'"type":"x"', b'"type":null', b'"event_id":7', b'"session":{}'))
    return text[:-1] + b"," + more + b"}"


def _number(rng: random.Random, text: bytes) -> bytes:
    odd = rng.choice((b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"9" * 5000, b"01"))
    if b'"a":1' in text:
        return text.replace(b'"a":1', b'"a":' + odd)
    return text[:-1] + b',"event_id":' + odd + b',"speed":' + odd + b"}"


def _deep(rng: random.Random, text: bytes) -> bytes:
    depth = rng.choice((300, 3000, 30_000))
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}")))
    return text[:-1] + b',"x":' + opening * depth + b"1" + closing * rng.choice((0, depth)) + b"}"


def _other_json(rng: random.Random, text: bytes) -> bytes:
    whole = (b"", b" ", b"null", b"7", b'"x"', b"[]", b"[" + text + b"]", text * 2, b"\xef\xbb\xbf")
    return rng.choice((*whole, text.replace(b'"', b"'"), text[:-1] + b",}", b"//" + text))


def _surrogate(rng: random.Random, text: bytes) -> bytes:
    lone = rng.choice((b"\\ud800", b"\\udc00", b"\\ud800\\ud800", b"\\uD83D", b"\\u0000"))
    return text[:-1] + b',"item_id":"' + lone + b'","event_id":"' + lone + b'"}'


def _large(rng: random.Random, text: bytes) -> bytes:
    return text[:-1] + b',"x":"' + b"x" * rng.choice((70_000, 300_000)) + b'"}'


IN_TEXT: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "truncated": _truncated,
    "flipped": _flipped,
    "doubled key": _doubled,
    "odd number": _number,
    "deep": _deep,
    "other JSON": _other_json,
    "lone surrogate": _surrogate,
    "large": _large,
}
_WEIGHTS = {"none": 20.0, "large": 0.05, "deep": 0.5, "nesting": 1.0, "not text": 0.1}
MUTATIONS = ("none", *IN_EVENT, *IN_TEXT, "as binary", "as text", "not text")
"""What may be done to a message."""
_CUMULATED = list(accumulate(_WEIGHTS.get(name, 3.0) for name in MUTATIONS))


class Messages:
    """An endless row of messages for one wire."""

    def __init__(self, wire: Wire, rng: random.Random) -> None:
        self._rng = rng
        grammar = REALTIME if wire == "realtime" else REALTIMEVOICECHAT
        self._builders = {kind: build for kind, (_, build) in grammar.items()}
        self._kinds = list(grammar)
        self._weights = list(accumulate(weight for weight, _ in grammar.values()))

    def __iter__(self) -> Iterator[Message]:
        while True:
            yield self.next()

    def next(self) -> Message:
        rng = self._rng
        kind = rng.choices(self._kinds, cum_weights=self._weights)[0]
        mutation = rng.choices(MUTATIONS, cum_weights=_CUMULATED)[0]
        return self.made(kind, mutation)

    def made(self, kind: str, mutation: str) -> Message:
        """That event, damaged in that way."""
        rng = self._rng
        if kind == PACKET:
            binary, payload = mutation != "as text", packet(rng)
            if not binary and rng.random() < 0.9:
                payload = bytes(byte & 127 for byte in payload)
            ends = not binary and not _is_utf8(payload)
            return Message(kind, mutation, payload, binary=binary, ends=ends)
        event = json.loads(json.dumps(self._builders[kind](rng)))
        if mutation in IN_EVENT:
            IN_EVENT[mutation](rng, event)
        text = json.dumps(event, separators=(",", ":"), ensure_ascii=rng.random() < 0.5)
        payload = text.encode("utf-8", "replace")
        if mutation in IN_TEXT:
            payload = IN_TEXT[mutation](rng, payload)
        if mutation == "not text":
            payload += b"\xff"
        binary = mutation == "as binary"
        ends = not binary and not _is_utf8(payload)
        return Message(kind, mutation, payload, binary=binary, ends=ends)


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
