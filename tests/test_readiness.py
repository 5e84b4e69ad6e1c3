"""What the server says of itself while it loads."""

import pytest

from rtvc.errors import UsageError
from rtvc.server.readiness import Readiness, State


def a_readiness(*states: State) -> Readiness:
    readiness = Readiness(*(f"task {n}" for n, _ in enumerate(states)))
    for number, state in enumerate(states):
        readiness.update(f"task {number}", state, 1.0 if state == "ready" else 0.5, f"{state}…")
    return readiness


@pytest.mark.parametrize(
    ("states", "amounts_to"),
    [
        (("waiting", "waiting"), "starting"),
        (("loading", "ready"), "loading"),
        (("loading", "warming"), "loading"),
        (("warming", "ready"), "warming"),
        (("waiting", "ready"), "warming"),
        (("ready", "ready"), "ready"),
        (("ready", "failed"), "failed"),
        (("loading", "failed"), "failed"),
    ],
)
def test_the_whole_is_as_far_as_its_tasks(states: tuple[State, ...], amounts_to: str) -> None:
    readiness = a_readiness(*states)
    assert readiness.state == amounts_to
    assert readiness.ready == (amounts_to == "ready")


def test_a_replaced_engine_makes_a_ready_server_restart_and_a_stopping_one_drain() -> None:
    readiness = a_readiness("ready")
    readiness.restarting = True
    assert (readiness.state, readiness.ready) == ("restarting", False)
    assert readiness.detail == "the engine is being replaced"
    readiness.draining = True
    assert readiness.state == "draining"
    assert readiness.detail == "the server is stopping"


def test_a_server_stands_aside_and_comes_back() -> None:
    readiness = a_readiness("ready")
    stood = []
    for aside in (False, True, False):
        readiness.set_aside(aside)
        stood.append((readiness.state, readiness.ready, readiness.lets_in))
    assert stood == [("ready", True, True), ("aside", False, True), ("ready", True, True)]


def test_what_is_worse_than_standing_aside_is_told_instead() -> None:
    readiness = a_readiness("warming")
    readiness.set_aside(True)
    assert (readiness.state, readiness.lets_in) == ("warming", False)
    assert readiness.detail == "task 0: warming…"
    readiness.update("task 0", "ready", 1.0)
    assert readiness.state == "aside"
    assert readiness.detail == "standing aside: its group has more servers than it needs"
    readiness.restarting = True
    assert (readiness.state, readiness.lets_in) == ("restarting", True)
    assert readiness.detail == "the engine is being replaced"
    readiness.draining = True
    assert (readiness.state, readiness.lets_in) == ("draining", False)
    readiness.draining = False
    readiness.update("task 0", "failed", 1.0, "no memory")
    assert (readiness.state, readiness.lets_in) == ("failed", False)


def test_who_listens_hears_that_it_stands_aside_once() -> None:
    readiness = a_readiness("ready")
    heard: list[str] = []
    readiness.listen(lambda: heard.append(readiness.state))
    for aside in (False, True, True, False, False):
        readiness.set_aside(aside)
    assert heard == ["aside", "ready"]


def test_progress_is_the_mean_and_detail_is_what_is_awaited() -> None:
    readiness = a_readiness("ready", "warming")
    assert readiness.progress == 0.75
    assert readiness.detail == "task 1: warming…"
    assert a_readiness("loading", "failed").detail == "task 1: failed…"
    assert a_readiness("ready").detail == "ready"


def test_listeners_hear_of_changes_until_they_leave_even_while_they_are_told() -> None:
    readiness = a_readiness("waiting")
    heard: list[str] = []

    def once() -> None:
        heard.append("once")
        readiness.unlisten(once)

    readiness.listen(once)
    readiness.listen(lambda: heard.append(readiness.state))
    readiness.update("task 0", "loading", 0.1)
    readiness.update("task 0", "ready", 1.0)
    assert heard == ["once", "loading", "ready"]


def test_a_listener_that_cannot_be_told_keeps_no_other_from_hearing() -> None:
    readiness = a_readiness("waiting")
    heard: list[str] = []

    def stalled() -> None:
        raise UsageError("the client left 512 messages unread")

    readiness.listen(stalled)
    readiness.listen(lambda: heard.append(readiness.state))
    readiness.update("task 0", "ready", 1.0)
    assert heard == ["ready"]


def test_a_task_goes_over_the_wire() -> None:
    readiness = a_readiness("warming")
    assert [task.to_wire() for task in readiness.tasks] == [
        {"name": "task 0", "state": "warming", "progress": 0.5, "detail": "warming…"}
    ]
