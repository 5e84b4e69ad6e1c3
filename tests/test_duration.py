"""Durations as flags take them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtvc.duration import parse_duration, parse_positive_duration
from rtvc.errors import UsageError


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 9999))
def test_hours_minutes_and_seconds_add_up(hours: int, minutes: int, tenths: int) -> None:
    text = f" {hours}h{minutes}m{tenths / 10}s "
    assert parse_duration(text) == pytest.approx(3600 * hours + 60 * minutes + tenths / 10)


@pytest.mark.parametrize("text", ["", "x", "-5", "5x", "1e3", "s", "5m2h", "9" * 400, "inf", "nan"])
def test_what_is_no_duration_is_named(text: str) -> None:
    with pytest.raises(UsageError, match="expected a duration such as 90, 90s, 2m or 1h30m, got"):
        parse_duration(text)
    with pytest.raises(UsageError, match="expected --length such as 90"):
        parse_positive_duration(text, "--length")


def test_none_at_all_may_be_too_little() -> None:
    assert parse_duration("0") == 0
    with pytest.raises(UsageError, match="expected --length of more than 0 s, got '0m0s'"):
        parse_positive_duration("0m0s", "--length")
