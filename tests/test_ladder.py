"""What is given up under overload: quickly up, slowly down, never a final, never to and fro."""

import itertools
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtvc.plan.events import Calendar
from rtvc.plan.processor import Processor
from rtvc.plan.station import Station
from rtvc.stt.advisor import ADVICE_EVERY_S
from rtvc.stt.headroom import Advice, BatchCost
from rtvc.stt.ladder import (
    CALM_S,
    LATE_FEWEST,
    LONGEST_CALM_S,
    SETTLE_S,
    Change,
    Ladder,
    Rules,
    Step,
    Strain,
    rules_for,
)
from rtvc.stt.scheduler import Scheduler
from rtvc.stt.tickets import Limits, Ticket
from rtvc.stt.transcriber import SAMPLE_RATE_HZ, Job, JobKind

TARGET_S = 0.43
EASE = Strain(interval_s=0.4, finals_share=0.2, partials_share=0.3)
SLOWED = replace(EASE, interval_s=0.8)
BACKLOG = replace(EASE, interval_s=1.4, backlog_s=2.0)
FULL = replace(EASE, interval_s=1.4, finals_share=0.6, partials_share=0.6)
NOTHING = np.broadcast_to(np.float32(0), 3 * SAMPLE_RATE_HZ)


@dataclass
class Time:
    """Feeds a ladder four times a second."""

    ladder: Ladder = field(default_factory=lambda: Ladder(TARGET_S))
    now_s: float = 100.0
    changes: list[tuple[float, Change]] = field(default_factory=list)

    def observe(self, strain: Strain, times: int = 1) -> Step:
        for _ in range(times):
            self.now_s += ADVICE_EVERY_S
            made = self.ladder.observe(strain, self.now_s)
            self.changes += [(self.now_s, change) for change in made]
        return self.ladder.step

    def last(self, strain: Strain, seconds: float) -> Step:
        return self.observe(strain, round(seconds / ADVICE_EVERY_S))

    def until(self, strain: Strain, step: Step, within_s: float = 200.0) -> float:
        """Seconds until the ladder stands there."""
        began_s = self.now_s
        while self.ladder.step is not step:
            assert self.now_s - began_s < within_s, f"still {self.ladder.step.label}"
            self.observe(strain)
        return self.now_s - began_s

    def finals(self, count: int, *, wait_s: float = 0.0, delay_s: float = 0.2) -> None:
        for _ in range(count):
            self.ladder.answered(wait_s, delay_s, self.now_s)

    @property
    def steps(self) -> list[int]:
        return [int(change.step) for _, change in self.changes]


# Up.


def test_at_ease_nothing_is_given_up() -> None:
    time = Time()
    time.finals(50)
    assert time.last(EASE, 60) is Step.NONE
    assert time.changes == []


@pytest.mark.parametrize(
    ("strain", "step"), [(SLOWED, Step.SLOWER_PARTIALS), (BACKLOG, Step.NO_PARTIALS)]
)
def test_a_step_is_taken_when_it_was_called_for_twice_in_a_row(strain: Strain, step: Step) -> None:
    time = Time()
    assert time.observe(strain) is Step.NONE
    assert time.observe(EASE) is Step.NONE
    assert time.observe(strain) is Step.NONE
    assert time.observe(strain) is step
    assert len(time.changes) == 1


def test_what_was_called_for_once_only_is_not_taken() -> None:
    time = Time()
    time.observe(SLOWED)
    assert time.observe(BACKLOG) is Step.SLOWER_PARTIALS


def test_late_finals_end_partials() -> None:
    time = Time()
    time.finals(2 * LATE_FEWEST)
    time.finals(LATE_FEWEST, wait_s=0.5, delay_s=0.7)
    assert time.observe(EASE, 2) is Step.NO_PARTIALS
    assert str(time.changes[0][1]) == (
        "degradation up to no-partials (2 of 3): 5 of 15 finals in 10 s later than 0.43 s, "
        "0.00 s of them waiting; finals ask for 20 % of the workers' time, partials at their "
        "slowest for 30 %"
    )


