"""Who may go when a server stops, and that nobody loses a final."""

import asyncio
from collections.abc import Iterator
from contextlib import closing

import pytest

from rtvc.clock import FakeClock, SystemClock
from rtvc.server.hearing import Hearing
from rtvc.server.lifecycle.signals import Stop
from rtvc.server.lifecycle.stopping import (
    INTERRUPT_S,
    QUIET_S,
    REASON,
    Drain,
    Patience,
    deadline_s,
)
from tests.test_server_realtimevoicechat import Page, World, heard

PATIENCE = Patience(deadline_s=20, idle_s=10, last_final_s=5)


class Session:
    """One whose state the test sets; it is gone as soon as it is told."""

    def __init__(self, *, idle_s: float = 0.0, busy: bool = False) -> None:
        self.idle_s = idle_s
        self.is_busy = busy
        self.holds_out = False
        self.silent = False
        self.told: list[tuple[int, str, bool]] = []

    @property
    def replies(self) -> frozenset["asyncio.Task[None]"]:
        return frozenset()

    @property
    def ending(self) -> bool:
        return bool(self.told)

    def describe(self, now_s: float) -> dict[str, object]:
        return {}

    def busy(self, now_s: float) -> bool:
        return self.is_busy

    def end(self, code: int, reason: str, *, after_final: bool = True) -> None:
        self.told.append((code, reason, after_final))


class Room:
    """A stopping server's sessions, on a clock of the test's."""

    def __init__(self, *sessions: Session) -> None:
        self.clock = FakeClock(100.0)
        self.sessions = sessions
        self.drain = Drain(lambda: self.sessions, PATIENCE, self.clock)

    def after(self, seconds: float) -> list[bool]:
        """Which sessions have been told to go, so much later."""
        for _ in range(round(seconds * 10)):
            self.drain.look()
            self.clock.advance(0.1)
        self.drain.look()
        return [bool(session.told) for session in self.sessions]


def test_who_has_sent_nothing_for_long_goes_at_once_whatever_is_under_way() -> None:
    room = Room(Session(idle_s=10), Session(idle_s=10, busy=True), Session(idle_s=9, busy=True))
    assert room.after(0) == [True, True, False]
    assert room.sessions[0].told == [(1001, REASON, True)]


def test_who_sends_silence_goes_after_a_moment_and_who_sends_nothing_at_once() -> None:
    room = Room(Session(), Session(idle_s=QUIET_S))
    assert room.after(0) == [False, True]
    assert room.after(QUIET_S - 0.2) == [False, True]
    assert room.after(0.3) == [True, True]


def test_a_turn_is_finished_first() -> None:
    talker = Session(busy=True)
    room = Room(talker)
    assert room.after(8) == [False]
    talker.is_busy = False
    assert room.after(QUIET_S - 0.2) == [False]
    # They go on before they were quiet for long enough.
    talker.is_busy = True
    assert room.after(1) == [False]
    talker.is_busy = False
    assert room.after(QUIET_S + 0.1) == [True]


def test_the_deadline_can_be_brought_forward_and_not_put_off() -> None:
    room = Room(Session(busy=True))
    room.after(4)
    room.drain.hurry(100)
    assert room.drain.left_s == pytest.approx(PATIENCE.deadline_s - 4)
    room.drain.hurry(3)
    assert room.drain.left_s == pytest.approx(3)
    room.clock.advance(2)
    room.drain.hurry(3)
    assert room.drain.left_s == pytest.approx(1)


async def test_who_talks_on_is_cut_off_at_the_nearer_deadline() -> None:
    talker = Session(busy=True)
    drain = Drain(lambda: [talker], Patience(3600, 3600, 0.05), SystemClock())
    running = asyncio.create_task(drain.run(lambda: True))
    await asyncio.sleep(0.1)
    assert not talker.told
    drain.hurry(0.0)
    async with asyncio.timeout(5):
        await running
    assert talker.told == [(1001, REASON, True), (1001, REASON, False)]


@pytest.mark.parametrize(
    ("told", "leave_s", "shutdown_s", "expected_s"),
    [
        (Stop.GENTLY, None, 30.0, 30.0),
        (Stop.SOON, None, 30.0, INTERRUPT_S),
        (Stop.SOON, None, 2.0, 2.0),
        # The machine alone: as long as it stays.
        (None, 590.0, 30.0, 590.0),
        (None, 110.0, 3600.0, 110.0),
        # Both, in whatever order: no signal makes a machine stay for longer.
        (Stop.GENTLY, 590.0, 30.0, 30.0),
        (Stop.GENTLY, 110.0, 3600.0, 110.0),
        (Stop.SOON, 110.0, 3600.0, INTERRUPT_S),
        (Stop.SOON, 1.0, 3600.0, 1.0),
        # Nobody asked: something went wrong.
        (None, None, 30.0, INTERRUPT_S),
    ],
)
def test_sessions_have_the_least_of_what_was_said(
    told: Stop | None, leave_s: float | None, shutdown_s: float, expected_s: float
) -> None:
    assert deadline_s(told, leave_s, shutdown_s) == expected_s


