"""One engine: a process with the model, a scheduler over all sessions that use it."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, repeat
from typing import cast

from rtvc.clock import Clock
from rtvc.errors import EngineDied, ModelError, TranscriberError
from rtvc.stt.advisor import Advisor
from rtvc.stt.calibration import Calibration, Tunable, Wish
from rtvc.stt.headroom import Advice, BatchCost, LoadMeter, targets_for
from rtvc.stt.ladder import Change, Rules
from rtvc.stt.limits import with_room_for_finals
from rtvc.stt.losses import OUT_OF_MEMORY, Outcomes, ended, times_of, told
from rtvc.stt.messages import Answered, Failed, FromProcess, Load, LoadFailed, Progress, Ready, Work
from rtvc.stt.on_loop import in_daemon_thread, post
from rtvc.stt.process import EngineProcess, resident_bytes
from rtvc.stt.scheduler import Scheduler
from rtvc.stt.tickets import Batch, Limits, Loss, Ticket
from rtvc.stt.transcriber import (
    EngineState,
    EngineStatus,
    Hypothesis,
    Job,
    ReportProgress,
    Transcriber,
)

_log = logging.getLogger(__name__)

HANG_AFTER_S = 10.0
"""No batch is given up sooner than this."""
HANG_FACTOR = 20.0
"""A batch that takes so many times what is expected hangs."""
LOAD_TIMEOUT_S = 600.0
RELAUNCH_PAUSES_S = (0.0, 0.5, 2.0, 5.0, 10.0)
"""Before each attempt to replace the process. Once only the last is left, the engine has failed
and what waits is told so; it goes on trying with that pause, and works again when one succeeds."""
MAX_FAILURES_IN_A_ROW = 3
"""So many batches raised without one success between: the process is replaced."""
LOADING_SHARE = 0.5
"""Part of the progress that loading stands for; warming up is the rest."""


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """What to run, settled before the process is started."""

    transcriber: Transcriber
    """Not loaded yet."""
    model: str
    """Name as the user knows it."""
    model_kind: str
    """As in `EngineStatus`."""
    device: str = "cpu"
    """As asked for; the process reports what it chose."""
    workers: int = 1
    """Threads that take batches."""
    threads_per_worker: int = 1
    """CPU threads of one inference."""
    limits: Limits = field(default_factory=Limits)
    """Of the scheduler."""
    notice: str | None = None
    """What the user must know about the model chosen for them; None: nothing."""
    wish: Wish | None = None
    """Arrangements to try at the first start; None: as it is."""
    warm_up_audio_s: float = 0.0
    """Lengths of audio up to this are inferred at the first start, too; 0: none. A process that
    replaces another leaves it, as callers wait for it."""


@dataclass(slots=True)
class _Running:
    """A batch in the process's hands."""

    batch: Batch
    deadline: asyncio.TimerHandle


