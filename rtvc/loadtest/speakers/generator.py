"""The generator: numbers the speakers, watches itself, and writes the run, second by second."""

import functools
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime

import gevent
import psutil
from gevent.event import Event

from rtvc.clock import Clock
from rtvc.loadtest.speakers.arrivals import Schedule
from rtvc.loadtest.speakers.call import Call, Microphone
from rtvc.loadtest.speakers.live_call import LiveCall, Shift, Switchboard
from rtvc.loadtest.speakers.meter import PROBE_S, Meter
from rtvc.loadtest.speakers.scrape import ServerMetrics
from rtvc.loadtest.speakers.stage import Stage
from rtvc.loadtest.spec import LoadSpec, Order, http_url, load_order
from rtvc.loadtest.turns.measure import Measurement, Turn
from rtvc.loadtest.turns.rows import LOOK_BACK_S, server_turn_rows, turn_row
from rtvc.loadtest.wire.transport import Frames
from rtvc.loadtest.wire.wires import WIRES
from rtvc.record import RunWriter, SampleRow, TurnRow
from rtvc.summary.outcomes import (
    CUT_OFF_SPEECH,
    HALLUCINATED_PARTIAL_WORDS,
    HALLUCINATED_WORDS,
)
from rtvc.transcript import normalise

_LOG = logging.getLogger(__name__)

FLUSH_S = 1.0
"""How often rows are written."""

STOP_POLL_S = 0.2
"""How often the request to stop is looked for."""

BETWEEN_ROUNDS_S = 0.3
"""For the server to notice that the last round's sessions are gone."""

Report = Callable[[str, float | None, str | None], None]
"""(name of a metric, seconds or None, what went wrong or None)."""

NewMicrophone = Callable[[int], Microphone]
"""Number of a speaker → what it says."""


class RunClock:
    """Seconds since the run's start: a given instant of the clock, or now."""

    def __init__(self, clock: Clock, started_s: float | None = None) -> None:
        self._clock = clock
        self._started_s = clock.now() if started_s is None else started_s

    def now(self) -> float:
        return self._clock.now() - self._started_s

    def utc(self) -> datetime:
        return self._clock.utc()


class Barrier:
    """Lets everyone pass once all have come, or after a while."""

    def __init__(self, parties: int, patience_s: float, clock: Clock) -> None:
        self._missing = parties
        self._patience_s = patience_s
        self._clock = clock
        self._opened_at_s: float | None = None
        self._all_here = Event()

    def pass_together(self) -> float:
        """Seconds since the barrier opened: how late this one got through."""
        self._missing -= 1
        if self._missing <= 0:
            self._open()
        self._all_here.wait(timeout=self._patience_s)
        opened_at_s = self._opened_at_s or self._open()
        return self._clock.now() - opened_at_s

    def _open(self) -> float:
        self._opened_at_s = self._clock.now()
        self._all_here.set()
        return self._opened_at_s


