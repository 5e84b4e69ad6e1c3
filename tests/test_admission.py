"""Slots for sessions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtvc.errors import AdmissionRefused
from rtvc.voice.admission import Admission


@given(slots=st.integers(1, 5), steps=st.lists(st.booleans(), max_size=50))
def test_there_are_never_more_sessions_than_slots(slots: int, steps: list[bool]) -> None:
    admission = Admission(slots)
    inside = refused = 0
    for enter in steps:
        if enter and inside < slots:
            admission.enter()
            inside += 1
        elif enter:
            with pytest.raises(AdmissionRefused):
                admission.enter()
            refused += 1
        elif inside:
            admission.leave()
            inside -= 1
        assert (admission.sessions, admission.refused) == (inside, refused)
        assert admission.full == (inside == slots)


def test_a_refusal_says_why_and_when_to_try_again() -> None:
    admission = Admission(1, retry_after_s=7.0)
    admission.enter()
    with pytest.raises(AdmissionRefused, match="full: 1 of 1 sessions") as refused:
        admission.enter()
    assert refused.value.retry_after_s == 7.0


def test_without_headroom_nobody_comes_in_and_the_reason_is_told() -> None:
    admission = Admission(max_sessions=10)
    admission.enter(5.0)
    assert not admission.closed(1.0)
    assert admission.closed(0.9)
    with pytest.raises(AdmissionRefused, match="no headroom: one more than 1 sessions") as refused:
        admission.enter(0.9)
    assert refused.value.retry_after_s > 0
    assert (admission.sessions, admission.refused) == (1, 1)
    admission.enter(None)
    assert admission.sessions == 2


def test_an_overloaded_server_takes_nobody_in_and_says_so() -> None:
    admission = Admission(max_sessions=10)
    admission.enter(None, overloaded=True)
    assert admission.closed(5.0, overloaded=True)
    with pytest.raises(AdmissionRefused, match="late although partials are off"):
        admission.enter(5.0, overloaded=True)
    assert (admission.sessions, admission.refused) == (1, 1)


def test_an_empty_server_takes_a_session_whatever_it_thinks_of_itself() -> None:
    admission = Admission(max_sessions=1)
    admission.enter(0.0)
    assert admission.sessions == 1
