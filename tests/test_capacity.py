"""The search for the capacity: on servers with a known knee, and move by move."""

import heapq
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.loadtest.search.capacity import MOST_STEPS, CapacitySearch, StepOutcome
from rtvc.slo import LOST_RUNS, Capacity, StepStatus, capacity, levels
from rtvc.stats import quantile

Server = Callable[[int], StepOutcome]


def run(search: CapacitySearch, server: Server) -> tuple[Capacity, list[int]]:
    """The answer, and the steps it took."""
    tried: list[int] = []
    while (step := search.next_step()) is not None:
        assert search.next_step() is step, "asked twice, it is the same step"
        assert step.number == len(tried)
        tried.append(step.speakers)
        search.result(server(step.speakers))
    return search.answer(), tried


def knee(most: int) -> Server:
    def server(speakers: int) -> StepOutcome:
        if speakers <= most:
            return StepOutcome("passed")
        return StepOutcome("failed", f"too slow with {speakers}", "inference")

    return server


def scripted(outcomes: dict[int, list[StepStatus]], otherwise: Server) -> Server:
    """What comes of the first runs of some numbers of speakers; then the rest."""

    def server(speakers: int) -> StepOutcome:
        left = outcomes.get(speakers)
        return StepOutcome(left.pop(0), "as scripted") if left else otherwise(speakers)

    return server


@given(st.integers(0, 200), st.integers(1, 40), st.integers(40, 200))
@settings(deadline=None, max_examples=200)
def test_a_server_without_noise_is_found_exactly(most: int, start: int, limit: int) -> None:
    found, tried = run(CapacitySearch(start, limit), knee(most))
    assert found.holds == min(most, limit)
    assert found.fails_at == (most + 1 if most < limit else None)
    assert found.confirmed
    assert max(tried) <= limit
    assert len(tried) <= 20


def test_it_climbs_then_bisects_then_runs_both_sides_again() -> None:
    found, tried = run(CapacitySearch(), knee(11))
    assert tried == [1, 2, 4, 8, 16, 12, 10, 11, 11, 12]
    assert found.sentence == "holds 11 speakers, not 12: too slow with 12; binding: inference"
    assert (found.exit_code, found.binding) == (0, "inference")


def test_not_even_one_speaker() -> None:
    found, tried = run(CapacitySearch(), knee(0))
    assert (found.holds, found.fails_at, found.exit_code) == (0, 1, 99)
    assert tried == [1, 1]
    assert found.sentence.startswith("does not hold even 1 speaker: too slow with 1")


def test_the_limit_is_held() -> None:
    found, tried = run(CapacitySearch(1, 6), knee(100))
    assert tried == [1, 2, 4, 6, 6]
    assert found.sentence == "holds at least 6 speakers, the most that were tried"
    assert found.exit_code == 0


def test_a_start_that_fails_leads_down() -> None:
    found, tried = run(CapacitySearch(16, 64), knee(5))
    assert tried[:2] == [16, 8]
    assert (found.holds, found.fails_at) == (5, 6)


def test_contradictory_runs_widen_the_interval() -> None:
    # 11 passes, then fails; 12 fails, then passes: both are in doubt.
    noisy = scripted({11: ["passed", "failed"], 12: ["failed", "passed"]}, knee(11))
    found, _ = run(CapacitySearch(), noisy)
    assert found.holds <= 11
    assert found.fails_at is not None
    assert found.fails_at > found.holds
    doubtful = scripted({11: ["passed", "failed"]}, knee(11))
    found, tried = run(CapacitySearch(), doubtful)
    assert (found.holds, found.fails_at) == (10, 12)
    assert tried.count(10) == 2
    assert "runs between them contradict each other" in found.sentence


def test_a_failure_below_what_holds_runs_again() -> None:
    unlucky = scripted({12: ["failed"]}, knee(14))
    found, tried = run(CapacitySearch(), unlucky)
    assert (found.holds, found.fails_at) == (14, 15)
    assert tried.count(12) == 3


def test_void_steps_are_repeated_and_then_given_up() -> None:
    def starved(speakers: int) -> StepOutcome:
        return StepOutcome("void", "the generator was late") if speakers > 8 else knee(99)(8)

    found, tried = run(CapacitySearch(), starved)
    assert tried[:7] == [1, 2, 4, 8, 16, 16, 16]
    assert (found.holds, found.fails_at) == (8, None)
    assert found.sentence == (
        "holds at least 8 speakers; 9 could not be measured: the generator was late"
    )
    assert found.exit_code == 0


def test_what_cannot_be_measured_between_two_that_can_is_said() -> None:
    def sometimes_starved(speakers: int) -> StepOutcome:
        return StepOutcome("void", "late") if speakers == 12 else knee(11)(speakers)

    found, tried = run(CapacitySearch(), sometimes_starved)
    assert (found.holds, found.fails_at, found.confirmed) == (11, 16, True)
    assert tried.count(16) == 2
    assert found.sentence == (
        "holds 11 speakers, not 16 (12 could not be measured): too slow with 16; binding: inference"
    )