class ProcessEngine:
    """Runs a plan in a process of its own, and replaces that process when it crashes or hangs."""

    def __init__(
        self,
        prepare: Callable[[ReportProgress], EnginePlan],
        *,
        clock: Clock,
        model: str,
        hang_after_s: float = HANG_AFTER_S,
        relaunch_pauses_s: Sequence[float] = RELAUNCH_PAUSES_S,
        delay_target_s: float = 0.5,
        rules: Rules | None = None,
    ) -> None:
        """`prepare` may take its time (a download): it is called in a thread by `start`.

        `rules`: what may be given up under overload; None: everything but finals.
        """
        self._prepare = prepare
        self._clock = clock
        self._hang_after_s = hang_after_s
        self._delay_target_s = delay_target_s
        self._relaunch_pauses_s = tuple(relaunch_pauses_s)
        self._status = EngineStatus("starting", 0.0, "starting", model, "")
        self._listeners: list[Callable[[EngineStatus], None]] = []
        self._scheduler = Scheduler()
        # A final and the speculative job that became it have two callers and one ticket.
        self._callers: dict[int, list[asyncio.Future[Hypothesis | None]]] = {}
        self._running: dict[int, _Running] = {}
        self._plan: EnginePlan | None = None
        self._process: EngineProcess | None = None
        self._alive: set[EngineProcess] = set()
        self._ready: asyncio.Future[Ready] | None = None
        self._replacing: asyncio.Task[None] | None = None
        self._failures_in_a_row = 0
        self._job_s = 0.0
        self._sessions: set[str] = set()
        self._prior: BatchCost | None = None
        self._advisor = Advisor(
            LoadMeter(1, 1, targets=targets_for(delay_target_s)),
            self._scheduler,
            rules=rules,
            on_change=self._on_step,
            on_shed=self._answer_none,
        )
        self._memory_bytes: int | None = None

    @property
    def status(self) -> EngineStatus:
        scheduler = self._scheduler
        return replace(
            self._status,
            queued=scheduler.waiting,
            backlog_s=scheduler.backlog_s,
            counters=asdict(scheduler.counts),
            partial_interval_s=self.partial_interval_s,
            headroom_sessions=self._advisor.advice.headroom_sessions,
            memory_bytes=self._memory_bytes,
            degradation=self._advisor.step,
            degradation_changes=dict(self._advisor.changes),
        )

    @property
    def partial_interval_s(self) -> float:
        return self._renewed_advice().partial_interval_s

    @property
    def pid(self) -> int | None:
        """The process's id; None while there is none."""
        return None if self._process is None else self._process.pid

    def on_status(self, listener: Callable[[EngineStatus], None]) -> None:
        self._listeners.append(listener)

    async def start(self) -> None:
        try:
            await self._start()
        except TranscriberError as error:
            await self._drop_process()
            self._change("failed", 0.0, str(error))
            raise error if isinstance(error, ModelError) else ModelError(str(error)) from error

    async def open_session(self, session_id: str) -> None:
        """Everything is loaded already."""
        if session_id not in self._sessions:
            self._sessions.add(session_id)
            self._advisor.opened(self._clock.now())

    def close_session(self, session_id: str) -> None:
        self.cancel_session(session_id)
        if session_id in self._sessions:
            self._sessions.remove(session_id)
            self._advisor.closed(session_id, self._clock.now())

    async def transcribe(self, job: Job) -> Hypothesis | None:
        if self._status.state == "closed":
            return None
        if self._status.state not in ("ready", "restarting"):
            state, detail = self._status.state, self._status.detail
            raise TranscriberError(f"expected a ready engine, it is {state}: {detail}")
        self._renewed_advice()
        now_s = self._clock.now()
        ticket, dropped = self._scheduler.submit(job, now_s)
        self._advisor.asked(job.session_id, job.kind, now_s)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Hypothesis | None] = loop.create_future()
        self._callers.setdefault(ticket.ticket_id, []).append(answer)
        self._answer_none(dropped)
        self._dispatch()
        try:
            return await answer
        finally:
            self._leave(ticket, answer)

    def _leave(self, ticket: Ticket, answer: asyncio.Future[Hypothesis | None]) -> None:
        """The last caller of a job takes it along."""
        callers = self._callers[ticket.ticket_id]
        callers.remove(answer)
        if not callers:
            del self._callers[ticket.ticket_id]
            self._scheduler.cancel(ticket)

    def cancel_session(self, session_id: str) -> None:
        self._answer_none(self._scheduler.cancel_session(session_id))

    def aim(self, delay_target_s: float) -> None:
        """From now on admission and cadence keep to another delay target."""
        self._delay_target_s = delay_target_s
        self._advisor.aim(targets_for(delay_target_s))

    async def close(self) -> None:
        self._change("closed", 0.0, "closed")
        self._answer_none(self._scheduler.drain())
        if self._replacing is not None:
            self._replacing.cancel()
            await asyncio.gather(self._replacing, return_exceptions=True)
        self._settle_ready(EngineDied("the engine was closed while loading"))
        await self._drop_process()

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()

        def report(progress: float, detail: str) -> None:
            post(loop, self._change, "starting", progress, detail)

        self._plan = plan = await in_daemon_thread(lambda: self._prepare(report), "prepare model")
        self._status = replace(
            self._status,
            model=plan.model,
            model_kind=plan.model_kind,
            device=plan.device,
            workers=plan.workers,
            threads_per_worker=plan.threads_per_worker,
            notice=plan.notice,
        )
        await self._launch(plan)

    async def _launch(self, plan: EnginePlan) -> None:
        """Start a process and wait until it takes work.

        Raises:
            TranscriberError: it does not get that far.
        """
        if self._status.state == "closed":
            raise EngineDied("the engine was closed while loading")
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        process = EngineProcess(
            lambda message: post(loop, self._on_message, process, message),
            lambda exit_code: post(loop, self._on_exit, process, exit_code),
        )
        self._process = process
        self._alive.add(process)
        try:
            await asyncio.to_thread(process.start)
        except OSError as error:
            # Out of descriptors, processes or memory: that passes.
            self._ready = None
            raise EngineDied(f"its process could not be started: {error}") from error
        process.send(Load(plan.transcriber, plan.workers, plan.wish, plan.warm_up_audio_s))
        try:
            ready = await asyncio.wait_for(self._ready, LOAD_TIMEOUT_S)
        except TimeoutError as error:
            raise EngineDied(f"expected a loaded model within {LOAD_TIMEOUT_S:.0f} s") from error
        self._on_ready(ready)

    def _on_ready(self, ready: Ready) -> None:
        assert self._plan is not None
        self._status = replace(
            self._status,
            device=ready.device,
            compute_type=ready.compute_type,
            load_s=ready.load_s,
            warm_up_s=ready.warm_up_s + ready.lengths_s,
        )
        if ready.lengths_left_out:
            _log.warning(
                "speech-to-text: %d lengths of audio and sizes of batch were not warmed up: the "
                "others took %.0f s; a smaller warm_up_audio_s or max_batch needs less",
                ready.lengths_left_out,
                ready.lengths_s,
            )
        self._plan = replace(self._plan, warm_up_audio_s=0.0)
        self._job_s = max(self._job_s, ready.warm_up_s)
        if ready.calibration is not None:
            self._arrange(ready.calibration)
        self._limit_partials()
        self._advisor.measure_with(self._new_meter())
        self._change("ready", 1.0, f"{self._status.model} on {ready.device}")
        self._dispatch()

    def _arrange(self, found: Calibration) -> None:
        """Keep what was found: a process that replaces this one does not look for it again."""
        assert self._plan is not None
        workers, threads = found.workers, found.threads_per_worker
        model = cast(Tunable, self._plan.transcriber)
        self._plan = replace(
            self._plan,
            transcriber=model.tuned(
                workers=workers, threads_per_worker=threads, max_batch=found.deep_batch
            ),
            workers=workers,
            threads_per_worker=threads,
            limits=replace(
                self._plan.limits, max_batch=found.max_batch, deep_batch=found.deep_batch
            ),
            wish=None,
        )
        self._prior = found.cost
        self._status = replace(
            self._status,
            workers=workers,
            threads_per_worker=threads,
            trials=found.trials,
            calibration_s=found.seconds,
        )

    def _limit_partials(self) -> None:
        assert self._plan is not None
        self._scheduler.limits = with_room_for_finals(self._plan.limits, self._plan.workers)
        self._status = replace(self._status, max_batch=self._plan.limits.max_batch)

    def _new_meter(self) -> LoadMeter:
        status, now_s = self._status, self._clock.now()
        targets = targets_for(self._delay_target_s)
        meter = LoadMeter(status.workers, status.max_batch, prior=self._prior, targets=targets)
        for _ in self._sessions:
            meter.opened(now_s)
        return meter

    def _renewed_advice(self) -> Advice:
        """Good for a moment: asked for at every frame of every session."""
        if self._status.state == "ready" and self._advisor.renew(self._clock.now()):
            self._memory_bytes = resident_bytes(self.pid)
        return self._advisor.advice

    def _on_step(self, change: Change) -> None:
        """Told as soon as it is taken, as whoever looks at transcripts will see it."""
        _log.warning("speech-to-text: %s", change)
        for listener in self._listeners:
            listener(self.status)

    def _dispatch(self) -> None:
        """Give every idle worker what it should do now; and if they are busy, what comes next."""
        while self._status.state == "ready" and self._process is not None:
            spare = self._status.workers + 1 - len(self._running)
            if spare <= 0:
                return
            scheduler, now_s = self._scheduler, self._clock.now()
            batch = scheduler.next_batch(now_s) if spare > 1 else scheduler.next_full_batch(now_s)
            if batch is None:
                return
            self._hand_over(self._process, batch)

    def _hand_over(self, process: EngineProcess, batch: Batch) -> None:
        jobs = tuple(ticket.job for ticket in batch.tickets)
        expected_s = self._job_s * len(jobs)
        wait_s = max(self._hang_after_s, HANG_FACTOR * expected_s)
        loop = asyncio.get_running_loop()
        deadline = loop.call_later(wait_s, self._on_hang, process, wait_s)
        self._running[batch.batch_id] = _Running(batch, deadline)
        process.send(Work(batch.batch_id, jobs))

    def _on_message(self, process: EngineProcess, message: FromProcess) -> None:
        if process is not self._process:
            return
        match message:
            case Progress():
                self._on_progress(message)
            case Ready():
                self._settle_ready(message)
            case LoadFailed():
                self._settle_ready(ModelError(message.message))
            case Answered():
                self._on_answered(message)
            case Failed():
                self._on_failed(message)

    def _on_progress(self, message: Progress) -> None:
        if self._status.state in ("restarting", "failed"):
            self._change(self._waiting_state, message.progress, message.detail)
            return
        done = 0.0 if message.state == "loading" else LOADING_SHARE
        self._change(message.state, done + LOADING_SHARE * message.progress, message.detail)

    def _settle_ready(self, outcome: Ready | TranscriberError) -> None:
        if self._ready is None or self._ready.done():
            return
        if isinstance(outcome, Ready):
            self._ready.set_result(outcome)
        else:
            self._ready.set_exception(outcome)

    def _on_answered(self, message: Answered) -> None:
        batch = self._take_back(message.batch_id)
        now_s = self._clock.now()
        taken_at_s = batch.taken_at_s + message.waited_s
        service_s = now_s - taken_at_s
        self._job_s += 0.1 * (service_s / len(batch.tickets) - self._job_s)
        self._advisor.served([ticket.job.kind for ticket in batch.tickets], service_s)
        self._failures_in_a_row = 0
        counted = {ticket.ticket_id for ticket in self._scheduler.finish(batch.batch_id)}
        for ticket, hypothesis in zip(batch.tickets, message.hypotheses, strict=True):
            if ticket.ticket_id in counted:
                waited_s = taken_at_s - ticket.since_s
                self._advisor.answered(ticket.job.kind, waited_s, now_s - ticket.since_s, now_s)
                wait_s = max(taken_at_s - ticket.job.enqueued_at_s, 0.0)
                self._answer(ticket, replace(hypothesis, queue_wait_s=wait_s))
        self._renewed_advice()
        self._dispatch()

    def _on_failed(self, message: Failed) -> None:
        batch = self._take_back(message.batch_id)
        before = Outcomes.of(self._scheduler.counts)
        self._try_again(
            batch, message.message, Loss.MEMORY if message.out_of_memory else Loss.ERROR
        )
        self._failures_in_a_row += 1
        if self._process is not None and message.out_of_memory:
            self._lose(message.message, OUT_OF_MEMORY, before, Loss.COMPANY)
        elif self._process is not None and self._failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
            row = f"{self._failures_in_a_row} batches in a row failed"
            self._lose(f"{row}: {message.message}", row, before)
        self._dispatch()

    def _take_back(self, batch_id: int) -> Batch:
        running = self._running.pop(batch_id)
        running.deadline.cancel()
        return running.batch

    def _try_again(self, batch: Batch, why: str, loss: Loss) -> None:
        failed, superseded = self._scheduler.retry(batch.batch_id, loss)
        self._answer_none(superseded)
        for ticket in failed:
            times = times_of(ticket.attempt + 1)
            self._answer(ticket, TranscriberError(f"speech-to-text failed {times}: {why}"))

    def _on_exit(self, process: EngineProcess, exit_code: int | None) -> None:
        if process is self._process:
            self._lose(f"its process ended (exit code {exit_code})", ended(exit_code))

    def _on_hang(self, process: EngineProcess, waited_s: float) -> None:
        if process is self._process:
            self._lose(f"no answer within {waited_s:.1f} s")

    def _lose(
        self,
        why: str,
        logged: str = "",
        before: Outcomes | None = None,
        loss: Loss = Loss.DEATH,
    ) -> None:
        """The process is of no use any more: its jobs go back, another one is started.

        `logged`: the reason without the words of a library; `before`: jobs before it was lost;
        `loss`: how those that it was still busy with were lost.
        """
        if self._status.state == "closed":
            return
        if self._ready is not None and not self._ready.done():
            self._settle_ready(EngineDied(f"the engine failed while loading: {why}"))
            return
        self._process = None
        before = before or Outcomes.of(self._scheduler.counts)
        # The last goes back first, as each goes to the front of the row.
        for batch_id in sorted(self._running, reverse=True):
            self._try_again(self._take_back(batch_id), why, loss)
        self._failures_in_a_row = 0
        lost = Outcomes.of(self._scheduler.counts).since(before)
        _log.warning("%s", told(logged or why, lost))
        self._status = replace(self._status, restarts=self._status.restarts + 1)
        self._change("restarting", 0.0, why)
        self._replacing = asyncio.get_running_loop().create_task(self._replace())

    async def _replace(self) -> None:
        await self._drop_process()
        *pauses_s, longest_s = self._relaunch_pauses_s
        for attempt, pause_s in enumerate(chain(pauses_s, repeat(longest_s)), 1):
            await asyncio.sleep(pause_s)
            if await self._relaunched(attempt):
                return
            if attempt == len(pauses_s):
                self._fail(longest_s)

    async def _relaunched(self, attempt: int) -> bool:
        """Whether a process was started that takes work; a failure is logged and counted."""
        try:
            await self._relaunch()
        except TranscriberError as error:
            failed = self._status.failed_restarts + 1
            self._status = replace(self._status, failed_restarts=failed)
            _log.warning("attempt %d to restart speech-to-text failed: %s", attempt, error)
            self._change(self._waiting_state, 0.0, str(error))
            await self._drop_process()
            return False
        return True

    @property
    def _waiting_state(self) -> EngineState:
        """Until a process takes work: once it has failed, it is not "restarting" any more."""
        return "failed" if self._status.state == "failed" else "restarting"

    async def _relaunch(self) -> None:
        if self._plan is None:
            raise EngineDied("expected a plan before a restart, got none")
        await self._launch(self._plan)

    def _fail(self, again_s: float) -> None:
        _log.error(
            "the speech-to-text engine could not be restarted: it has failed; "
            "it is tried again every %g s",
            again_s,
        )
        self._change("failed", 0.0, self._status.detail)
        for ticket in self._scheduler.drain():
            self._answer(ticket, EngineDied(f"the engine failed: {self._status.detail}"))

    async def _drop_process(self) -> None:
        """End the process, and any that was being ended when its task was cancelled."""
        self._process = None
        for batch_id in [*self._running]:
            self._take_back(batch_id)
        for process in [*self._alive]:
            await asyncio.to_thread(process.stop)
            self._alive.discard(process)

    def _answer_none(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            self._answer(ticket, None)

    def _answer(self, ticket: Ticket, outcome: Hypothesis | TranscriberError | None) -> None:
        for answer in self._callers.get(ticket.ticket_id, []):
            if answer.done():
                continue
            if isinstance(outcome, TranscriberError):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)

    def _change(self, state: EngineState, progress: float, detail: str) -> None:
        if self._status.state == "closed":
            return
        self._status = replace(self._status, state=state, progress=progress, detail=detail)
        for listener in self._listeners:
            listener(self.status)
