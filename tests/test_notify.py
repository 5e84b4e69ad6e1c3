"""What a service manager is told."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from rtvc.clock import FakeClock
from rtvc.server.lifecycle.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(10)
        yield listening


def test_it_is_told_each_step(manager: socket.socket) -> None:
    notifier = Notifier(FakeClock(12.5), manager.getsockname())
    notifier.ready()
    notifier.reloading()
    notifier.stopping()
    assert [manager.recv(1000) for _ in range(3)] == [
        b"READY=1",
        b"RELOADING=1\nMONOTONIC_USEC=12500000",
        b"STOPPING=1",
    ]


def test_an_abstract_address_begins_with_a_zero_byte() -> None:
    name = f"rtvc-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")
        listening.settimeout(10)
        Notifier(FakeClock(), f"@{name}").ready()
        assert listening.recv(1000) == b"READY=1"


async def test_the_watchdog_is_told_again_and_again(manager: socket.socket) -> None:
    manager.setblocking(False)
    notifier = Notifier(FakeClock(), manager.getsockname(), watchdog_s=0.02)
    watching = asyncio.create_task(notifier.watch())
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10):
        told = [await loop.sock_recv(manager, 1000) for _ in range(3)]
    assert told == [b"WATCHDOG=1"] * 3
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_without_a_manager_nothing_is_done() -> None:
    notifier = Notifier(FakeClock(), None, watchdog_s=0.02)
    notifier.ready()
    await notifier.watch()


async def test_a_manager_that_does_not_watch_is_not_told_so(manager: socket.socket) -> None:
    await Notifier(FakeClock(), manager.getsockname()).watch()
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(1000)


def test_a_manager_that_is_gone_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Notifier(FakeClock(), str(tmp_path / "gone")).ready()
    assert "not to be told" in caplog.text


@pytest.mark.parametrize(
    ("patience_us", "pid", "watches"),
    [("40000", "", True), ("40000", "own", True), ("40000", "1", False), ("0", "", False)],
)
async def test_the_environment_says_who_is_told(
    manager: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    patience_us: str,
    pid: str,
    watches: bool,
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    monkeypatch.setenv("WATCHDOG_USEC", patience_us)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)
    watching = asyncio.create_task(Notifier.of_this_process(FakeClock()).watch())
    await asyncio.sleep(0)
    assert watching.done() is not watches
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
