"""What signals mean: reload, stop, and a terminal that went away."""

import asyncio
import os
import pty
import signal
import subprocess
import sys

import pytest

from rtvc.server.lifecycle.signals import Reading, Stop, StopSignals, Told


def there() -> bool:
    return True


def gone() -> bool:
    return False


def test_the_first_asks_and_the_second_does_not_wait() -> None:
    reading = Reading(at_terminal=True)
    assert reading.of(signal.SIGTERM, terminal_there=there) is Stop.GENTLY
    assert reading.of(signal.SIGTERM, terminal_there=there) is Stop.NOW
    assert reading.of(signal.SIGINT, terminal_there=there) is Stop.NOW


def test_a_person_at_a_terminal_has_less_patience() -> None:
    assert Reading(at_terminal=True).of(signal.SIGINT, terminal_there=there) is Stop.SOON


@pytest.mark.parametrize("at_terminal", [True, False])
def test_sighup_is_a_reload_and_no_stop(at_terminal: bool) -> None:
    reading = Reading(at_terminal)
    for _ in range(3):
        assert reading.of(signal.SIGHUP, terminal_there=lambda: at_terminal) == "reload"
    assert reading.of(signal.SIGTERM, terminal_there=there) is Stop.GENTLY


def test_a_terminal_that_is_gone_stops_the_server_once() -> None:
    reading = Reading(at_terminal=True)
    assert reading.of(signal.SIGHUP, terminal_there=gone) is Stop.GENTLY
    # A shell passes it on to its jobs.
    assert reading.of(signal.SIGHUP, terminal_there=gone) is None
    assert reading.of(signal.SIGTERM, terminal_there=gone) is Stop.NOW


def test_nohup_is_left_alone_by_its_terminal_and_still_reloads() -> None:
    reading = Reading(at_terminal=True, immune=True)
    assert reading.of(signal.SIGHUP, terminal_there=gone) is None
    assert reading.of(signal.SIGHUP, terminal_there=there) == "reload"


def test_a_stopping_server_reloads_nothing() -> None:
    reading = Reading(at_terminal=False)
    reading.of(signal.SIGTERM, terminal_there=gone)
    assert reading.of(signal.SIGHUP, terminal_there=gone) is None


async def test_what_came_early_is_told_first_and_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    told: asyncio.Queue[Told] = asyncio.Queue()
    with StopSignals(gone) as signals:
        os.kill(os.getpid(), signal.SIGHUP)
        signals.listen(told.put_nowait)
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await told.get() == "reload"
            assert await told.get() is Stop.GENTLY
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before


LISTENER = """
import asyncio, sys
from rtvc.server.lifecycle.signals import StopSignals

async def main():
    told = asyncio.Queue()
    signals.listen(told.put_nowait)
    sys.stdout.write("listening\\n"); sys.stdout.flush()
    while True:
        what = await told.get()
        sys.stdout.write(f"{what}\\n"); sys.stdout.flush()
        if what != "reload":
            return

with StopSignals() as signals:
    asyncio.run(main())
"""


@pytest.mark.slow
def test_at_a_real_terminal() -> None:
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", _at_terminal(os.ttyname(theirs))],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    os.close(theirs)
    with child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "listening\n"
            os.kill(child.pid, signal.SIGHUP)
            assert child.stdout.readline() == "reload\n"
            os.close(ours)  # The window is closed: the kernel sends SIGHUP.
            assert child.stdout.readline() == f"{Stop.GENTLY}\n"
        finally:
            child.kill()


def _at_terminal(name: str) -> str:
    """A session's leader takes the first terminal that it opens for its own."""
    return f"import os\nterminal = os.open({name!r}, os.O_RDWR)\n{LISTENER}"
