"""What was measured, joined: the load test's view, the server's, the machine's; one phase each.

Everything may be absent: a server that is not ours tells no segments and no metrics, one on another
machine shows no CPU. None is absent, never 0.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean

from rtvc.profile.diagnose.chance import surely_above
from rtvc.profile.diagnose.series import Readings, Series
from rtvc.stats import quantile

ENGINE_SEGMENTS = ("queue_wait", "features", "encode", "decode")
COMPUTE_SEGMENTS = ("features", "encode", "decode")
CPU_SECONDS = "rtvc_process_cpu_seconds_total"
KINDS = ("final", "speculative", "partial")

GRACE_S = 10.0
"""An answer that never came cost at least as long as the load test waits for one."""

SETTLED_S = 3.0
"""Speakers come one by one, and the first of them finds the engine idle."""

CONTEXT_BYTES = 100e6
"""Device memory of a process that does anything there: less is the driver's own."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One utterance: what was felt, and of what it consisted."""

    speaker: int
    """Number of the simulated speaker."""
    utterance: int
    """Its number within the speaker, from 0."""
    ended_at_s: float
    """Seconds of the phase at which its speech ended."""
    spoke_s: float
    """Seconds of speech."""
    delay_s: float
    """Transcription delay; infinite if the final is missing."""
    latency_s: float | None
    """Response latency; infinite if the reply is missing, None if none was due."""
    first_partial_s: float | None
    """Time to first partial."""
    partial_interval_s: float | None
    """Median time between visible texts."""
    warm_up: bool
    """Left out of every figure but those of cold starts."""
    felt: Mapping[str, float] = field(default_factory=dict)
    """Seconds by segment up to the transcript; empty: not told."""
    reply: Mapping[str, float] = field(default_factory=dict)
    """Seconds by segment up to the reply; empty: not told."""
    hidden: Mapping[str, float] = field(default_factory=dict)
    """Seconds of work by segment that a wait hid."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One connection."""

    opened_at_s: float
    """Seconds of the phase."""
    connection_s: float | None
    """Before TCP connect → usable; None: it failed."""
    handshake_s: float | None
    """TCP connect → HTTP 101; None: it failed, or was not told."""
    outcome: str
    """ok, refused, failed or lost."""


