"""What every client asks of what it receives: JSON, an object, fields of the right kind, and
whether it belongs to another protocol altogether."""

import json
from typing import Any

from rtvc.loadtest.wire.observations import TurnedAway

Message = dict[str, Any]

Outgoing = str | bytes
"""A message to send: text or binary."""

UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What reading the fields of a message may raise."""

OPENAI_REALTIME = "openai-realtime"
REALTIMEVOICECHAT = "realtimevoicechat"
REALTIMESTT = "realtimestt"
WHISPERLIVE = "whisperlive"

_VOICECHAT_TYPES = frozenset(
    {
        *("partial_user_request", "final_user_request"),
        *("partial_assistant_answer", "final_assistant_answer"),
        *("tts_chunk", "stop_tts", "tts_interruption"),
    }
)
_STT_TYPES = frozenset({"hello", "ready", "timeline", "realtime", "final", "status", "warning"})
_OPENAI_FAMILIES = (
    "session.",
    "conversation.",
    "input_audio_buffer.",
    "response.",
    "rate_limits.",
    "transcription_session.",
    "rtvc.",
)


def read_message(message: str | bytes) -> Message | str:
    """The JSON object, or the name under which what came instead is counted.

    >>> read_message('{"a": 1}'), read_message("[1]"), read_message(b"\\xff")
    ({'a': 1}, 'garbage_not_object', 'garbage_not_json')
    """
    try:
        event = json.loads(message)
    except (ValueError, RecursionError):
        return "garbage_not_json"
    return event if isinstance(event, dict) else "garbage_not_object"


def text_of(event: Message, field: str) -> str:
    """Raises TypeError where it is none."""
    value = event[field]
    if not isinstance(value, str):
        raise TypeError(field)
    return value


def number_of(value: Any) -> float:
    """A finite number, also one that is written as text.

    >>> number_of("2.500"), number_of(3)
    (2.5, 3.0)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(f"expected a number, got {type(value).__name__}")
    number = float(value)
    if not -1e9 < number < 1e9:  # also false for NaN
        raise ValueError(f"expected a number of a sensible size, got {number}")
    return number


def protocol_of(event: Message) -> str | None:
    """Whose message it is, as far as its looks tell.

    >>> protocol_of({"type": "session.created", "session": {}})
    'openai-realtime'
    >>> protocol_of({"uid": "u", "message": "SERVER_READY"})
    'whisperlive'
    """
    kind = event.get("type")
    if not isinstance(kind, str):
        return WHISPERLIVE if "uid" in event else None
    if kind.startswith(_OPENAI_FAMILIES):
        return OPENAI_REALTIME
    if kind in _VOICECHAT_TYPES and "content" in event:
        return REALTIMEVOICECHAT
    if kind == "error":
        return _whose_error(event)
    return REALTIMESTT if kind in _STT_TYPES and "sessionId" in event else None


def _whose_error(event: Message) -> str | None:
    if "where" in event:
        return REALTIMESTT
    return OPENAI_REALTIME if isinstance(event.get("error"), dict) else None


def stranger(own: str, event: Message, at_s: float) -> TurnedAway | None:
    """The first words of a server that speaks another protocol than `own`."""
    spoken = protocol_of(event)
    if spoken is None or spoken == own:
        return None
    reason = f"wrong protocol: the server speaks {spoken}, not {own}"
    return TurnedAway(at_s, "failed", "wrong_protocol", reason)
