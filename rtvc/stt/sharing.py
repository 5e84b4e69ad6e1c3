"""Who shares a model: everyone one engine, everyone a few, or each session its own.

The engines below are the same; what differs is how many there are and who meets in which.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar, runtime_checkable

from rtvc.errors import ModelError, TranscriberError
from rtvc.stt.transcriber import Engine, EngineState, EngineStatus, Hypothesis, Job

Number = TypeVar("Number", int, float)
_WORST_FIRST: tuple[EngineState, ...] = (
    "closed",
    "failed",
    "starting",
    "loading",
    "warming",
    "restarting",
    "ready",
)


def aim(engine: Engine, delay_target_s: float) -> None:
    """Have admission and cadence keep to another delay target, where the engine has one."""
    if isinstance(engine, _Aims):
        engine.aim(delay_target_s)


@runtime_checkable
class _Aims(Protocol):
    """An engine that keeps to a delay target."""

    def aim(self, delay_target_s: float) -> None:
        """From now on keep to this one."""


class PoolEngine:
    """A few engines; a session stays with the one that had the fewest sessions when it came.

    Once all have started, the pool is as able as those that work: an engine that has failed loses
    its sessions to the others, with what they waited for, and is chosen again when it is back.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        """At least one; all of the same model."""
        self._engines = tuple(engines)
        self._homes: dict[str, Engine] = {}
        self._started = False

    @property
    def status(self) -> EngineStatus:
        statuses = [engine.status for engine in self._engines]
        whole = together(statuses, "pool")
        able = [status for status in statuses if status.state == "ready"]
        if not self._started or not able or len(able) == len(statuses):
            return whole
        out = f"{len(statuses) - len(able)} of {len(statuses)} engines out: {whole.detail}"
        return replace(
            whole,
            state="ready",
            progress=1.0,
            notice="; ".join(filter(None, (whole.notice, out))),
            workers=sum(status.workers for status in able),
            headroom_sessions=_sum([status.headroom_sessions for status in able]),
        )

    @property
    def partial_interval_s(self) -> float:
        return max(engine.partial_interval_s for engine in self._engines)

    def on_status(self, listener: Callable[[EngineStatus], None]) -> None:
        for engine in self._engines:
            engine.on_status(lambda _: listener(self.status))

    async def start(self) -> None:
        # One after the other: each measures how it is best arranged.
        for engine in self._engines:
            await engine.start()
        self._started = True

    async def open_session(self, session_id: str) -> None:
        await self._home(session_id).open_session(session_id)

    def close_session(self, session_id: str) -> None:
        self._home(session_id).close_session(session_id)
        self._homes.pop(session_id, None)

    async def transcribe(self, job: Job) -> Hypothesis | None:
        home = self._home(job.session_id)
        try:
            return await home.transcribe(job)
        except TranscriberError:
            gone = job.session_id not in self._homes
            if gone or home.status.state != "failed" or not self._able():
                raise
        return await (await self._moved(job.session_id, home)).transcribe(job)

    def cancel_session(self, session_id: str) -> None:
        if session_id in self._homes:
            self._homes[session_id].cancel_session(session_id)

    def aim(self, delay_target_s: float) -> None:
        """As in `ProcessEngine`."""
        for engine in self._engines:
            aim(engine, delay_target_s)

    async def close(self) -> None:
        self._started = False
        await asyncio.gather(*(engine.close() for engine in self._engines))

    async def _moved(self, session_id: str, out: Engine) -> Engine:
        """The session's new home; jobs that failed together move it once."""
        if self._homes.get(session_id, out) is out:
            self._homes[session_id] = self._least_loaded()
            out.close_session(session_id)
            await self._homes[session_id].open_session(session_id)
        return self._homes[session_id]

    def _able(self) -> Sequence[Engine]:
        return [engine for engine in self._engines if engine.status.state == "ready"]

    def _home(self, session_id: str) -> Engine:
        if session_id not in self._homes:
            self._homes[session_id] = self._least_loaded()
        return self._homes[session_id]

    def _least_loaded(self) -> Engine:
        homes = list(self._homes.values())
        able = self._able() or self._engines
        return min(able, key=lambda engine: sum(home is engine for home in homes))


