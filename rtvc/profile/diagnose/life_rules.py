"""Causes over a server's life: what sessions load, what is cold, what fills up, what fails."""

import math
from collections.abc import Callable
from itertools import pairwise
from math import sqrt
from statistics import fmean

from rtvc.profile.diagnose.evidence import (
    COMPUTE_SEGMENTS,
    GRACE_S,
    Evidence,
    Phase,
    Turn,
    middle,
)
from rtvc.profile.diagnose.finding import Cause, Delay, Finding, ProofOf
from rtvc.profile.diagnose.series import Series

USUAL_CONNECTION_S = 0.1
"""A handshake and a session object: single milliseconds, tens on a busy server."""

SLOW_CONNECTION_S = 0.3
"""Longer than any handshake: something is built while the caller waits."""

ONE_EACH = 0.5
"""Processes that came with each speaker more: nearer to one than to none."""

MODEL_BYTES = 80e6
"""Memory that came with each speaker more: the smallest Whisper takes about as much."""

COLD_S = 0.25
"""A first turn later by this is felt."""

COLD_TIMES = 1.5
"""A first turn against the slowest later one of its session: no spread of lengths does that."""

SURELY = 2.6
"""Standard deviations of Mann's and Kendall's test: chance, one in two hundred."""

TOWERS = 1.2
"""Times its median that memory reached before something failed."""

CLIMB_BYTES_S = 1.5e6
"""Growth a second: 5 GB an hour."""

SOON_S = 3600.0
"""Memory that is full within an hour of such load."""

SCARCE = 0.1
"""Share of the memory that was available at first."""


# What sessions load.


def sessions_step(evidence: Evidence, name: str, **labels: str) -> float | None:
    """What came of a gauge with each speaker more; None: not told, or only one phase."""
    few = evidence.fewest
    many = evidence.many
    if few.speakers == many.speakers:
        return None
    low, high = _peak(few, name, **labels), _peak(many, name, **labels)
    return None if None in (low, high) else (high - low) / (many.speakers - few.speakers)  # type: ignore[operator]


def _peak(phase: Phase, name: str, **labels: str) -> float | None:
    return (phase.host.of(name) or phase.server.of(name, **labels)).maximum


def model_per_session(evidence: Evidence) -> Finding | None:
    """With every session comes a model: connecting takes its loading, memory its size."""
    engines = sessions_step(evidence, "rtvc_engine_processes")
    memory = sessions_step(evidence, "server_memory_bytes")
    processes = sessions_step(evidence, "server_processes")
    device = _gpu_step(evidence)
    if engines is not None:
        grows = engines >= ONE_EACH
    else:
        steps = [(memory, MODEL_BYTES), (processes, ONE_EACH), (device, MODEL_BYTES)]
        grows = any(step is not None and step >= least for step, least in steps)
    phase = max(evidence.phases, key=lambda one: middle(one.connections_s) or 0.0)
    typical_s = middle(phase.connections_s) or 0.0
    unseen = engines is None and memory is None and processes is None and device is None
    seen = grows and (engines is not None or typical_s >= SLOW_CONNECTION_S)
    guessed = unseen and typical_s >= 1.0 and _always_slow(evidence)
    if not seen and not guessed:
        return None
    return _per_session(evidence, phase, typical_s, unseen=unseen)