def test_a_step_that_was_void_once_counts_when_it_runs_again() -> None:
    hiccup = scripted({4: ["void"], 8: ["undecided"]}, knee(6))
    found, tried = run(CapacitySearch(), hiccup)
    assert (found.holds, found.fails_at, found.confirmed) == (6, 7, True)
    assert tried.count(4) == 2


@pytest.mark.parametrize(("outcome", "code"), [("void", 3), ("undecided", 3)])
def test_nothing_is_known_if_nothing_could_be_measured(outcome: StepStatus, code: int) -> None:
    found, tried = run(CapacitySearch(), lambda _: StepOutcome(outcome, "why"))
    assert tried == [1] * LOST_RUNS
    assert (found.holds, found.fails_at, found.exit_code) == (0, None, code)
    void = "void: " if outcome == "void" else ""
    assert found.sentence == f"{void}nothing is known; 1 could not be measured: why"


def test_a_search_that_was_cut_off_says_what_it_knows() -> None:
    search = CapacitySearch()
    assert search.answer().sentence == "nothing is known: no step was finished"
    for _ in range(5):
        step = search.next_step()
        assert step is not None
        search.result(knee(11)(step.speakers))
    found = search.answer()
    assert (found.holds, found.fails_at, found.confirmed) == (8, 16, False)
    assert found.sentence.endswith("(not confirmed by a second run)")


@given(st.data(), st.integers(1, 70))
@settings(deadline=None, max_examples=200)
def test_it_ends_whatever_comes_and_its_answer_agrees_with_its_runs(
    data: st.DataObject, limit: int
) -> None:
    outcomes: st.SearchStrategy[StepStatus] = st.sampled_from(
        ["passed", "failed", "void", "undecided"]
    )
    search = CapacitySearch(1, limit)
    runs = []
    while (step := search.next_step()) is not None:
        assert 1 <= step.speakers <= limit
        outcome = data.draw(outcomes)
        runs.append((step.speakers, outcome))
        search.result(StepOutcome(outcome, "as drawn"))
    found = search.answer()
    assert len(runs) <= MOST_STEPS
    if found.holds:
        ends = [outcome for speakers, outcome in runs if speakers == found.holds]
        assert ends.count("passed") > ends.count("failed")
    if found.fails_at is not None:
        ends = [outcome for speakers, outcome in runs if speakers == found.fails_at]
        assert ends.count("failed") > ends.count("passed")
        assert found.holds < found.fails_at


def test_results_come_after_steps() -> None:
    with pytest.raises(ValueError, match="under way"):
        CapacitySearch().result(StepOutcome("passed"))
    with pytest.raises(ValueError, match="start"):
        CapacitySearch(5, 4)


def test_levels_count_runs() -> None:
    search = CapacitySearch(2, 2)
    found, _ = run(search, scripted({2: ["void", "passed"]}, knee(2)))
    assert found.holds == 2
    assert levels([]) == {}
    assert capacity([]).outcome == "undecided"


# Servers with service times, on a virtual clock.

CYCLE_S = 6.5
"""Speech and pause of one speaker."""


class QueueServer:
    """Workers that take `service_s` for each utterance, with noise; speakers wait their turn."""

    def __init__(self, service_s: float, workers: int, rng: random.Random) -> None:
        self.service_s = service_s
        self.workers = workers
        self.rng = rng

    def delays(self, speakers: int, utterances: int) -> list[float]:
        """Of so many utterances, after a settling time of one cycle."""
        free = [0.0] * self.workers
        due = [(self.rng.uniform(0, CYCLE_S), number) for number in range(speakers)]
        heapq.heapify(due)
        found: list[float] = []
        while len(found) < utterances:
            at, speaker = heapq.heappop(due)
            begun = max(at, heapq.heappop(free))
            done = begun + self.service_s * self.rng.lognormvariate(0, 0.1)
            heapq.heappush(free, done)
            if at > CYCLE_S:
                found.append(0.25 + done - at)
            # The next utterance comes its pause later, however long the answer took.
            heapq.heappush(due, (at + self.rng.gauss(CYCLE_S, 0.8), speaker))
        return found

    def step(self, speakers: int, utterances: int, target_s: float) -> StepOutcome:
        p95 = quantile(self.delays(speakers, utterances), 0.95) or 0.0
        return StepOutcome("passed" if p95 < target_s else "failed", f"p95 {p95:.3f} s")


@pytest.mark.parametrize(
    ("service_s", "workers", "services_in_target"),
    [(0.8, 1, 3), (0.45, 1, 3), (0.45, 1, 6), (0.6, 2, 3)],
)
def test_a_server_with_known_service_times_is_found_within_one_speaker(
    service_s: float, workers: int, services_in_target: int
) -> None:
    target_s = 0.25 + services_in_target * service_s
    exact = QueueServer(service_s, workers, random.Random("truth"))

    def misses(speakers: int) -> bool:
        return exact.step(speakers, 6_000, target_s).outcome == "failed"

    truth = next(n for n in range(1, 99) if misses(n + 1))
    found: list[int] = []
    for seed in range(20):
        server = QueueServer(service_s, workers, random.Random(seed))
        answer, _ = run(CapacitySearch(), lambda n, s=server: s.step(n, 300, target_s))  # type: ignore[misc]
        found.append(answer.holds)
    assert all(abs(holds - truth) <= 1 for holds in found), (truth, found)
