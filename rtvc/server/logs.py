"""What `rtvc serve` writes to its log: no secret, no line that a stranger made up, none too long,
and not the same without end.

A log line may hold what a client sent or another server answered. A line feed or an escape
sequence in it would forge lines or play with a terminal, so control characters are spelled out.
"""

import logging
import re
import sys
import threading
from collections.abc import Iterable
from types import TracebackType

from rtvc.clock import Clock, SystemClock
from rtvc.hiding import hide
from rtvc.server.log_floods import FewOfAKind, left_out

_log = logging.getLogger(__name__)

LONGEST_LINE = 2000
"""Characters."""
LONGEST_ENTRY = 200
"""Lines of one entry, its traceback among them."""
_FORMAT = "%(levelname)s %(name)s: %(message)s"
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
"""C0 and C1, line and paragraph separators, marks that turn the direction of text, halves of
surrogate pairs."""


class SafeFormatter(logging.Formatter):
    """One line an entry; only a traceback adds more."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__(_FORMAT)
        self._secrets = tuple(secrets)

    def format(self, record: logging.LogRecord) -> str:
        head = self.formatMessage(self._filled(record))
        lines = [spelled(hide(head, self._secrets)) + left_out(record)]
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        for told in (record.exc_text, record.stack_info):
            # Indented, so that no line of it can pass for an entry of its own.
            lines += [f"  {spelled(line)}" for line in hide(told or "", self._secrets).splitlines()]
        return "\n".join(shortened(lines))

    def _filled(self, record: logging.LogRecord) -> logging.LogRecord:
        try:
            record.message = record.getMessage()
        except (TypeError, ValueError, KeyError):
            # logging itself would print the arguments as they are.
            record.message = f"{record.msg!r} {record.args!r}"
        return record


def spelled(line: str) -> str:
    r"""A line as it can be shown, on one line and not too long.

    >>> spelled("a\nERROR b\x1b[2J")
    'a\\nERROR b\\x1b[2J'
    """
    if len(line) > LONGEST_LINE:
        line = f"{line[:LONGEST_LINE]}… ({len(line)} characters)"
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), line)


def shortened(lines: list[str]) -> list[str]:
    """The beginning and the end of what is too long: a traceback's last line says the most."""
    if len(lines) <= LONGEST_ENTRY:
        return lines
    half = LONGEST_ENTRY // 2
    left_out = len(lines) - 2 * half
    return [*lines[:half], f"  … {left_out} lines …", *lines[-half:]]


def log_safely(secrets: Iterable[str] = (), clock: Clock | None = None) -> None:
    """Let every logger of this process write to stderr by these rules; `secrets`: by value."""
    handler = logging.StreamHandler()
    handler.setFormatter(SafeFormatter(secrets))
    handler.addFilter(FewOfAKind(clock or SystemClock()))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def _uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    _log.critical("not expected", exc_info=(kind, error, traceback))


def _uncaught_in_thread(told: threading.ExceptHookArgs) -> None:
    if told.exc_value is not None and not isinstance(told.exc_value, SystemExit):
        _uncaught(told.exc_type, told.exc_value, told.exc_traceback)