def test_nobody_is_told_twice() -> None:
    room = Room(Session(idle_s=10))
    room.after(3)
    assert len(room.sessions[0].told) == 1


async def test_at_the_deadline_all_are_told_and_then_cut_off() -> None:
    talker = Session(busy=True)
    patience = Patience(deadline_s=0.05, idle_s=10, last_final_s=0.05)
    await Drain(lambda: [talker], patience, SystemClock()).run(lambda: True)
    assert talker.told == [(1001, REASON, True), (1001, REASON, False)]


async def test_uploads_are_waited_for_without_any_session() -> None:
    looks = iter([True, True, True, False])
    await Drain(list, PATIENCE, SystemClock()).run(lambda: next(looks))
    assert next(looks, None) is None


async def test_the_second_signal_ends_the_wait() -> None:
    talker = Session(busy=True)
    drain = Drain(lambda: [talker], PATIENCE, SystemClock())
    running = asyncio.create_task(drain.run(lambda: True))
    await asyncio.sleep(0)
    assert not talker.told
    drain.stop_now()
    async with asyncio.timeout(5):
        await running
    assert talker.told[-1] == (1001, REASON, False)


# With real sessions.


@pytest.fixture
def world() -> Iterator[World]:
    with closing(Hearing(SystemClock())) as hearing:
        yield World(hearing)


def drain(world: World, **patience: float) -> Drain:
    kept = {"deadline_s": 10.0, "idle_s": 10.0, "last_final_s": 5.0, **patience}
    services = world.services
    return Drain(services.sessions.values, Patience(**kept), services.clock)


def open_sessions(world: World) -> bool:
    return bool(world.services.sessions)


async def speaking(page: Page, world: World) -> None:
    page.pause(0.5)
    page.speak(1.5)
    await heard(page, world, 1.9)
    assert page.session.busy(world.services.clock.now())


async def test_what_was_said_by_the_deadline_has_its_final_before_1001(world: World) -> None:
    async with world.page() as page:
        await speaking(page, world)
        await drain(world, deadline_s=0.1).run(lambda: open_sessions(world))
        assert page.socket.contents("final_user_request") == ["Sentence 1."]
        assert page.socket.closed == (1001, REASON)
        # A reply would only be cut off.
        assert world.llm.asked == []


async def test_a_final_that_is_slow_is_waited_for(world: World) -> None:
    world.engine.go_on.clear()
    async with world.page() as page:
        await speaking(page, world)
        running = asyncio.create_task(
            drain(world, deadline_s=0.1).run(lambda: open_sessions(world))
        )
        await asyncio.sleep(0.5)
        assert page.socket.closed is None
        world.engine.go_on.set()
        await running
        assert page.socket.contents("final_user_request") == ["Sentence 1."]
        assert page.socket.closed == (1001, REASON)


async def test_a_final_that_never_comes_is_not_waited_for_for_ever(world: World) -> None:
    world.engine.go_on.clear()
    async with world.page() as page:
        await speaking(page, world)
        async with asyncio.timeout(5):
            stopping = drain(world, deadline_s=0.1, last_final_s=0.1)
            await stopping.run(lambda: open_sessions(world))
        assert page.socket.closed == (1001, REASON)


async def test_a_turn_ends_with_its_reply_and_then_1001(world: World) -> None:
    world.llm.go_on.clear()
    async with world.page() as page:
        await speaking(page, world)
        page.pause(1.0)
        running = asyncio.create_task(drain(world).run(lambda: open_sessions(world)))
        await page.socket.until("tts_chunk")
        await asyncio.sleep(QUIET_S + 0.3)
        assert page.socket.closed is None
        world.llm.go_on.set()
        await running
        assert page.socket.kinds.count("final_assistant_answer") == 1
        assert page.socket.closed == (1001, REASON)


async def test_who_is_told_to_end_is_not_heard_any_more(world: World) -> None:
    async with world.page() as page:
        await speaking(page, world)
        page.session.end(1008, "the key was revoked")
        page.speak(2.0)
        page.pause(1.0)
        async with asyncio.timeout(5):
            while page.socket.closed is None:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert page.socket.contents("final_user_request") == ["Sentence 1."]
        assert page.socket.closed == (1008, "the key was revoked")


async def test_an_end_at_once_leaves_the_final_behind(world: World) -> None:
    world.engine.go_on.clear()
    async with world.page() as page:
        await speaking(page, world)
        page.session.end(1008, "the key was revoked", after_final=False)
        async with asyncio.timeout(5):
            while page.socket.closed is None:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert page.socket.contents("final_user_request") == []
        assert page.socket.closed == (1008, "the key was revoked")


async def test_idle_seconds_begin_anew_with_every_message(world: World) -> None:
    async with world.page() as page:
        page.pause(0.5)
        await heard(page, world, 0.4)
        await asyncio.sleep(0.2)
        idle_s = page.session.idle_s
        assert page.session.describe(0.0)["idle_s"] >= 0.2
        page.pause(0.5)
        await heard(page, world, 0.9)
        assert page.session.idle_s < idle_s
