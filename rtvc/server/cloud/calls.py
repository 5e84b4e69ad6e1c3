"""Calls that may hang or fail, and neither hold up the server nor fill its log."""

import asyncio
import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Literal, TypeVar, get_args

from rtvc.errors import CloudError, CloudTrouble

_log = logging.getLogger(__name__)

T = TypeVar("T")

Call = Literal[
    "metadata",
    "connect",
    "put_metric_data",
    "describe_auto_scaling_groups",
    "describe_auto_scaling_instances",
    "describe_lifecycle_hooks",
    "set_instance_protection",
    "terminate_instance_in_auto_scaling_group",
    "record_lifecycle_action_heartbeat",
    "complete_lifecycle_action",
]
"""What is asked; the label of a metric."""

_LONGEST_S = 30.0
"""For a call with all that belongs to it: names that are looked up, credentials, the answer."""


async def in_thread(work: Callable[[], T]) -> T:
    """What `work` returns, from a thread that nobody waits for when the process ends.

    The threads of `asyncio.to_thread` are waited for, and a name that is looked up can take half a
    minute.
    """
    future: Future[T] = Future()

    def run() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 (handed on to who waits)
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name="cloud", daemon=True).start()
    return await asyncio.wrap_future(future)


async def first_of(*works: Coroutine[Any, Any, T]) -> T:
    """What the first of them returns or raises; the others are cancelled."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task.done()).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


class Calls:
    """What was asked and failed: counted each time, logged once a kind until it works again."""

    def __init__(self, failures: Counter[str]) -> None:
        """`failures` is counted up, by the name of the call; those in sight are there from now on,
        as a rate has to have seen 0.
        """
        self._failures = failures
        self._told: defaultdict[str, set[CloudTrouble]] = defaultdict(set)
        failures.update({call: 0 for call in get_args(Call)})

    async def make(self, call: Call, work: Callable[[], T]) -> T:
        """What `work` returns, from a thread.

        Raises:
            CloudError: as `work` did, or it took too long; it is counted.
        """
        with self.counted(call):
            try:
                async with asyncio.timeout(_LONGEST_S):
                    return await in_thread(work)
            except TimeoutError:
                said = f"no answer within {_LONGEST_S:g} s"
                raise CloudError(said, trouble="unreachable") from None

    @contextmanager
    def counted(self, call: Call, about: str = "") -> Iterator[None]:
        """Around a call that is made here; `about`: which of several that fail independently."""
        name = f"{call} ({about})" if about else call
        try:
            yield
        except CloudError as error:
            self._failures[call] += 1
            self._tell(name, error)
            raise
        if self._told.pop(name, None):
            _log.warning("%s works again", name)

    def _tell(self, name: str, error: CloudError) -> None:
        if error.trouble not in self._told[name]:
            self._told[name].add(error.trouble)
            _log.warning("%s failed (said once until it works again): %s", name, error)
