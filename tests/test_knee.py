"""Searches on a server whose knee is known, on a virtual clock; the truth is brute force's."""

import random
from functools import cache
from itertools import pairwise

import pytest

from rtvc.loadtest.search.rules import StepRules
from rtvc.slo import parse_objectives
from tests.knee_server import SHARE_BEYOND, Queue, Rhythm, Service, knee, share_beyond
from tests.knee_world import World, search

SEEDS = range(20)

_draw = random.Random("rhythm")
TALK = Rhythm([(_draw.uniform(1.2, 4.8), _draw.uniform(2.4, 3.6)) for _ in range(60)])
"""Sentences and pauses of a dictation."""

HASTE = Rhythm([(_draw.uniform(0.8, 1.8), _draw.uniform(0.8, 1.6)) for _ in range(60)])

WORLDS = {
    "one worker": (TALK, Service(0.5), 2.5),
    "one slow worker": (TALK, Service(0.8), 3.5),
    "two workers": (TALK, Service(0.7, workers=2), 2.5),
    "in haste": (HASTE, Service(0.2), 1.4),
}


@cache
def truth(name: str) -> int:
    return knee(*WORLDS[name])


def rules(target_s: float) -> StepRules:
    return StepRules(parse_objectives([f"transcription_delay_p95<{target_s}s"]), explicit=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
def test_twenty_of_twenty_searches_find_the_knee_within_one_speaker(name: str) -> None:
    rhythm, service, target_s = WORLDS[name]
    found = [search(World(rhythm, service, seed), rules(target_s))[0] for seed in SEEDS]
    assert all(abs(each.holds - truth(name)) <= 1 for each in found), (
        truth(name),
        [each.holds for each in found],
    )
    assert all(each.fails_at is not None for each in found)
    assert all(each.fails_at - each.holds <= 3 for each in found if each.fails_at)


def test_a_search_says_what_it_knows_of_the_cause() -> None:
    rhythm, service, target_s = WORLDS["in haste"]
    found, steps = search(World(rhythm, service, 1), rules(target_s))
    assert found.sentence.startswith(f"holds {found.holds} speakers, not {found.fails_at}: ")
    assert found.sentence.endswith(
        "; binding: unknown (the client's view alone: the server tells nothing of itself)"
    )
    assert all(step.evidence is None for step in steps if step.outcome == "passed")


def test_steps_carry_their_goodput() -> None:
    rhythm, service, target_s = WORLDS["in haste"]
    _, steps = search(World(rhythm, service, 2), rules(target_s))
    for step in steps:
        assert step.goodput_share is not None
        assert step.goodput_per_s is not None
        assert step.throughput_per_s is not None
        assert step.goodput_per_s <= step.throughput_per_s + 1e-9
        assert (step.good_speakers == step.speakers) == (step.goodput_share == 1)
    worst = min(steps, key=lambda step: step.goodput_share or 0.0)
    assert worst.outcome == "failed"


def test_clear_steps_end_before_their_time_and_those_that_confirm_have_their_samples() -> None:
    rhythm, service, target_s = WORLDS["in haste"]
    _, steps = search(World(rhythm, service, 3), rules(target_s))
    assert any(step.stopped_early for step in steps)
    confirmed = [s for s in steps if s.purpose == "confirm" and s.outcome == "passed"]
    assert confirmed
    assert all(step.utterances >= 100 and step.delay_p95_s is not None for step in confirmed)


def test_a_generator_that_is_late_makes_the_search_void() -> None:
    """Its frames leave 60 ms late, three in ten: nothing follows about the server."""
    rhythm, service, target_s = WORLDS["in haste"]
    world = World(rhythm, service, 4, lag=lambda speakers: "2:70 600:30")
    found, steps = search(world, rules(target_s), start=4)
    assert {step.outcome for step in steps} == {"void"}
    assert (found.outcome, found.exit_code, found.holds) == ("void", 3, 0)
    assert found.sentence == (
        "void: nothing is known; 1 could not be measured: the load generator sent its frames "
        "60.1 ms late at p99 (limit 20 ms)"
    )


def test_a_generator_that_is_late_with_many_bounds_the_answer() -> None:
    rhythm, service, target_s = WORLDS["in haste"]
    world = World(rhythm, service, 5, lag=lambda speakers: "2:70 600:30" if speakers > 4 else "2:9")
    found, _ = search(world, rules(10 * target_s))
    assert (found.holds, found.fails_at) == (4, None)
    assert "5 could not be measured" in found.sentence


def test_brute_force_agrees_with_what_is_known_of_queues() -> None:
    # One after another, without a gap: the third waits for two.
    queue = Queue(Service(0.5))
    assert [queue.done_at_s(at_s) for at_s in (0.0, 0.1, 0.2, 9.0)] == [0.5, 1.0, 1.5, 9.5]
    assert queue.waited_s == pytest.approx(0.4 + 0.8)
    both = Queue(Service(0.5, workers=2))
    assert [both.done_at_s(at_s) for at_s in (0.0, 0.1, 0.2)] == [0.5, 0.6, 1.0]
    # Alone, nobody waits; beyond what the worker can do, nearly everybody does.
    service = Service(0.5)
    assert share_beyond(1, TALK, service, 0.9 + 1e-9, 500) == 0.0
    many = round(1.3 * TALK.cycle_s / service.service_s)
    assert share_beyond(many, TALK, service, 2.5, 2_000) > 0.9


@pytest.mark.parametrize("name", WORLDS)
def test_the_knee_lies_where_the_share_passes_the_limit(name: str) -> None:
    rhythm, service, target_s = WORLDS[name]
    most = truth(name)
    shares = [share_beyond(n, rhythm, service, target_s) for n in range(most - 1, most + 3)]
    assert all(less <= more for less, more in pairwise(shares))
    assert shares[1] <= SHARE_BEYOND < shares[2]
