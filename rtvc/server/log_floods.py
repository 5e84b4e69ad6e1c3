"""Entries of a log that are alike: so many a minute, and how many more there were.

What a stranger brings about again and again, such as messages that cannot be read, would fill a
disk and hide what matters. Errors are never left out: nobody outside can bring them about at will.
"""

import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass

from rtvc.clock import Clock

MOST = 30
"""Entries that are alike, in WITHIN_S."""
WITHIN_S = 60.0
KINDS = 256
"""Kinds that are counted; of more, those that were seen last."""
_SUFFIX = "left_out"


@dataclass(slots=True)
class _Stretch:
    """Entries of one kind since an instant."""

    began_s: float
    count: int = 0

    @property
    def left_out(self) -> int:
        return max(0, self.count - MOST)


class FewOfAKind(logging.Filter):
    """Lets an entry pass unless there were too many like it; alike are those of one line of code
    and one logger, whatever they are filled with."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._kinds: OrderedDict[tuple[str, str], _Stretch] = OrderedDict()
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            return True
        with self._lock:
            stretch, before = self._stretch((record.name, str(record.msg)))
            stretch.count += 1
            count = stretch.count
        if before:
            setattr(record, _SUFFIX, f" (before this, {before} more like it were left out)")
        elif count == MOST:
            setattr(record, _SUFFIX, " (more like this are left out for a while, and counted)")
        return count <= MOST

    def _stretch(self, kind: tuple[str, str]) -> tuple[_Stretch, int]:
        """The one that an entry of now belongs to; how many the one before it left out."""
        now_s, found = self._clock.now(), self._kinds.get(kind)
        if found is not None and now_s - found.began_s < WITHIN_S:
            self._kinds.move_to_end(kind)
            return found, 0
        new = self._kinds[kind] = _Stretch(now_s)
        self._kinds.move_to_end(kind)
        if len(self._kinds) > KINDS:
            self._kinds.popitem(last=False)
        return new, 0 if found is None else found.left_out


def left_out(record: logging.LogRecord) -> str:
    """What is to be said of entries like this one that are not there; usually nothing."""
    return str(getattr(record, _SUFFIX, ""))
