"""How long it took until callers could come in."""

import sys
from datetime import UTC, datetime, timedelta

import psutil
import pytest

from rtvc.clock import SystemClock
from rtvc.server.measuring.boot import FIRST_START_S, Boot, process_age_s

LAUNCHED = datetime(2026, 1, 31, 8, 0, tzinfo=UTC)


def boot(ready_s: float, process_s: float | None, *, launched: datetime | None = LAUNCHED) -> Boot:
    """Ready so long after the launch, by a process that is so old."""
    made = Boot()
    made.launched(launched)
    made.ready(process_s, LAUNCHED + timedelta(seconds=ready_s))
    return made


def test_both_are_known_once_it_is_ready() -> None:
    made = Boot()
    made.launched(LAUNCHED)
    assert (made.process_s, made.instance_s) == (None, None)
    made.ready(40.0, LAUNCHED + timedelta(seconds=130))
    assert (made.process_s, made.instance_s) == (40.0, 130.0)


def test_the_launch_may_become_known_later() -> None:
    made = boot(130, 40.0, launched=None)
    assert (made.process_s, made.instance_s) == (40.0, None)
    made.launched(LAUNCHED)
    assert made.instance_s == 130.0


@pytest.mark.parametrize(
    ("ready_s", "process_s", "expected"),
    [
        (130, 40.0, 130.0),
        (FIRST_START_S + 40, 40.0, FIRST_START_S + 40),
        # A second start, days later.
        (FIRST_START_S + 41, 40.0, None),
        # A clock that is not set yet.
        (-3600, 40.0, None),
        (30, 40.0, None),
        (130, None, None),
    ],
)
def test_only_the_first_start_after_a_launch_counts(
    ready_s: float, process_s: float | None, expected: float | None
) -> None:
    assert boot(ready_s, process_s).instance_s == expected


@pytest.mark.skipif(sys.platform != "linux", reason="the age of a process is read from /proc")
def test_the_age_of_this_process() -> None:
    age_s = process_age_s()
    began_at_s = psutil.Process().create_time()
    expected_s = SystemClock().utc().timestamp() - began_at_s
    # psutil counts from an instant of the wall clock, in whole seconds.
    assert age_s == pytest.approx(expected_s, abs=5)
    assert (process_age_s() or 0) >= (age_s or 0)
