"""The course of a search: orders and steps in their order, and the rest after an overload."""

from typing import Any

import pytest

from rtvc.loadtest.search.course import REST_S, Course, Rest
from rtvc.loadtest.search.rules import StepRules
from rtvc.loadtest.spec import Order
from rtvc.record import StepRow
from rtvc.slo import parse_objectives
from tests.knee_server import Rhythm, Service
from tests.knee_world import World
from tests.synthetic_run import a_second, a_turn

EVEN = Rhythm([(1.0, 1.0)])
"""An utterance every two seconds: a worker that takes 0.5 s for each holds no more than four."""


def followed(service_s: float, *texts: str, start: int = 1, limit: int = 8) -> list[Any]:
    """Orders and outcomes, as they came."""
    world = World(EVEN, Service(service_s), seed=1)
    course = Course(StepRules(parse_objectives(texts), explicit=True), start, limit)
    seen: list[Any] = []
    while not course.over:
        world.second()
        assert course.line(world.run)
        for each in course.look(world.run):
            seen.append(each)
            if isinstance(each, StepRow):
                world.forget()
            else:
                world.order(each.speakers)
    return seen


def speakers_ordered(seen: list[Any]) -> list[int]:
    return [each.speakers for each in seen if isinstance(each, Order)]


def test_all_but_one_rest_after_an_overload() -> None:
    seen = followed(0.5, "transcription_delay_p95<1.5s", start=8)
    assert isinstance(seen[1], StepRow)
    assert seen[1].outcome == "failed"
    # Eight at once leave a backlog; then one, and only then the next step's four.
    assert speakers_ordered(seen)[:3] == [8, 1, 4]
    steps = [each for each in seen if isinstance(each, StepRow)]
    assert steps[1].speakers == 4
    after_overload = [each.delay_max_s for each in steps[1:] if each.speakers < 4]
    assert all(delay is not None and delay < 1.5 for delay in after_overload)


def test_nobody_rests_where_nothing_was_left_behind() -> None:
    # Alone, the answer takes 0.9 s: too long, and nothing piles up.
    seen = followed(0.5, "transcription_delay_p95<0.8s", start=1, limit=2)
    assert speakers_ordered(seen) == [1, 1, 0]
    assert {each.outcome for each in seen if isinstance(each, StepRow)} == {"failed"}


def test_without_a_target_on_delay_there_is_nothing_to_rest_from() -> None:
    seen = followed(3.0, "errors<1%", start=2, limit=2)
    steps = [each for each in seen if isinstance(each, StepRow)]
    assert speakers_ordered(seen) == [*(step.speakers for step in steps), 0]


def test_orders_follow_each_other_and_the_last_sends_everyone_home() -> None:
    orders = [o for o in followed(0.5, "transcription_delay_p95<1.5s") if isinstance(o, Order)]
    assert [order.step for order in orders] == list(range(len(orders)))
    assert [order.over for order in orders] == [False] * (len(orders) - 1) + [True]
    assert orders[0].ramp_s == pytest.approx(0.2)


def test_a_rest_ends_when_the_one_who_stays_is_served_in_time_or_after_a_while() -> None:
    world = World(EVEN, Service(0.5), seed=1)
    run, rest = world.run, Rest(10.0, target_s=1.0)

    def said(start: float, delay_s: float, number: int) -> None:
        values: dict[str, Any] = {"start": start, "transcription_delay_s": delay_s}
        run.turns.append(a_turn(0, number, **values, response_latency_s=None))

    said(9.0, 0.2, 0)
    run.generator.append(a_second(20.0, speakers=1))
    assert not rest.over(run), "said before"
    said(11.0, 5.0, 1)
    said(14.0, 0.9, 2)
    assert not rest.over(run), "one of the last two was late"
    said(17.0, 0.9, 3)
    assert rest.over(run)
    run.generator.append(a_second(21.0, speakers=2))
    assert not rest.over(run), "somebody else is still there"
    run.generator.append(a_second(10.5 + REST_S, speakers=2))
    assert rest.over(run)
