"""Every error rtvc raises on purpose.

RtvcError
├── UsageError           a flag, setting or file given by the user is wrong      (exit 2)
├── AudioError           audio that cannot be read or has the wrong shape        (exit 2)
├── ProtocolError        a message that does not keep to its protocol
├── AdmissionRefused     one caller too many; says why and when to try again
├── TranscriberError     speech-to-text failed
│   ├── ModelError       a model that cannot be found or loaded                  (exit 2)
│   │   └── MissingEngineError  a package that an engine needs is not installed  (exit 2)
│   └── EngineDied       the engine's process ended; its jobs may be retried
├── ReplyError           the language model or the synthesizer failed
├── CloudError           EC2's metadata service or AWS did not do as it was asked
├── RecordError          a run directory that cannot be read or written          (exit 2)
├── ProfileError         a server that cannot be looked into: refused, gone, not Python
└── RunVoid              a measurement that proves nothing                       (exit 3)
"""

import re
from typing import Literal

ReplyTrouble = Literal[
    "timeout",
    "connect",
    "refused",
    "garbage",
    "too_long",
    "broken_off",
    "breaker_open",
    "other",
]
"""Why a reply failed: one of these and no other, as they are labels of a metric."""

CloudTrouble = Literal[
    "unreachable",
    "credentials",
    "denied",
    "throttled",
    "not_in_service",
    "no_action",
    "other",
]
"""Why AWS did not do as it was asked: what is logged once a kind."""

_ERRNO = re.compile(r"\[Errno -?\d+\] ")


def why(error: BaseException) -> str:
    """What another's error says, on one line and without its number.

    >>> why(FileNotFoundError(2, "No such file or directory", "x.wav")), why(ValueError())
    ('No such file or directory', 'ValueError')
    """
    said = getattr(error, "strerror", None) or str(error)
    return _ERRNO.sub("", " ".join(str(said).split())) or type(error).__name__


class RtvcError(Exception):
    """Root of all; its message is one line for a person."""

    exit_code = 1


class UsageError(RtvcError):
    """A flag, setting or file given by the user is wrong."""

    exit_code = 2


class AudioError(RtvcError):
    """Audio that cannot be read or has the wrong shape."""

    exit_code = 2


class ProtocolError(RtvcError):
    """A message that does not keep to its protocol."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "invalid_value",
        param: str | None = None,
        event_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.param = param
        self.event_id = event_id


class AdmissionRefused(RtvcError):
    """One caller too many."""

    def __init__(self, reason: str, *, retry_after_s: float) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class TranscriberError(RtvcError):
    """Speech-to-text failed."""


class ModelError(TranscriberError):
    """A model that cannot be found or loaded."""

    exit_code = 2


class MissingEngineError(ModelError):
    """A package that an engine needs is not installed; says how to get it."""


class EngineDied(TranscriberError):
    """The engine's process ended; its jobs may be retried."""


class ReplyError(RtvcError):
    """The language model or the synthesizer failed."""

    def __init__(
        self, message: str, *, reason: ReplyTrouble = "other", status: int | None = None
    ) -> None:
        super().__init__(message)
        self.reason: ReplyTrouble = reason
        self.status = status
        """Of the HTTP answer that refused; None: there was none."""
        self.service: Literal["llm", "tts"] | None = None
        """Which of the two it was, where that is known."""


class CloudError(RtvcError):
    """EC2's metadata service or AWS did not do as it was asked."""

    def __init__(self, message: str, *, trouble: CloudTrouble = "other") -> None:
        super().__init__(message)
        self.trouble: CloudTrouble = trouble


class RecordError(RtvcError):
    """A run directory that cannot be read or written."""

    exit_code = 2


class ProfileError(RtvcError):
    """A server that cannot be looked into: refused, gone, not Python."""


class RunVoid(RtvcError):
    """A measurement that proves nothing, such as one by a saturated generator."""

    exit_code = 3
