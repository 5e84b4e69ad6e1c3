"""What must not be recorded: secrets in settings, URLs and command lines."""

import re
import shlex
from collections.abc import Sequence
from typing import Any

HIDDEN = "(hidden)"
_SECRET_WORDS = {"key", "token", "secret", "password", "passwd", "authorization", "credentials"}
_SECRET_IN_TEXT = re.compile(
    r"(?i)((?:api[_-]?key|token|secret|password|authorization)=)[^\s&]+|(?<=://)[^/@\s]+@"
)


def is_secret_name(name: str) -> bool:
    """
    >>> is_secret_name("openai_api_key"), is_secret_name("max_tokens")
    (True, False)
    """
    return not _SECRET_WORDS.isdisjoint(re.split(r"[^a-z0-9]+", name.lower()))


def without_secrets(value: Any) -> Any:
    """The same settings, what is named like a secret or looks like one in a URL hidden.

    >>> without_secrets({"api_key": "k", "url": "ws://me:pw@box/?token=t", "n": 1})
    {'api_key': '(hidden)', 'url': 'ws://box/?token=(hidden)', 'n': 1}
    """
    if isinstance(value, dict):
        return {name: _unless_secret(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(inner) for inner in value]
    return _hide_in_text(value) if isinstance(value, str) else value


def _unless_secret(name: str, value: Any) -> Any:
    hide = is_secret_name(name) and value is not None
    return HIDDEN if hide else without_secrets(value)


def _hide_in_text(text: str) -> str:
    return _SECRET_IN_TEXT.sub(lambda found: found[1] + HIDDEN if found[1] else "", text)


def command_line(command: Sequence[str]) -> str:
    """Arguments as a shell takes them; the value after a flag named like a secret is hidden."""
    shown = []
    previous = ""
    for argument in command:
        follows_secret = previous.startswith("-") and is_secret_name(previous)
        shown.append(HIDDEN if follows_secret else _hide_in_text(argument))
        previous = argument
    return shlex.join(shown)