def _per_session(evidence: Evidence, phase: Phase, typical_s: float, *, unseen: bool) -> Finding:
    share_s = max(0.0, typical_s - USUAL_CONNECTION_S)
    delay, of_s = "connection", typical_s
    slowed_s, felt_in = copies_cost_s(evidence), phase
    if slowed_s > share_s:
        felt_in = evidence.worst
        delay, of_s, share_s = "transcription delay", evidence.worst.delay_s or slowed_s, slowed_s
    proof = ProofOf(evidence)
    proof.add(phase, "connection at p50", middle(phase.connections_s), SLOW_CONNECTION_S)
    for name, unit in (
        ("rtvc_engine_processes", ""),
        ("server_processes", ""),
        ("server_memory_bytes", "bytes"),
    ):
        step = sessions_step(evidence, name)
        limit = MODEL_BYTES if unit else ONE_EACH
        proof.add(evidence.many, f"{name}, for each speaker more", step, limit, unit)
    proof.add(
        evidence.many, "GPU memory, for each speaker more", _gpu_step(evidence), None, "bytes"
    )
    notes = ("its processes cannot be seen from here: slow authentication would look the same",)
    return Finding(
        Cause.MODEL_PER_SESSION,
        "connection" if delay == "connection" else "transcription delay",
        min(share_s, of_s),
        of_s,
        felt_in.name,
        proof.all,
        notes=notes if unseen else (),
        certain=not unseen,
    )


def copies_cost_s(evidence: Evidence) -> float:
    """Compute felt with many speakers beyond that of one: copies share the device."""
    one = evidence.one
    many_s = evidence.worst.felt(*COMPUTE_SEGMENTS)
    if one is None or many_s is None:
        return 0.0
    return max(0.0, many_s - (one.felt(*COMPUTE_SEGMENTS) or 0.0))


def _gpu_step(evidence: Evidence) -> float | None:
    few, many = evidence.fewest, evidence.many
    low = few.gpu("memory_used_bytes").maximum
    high = many.gpu("memory_used_bytes").maximum
    if low is None or high is None or few.speakers == many.speakers:
        return None
    return (high - low) / (many.speakers - few.speakers)


def _always_slow(evidence: Evidence) -> bool:
    return all((middle(phase.connections_s) or 0.0) >= 0.5 for phase in evidence.phases)


# What is cold.


def cold_start(evidence: Evidence) -> Finding | None:
    """The first turn of a session is much slower than those that follow, or the first connection
    than all later ones."""
    connect = _cold_connection_s(evidence)
    if connect is not None:
        return _cold_connection(evidence, connect)
    return _cold_turn(evidence, "transcription delay", _transcript_s) or _cold_turn(
        evidence, "response latency", _reply_s
    )


Measure = Callable[[Turn], float]


def _transcript_s(turn: Turn) -> float:
    return turn.delay_s


def _reply_s(turn: Turn) -> float:
    """What came after the transcript; infinite where nothing did."""
    return math.inf if turn.latency_s is None else turn.latency_s - min(turn.delay_s, GRACE_S)


def _cold_turn(evidence: Evidence, delay: Delay, of: Measure) -> Finding | None:
    # A turn that waited for an engine to come back is slow for another reason.
    steady = [phase for phase in evidence.phases if not _events(phase)]
    colds = [(phase, cold) for phase in steady if (cold := _cold_s(phase, of)) is not None]
    first = evidence.phases[0]
    agreeing = sum(cold >= COLD_S for _, cold in colds) + sum(
        _all_firsts_cold(evidence, phase, of) for phase in steady
    )
    alone = bool(colds) and colds[0][0] is first and colds[0][1] >= COLD_S
    if not alone or (agreeing < 2 and not _only_once(evidence, of)):
        return None
    phase, cold_s = max(colds, key=lambda pair: pair[1])
    firsts = [seconds for turn in _firsts(phase) if math.isfinite(seconds := of(turn))]
    proof = ProofOf(evidence)
    for each, value in colds:
        proof.add(each, "first turn beyond the later ones", value, COLD_S)
    of_s = max(firsts, default=cold_s)
    return Finding(
        Cause.COLD_START,
        delay,
        min(of_s, cold_s),
        of_s,
        phase.name,
        proof.all,
        notes=("the share is that of a session's first turn",),
        certain=True,
        weight_s=max(_cold_weight_s(evidence, one, of) for one in (phase, evidence.worst)),
    )


def _all_firsts_cold(evidence: Evidence, phase: Phase, of: Measure) -> bool:
    """Whether nobody came to a second turn, so slow or lost were the first ones."""
    warm_s = min(evidence.seen(lambda one: _warm_s(one, of)), default=0.0)
    typical_s = middle([min(of(turn), GRACE_S) for turn in _firsts(phase)])
    return _warm_s(phase, of) is None and (typical_s or 0.0) - warm_s >= COLD_S