class Generator:
    """All calls of this process, and the only writer of what they measured."""

    def __init__(
        self,
        spec: LoadSpec,
        writer: RunWriter,
        clock: Clock,
        new_microphone: NewMicrophone,
        report: Report,
        frames: Frames | None,
        zero_s: float | None = None,
    ) -> None:
        self.spec = spec
        self._clock = RunClock(clock, zero_s)
        self._writer = writer
        self._new_microphone = new_microphone
        self._report = report
        self._counts: Counter[str] = Counter()
        scenario = spec.behaviour
        self._board = Switchboard(
            spec=spec,
            wire=WIRES[spec.protocol],
            clock=self._clock,
            meter=Meter(os.getpid()),
            counts=self._counts,
            shift=Shift(spec.warm_up_s + spec.duration_s),
            api_key=spec.key_file.read_text("utf-8") if spec.key_file.exists() else None,
            frames=frames,
            scenario=scenario,
        )
        self._schedule = Schedule(
            scenario.arrivals,
            speakers=spec.speakers,
            ramp_s=spec.ramp_s,
            per_minute=spec.arrivals_per_minute,
            seed=spec.seed,
        )
        self._stopped = Event()
        self._stage = Stage()
        self._live: dict[int, LiveCall] = {}
        self._calls: list[LiveCall] = []
        self._left = len(spec.numbers)
        self._everyone_left = Event()
        self._process = psutil.Process()
        self._cpu_s = self._cpu_used_s()
        self._cpu_read_at_s = self._clock.now()

    def start(self) -> None:
        """Let this generator's speakers go; each arrives when it is due."""
        for number in self.spec.numbers:
            gevent.spawn(self._run_speaker, number)

    def _run_speaker(self, number: int) -> None:
        """The whole life of a speaker, from its arrival on."""
        run = {
            "calls": self._run_call,
            "connect-storm": self._run_storm,
            "search": self._run_staged,
        }
        try:
            run[self.spec.kind](number)
        finally:
            self._left -= 1
            if self._left == 0:
                self._everyone_left.set()

    def _run_call(self, number: int) -> None:
        wait_s = self._schedule.arrival_s(number) - self._clock.now()
        if not self._stopped.wait(timeout=max(0.0, wait_s)):
            self._call_from_to(number, self._schedule.stay_s(number))

    def _run_staged(self, number: int) -> None:
        """Come when wanted, stay while wanted; a call that broke waits for the next order."""
        step = -1
        while (entrance := self._stage.enter(number, step)) is not None:
            step, arrival_s = entrance
            gevent.sleep(max(0.0, arrival_s - self._clock.now()))
            if number < self._stage.speakers:
                self._call_from_to(number)

    def _call_from_to(self, number: int, stay_s: float | None = None) -> None:
        """A call from connecting to hanging up; `stay_s` after its begin, if not None."""
        live = self._new_call(number)
        if stay_s is not None:
            live.dismiss(self._clock.now() + stay_s)
        if not self._connect(live):
            self._counts += live.what_went_wrong()
            return
        self._live[number] = live
        self._calls.append(live)
        self._dismiss_unwanted()
        try:
            live.converse()
        finally:
            del self._live[number]
            self._hung_up(live)

    def _run_storm(self, number: int) -> None:
        for together, apart in self._gates:
            late_s = together.pass_together()
            if self._board.shift.interrupted:
                return
            # A connection is due when the barrier opens, as a frame is at its last sample.
            self._board.meter.frame(late_s)
            live = self._new_call(number)
            self._connect(live)
            apart.pass_together()
            live.attempt.close(self._clock.now())
            self._write_end(live)
            gevent.sleep(BETWEEN_ROUNDS_S)

    @functools.cached_property
    def _gates(self) -> list[tuple[Barrier, Barrier]]:
        """Before and after each round of a connect storm."""
        parties, clock = self.spec.speakers, self._clock
        patience_s = 2 * self.spec.connect_timeout_s
        return [
            (Barrier(parties, patience_s, clock), Barrier(parties, patience_s, clock))
            for _ in range(self.spec.rounds)
        ]

    def _new_call(self, number: int) -> LiveCall:
        spec, wire = self.spec, self._board.wire
        measurement = Measurement(
            conversation=spec.conversation,
            grace_s=spec.grace_s,
            settle_s=wire.settle_s,
            finals_end_turns=wire.finals_end_turns,
        )
        call = Call(wire.new_client(spec), self._new_microphone(number), measurement)
        return LiveCall(number, call, self._board)

    def _connect(self, live: LiveCall) -> bool:
        usable = live.connect()
        row = live.attempt.row()
        self._writer.append(row)
        self._report("connection", row.connection_s, row.reason)
        return usable

    def _hung_up(self, live: LiveCall) -> None:
        self._write_turns(live, live.last_turns())
        self._write_cut_off(live)
        self._counts += live.what_went_wrong()
        self._write_end(live)

    def _write_end(self, live: LiveCall) -> None:
        """The second row of this attempt: the last one counts (`runner.keep_last_rows`)."""
        row = live.attempt.row()
        self._writer.append(row)
        self._report("session", (row.closed_at_s or 0.0) - row.opened_at_s, row.reason)

    def watch(self) -> None:
        """Write every second, until everyone has left; then once more."""
        probe = gevent.spawn(self._probe)
        stop_poll = gevent.spawn(self._poll_stop)
        # Several generators would be told the same.
        scrape = gevent.spawn(self._scrape if self.spec.part == 0 else _nothing)
        try:
            while not self._everyone_left.wait(timeout=FLUSH_S):
                self._flush()
        finally:
            probe.kill()
            stop_poll.kill()
            scrape.kill()
            self._flush()
            self._writer.close()

    def _scrape(self) -> None:
        """Every second, what the server tells of itself; nothing where it tells nothing."""
        metrics = ServerMetrics(
            http_url(self.spec.url, "/metrics"),
            insecure=self.spec.insecure,
            api_key=self._board.api_key,
        )
        try:
            while metrics.offered:
                found = metrics.read()
                now_s = self._clock.now()
                self._writer.append(
                    *(SampleRow(now_s, "server", name, value) for name, value in found)
                )
                gevent.sleep(FLUSH_S)
        finally:
            metrics.close()

    def _probe(self) -> None:
        while True:
            due_s = self._clock.now() + PROBE_S
            gevent.sleep(PROBE_S)
            self._board.meter.probe(max(0.0, self._clock.now() - due_s))

    def _poll_stop(self) -> None:
        """Stop when asked to, or when whoever started us is gone."""
        parent = os.getppid()
        while not self.spec.stop_file.exists() and os.getppid() == parent:
            self._poll_order()
            gevent.sleep(STOP_POLL_S)
        shift, now_s = self._board.shift, self._clock.now()
        shift.interrupted, shift.stop_at_s = True, now_s
        self._stopped.set()
        self._stage.obey(Order(step=-1, speakers=0, ramp_s=0.0, over=True), now_s)

    def _poll_order(self) -> None:
        order = load_order(self.spec.order_file) if self.spec.kind == "search" else None
        if order is not None and self._stage.obey(order, self._clock.now()):
            self._dismiss_unwanted()

    def _dismiss_unwanted(self) -> None:
        if self.spec.kind != "search":
            return
        now_s = self._clock.now()
        for number, live in self._live.items():
            if number >= self._stage.speakers:
                live.dismiss(now_s)

    def _flush(self) -> None:
        for live in list(self._live.values()):
            self._write_turns(live, live.call.measurement.settled(self._clock.now()))
            gevent.sleep(0)
        now_s = self._clock.now()
        health = self._board.meter.drain(
            now_s, speakers=len(self._live), cpu_ratio=self._cpu_ratio(now_s)
        )
        self._writer.append(health, *self._count_rows(now_s))

    def _count_rows(self, now_s: float) -> list[SampleRow]:
        """What went wrong so far, one running count a name."""
        counts = self._counts.copy()
        for live in self._live.values():
            counts.update(live.what_went_wrong())
        return [
            SampleRow(at_s=now_s, source="generator", name=f"{name}_count", value=float(n))
            for name, n in sorted(counts.items())
        ]

    def _write_turns(self, live: LiveCall, turns: Sequence[Turn]) -> None:
        session_id = live.session_id or f"speaker-{live.number}"
        self._write_strays(live)
        for timed in live.call.drain_timed():
            self._writer.append(*server_turn_rows(timed, session_id))
        for turn in turns:
            row = turn_row(
                turn,
                speaker=live.number,
                session_id=live.session_id,
                others=lambda turn=turn: self._said_meanwhile(live, turn),  # type: ignore[misc]
                warm_up_s=self.spec.warm_up_s,
                scored=self.spec.scored,
            )
            self._writer.append(row)
            self._report_turn(row)

    def _write_cut_off(self, live: LiveCall) -> None:
        """No turn tells of an utterance that was not spoken to its end."""
        at_s, spoken_s = live.attempt.closed_at_s, live.cut_off_s
        if at_s is not None and spoken_s > 0:
            self._writer.append(SampleRow(at_s, "generator", CUT_OFF_SPEECH, spoken_s))

    def _write_strays(self, live: LiveCall) -> None:
        """Text that came while the speaker had said nothing at all: made up."""
        for stray in live.call.measurement.drain_strays():
            words = float(len(normalise(stray.text).split()))
            name = HALLUCINATED_WORDS if stray.final else HALLUCINATED_PARTIAL_WORDS
            self._writer.append(SampleRow(stray.at_s, "generator", name, words))
            told = repr(stray.text) if self.spec.keep_text else f"{words:g} words"
            _LOG.warning("speaker %d had said nothing, and %s was heard", live.number, told)

    def _said_meanwhile(self, live: LiveCall, turn: Turn) -> list[str]:
        from_s = turn.speech_start_at_s - LOOK_BACK_S
        until_s = turn.final_at_s or turn.speech_end_at_s
        return [
            text
            for other in self._calls
            if other is not live
            for text in other.call.said(from_s, until_s)
        ]

    def _report_turn(self, row: TurnRow) -> None:
        missing = None if row.final_at_s is not None else "no final transcript"
        self._report("first partial", row.time_to_first_partial_s, missing)
        self._report("transcription delay", row.transcription_delay_s, missing)
        if row.reply_expected:
            silent = None if row.response_latency_s is not None else "no reply"
            self._report("response latency", row.response_latency_s, silent)

    def _cpu_used_s(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def _cpu_ratio(self, now_s: float) -> float | None:
        used_s, since_s = self._cpu_used_s() - self._cpu_s, now_s - self._cpu_read_at_s
        self._cpu_s, self._cpu_read_at_s = self._cpu_s + used_s, now_s
        return used_s / since_s if since_s > 0 else None


def _nothing() -> None:
    """Another generator of this run does it."""