@dataclass(frozen=True, slots=True)
class Jobs:
    """What the engine did of one kind of job within a phase."""

    count: float
    """Jobs answered."""
    service_s: float
    """Seconds of inference one took, in the mean."""
    batch: float
    """Jobs that shared an inference, in the mean."""
    wait_s: float
    """Seconds that one waited for a worker, in the mean."""

    @property
    def engine_s(self) -> float:
        """Seconds that workers spent on them."""
        return self.count * self.service_s / max(1.0, self.batch)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A process beside the server and the load test."""

    name: str
    """As the system calls it."""
    pid: int
    """Process id."""
    cpus: float
    """CPUs used, in the mean of the phase."""


@dataclass(frozen=True)
class Phase:
    """One run against the server, with so many speakers."""

    name: str
    """one, two, many, or run."""
    speakers: int
    """At once."""
    duration_s: float
    """Seconds recorded."""
    turns: Sequence[Turn]
    """In order of their ends."""
    attempts: Sequence[Attempt]
    """Connections."""
    server: Readings
    """What /metrics said; empty: nothing."""
    host: Readings
    """What the machine showed; empty: it was another, or nobody looked."""
    lag_p99_s: float | None = None
    """The load generator's own lag."""
    generator_cpu: float | None = None
    """Share of a core of its busiest process at p95."""
    word_error_rate: float | None = None
    """Of the finals that came; None: their text means nothing, or nobody knows what was said."""
    neighbours: Sequence[Neighbour] = ()
    """Who else used most of the CPUs; empty: nobody, or nobody looked."""

    # The client's view.

    @cached_property
    def judged(self) -> list[Turn]:
        """Turns that count; all, where the warm-up left none."""
        return [turn for turn in self.turns if not turn.warm_up] or list(self.turns)

    @cached_property
    def delays_s(self) -> list[float]:
        return [turn.delay_s for turn in self.judged]

    @cached_property
    def latencies_s(self) -> list[float]:
        return [turn.latency_s for turn in self.judged if turn.latency_s is not None]

    @cached_property
    def connections_s(self) -> list[float]:
        return [a.connection_s for a in self.attempts if a.connection_s is not None]

    @cached_property
    def delay_s(self) -> float | None:
        """Mean transcription delay of the finals that came."""
        return finite_mean(self.delays_s)

    @cached_property
    def delay_with_losses_s(self) -> float:
        """The same, a missing final counted as the time it was waited for; 0: none came at all."""
        if self.delay_s is None:
            return 0.0
        return fmean(min(delay, GRACE_S) for delay in self.delays_s)

    @cached_property
    def latency_s(self) -> float | None:
        """Mean response latency of the replies that came."""
        return finite_mean(self.latencies_s)

    @property
    def reply_gap_s(self) -> float | None:
        """Mean time from the final transcript to the first reply sample."""
        return finite_mean(
            turn.latency_s - turn.delay_s
            for turn in self.judged
            if turn.latency_s is not None and math.isfinite(turn.delay_s)
        )

    @property
    def finals_missing(self) -> int:
        return sum(math.isinf(delay) for delay in self.delays_s)

    def failed(self, outcome: str) -> int:
        return sum(attempt.outcome == outcome for attempt in self.attempts)

    # Segments.

    @cached_property
    def timed(self) -> list[Turn]:
        """Turns of which the server told the segments."""
        return [turn for turn in self.judged if turn.felt]

    def felt(self, *names: str) -> float | None:
        """Mean seconds a turn of these segments up to the transcript; None: not told."""
        return _mean_of(self.timed, lambda turn: _total(turn.felt, names))

    def hidden(self, *names: str) -> float | None:
        """Mean seconds a turn of work hidden in a wait; None: not told."""
        return _mean_of(self.timed, lambda turn: _total(turn.hidden, names))

    def replied(self, *names: str) -> float | None:
        """Mean seconds a turn of these segments of the reply; None: not told."""
        found = [turn for turn in self.judged if turn.reply]
        return _mean_of(found, lambda turn: _total(turn.reply, names))

    def typically_replied(self, *names: str) -> float | None:
        """The median of the same: what a cold first turn does not move."""
        return middle([_total(turn.reply, names) for turn in self.judged if turn.reply])

    @cached_property
    def engine_felt_s(self) -> float | None:
        """Queue and compute that the person waited for."""
        return self.felt(*ENGINE_SEGMENTS)

    # The engine.

    def jobs(self, kind: str) -> Jobs | None:
        """None: no metrics, or no such job."""
        count = self._grown("inference_seconds_count", kind)
        total_s = self._grown("inference_seconds_sum", kind)
        if not count or total_s is None:
            return None
        batches = self._grown("batch_jobs_count", kind)
        together = self._grown("batch_jobs_sum", kind)
        waits = self._grown("queue_wait_seconds_count", kind)
        waited_s = self._grown("queue_wait_seconds_sum", kind)
        return Jobs(
            count=count,
            service_s=total_s / count,
            batch=together / batches if together and batches else 1.0,
            wait_s=waited_s / waits if waited_s and waits else 0.0,
        )

    def _grown(self, name: str, kind: str) -> float | None:
        return self.server.of(f"rtvc_engine_{name}", kind=kind).risen

    @cached_property
    def all_jobs(self) -> dict[str, Jobs]:
        found = ((kind, self.jobs(kind)) for kind in KINDS)
        return {kind: jobs for kind, jobs in found if jobs is not None}

    @cached_property
    def engine_busy(self) -> float | None:
        """Inferences under way at a time, in the mean; None: no metrics."""
        span_s = self.server.of("rtvc_engine_inference_seconds_sum", kind="partial").span_s
        span_s = span_s or self.server.of("rtvc_engine_inference_seconds_sum", kind="final").span_s
        if not self.all_jobs or span_s <= 0:
            return None
        return sum(jobs.engine_s for jobs in self.all_jobs.values()) / span_s

    @cached_property
    def partial_share(self) -> float | None:
        """Of the engine's time that went to partials; None: no metrics."""
        total_s = sum(jobs.engine_s for jobs in self.all_jobs.values())
        if not total_s:
            return None
        partial = self.all_jobs.get("partial")
        return partial.engine_s / total_s if partial else 0.0

    @cached_property
    def final_wait_s(self) -> float | None:
        """Mean wait for a worker of what becomes a final; None: no metrics."""
        found = [self.all_jobs[kind] for kind in ("final", "speculative") if kind in self.all_jobs]
        count = sum(jobs.count for jobs in found)
        return sum(jobs.count * jobs.wait_s for jobs in found) / count if count else None

    @cached_property
    def service_s(self) -> float | None:
        """Mean inference time of a job that becomes a final; of partials where there is none."""
        found = [self.all_jobs[kind] for kind in ("final", "speculative") if kind in self.all_jobs]
        found = found or list(self.all_jobs.values())
        count = sum(jobs.count for jobs in found)
        return sum(jobs.count * jobs.service_s for jobs in found) / count if count else None

    @cached_property
    def batch(self) -> float | None:
        """Mean jobs of an inference, over all kinds; None: no metrics."""
        count = sum(jobs.count for jobs in self.all_jobs.values())
        total = sum(jobs.count * jobs.batch for jobs in self.all_jobs.values())
        return total / count if count else None

    @cached_property
    def service_over_time(self) -> Series:
        """Time of one inference against its kind's mean in this phase, second by second.

        The kinds differ in length; each is measured by itself, so that their mix does not show.
        """
        points: list[tuple[float, float]] = []
        for kind, jobs in self.all_jobs.items():
            sums = self.server.of("rtvc_engine_inference_seconds_sum", kind=kind).steps()
            counts = dict(
                self.server.of("rtvc_engine_inference_seconds_count", kind=kind).steps().points
            )
            points += [
                (at, total / counts[at] / jobs.service_s)
                for at, total in sums.points
                if counts.get(at) and jobs.service_s > 0 and at >= SETTLED_S
            ]
        return Series(tuple(sorted(points)))

    def outcome(self, outcome: str) -> float | None:
        """Jobs that ended so within the phase; None: not told."""
        return self.server.of("rtvc_engine_jobs_total", outcome=outcome).risen

    # The machine.

    @cached_property
    def cpus(self) -> float | None:
        return self.host.of("host_cpus").last or self.server.of("rtvc_usable_cpus").last

    @cached_property
    def cpu_ratio(self) -> float | None:
        """Busy share of all CPUs."""
        return self.host.of("host_cpu_ratio").mean

    @cached_property
    def others_cores(self) -> float | None:
        """CPUs used by neither the load test nor what answers in the server.

        Children of the server that it does not count among its own are others, too.
        """
        others = self.host.of("other_cpu_cores").mean
        return None if others is None else others + self.children_cores

    @cached_property
    def others_ratio(self) -> float | None:
        """The same as a share of all CPUs."""
        if self.others_cores is None or not self.cpus:
            return None
        return self.others_cores / self.cpus

    @cached_property
    def children_cores(self) -> float:
        """CPUs used by the server's descendants beyond the processes that /metrics counts."""
        names = [name for name in self.server.names() if name.startswith(CPU_SECONDS)]
        counted = [Series(tuple(self.server.readings_of(name))) for name in names]
        spans = [each for each in counted if each.span_s > 0]
        if not spans or not self._has_strangers:
            return 0.0
        # A server that could not answer for a while told nothing of what it used meanwhile.
        from_s = max(each.points[0][0] for each in spans)
        until_s = min(each.points[-1][0] for each in spans)
        used = self.host.of("server_cpu_cores").between(from_s, until_s + 1.0).mean
        if used is None:
            return 0.0
        return max(0.0, used - sum((each.risen or 0.0) / each.span_s for each in spans))

    @property
    def _has_strangers(self) -> bool:
        """Whether the server has descendants that are no engines; unknown counts as yes."""
        seen = self.host.of("server_processes").maximum
        engines = self.server.of("rtvc_engine_processes").maximum
        return seen is None or engines is None or seen > 1 + engines

    @cached_property
    def server_ratio(self) -> float | None:
        """Share of all CPUs used by what answers in the server."""
        used = self.host.of("server_cpu_cores").mean
        return None if used is None or not self.cpus else (used - self.children_cores) / self.cpus

    def gpu(self, figure: str) -> Series:
        """Of the busiest device; empty without one."""
        names = [name for name in self.host.names() if self._computes_on(name)]
        busiest = max(names, key=lambda name: self.host.of(name).mean or 0.0, default=None)
        if busiest is None:
            return Series()
        return self.host.of(busiest.removesuffix("utilisation_ratio") + figure)

    def _computes_on(self, name: str) -> bool:
        """Whether it is the use of a device, and not one that only others use."""
        if not name.endswith("_utilisation_ratio"):
            return False
        device = name.removesuffix("utilisation_ratio")
        used = self.host.of(device + "memory_used_bytes").maximum
        others = self.host.of(device + "other_memory_bytes").maximum
        return used is None or others is None or used - others > CONTEXT_BYTES

    @cached_property
    def lag_share(self) -> float | None:
        """Share of the time in which the event loop was held up; None: no metrics."""
        lag = self.server.of("rtvc_event_loop_lag_seconds_sum")
        return None if not lag.span_s else (lag.risen or 0.0) / lag.span_s

    @cached_property
    def lag_peak_s(self) -> float | None:
        """How long the loop was held up within one second: the 95th of 100 seconds."""
        return self.server.of("rtvc_event_loop_lag_seconds_sum").steps().at(0.95)

    @cached_property
    def round_trip(self) -> Series:
        return self.host.of("http_round_trip_s")