@pytest.mark.parametrize(
    ("late", "wait_s", "why"),
    [
        (LATE_FEWEST - 1, 0.5, "so few are bad luck"),
        (50, 0.0, "the model is slow, nobody is in its way"),
    ],
)
def test_what_is_no_overload_ends_nothing(late: int, wait_s: float, why: str) -> None:
    time = Time()
    time.finals(late, wait_s=wait_s, delay_s=0.7)
    assert time.observe(EASE, 8) is Step.NONE, why


def test_the_target_itself_ends_nothing() -> None:
    """Five of a hundred may be late."""
    time = Time()
    for _ in range(60):
        time.finals(19)
        time.finals(1, wait_s=0.5, delay_s=0.7)
        assert time.last(EASE, 2) is Step.NONE


def test_nobody_is_refused_before_it_is_seen_what_no_partials_help() -> None:
    time = Time()
    time.observe(BACKLOG, 2)
    assert time.last(BACKLOG, SETTLE_S) is Step.NO_PARTIALS
    assert time.observe(BACKLOG, 2) is Step.REFUSING
    assert time.steps == [2, 3]


def test_finals_that_were_late_before_partials_ended_refuse_nobody() -> None:
    time = Time()
    time.finals(50, wait_s=0.5, delay_s=0.7)
    time.observe(FULL, 2)
    assert time.last(FULL, 20) is Step.NO_PARTIALS
    time.finals(50, wait_s=0.5, delay_s=0.7)
    assert time.observe(FULL, 2) is Step.REFUSING


# Down.


def test_down_goes_one_step_at_a_time_after_calm() -> None:
    time = Time()
    time.until(BACKLOG, Step.REFUSING)
    for step in (Step.NO_PARTIALS, Step.SLOWER_PARTIALS, Step.NONE):
        assert time.until(EASE, step) >= CALM_S - ADVICE_EVERY_S
    assert time.steps == [2, 3, 2, 1, 0]
    assert time.last(EASE, 300) is Step.NONE


def test_partials_do_not_come_back_to_a_load_that_is_too_much_with_them() -> None:
    time = Time()
    time.until(BACKLOG, Step.NO_PARTIALS)
    assert time.last(FULL, 300) is Step.NO_PARTIALS
    assert time.until(EASE, Step.SLOWER_PARTIALS) <= 2 * CALM_S


def test_a_moment_of_trouble_begins_the_calm_anew() -> None:
    time = Time()
    time.until(BACKLOG, Step.NO_PARTIALS)
    for _ in range(10):
        assert time.last(EASE, CALM_S - 2 * ADVICE_EVERY_S) is Step.NO_PARTIALS
        assert time.observe(BACKLOG) is Step.NO_PARTIALS


def test_a_step_needed_again_soon_is_kept_longer_each_time() -> None:
    time = Time()
    waits_s = []
    for _ in range(6):
        time.until(BACKLOG, Step.NO_PARTIALS)
        waits_s.append(time.until(EASE, Step.SLOWER_PARTIALS))
    assert waits_s == sorted(waits_s)
    assert waits_s[0] < 2 * CALM_S
    assert waits_s[-1] >= LONGEST_CALM_S - ADVICE_EVERY_S
    time.last(EASE, 600)
    time.until(BACKLOG, Step.NO_PARTIALS)
    assert time.until(EASE, Step.SLOWER_PARTIALS) < 2 * CALM_S


def test_time_in_which_nobody_asked_was_calm() -> None:
    """An idle engine is not looked at; whoever comes then is not refused for what was."""
    time = Time()
    time.until(BACKLOG, Step.REFUSING)
    time.now_s += 60
    assert time.observe(EASE) is Step.NONE
    assert time.steps == [2, 3, 2, 1, 0]


# What there is to give up.


def test_without_partials_there_is_only_refusing() -> None:
    time = Time(Ladder(TARGET_S, rules_for("off", 0.4)))
    assert time.last(SLOWED, 10) is Step.NONE
    assert time.observe(BACKLOG, 2) is Step.REFUSING
    assert time.last(EASE, 2 * CALM_S) is Step.NONE
    assert time.steps == [3, 0]


