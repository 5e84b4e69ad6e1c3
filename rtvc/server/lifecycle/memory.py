"""Has the C library hand memory back, so that it follows who is on the line.

glibc raises the size from which a block is a mapping of its own to that of each such block that is
freed (up to 32 MiB). From then on the audio of sessions, up to 2 MB each, comes from heaps, of
which there are several, and what is freed in the midst of a heap stays with the process: the most
callers there ever were are paid for ever after. So the sizes are fixed, and now and then what is
free in heaps is handed back, too. (mallopt(3): M_MMAP_THRESHOLD, M_ARENA_MAX; malloc_trim(3).)
"""

import asyncio
import ctypes
from contextlib import suppress

from rtvc.config import interface

_ARENA_MAX, _MMAP_THRESHOLD = -8, -3
"""As in malloc.h."""
ARENAS = 2
MAPPED_FROM_BYTES = 256 * 1024
"""Four seconds of audio; below that a mapping costs more than it gives."""
EVERY_S = 30.0
"""Between two looks at the heaps, each a few milliseconds in a thread."""
_USERS = ("GLIBC_TUNABLES", "MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_")
"""Whoever sets one of these knows what they want."""


def hand_back_memory() -> bool:
    """Whether large blocks will be; False: another C library, or the user has said otherwise."""
    if _not_ours_to_say():
        return False
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(_ARENA_MAX, ARENAS) and mallopt(_MMAP_THRESHOLD, MAPPED_FROM_BYTES))
    return False


async def keep_handing_back(every_s: float = EVERY_S) -> None:
    """What is free in heaps, again and again; ends at once where that is not ours to say."""
    if _not_ours_to_say():
        return
    with suppress(OSError, AttributeError):
        trim = ctypes.CDLL(None).malloc_trim
        while True:
            await asyncio.sleep(every_s)
            await asyncio.to_thread(trim, 0)


def _not_ours_to_say() -> bool:
    return any(interface(name) for name in _USERS)