def _cold_weight_s(evidence: Evidence, phase: Phase, of: Measure) -> float:
    """What first turns add to the mean of a phase, against the quickest phase's later ones: what
    comes behind the cold starts of a phase waits for them."""
    firsts = _firsts(phase)
    warm_s = min(evidence.seen(lambda one: _warm_s(one, of)), default=0.0)
    excesses = [min(of(turn), GRACE_S) - warm_s for turn in firsts]
    return max(0.0, sum(excesses)) / max(1, len(phase.turns))


def _warm_s(phase: Phase, of: Measure) -> float | None:
    """The median of later turns; None: there are none."""
    firsts = _firsts(phase)
    later = [of(turn) for turn in phase.turns if turn not in firsts]
    return middle([seconds for seconds in later if math.isfinite(seconds)])


def _firsts(phase: Phase) -> list[Turn]:
    """The first turn of each speaker."""
    first: dict[int, Turn] = {}
    for turn in sorted(phase.turns, key=lambda one: one.utterance):
        first.setdefault(turn.speaker, turn)
    return list(first.values())


def _cold_s(phase: Phase, of: Measure) -> float | None:
    """By how much first turns exceed the slowest later one, at the median speaker."""
    excesses = []
    for turn in _firsts(phase):
        others = [one for one in phase.turns if one.speaker == turn.speaker and one is not turn]
        later = [seconds for one in others if math.isfinite(seconds := of(one))]
        if not later or not math.isfinite(of(turn)):
            continue
        slow = of(turn) >= COLD_TIMES * max(later)
        excesses.append(of(turn) - (middle(later) or 0.0) if slow else 0.0)
    return middle(excesses)


def _only_once(evidence: Evidence, of: Measure) -> bool:
    """Whether the server's very first turn stands out from all that follow while few speak."""
    first, *rest = evidence.phases
    later = [of(turn) for turn in first.turns[1:]]
    later += [of(turn) for phase in rest[:1] for turn in phase.turns]
    known = [seconds for seconds in later if math.isfinite(seconds)]
    return len(known) >= 3 and of(first.turns[0]) >= COLD_TIMES * max(known)


def _cold_connection_s(evidence: Evidence) -> float | None:
    """The very first connection beyond the slowest of the later ones; None: it was no slower."""
    every = [one for phase in evidence.phases for one in phase.connections_s]
    if len(every) < 3 or every[0] < max(1.0, 3 * max(every[1:])):
        return None
    return every[0] - (middle(every[1:]) or 0.0)


def _cold_connection(evidence: Evidence, cold_s: float) -> Finding:
    phase = evidence.phases[0]
    proof = ProofOf(evidence).add(phase, "first connection beyond the later ones", cold_s, 1.0)
    return Finding(
        Cause.COLD_START,
        "connection",
        cold_s,
        phase.connections_s[0],
        phase.name,
        proof.all,
        certain=True,
    )


# What fills up.


