"""The thread on which all sessions' audio is heard, in rounds.

Handing work to a thread and back costs more than hearing 20 ms of audio. So what has arrived from
all sessions since the last round is handed over together: at once when the last round is a while
ago, else when its time is up. A round of many sessions is as cheap to hand over as one of one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from rtvc.clock import Clock
from rtvc.server.ear import Chunk, Ear
from rtvc.voice.session import Frame

T = TypeVar("T")

ROUND_S = 0.01
"""Rounds begin no closer than this: a third of a VAD frame."""

_Request = tuple[Ear, Sequence[Chunk], "asyncio.Future[list[Frame]]"]
_Answer = tuple["asyncio.Future[list[Frame]]", "list[Frame] | Exception"]


class Hearing:
    """Hears for all sessions; every call is made on the event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rounds = ThreadPoolExecutor(1, thread_name_prefix="hearing")
        self._others = ThreadPoolExecutor(1, thread_name_prefix="sounding")
        self._waiting: list[_Request] = []
        self._began_s = float("-inf")
        self._due: asyncio.TimerHandle | None = None
        self._busy = False

    def hear(self, ear: Ear, chunks: Sequence[Chunk]) -> "asyncio.Future[list[Frame]]":
        """The judged frames of `chunks`; raises what `Ear.hear` raises."""
        answer: asyncio.Future[list[Frame]] = asyncio.get_running_loop().create_future()
        self._waiting.append((ear, chunks, answer))
        self._begin_when_due()
        return answer

    def run(self, work: Callable[[], T]) -> Awaitable[T]:
        """Other short work on audio, such as encoding a reply, beside the rounds."""
        return asyncio.get_running_loop().run_in_executor(self._others, work)

    def close(self) -> None:
        """Start nothing more, and wait for what is under way: a round is short."""
        if self._due is not None:
            self._due.cancel()
        self._rounds.shutdown(cancel_futures=True)
        self._others.shutdown(cancel_futures=True)

    def _begin_when_due(self) -> None:
        if self._busy or self._due is not None:
            return
        wait_s = self._began_s + ROUND_S - self._clock.now()
        if wait_s <= 0:
            self._begin()
        else:
            self._due = asyncio.get_running_loop().call_later(wait_s, self._begin)

    def _begin(self) -> None:
        self._due = None
        self._busy, self._began_s = True, self._clock.now()
        requests, self._waiting = self._waiting, []
        round_ = asyncio.get_running_loop().run_in_executor(self._rounds, _hear_all, requests)
        round_.add_done_callback(self._end)

    def _end(self, round_: "asyncio.Future[list[_Answer]]") -> None:
        self._busy = False
        if round_.cancelled():
            return
        for answer, found in round_.result():
            if answer.done():
                continue  # its session has ended
            if isinstance(found, Exception):
                answer.set_exception(found)
            else:
                answer.set_result(found)
        if self._waiting:
            self._begin_when_due()


def _hear_all(requests: Sequence[_Request]) -> list[_Answer]:
    """One session's broken audio is that session's error, not the round's."""
    answers: list[_Answer] = []
    for ear, chunks, answer in requests:
        try:
            answers.append((answer, ear.hear(chunks)))
        except Exception as error:  # noqa: BLE001 - handed on to the session that caused it
            answers.append((answer, error))
    return answers
