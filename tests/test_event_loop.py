"""The lag of the event loop is seen."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rtvc.clock import SystemClock
from rtvc.instruments.event_loop import LoopLag


@asynccontextmanager
async def probing(lag: LoopLag) -> AsyncIterator[None]:
    task = asyncio.create_task(lag.run())
    await asyncio.sleep(0)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_something_that_blocks_the_loop_shows() -> None:
    lag = LoopLag(SystemClock(), interval_s=0.01)
    async with probing(lag):
        time.sleep(0.1)  # noqa: ASYNC251 (blocking the loop is the point)
        await asyncio.sleep(0.01)
    assert lag.max_s is not None
    assert lag.max_s > 0.08


async def test_only_the_latest_readings_are_kept() -> None:
    lag = LoopLag(SystemClock(), interval_s=0.0, keep=3)
    async with probing(lag):
        for _ in range(20):
            await asyncio.sleep(0)
    assert len(lag.lags_s) == 3
    assert min(lag.lags_s) >= 0