def memory_exhaustion(evidence: Evidence) -> Finding | None:
    """Memory keeps growing at a steady load, and there is an end to it."""
    climbs = [(phase, rate) for phase in evidence.phases if (rate := climb(phase)) is not None]
    growing = [(phase, rate) for phase, rate in climbs if rate >= CLIMB_BYTES_S]
    often = len(growing) >= min(2, len(evidence.phases))
    if not growing or not (often or (events(evidence) and _towers(evidence))):
        return None
    phase, rate = growing[-1]
    available = phase.host.of("host_memory_available_bytes")
    left_s = None if available.last is None else available.last / rate
    swapped = phase.host.of("host_swap_used_bytes")
    swaps = bool(swapped) and (swapped.maximum or 0.0) - (swapped.minimum or 0.0) > 50e6
    broken = events(evidence) > 0 or sum(one.finals_missing for one in evidence.phases) > 0
    scarce = _scarce(evidence)
    if not (broken or swaps or scarce or (left_s is not None and left_s < SOON_S)):
        return None
    worst = evidence.worst
    of_s = max(mean_with_grace(worst), worst.delay_s or 0.0)
    proof = ProofOf(evidence)
    for each, value in climbs:
        proof.add(each, "resident memory grows", value, CLIMB_BYTES_S, "bytes/s")
    proof.add(phase, "memory left at that rate for", left_s, SOON_S)
    proof.add(phase, "memory available", available.minimum, None, "bytes")
    proof.add(phase, "swap used", swapped.maximum, None, "bytes")
    return Finding(
        Cause.MEMORY_EXHAUSTION,
        "transcription delay",
        min(of_s, lost_to_failures_s(worst)),
        of_s,
        worst.name,
        proof.all,
        certain=True,
        weight_s=max(lost_to_failures_s(worst), (worst.delay_s or 0.0) * 0.9),
    )


def _towers(evidence: Evidence) -> bool:
    """Whether memory stood far above its usual level; a model loaded again comes back to it."""
    values = [value for phase in evidence.phases for value in memory(phase).values]
    usual = middle(values)
    return usual is not None and max(values) >= TOWERS * usual


def memory(phase: Phase) -> Series:
    """Resident memory of the server with its engines."""
    seen = phase.host.of("server_memory_bytes")
    if seen:
        return seen
    own = dict(phase.server.of("rtvc_process_resident_memory_bytes", process="server").points)
    engine = dict(phase.server.of("rtvc_process_resident_memory_bytes", process="engine").points)
    return Series(tuple((at, value + engine.get(at, 0.0)) for at, value in own.items()))


def climb(phase: Phase) -> float | None:
    """Bytes a second by which memory grew once all sessions were open; None: not told.

    Up to its highest reading, so that the end of a process that grew too large does not hide its
    growth. 0 unless it rises beyond chance, and in more than one step.
    """
    opened_s = [a.opened_at_s + (a.connection_s or 0.0) for a in phase.attempts]
    from_s = max([*opened_s, 0.15 * phase.duration_s], default=0.0) + 1.0
    settled = Series(tuple(point for point in memory(phase).points if point[0] >= from_s))
    if len(settled.points) < 6:
        return None
    top = max(range(len(settled.points)), key=lambda place: settled.points[place][1])
    rising = Series(settled.points[: max(top + 1, 6)])
    signs, variance = rising.trend
    if signs < SURELY * sqrt(variance) or _in_one_step(rising):
        return _longest_rise(settled) if _events(phase) else 0.0
    return max(0.0, rising.slope or 0.0)


def _longest_rise(series: Series) -> float:
    """Bytes a second of the longest stretch of readings each above the one before: how a process
    grows that is replaced again and again. 0 for fewer than four readings, or a single step."""
    rises: list[list[tuple[float, float]]] = [[]]
    for point in series.points:
        if rises[-1] and point[1] <= rises[-1][-1][1]:
            rises.append([])
        rises[-1].append(point)
    longest = max((Series(tuple(rise)) for rise in rises), key=lambda one: len(one.points))
    if len(longest.points) < 4 or _in_one_step(longest):
        return 0.0
    return (longest.values[-1] - longest.values[0]) / longest.span_s


def _in_one_step(series: Series) -> bool:
    """Whether one step makes more than half of the growth: something was loaded."""
    net = series.values[-1] - series.values[0]
    return max(now - was for was, now in pairwise(series.values)) > 0.5 * net


def _scarce(evidence: Evidence) -> bool:
    seen = [phase.host.of("host_memory_available_bytes") for phase in evidence.phases]
    values = [value for series in seen for value in series.values]
    return bool(values) and min(values) < SCARCE * max(values)


# What fails.


def events(evidence: Evidence) -> float:
    """Restarts of engines and jobs that failed or were tried again, over all phases."""
    return sum(_events(phase) for phase in evidence.phases)


