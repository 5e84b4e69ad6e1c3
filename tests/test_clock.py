"""Clocks."""

from datetime import UTC, datetime

from rtvc.clock import FakeClock, SystemClock


def test_the_system_clock_never_goes_back() -> None:
    clock = SystemClock()
    readings = [clock.now() for _ in range(1000)]
    assert readings == sorted(readings)
    assert clock.utc().utcoffset() == datetime.now(UTC).utcoffset()


def test_a_fake_clock_moves_only_when_told() -> None:
    clock = FakeClock(10.0)
    assert (clock.now(), clock.now()) == (10.0, 10.0)
    clock.advance(2.5)
    assert clock.now() == 12.5
    assert clock.utc() == datetime(1970, 1, 1, 0, 0, 12, 500_000, tzinfo=UTC)
