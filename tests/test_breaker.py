"""The breaker: who may ask a service that fails, and when."""

from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.server.replies.breaker import FAILURES, LONGEST_PAUSE_S, PAUSE_S, Attempt, Breaker


def leave(breaker: Breaker, now_s: float) -> Attempt:
    attempt = breaker.ask(now_s)
    assert attempt is not None
    return attempt


def failing(breaker: Breaker, times: int, now_s: float = 0.0) -> None:
    for _ in range(times):
        breaker.fail(leave(breaker, now_s), now_s)


def test_it_opens_after_so_many_failures_in_a_row_and_no_fewer() -> None:
    breaker = Breaker()
    failing(breaker, FAILURES - 1)
    breaker.succeed(leave(breaker, 0.0))
    failing(breaker, FAILURES - 1)
    assert breaker.state(0.0) == "closed"
    failing(breaker, 1)
    assert breaker.state(0.0) == "open"
    assert breaker.ask(PAUSE_S - 0.01) is None


def test_after_a_pause_one_at_a_time_may_probe() -> None:
    breaker = Breaker()
    failing(breaker, FAILURES)
    assert breaker.state(PAUSE_S) == "half-open"
    probe = leave(breaker, PAUSE_S)
    assert probe.probe
    assert breaker.ask(PAUSE_S) is None
    breaker.succeed(probe)
    assert breaker.closed
    assert not leave(breaker, PAUSE_S).probe


def test_the_pause_doubles_up_to_its_longest_and_is_short_again_after_an_answer() -> None:
    breaker, now_s, pauses_s = Breaker(), 0.0, []
    failing(breaker, FAILURES)
    for _ in range(6):
        pauses_s.append(breaker.pause_s)
        now_s += breaker.pause_s
        breaker.fail(leave(breaker, now_s), now_s)
    assert pauses_s == [2.0, 4.0, 8.0, 16.0, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    now_s += breaker.pause_s
    breaker.succeed(leave(breaker, now_s))
    failing(breaker, FAILURES, now_s)
    assert breaker.pause_s == PAUSE_S


def test_a_probe_that_was_called_off_is_forgiven_and_another_may_probe() -> None:
    breaker = Breaker()
    failing(breaker, FAILURES)
    breaker.forgive(leave(breaker, PAUSE_S))
    again = leave(breaker, PAUSE_S)
    assert again.probe
    breaker.succeed(again)
    assert breaker.closed


def test_to_forgive_what_is_settled_changes_nothing() -> None:
    breaker = Breaker()
    failing(breaker, FAILURES)
    failed = leave(breaker, PAUSE_S)
    breaker.fail(failed, PAUSE_S)
    now_s = PAUSE_S + breaker.pause_s
    probe = leave(breaker, now_s)
    breaker.forgive(failed)
    assert breaker.ask(now_s) is None, "the probe is still under way"
    breaker.succeed(probe)
    breaker.forgive(probe)
    assert breaker.closed


def test_a_probe_of_which_nothing_is_heard_does_not_bar_the_way_for_ever() -> None:
    breaker = Breaker()
    failing(breaker, FAILURES)
    leave(breaker, PAUSE_S)
    assert breaker.ask(PAUSE_S + 30) is None
    assert leave(breaker, PAUSE_S + 61).probe


def test_once_a_probe_begins_to_answer_others_may_ask_but_one_failure_is_enough() -> None:
    breaker = Breaker()
    failing(breaker, FAILURES)
    probe = leave(breaker, PAUSE_S)
    breaker.begun(probe)
    assert breaker.state(PAUSE_S) == "closed"
    other = leave(breaker, PAUSE_S)
    assert not other.probe
    breaker.fail(other, PAUSE_S)
    assert breaker.state(PAUSE_S) == "open"
    assert breaker.pause_s == 2 * PAUSE_S
    breaker.succeed(probe)
    assert breaker.state(PAUSE_S) == "open", "it was asked before"


def test_what_was_asked_before_it_opened_says_nothing_about_now() -> None:
    breaker = Breaker()
    early = leave(breaker, 0.0)
    failing(breaker, FAILURES)
    breaker.succeed(early)
    assert not breaker.closed
    probe = leave(breaker, PAUSE_S)
    breaker.fail(early, PAUSE_S)
    breaker.succeed(probe)
    assert breaker.closed


def settle(breaker: Breaker, step: str, attempt: Attempt, now_s: float) -> None:
    if step == "fail":
        breaker.fail(attempt, now_s)
    else:
        {"succeed": breaker.succeed, "forgive": breaker.forgive, "begun": breaker.begun}[step](
            attempt
        )


STEPS = st.lists(st.sampled_from(["ask", "succeed", "fail", "forgive", "begun", "wait"]))


@settings(deadline=None, max_examples=200)
@given(STEPS)
def test_whatever_happens_somebody_may_ask_again_in_the_end(steps: list[str]) -> None:
    breaker, now_s, asked = Breaker(failures=2), 0.0, list[Attempt]()
    for step in steps:
        attempt = breaker.ask(now_s) if step == "ask" else None
        asked += [attempt] if attempt is not None else []
        now_s += 1.5 if step == "wait" else 0.0
        if asked and step in ("succeed", "fail", "forgive", "begun"):
            settle(breaker, step, asked[-1] if step == "begun" else asked.pop(0), now_s)
    for attempt in asked:
        breaker.forgive(attempt)
    assert breaker.ask(now_s + LONGEST_PAUSE_S) is not None
    assert PAUSE_S <= breaker.pause_s <= LONGEST_PAUSE_S
