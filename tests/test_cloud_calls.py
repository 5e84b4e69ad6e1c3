"""Calls that fail or hang, and the server that goes on."""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import get_args

import pytest

from rtvc.errors import CloudError
from rtvc.server.cloud import calls
from rtvc.server.cloud.backoff import Backoff
from rtvc.server.cloud.calls import Call, Calls, first_of, in_thread


async def test_the_answer_of_another_thread() -> None:
    assert await in_thread(threading.get_ident) != threading.get_ident()


async def test_its_error() -> None:
    def fail() -> None:
        raise CloudError("no way", trouble="denied")

    with pytest.raises(CloudError, match="no way"):
        await in_thread(fail)


async def test_a_call_that_hangs_is_not_waited_for() -> None:
    go_on = threading.Event()
    threads: list[threading.Thread] = []

    def hang() -> None:
        threads.append(threading.current_thread())
        go_on.wait(20)

    waiting = asyncio.create_task(in_thread(hang))
    while not threads:  # noqa: ASYNC110 (it is another thread's to fill)
        await asyncio.sleep(0.001)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    # Nor does the process wait for it, when it ends.
    assert threads[0].daemon
    go_on.set()
    threads[0].join(10)
    assert not threads[0].is_alive()


class Works:
    """Some that wait, of which the test ends one."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.ends = asyncio.Event()

    async def wait(self) -> str:
        try:
            await asyncio.sleep(1000)
        finally:
            self.ended.append("cancelled")
        return "waited"

    async def work(self) -> str:
        await self.ends.wait()
        return "worked"

    async def fail(self) -> str:
        await self.ends.wait()
        raise CloudError("no way")


async def test_the_first_one_ends_the_others() -> None:
    works = Works()
    works.ends.set()
    assert await first_of(works.wait(), works.work(), works.wait()) == "worked"
    assert works.ended == ["cancelled"] * 2
    with pytest.raises(CloudError, match="no way"):
        await first_of(works.fail(), works.wait())
    assert works.ended == ["cancelled"] * 3


async def test_none_goes_on_when_nobody_waits_for_them_any_more() -> None:
    works = Works()
    waiting = asyncio.create_task(first_of(works.wait(), works.work(), works.wait()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert works.ended == ["cancelled"] * 2
    assert asyncio.all_tasks() == {asyncio.current_task()}


class Log:
    """What was counted, and what was said."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.failures: Counter[str] = Counter()
        self.calls = Calls(self.failures)
        self._caplog = caplog

    async def make(self, work: Callable[[], None]) -> None:
        try:
            await self.calls.make("put_metric_data", work)
        except CloudError:
            return

    @property
    def said(self) -> list[str]:
        return [record.getMessage() for record in self._caplog.records]


def worked() -> None:
    """It did."""


def throttled() -> None:
    raise CloudError("slow down", trouble="throttled")


def denied() -> None:
    raise CloudError("not you", trouble="denied")


async def test_each_kind_of_failure_is_logged_once_until_it_works_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = Log(caplog)
    for work in (worked, throttled, throttled, denied, throttled):
        await log.make(work)
    assert [("slow down" in line, "not you" in line) for line in log.said] == [
        (True, False),
        (False, True),
    ]
    await log.make(worked)
    await log.make(worked)
    await log.make(throttled)
    assert log.said[2] == "put_metric_data works again"
    assert "slow down" in log.said[3]
    assert len(log.said) == 4
    assert log.failures["put_metric_data"] == 5


async def test_failures_of_one_call_are_not_those_of_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = Log(caplog)
    await log.make(denied)
    with pytest.raises(CloudError), log.calls.counted("metadata"):
        denied()
    assert len(log.said) == 2
    assert (log.failures["metadata"], log.failures["put_metric_data"]) == (1, 1)


async def test_a_call_that_takes_too_long_is_given_up_and_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "_LONGEST_S", 0.05)
    log, go_on = Log(caplog), threading.Event()
    with pytest.raises(CloudError, match=r"no answer within 0\.05 s") as given_up:
        await log.calls.make("connect", lambda: go_on.wait(20))
    go_on.set()
    assert given_up.value.trouble == "unreachable"
    assert log.failures["connect"] == 1
    assert len(log.said) == 1


async def test_one_question_that_fails_among_others_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Else each round would say that it failed, and that it works again."""
    log = Log(caplog)
    for _ in range(3):
        with log.calls.counted("metadata", "target state"):
            worked()
        with pytest.raises(CloudError), log.calls.counted("metadata", "spot notice"):
            denied()
    with log.calls.counted("metadata", "spot notice"):
        worked()
    assert log.said == [
        "metadata (spot notice) failed (said once until it works again): not you",
        "metadata (spot notice) works again",
    ]
    assert log.failures["metadata"] == 3


def test_a_rate_sees_0_first() -> None:
    failures: Counter[str] = Counter()
    Calls(failures)
    assert failures == dict.fromkeys(get_args(Call), 0)
    assert len(failures) == len(get_args(Call))


def test_pauses_grow_to_a_bound_and_begin_anew() -> None:
    backoff = Backoff(1.0, 8.0, random.Random(1))
    for bound_s in (1.0, 2.0, 4.0, 8.0, 8.0, 8.0):
        assert bound_s / 2 <= backoff.failed() <= bound_s
    backoff.worked()
    assert backoff.failed() <= 1.0


def test_two_instances_do_not_come_at_the_same_time() -> None:
    one, other = (Backoff(1.0, 8.0, random.Random(seed)) for seed in (1, 2))
    assert one.failed() != other.failed()