class PerSessionEngine:
    """An engine a session: loaded when it comes, gone when it leaves. What many servers do."""

    def __init__(self, make: Callable[[], Engine]) -> None:
        self._make = make
        self._engines: dict[str, Engine] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._listeners: list[Callable[[EngineStatus], None]] = []
        self._sample = replace(make().status, sharing="per-session")
        """Status of the engine loaded at the start, to see whether and how the model loads."""
        self._closed = False

    @property
    def status(self) -> EngineStatus:
        own = [engine.status for engine in self._engines.values()]
        loaded = [status for status in own if status.state in ("ready", "restarting")]
        if self._closed or not loaded:
            return self._sample
        return replace(
            together(loaded, "per-session"),
            state="ready",
            detail=self._sample.detail,
            headroom_sessions=None,
        )

    @property
    def partial_interval_s(self) -> float:
        return max((e.partial_interval_s for e in self._engines.values()), default=0.0)

    def on_status(self, listener: Callable[[EngineStatus], None]) -> None:
        self._listeners.append(listener)

    async def start(self) -> None:
        """Load the model once: what can't be loaded now can't be loaded for a session."""
        engine = self._make()
        engine.on_status(self._follow)
        try:
            await engine.start()
            self._follow(engine.status)
        except TranscriberError:
            self._follow(engine.status)
            raise
        finally:
            await engine.close()

    async def open_session(self, session_id: str) -> None:
        if self._closed:
            raise TranscriberError("expected an open engine, it is closed")
        engine = self._make()
        self._engines[session_id] = engine
        try:
            await engine.start()
        except ModelError as error:
            raise TranscriberError(f"the session's model did not load: {error}") from error
        await engine.open_session(session_id)

    def close_session(self, session_id: str) -> None:
        engine = self._engines.pop(session_id, None)
        if engine is None:
            return
        engine.close_session(session_id)
        task = asyncio.get_running_loop().create_task(engine.close(), name="close-engine")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def transcribe(self, job: Job) -> Hypothesis | None:
        engine = self._engines.get(job.session_id)
        if engine is None:
            return None
        return await engine.transcribe(job)

    def cancel_session(self, session_id: str) -> None:
        engine = self._engines.get(session_id)
        if engine is not None:
            engine.cancel_session(session_id)

    async def close(self) -> None:
        self._closed = True
        for session_id in [*self._engines]:
            self.close_session(session_id)
        await asyncio.gather(*self._closing)
        self._follow(replace(self._sample, state="closed", detail="closed"))

    def _follow(self, status: EngineStatus) -> None:
        if status.state == "closed" and not self._closed:
            return  # the sample was only loaded to be seen
        self._sample = replace(status, sharing="per-session", headroom_sessions=None)
        for listener in self._listeners:
            listener(self._sample)


def together(statuses: Sequence[EngineStatus], sharing: str) -> EngineStatus:
    """What several engines amount to: the worst state, the sum of all work and memory."""
    worst = min(statuses, key=lambda status: _WORST_FIRST.index(status.state))
    return replace(
        worst,
        progress=sum(status.progress for status in statuses) / len(statuses),
        workers=sum(status.workers for status in statuses),
        load_s=_mean([status.load_s for status in statuses]),
        warm_up_s=_mean([status.warm_up_s for status in statuses]),
        queued=sum(status.queued for status in statuses),
        backlog_s=sum(status.backlog_s for status in statuses),
        restarts=sum(status.restarts for status in statuses),
        failed_restarts=sum(status.failed_restarts for status in statuses),
        counters=_totals([status.counters for status in statuses]),
        sharing=sharing,
        engines=len(statuses),
        memory_bytes=_sum([status.memory_bytes for status in statuses]),
        partial_interval_s=max(status.partial_interval_s for status in statuses),
        headroom_sessions=_sum([status.headroom_sessions for status in statuses]),
        degradation=max(status.degradation for status in statuses),
        degradation_changes=_totals([status.degradation_changes for status in statuses]),
    )


def _totals(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for each in counts:
        for name, count in each.items():
            totals[name] = totals.get(name, 0) + count
    return totals


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _sum(values: Sequence[Number | None]) -> Number | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
