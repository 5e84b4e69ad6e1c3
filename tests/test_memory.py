"""Memory goes back to the system when those whose audio it held have gone."""

import platform
import subprocess
import sys

import pytest

CALLERS = """
import sys
import numpy as np
import psutil
from rtvc.server.lifecycle.memory import hand_back_memory

done = hand_back_memory() if sys.argv[1] == "yes" else None
np.ones(1 << 20).sum()  # freed at once: from now on glibc takes blocks of this size from heaps
process, kept = psutil.Process(), []
before = process.memory_info().rss
callers = []
for _ in range(100):
    callers.append(np.ones(300_000, np.float32))
    kept.append(bytes(100_000))
most = process.memory_info().rss
callers.clear()
print(done, most - before, process.memory_info().rss - before)
"""
HEAPS = """
import asyncio
import sys
import psutil
from rtvc.server.lifecycle.memory import keep_handing_back

process, kept = psutil.Process(), []
before = process.memory_info().rss
words = []
for _ in range(30_000):
    words.append(bytes(8_000))  # small: never a mapping of its own
    if len(words) % 10 == 0:
        kept.append(bytes(600))
most = process.memory_info().rss
words.clear()

async def wait():
    trimming = asyncio.create_task(keep_handing_back(0.01))
    await asyncio.sleep(0.5 if sys.argv[1] == "yes" else 0)
    trimming.cancel()

asyncio.run(wait())
print(None, most - before, process.memory_info().rss - before)
"""
MIB = 1 << 20


def callers(asked: str, script: str = CALLERS, **environment: str) -> tuple[str, int, int]:
    """What it said, and how many bytes a crowd took: while there, and afterwards."""
    command = [sys.executable, "-c", script, asked]
    done = subprocess.run(
        ["env", *(f"{name}={value}" for name, value in environment.items()), *command],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said, most, left = done.stdout.split()
    return said, int(most), int(left)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_what_a_crowd_held_is_handed_back_when_it_has_gone() -> None:
    said, most, left = callers("yes")
    assert said == "True"
    assert most > 100 * MIB
    assert left < 30 * MIB
    _, most, left = callers("no")
    assert most > 100 * MIB
    assert left > 80 * MIB, "otherwise this shows nothing"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_what_is_free_in_heaps_is_handed_back_too() -> None:
    _, most, left = callers("yes", HEAPS)
    assert most > 200 * MIB
    assert left < 60 * MIB
    _, most, left = callers("no", HEAPS)
    assert left > 150 * MIB, "otherwise this shows nothing"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_who_has_set_the_c_library_is_not_overruled() -> None:
    assert callers("yes", MALLOC_ARENA_MAX="4")[0] == "False"