def _events(phase: Phase) -> float:
    restarts = phase.server.of("rtvc_engine_restarts_total").risen or 0.0
    retried = phase.server.of("rtvc_engine_retried_jobs_total").risen or 0.0
    return restarts + retried + (phase.outcome("failed") or 0.0)


def mean_with_grace(phase: Phase) -> float:
    """Mean delay, a missing final counted as the time it was waited for."""
    found = [min(delay, GRACE_S) for delay in phase.delays_s]
    return fmean(found) if found else 0.0


def lost_to_failures_s(phase: Phase) -> float:
    """What turns far beyond the typical one add to the mean."""
    delays = [min(delay, GRACE_S) for delay in phase.delays_s]
    typical_s = middle(delays)
    if typical_s is None:
        return 0.0
    beyond = [delay - typical_s for delay in delays if delay > 2 * typical_s + 0.1]
    return sum(beyond) / len(delays)


def engine_failing(evidence: Evidence) -> Finding | None:
    """The engine crashed or hung; turns it had in hand waited for another one."""
    phase = max(evidence.phases, key=lambda one: (_events(one), one.finals_missing))
    lost = sum(one.failed("lost") for one in evidence.phases)
    missing = sum(one.finals_missing for one in evidence.phases)
    unseen = _lost_unseen(evidence)
    if events(evidence) + lost == 0 and not unseen:
        return None
    if memory_exhaustion(evidence) is not None:
        return None
    of_s = mean_with_grace(phase)
    restarts = evidence.total(lambda one: one.server.of("rtvc_engine_restarts_total").risen)
    failed = evidence.total(lambda one: one.outcome("failed"))
    proof = ProofOf(evidence)
    proof.add(phase, "engine restarts, all phases", restarts, 0.0, "")
    proof.add(phase, "jobs failed, all phases", failed, 0.0, "")
    proof.add(phase, "finals missing, all phases", float(missing), 0.0, "")
    proof.add(phase, "sessions that the server ended, all phases", float(lost), 0.0, "")
    proof.add(phase, "longest time without an answer", longest_gap_s(phase))
    return Finding(
        Cause.ENGINE_FAILING,
        "transcription delay",
        min(of_s, lost_to_failures_s(phase)),
        of_s,
        phase.name,
        proof.all,
        notes=_failure_notes(restarts, missing, unseen=unseen),
        certain=True,
        weight_s=max(lost_to_failures_s(phase), 0.5 * of_s),
    )


def _failure_notes(restarts: float | None, missing: int, *, unseen: bool) -> tuple[str, ...]:
    notes = []
    if unseen:
        notes.append("the server does not tell of its engine: only that answers were lost")
    if restarts:
        notes.append(
            "under overload a restart may be a missed deadline and no crash: the server's output "
            "tells the reason of each"
        )
    if missing:
        notes.append(f"a transcript that never came counts as {GRACE_S:g} s of waiting")
    return tuple(notes)


def _lost_unseen(evidence: Evidence) -> bool:
    """Whether answers are lost while others come in time, and the server tells nothing of it.

    Where most are late, those that are missing are only later still.
    """
    delays = [delay for phase in evidence.phases for delay in phase.delays_s]
    lost = sum(map(math.isinf, delays))
    if any(phase.server for phase in evidence.phases) or lost < max(2, 0.1 * len(delays)):
        return False
    return (middle(delays) or 0.0) < 2 * evidence.delay_target_s


def longest_gap_s(phase: Phase) -> float | None:
    """Longest time in which jobs waited and none was done; None: not told."""
    done = phase.server.of("rtvc_engine_jobs_total", outcome="done").steps()
    waiting = dict(phase.server.of("rtvc_engine_queued_jobs").points)
    longest_s, since_s = 0.0, None
    for at, count in done.points:
        if count or not waiting.get(at):
            since_s = None
            continue
        since_s = at if since_s is None else since_s
        longest_s = max(longest_s, at - since_s)
    return longest_s if done else None
