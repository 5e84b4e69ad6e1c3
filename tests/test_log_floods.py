"""The same entry again and again: so many, then their number."""

import logging
import subprocess
import sys
import threading

import pytest

from rtvc.clock import FakeClock
from rtvc.server.log_floods import KINDS, MOST, WITHIN_S, FewOfAKind
from rtvc.server.logs import SafeFormatter


class Log:
    """What passes, as it would be written."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.filter = FewOfAKind(self.clock)
        self.lines: list[str] = []

    def write(
        self,
        message: str = "message ignored: %s",
        *args: object,
        level: int = logging.WARNING,
        name: str = "rtvc.x",
    ) -> None:
        record = logging.LogRecord(name, level, "x.py", 1, message, args, None)
        if self.filter.filter(record):
            self.lines.append(SafeFormatter().format(record))


@pytest.fixture
def log() -> Log:
    return Log()


def test_a_flood_is_so_many_entries_and_a_count(log: Log) -> None:
    for number in range(1000):
        log.write("message ignored: %s", number)
    assert len(log.lines) == MOST
    assert log.lines[0] == "WARNING rtvc.x: message ignored: 0"
    assert log.lines[-1].endswith("(more like this are left out for a while, and counted)")
    log.clock.advance(WITHIN_S)
    log.write("message ignored: %s", "later")
    left_out = 1000 - MOST
    assert log.lines[-1] == (
        "WARNING rtvc.x: message ignored: later "
        f"(before this, {left_out} more like it were left out)"
    )
    log.write("message ignored: %s", "last")
    assert log.lines[-1] == "WARNING rtvc.x: message ignored: last"


def test_what_comes_now_and_then_is_all_there(log: Log) -> None:
    for _ in range(5 * MOST):
        log.write()
        log.clock.advance(WITHIN_S / MOST)
    assert len(log.lines) == 5 * MOST
    assert not any("before this" in line for line in log.lines)


def test_one_kind_does_not_hide_another(log: Log) -> None:
    for _ in range(2 * MOST):
        log.write()
    log.write("a session ended")
    log.write(name="rtvc.y")
    assert log.lines[-2:] == [
        "WARNING rtvc.x: a session ended",
        "WARNING rtvc.y: message ignored: %s",
    ]


def test_errors_are_never_left_out(log: Log) -> None:
    for _ in range(3 * MOST):
        log.write(level=logging.ERROR)
    assert len(log.lines) == 3 * MOST


def test_kinds_without_number_take_no_more_memory(log: Log) -> None:
    for number in range(4 * KINDS):
        log.write(f"kind {number}")
    assert len(log.lines) == 4 * KINDS
    assert len(log.filter._kinds) == KINDS


def test_threads_at_once_do_not_lose_count(log: Log) -> None:
    def flood() -> None:
        for _ in range(500):
            log.write()

    threads = [threading.Thread(target=flood) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(log.lines) == MOST
    log.clock.advance(WITHIN_S)
    log.write()
    assert f"{8 * 500 - MOST} more like it" in log.lines[-1]


def test_a_thousand_bad_messages_are_thirty_lines() -> None:
    code = (
        "import logging; from rtvc.server.logs import log_safely\n"
        "log_safely()\n"
        "for number in range(1000):\n"
        "    logging.getLogger('rtvc.x').warning('message ignored: %s', number)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert len(done.stderr.splitlines()) == MOST