def test_partials_flat_out_are_left_alone() -> None:
    time = Time(Ladder(TARGET_S, rules_for("flat-out", 0.03)))
    time.finals(50, wait_s=5.0, delay_s=5.0)
    assert time.last(BACKLOG, 60) is Step.NONE


def test_sessions_with_models_of_their_own_are_not_refused() -> None:
    time = Time(Ladder(TARGET_S, rules_for("adaptive", 0.4, may_refuse=False)))
    assert time.last(BACKLOG, 60) is Step.NO_PARTIALS


def test_partials_are_slower_than_the_user_wants_them() -> None:
    time = Time(Ladder(TARGET_S, rules_for("adaptive", 1.0)))
    assert time.last(SLOWED, 10) is Step.NONE


# To and fro.

strains = st.sampled_from([EASE, SLOWED, BACKLOG, FULL, replace(EASE, backlog_s=0.3)])
stretches = st.lists(
    st.tuples(strains, st.integers(1, 120), st.integers(0, 20), st.booleans()),
    min_size=1,
    max_size=60,
)


@given(stretches=stretches)
@settings(deadline=None, max_examples=150)
def test_whatever_happens_it_does_not_flap(
    stretches: list[tuple[Strain, int, int, bool]],
) -> None:
    time = Time()
    for strain, times, finals, late in stretches:
        time.finals(finals, wait_s=1.0 if late else 0.0, delay_s=1.0 if late else 0.1)
        time.observe(strain, times)
    changes = [change for _, change in time.changes]
    assert all(a.step is b.before for a, b in itertools.pairwise(changes))
    downs = [(at_s, change) for at_s, change in time.changes if change.step < change.before]
    assert all(change.before - change.step == 1 for _, change in downs)
    assert all(b - a >= CALM_S - 1e-6 for (a, _), (b, _) in itertools.pairwise(downs))
    instants_s = [at_s for at_s, _ in time.changes]
    within = [sum(at <= other < at + 60 for other in instants_s) for at in instants_s]
    assert max(within, default=0) <= 14
    time.last(EASE, 4 * LONGEST_CALM_S)
    assert time.ladder.step is Step.NONE


def test_a_load_that_is_too_much_with_partials_only_settles() -> None:
    """Worst case: without partials all is well, and the prediction says that with them, too."""
    time = Time()
    for _ in range(round(1800 / ADVICE_EVERY_S)):
        gone = time.ladder.step >= Step.NO_PARTIALS
        time.observe(EASE if gone else BACKLOG)
    assert len(time.changes) <= 2 * (5 + 1800 / LONGEST_CALM_S)


# With the real scheduler and meter, in virtual time.


class Crowd:
    """People who talk for 3 s and pause for 3 s, at an engine that takes 0.1 s for each job."""

    def __init__(self, people: int, *, rules: Rules | None = None, workers: int = 2) -> None:
        self.calendar = Calendar()
        self.station = Station(
            self.calendar,
            Processor(self.calendar, lambda _: 1.0),
            self,
            lambda batch: 0.1 * len(batch.tickets),
            workers=workers,
            limits=Limits(max_batch=1, partial_batches=1, max_held=1_000_000),
            prior=BatchCost(0.0, 0.1),
            rules=rules,
        )
        self.asked = 0
        self.finals: list[float] = []
        self.partials = 0
        self.lost_kinds: set[JobKind] = set()
        self.talking = True
        self.advices: list[Advice] = []
        self.seen: list[tuple[float, Step]] = []
        for number in range(people):
            self.station.open_session()
            self.calendar.at(6.0 * number / people, partial(self._talk, f"s{number}", 0))
        self.calendar.after(0.25, self._look)

    def answered(self, ticket: Ticket) -> None:
        if ticket.job.kind is JobKind.FINAL:
            self.finals.append(self.calendar.now_s - ticket.job.enqueued_at_s)
        else:
            self.partials += 1

    def lost(self, ticket: Ticket) -> None:
        self.lost_kinds.add(ticket.job.kind)

    @property
    def step(self) -> Step:
        return self.station.advisor.step

    def _look(self) -> None:
        advice, step = self.station.advice, self.step
        self.advices.append(replace(advice, headroom_sessions=self.station.headroom_sessions))
        if not self.seen or self.seen[-1][1] is not step:
            self.seen.append((self.calendar.now_s, step))
        self.calendar.after(0.25, self._look)

    def _talk(self, name: str, item: int) -> None:
        if self.talking:
            self._partial(name, item, self.calendar.now_s + 3.0, 1)

    def _partial(self, name: str, item: int, until_s: float, revision: int) -> None:
        now_s = self.calendar.now_s
        if now_s < until_s:
            self._submit(name, item, JobKind.PARTIAL, revision)
            again = partial(self._partial, name, item, until_s, revision + 1)
            self.calendar.after(max(self.station.advice.partial_interval_s, 0.4), again)
            return
        self.asked += 1
        self._submit(name, item, JobKind.FINAL, revision)
        self.calendar.after(3.0, partial(self._talk, name, item + 1))

    def _submit(self, name: str, item: int, kind: JobKind, revision: int) -> None:
        job = Job(name, f"{name}/{item}", kind, revision, NOTHING, self.calendar.now_s)
        assert self.station.submit(job)