@dataclass(frozen=True)
class Evidence:
    """All phases, in the order in which they were run."""

    phases: Sequence[Phase]
    """At least one."""
    colocated: bool | None = None
    """Whether server and load generator share a machine; None: unknown."""
    delay_target_s: float = 0.5
    """Transcription delay at p95."""
    connection_target_s: float = 3.0
    """Connection time at p95."""
    interrupted: bool = False
    """Whether somebody stopped it before its time: what is missing was not measured."""

    @cached_property
    def one(self) -> Phase | None:
        """A single speaker; None if that was not run."""
        return next((phase for phase in self.phases if phase.speakers <= 1), None)

    @cached_property
    def many(self) -> Phase:
        """The most speakers."""
        return max(self.phases, key=lambda phase: phase.speakers)

    @cached_property
    def fewest(self) -> Phase:
        """The fewest speakers."""
        return min(self.phases, key=lambda phase: phase.speakers)

    @cached_property
    def worst(self) -> Phase:
        """Where the transcription delay was largest; of equals, the one with more speakers."""
        return max(self.phases, key=lambda phase: (phase.delay_with_losses_s, phase.speakers))

    @cached_property
    def felt_worst(self) -> Phase:
        """The same for the person who waits: where no answer came at all, it is worst."""

        def felt(phase: Phase) -> float:
            return fmean([min(delay, GRACE_S) for delay in phase.delays_s] or [0.0])

        return max(self.phases, key=lambda phase: (felt(phase), phase.speakers))

    @cached_property
    def slowest_reply(self) -> Phase:
        """Where the response latency was largest."""
        return max(self.phases, key=lambda phase: (phase.latency_s or 0.0, phase.speakers))

    @cached_property
    def segments_told(self) -> bool:
        return any(phase.timed for phase in self.phases)

    @cached_property
    def delay_missed(self) -> bool:
        """Whether the transcription delay is surely above its target in some phase."""
        return any(surely_above(phase.delays_s, self.delay_target_s) for phase in self.phases)

    @cached_property
    def delay_probably_missed(self) -> bool:
        """Whether every tenth turn of some phase is above the target, if not surely every 20th."""
        tenths = self.seen(lambda phase: quantile([*phase.delays_s], 0.9))
        return self.delay_missed or any(each > self.delay_target_s for each in tenths)

    @cached_property
    def connection_missed(self) -> bool:
        every = [one for phase in self.phases for one in phase.connections_s]
        return surely_above(every, self.connection_target_s)

    def seen(self, of: Callable[[Phase], float | None]) -> list[float]:
        """A figure of every phase that has it."""
        found = (of(phase) for phase in self.phases)
        return [value for value in found if value is not None]

    def total(self, of: Callable[[Phase], float | None]) -> float | None:
        """A count over all phases; None: no phase told it."""
        found = self.seen(of)
        return sum(found) if found else None

    def seconds(self, phase: Phase) -> tuple[float, float]:
        """Where a phase lies, end to end with the others."""
        begin_s = 0.0
        for each in self.phases:
            if each is phase:
                break
            begin_s += each.duration_s
        return begin_s, begin_s + phase.duration_s


def finite_mean(values: Iterable[float]) -> float | None:
    found = [value for value in values if math.isfinite(value)]
    return fmean(found) if found else None


def middle(values: Sequence[float]) -> float | None:
    """The median."""
    return quantile(values, 0.5)


def _total(segments: Mapping[str, float], names: tuple[str, ...]) -> float:
    return sum(segments.get(name, 0.0) for name in names)


def _mean_of(turns: Sequence[Turn], of: Callable[[Turn], float]) -> float | None:
    return fmean(of(turn) for turn in turns) if turns else None
