"""What must not be recorded, logged or reported: secrets in settings, URLs, headers, commands.

A secret is known by the name it goes by (`api_key=…`, `Authorization: …`), by its shape (`sk-…`),
or because it is told. Every repetition is bounded and none holds another one: the text may be
a stranger's.
"""

import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

HIDDEN = "(hidden)"
LEAST_CHARS = 4
"""A shorter secret is not looked for by its value: it would be found everywhere."""
_SECRET_WORDS = {
    "apikey",
    "authorization",
    "cookie",
    "credentials",
    "key",
    "passphrase",
    "passwd",
    "password",
    "secret",
    "token",
}
_NAMES = (
    r"[a-z0-9_-]{0,40}(?:api[_-]?key|access[_-]?key|passphrase|passwd|password|secret|token"
    r"|signature|authorization|credentials?)|key|sig|auth|pwd"
)
_PATTERNS = (
    # User and password of a URL: what stands around them is still an address.
    (re.compile(r"(?<=://)[^/?#\s\"'<>]{1,512}@"), ""),
    # A header, as a line or as an item of a printed dict.
    (
        re.compile(
            r"(?i)\b((?:proxy-)?authorization|x-api-key|(?:set-)?cookie)"
            r"([\"']?[ \t]{0,8}:[ \t]{0,8}b?[\"']?)[^\r\n\"']{1,4096}"
        ),
        rf"\1\2{HIDDEN}",
    ),
    (
        re.compile(
            r"\b((?i:bearer)[ \t]{1,8})(?!(?i:tokens?|auth)\b)(?=\S{5})[A-Za-z0-9._~+/=-]{1,4096}"
        ),
        rf"\1{HIDDEN}",
    ),
    (
        re.compile(r"\b((?i:basic)[ \t]{1,8})(?=[a-z]{0,200}[A-Z0-9+/=])[A-Za-z0-9+/=_-]{6,4096}"),
        rf"\1{HIDDEN}",
    ),
    # How a browser, which can set no header on a WebSocket, sends it.
    (re.compile(r"(?i)(openai-insecure-api-key\.)[^\s,;\"']{1,4096}"), rf"\1{HIDDEN}"),
    # A query, a form, a flag; `max_tokens=3` is none.
    (
        re.compile(
            rf"(?i)(?<![a-z0-9_-])({_NAMES})=(?:\"[^\"\r\n]{{0,4096}}\"|'[^'\r\n]{{0,4096}}'"
            r"|[^\s&\"'<>]{1,4096})"
        ),
        rf"\1={HIDDEN}",
    ),
    # An item of JSON or of a printed dict.
    (
        re.compile(
            r"(?i)([\"'][a-z0-9_-]{0,40}(?:api_?key|password|secret|token)[\"']"
            r"[ \t]{0,8}:[ \t]{0,8})([\"'])[^\"'\r\n]{1,4096}\2"
        ),
        rf"\1\2{HIDDEN}\2",
    ),
    # Keys by their shape; a name such as rtvc_turn_stage_seconds has neither digit nor capital.
    (
        re.compile(
            r"(?<![A-Za-z0-9])(?:sk-|ek_|rtvc_)(?=[a-z_-]{0,200}[A-Z0-9])[A-Za-z0-9_-]{8,4096}"
        ),
        HIDDEN,
    ),
)
PLACE = "(elsewhere)"
_PLACES = re.compile(
    r"(?i)\b[a-z][a-z0-9+.-]{1,20}://[^\s\"'<>)]{1,2048}"
    r"|(?<![\w.:/~-])~?/(?:[\w.+@%-]{1,255}/)+[\w.+@%-]{0,255}"
    r"|\b[a-z]:\\[^\s\"'<>|]{1,255}"
    r"|(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?(?![\w.])"
    r"|\[[0-9a-f]{0,4}:[0-9a-f:.%]{1,60}\](?::\d{1,5})?"
    r"|\b(?:localhost|[a-z][a-z0-9-]{0,62}(?:\.[a-z0-9-]{1,63}){1,8}):\d{2,5}\b"
)
"""URLs, paths of two steps or more, addresses, hosts with their ports."""


def is_secret_name(name: str) -> bool:
    """
    >>> is_secret_name("openai_api_key"), is_secret_name("accessToken")
    (True, True)
    >>> is_secret_name("max_tokens")
    False
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return not _SECRET_WORDS.isdisjoint(re.split(r"[^a-z0-9]+", words))


def hide(text: str, known: Iterable[str] = ()) -> str:
    """The text without what is, or looks like, a secret; `known`: secrets by their values.

    >>> hide("GET /v1?token=t&x=1 by Bearer hunter22, sk-abcdefgh12345678")
    'GET /v1?token=(hidden)&x=1 by Bearer (hidden), (hidden)'
    >>> hide("said hunter", ["hunter"])
    'said (hidden)'
    """
    for secret in sorted(known, key=len, reverse=True):
        if len(secret) >= LEAST_CHARS:
            text = text.replace(secret, HIDDEN)
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text


def without_places(text: str) -> str:
    """The text without secrets, and without where things are: for those who need not know.

    >>> without_places("cannot read /home/ann/model.bin, nor http://10.0.0.7:11434/v1")
    'cannot read (elsewhere), nor (elsewhere)'
    """
    return _PLACES.sub(PLACE, hide(text))


def places(text: str) -> list[str]:
    """
    >>> places("cannot read /home/ann/model.bin")
    ['/home/ann/model.bin']
    """
    return [found[0] for found in _PLACES.finditer(text)]


def without_secrets(value: Any) -> Any:
    """The same settings, what is named like a secret or looks like one hidden.

    >>> without_secrets({"api_key": "k", "url": "ws://me:pw@box/?token=t", "n": 1})
    {'api_key': '(hidden)', 'url': 'ws://box/?token=(hidden)', 'n': 1}
    """
    if isinstance(value, dict):
        return {name: _unless_secret(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(inner) for inner in value]
    return hide(value) if isinstance(value, str) else value


def _unless_secret(name: str, value: Any) -> Any:
    is_flag = value is None or isinstance(value, bool)
    return HIDDEN if is_secret_name(name) and not is_flag else without_secrets(value)


def command_line(command: Sequence[str]) -> str:
    """Arguments as a shell takes them; the value after a flag named like a secret is hidden."""
    shown = []
    previous = ""
    for argument in command:
        follows_secret = previous.startswith("-") and is_secret_name(previous)
        shown.append(HIDDEN if follows_secret else hide(argument))
        previous = argument
    return shlex.join(shown)