def test_a_load_that_holds_gets_the_same_advice_with_and_without_the_ladder() -> None:
    plain, laddered = Crowd(20, rules=Rules((Step.NONE,))), Crowd(20)
    for crowd in (plain, laddered):
        crowd.calendar.run_until(120)
    assert laddered.advices == plain.advices
    assert (laddered.finals, laddered.partials) == (plain.finals, plain.partials)
    assert laddered.step <= Step.SLOWER_PARTIALS
    assert max(laddered.finals) < TARGET_S


@pytest.mark.parametrize("people", [150, 400])
def test_under_overload_partials_end_and_every_final_comes(people: int) -> None:
    crowd = Crowd(people)
    crowd.calendar.run_until(120)
    assert crowd.step >= Step.NO_PARTIALS
    before = crowd.partials
    crowd.calendar.run_until(130)
    assert crowd.partials == before
    assert len(crowd.seen) <= 6
    crowd.talking = False
    crowd.calendar.run_until(1000)
    assert len(crowd.finals) == crowd.asked
    assert crowd.lost_kinds == {JobKind.PARTIAL}
    counts = crowd.station.advisor.changes
    assert sum(counts.values()) >= len(crowd.seen) - 1


def test_finals_that_pile_up_with_partials_are_in_time_without() -> None:
    """One worker: finals ask for nearly all of it, and partials that starved take the rest."""
    late = []
    for rules in (Rules((Step.NONE,)), Rules()):
        crowd = Crowd(62, rules=rules, workers=1)
        crowd.calendar.run_until(300)
        late.append(sum(delay_s > TARGET_S for delay_s in crowd.finals) / len(crowd.finals))
    assert late[0] > 0.3
    assert late[1] < 0.05


# What the scheduler does about it.


def job(kind: JobKind, session: str = "a", revision: int = 1) -> Job:
    return Job(session, "1", kind, revision, NOTHING, 0.0)


def test_partials_that_wait_are_shed_and_nothing_else_is() -> None:
    scheduler = Scheduler()
    for session in "abc":
        scheduler.submit(job(JobKind.PARTIAL, session), 0.0)
    scheduler.submit(job(JobKind.FINAL, "d"), 1.0)
    scheduler.submit(job(JobKind.SPECULATIVE, "e"), 2.0)
    assert (scheduler.urgent_waiting, scheduler.urgent_since_s) == (2, 1.0)
    scheduler.takes_partials = False
    assert [ticket.job.session_id for ticket in scheduler.shed_partials()] == ["a", "b", "c"]
    ticket, dropped = scheduler.submit(job(JobKind.PARTIAL, "f"), 3.0)
    assert dropped == [ticket]
    assert scheduler.waiting == 2
    assert scheduler.counts.shed == 4
    assert scheduler.counts.submitted == 6
    scheduler.takes_partials = True
    _, dropped = scheduler.submit(job(JobKind.PARTIAL, "f"), 4.0)
    assert dropped == []


def test_nothing_waits_in_an_empty_scheduler() -> None:
    scheduler = Scheduler()
    assert (scheduler.urgent_waiting, scheduler.urgent_since_s) == (0, None)
    assert scheduler.shed_partials() == []
