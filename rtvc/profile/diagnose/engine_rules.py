"""Causes in and around the engine: who else uses the device, how jobs wait, how fast it works."""

import math
from collections.abc import Sequence
from math import prod, sqrt
from statistics import fmean

from rtvc.profile.diagnose.evidence import COMPUTE_SEGMENTS, ENGINE_SEGMENTS, Evidence, Phase
from rtvc.profile.diagnose.finding import Cause, Finding, ProofOf
from rtvc.profile.diagnose.life_rules import (
    ONE_EACH,
    copies_cost_s,
    events,
    model_per_session,
    sessions_step,
)
from rtvc.profile.diagnose.path_rules import FULL_CPU, OTHERS, hidden_backlog, input_excess_s
from rtvc.profile.diagnose.series import Series
from rtvc.stats import quantile

FELT_S = 0.05
"""Queue and compute that are felt; below it they hide in the endpoint's wait."""

CROWDED_OUT = 0.5
"""The same of CPUs that are all busy: most of the machine is somebody else's, which is told even
while what it costs still hides in the endpoint's wait."""

CROWDED = 0.75
"""Share of CPUs busy from which on those who want one more begin to wait."""

ALIKE = 0.8
"""Share of a load from which on another is the same."""

OTHER_MEMORY_BYTES = 200e6
"""Device memory of a process that computes: a CUDA context alone is 100 to 300 MB."""

ROOM = 0.8
"""Share of the device in use below which a job that waits is not waiting for the device."""

_WAIT = "queue_wait"

BATCHED = 1.3
"""Jobs an inference from which on sessions do share inferences."""

AS_QUICK = 1.4
"""Times the inference time alone: below it the device itself did not become slower."""

PARTIALS = 0.45
"""Share of the engine's time: finals alone would leave nearly half of it free."""

BACK_TO_BACK = 1.3
"""Times a partial's own time between partials: nobody waits between them. An adaptive server keeps
to two thirds of the engine's time at most, so to 1.5."""

NEVER_YIELDS = 1.75
"""The same under load: a server that asks less then gets to two and more."""

NEARLY_ALL = 0.8
"""Share of a full engine's time that no server gives to partials that cares for its finals."""

USEFUL_S = 1.2
"""Partials no more often than this fill an engine only because one takes so long."""

USELESS_S = 0.25
"""Partials more often than four a second: nobody reads that."""

SLOWER = 1.15
"""Last third of a phase against its first, in two phases of three: it fits a device that loses a
third of its speed within a minute."""

SURELY = 2.6
"""Standard deviations of Mann's and Kendall's test over all phases: chance, one in two hundred."""

SLOWER_ONCE = 1.4
"""The same where only one phase shows it."""

SLOWER_WITH_LOAD = 1.7
"""The last phase, with the most speakers, against the first: inferences at the same time share
memory and batches, which makes each of them up to half as slow again."""

THROTTLED = 0.3
"""Share of samples with a throttle reason that costs speed."""

REMAINS = 0.35
"""Share of queue and compute that must be left when other causes had theirs: they are estimates."""

BUSY = 0.75
"""Share of the device in use from which on it is full in the moments that matter."""


def engine_excess_s(evidence: Evidence) -> float | None:
    """Queue and compute felt where it was worst; without segments what came with more speakers."""
    phase = evidence.worst
    if phase.timed:
        return phase.engine_felt_s
    one = evidence.one
    if one is None or one is phase or one.delay_s is None or phase.delay_s is None:
        return None
    return max(0.0, phase.delay_s - one.delay_s)


def device_busy(phase: Phase) -> float | None:
    """Of the device that computes: a GPU where one does anything, else the CPUs."""
    gpu = phase.gpu("utilisation_ratio")
    busy = gpu if (gpu.mean or 0.0) >= 0.05 else phase.host.of("host_cpu_ratio")
    # Turns begin and end: what counts is how full it is while there is work.
    return busy.at(0.75)


def others_share(evidence: Evidence) -> float | None:
    """Share of the device that others took while it was crowded; None: they did not."""
    phase = evidence.worst
    if phase.gpu("utilisation_ratio"):
        return _others_on_gpu(evidence.fewest)
    others = phase.others_ratio
    crowded = phase.host.of("host_cpu_ratio").at(0.75) or 0.0
    if others is None or others < OTHERS or crowded < CROWDED:
        return None
    return min(1.0, others)


def _others_on_gpu(phase: Phase) -> float | None:
    """What keeps the device busy while the fewest speak, beyond the inferences under way."""
    held = phase.gpu("other_memory_bytes").maximum or 0.0
    busy = phase.gpu("utilisation_ratio").mean or 0.0
    others = busy - min(1.0, phase.engine_busy or 0.0)
    if held < OTHER_MEMORY_BYTES or busy < BUSY or others < OTHERS:
        return None
    return others


def device_contention(evidence: Evidence) -> Finding | None:
    """Others use the CPU or the GPU, already while one speaker is alone."""
    phase = evidence.worst
    taken = others_share(evidence)
    if taken is None:
        return None
    felt_s = phase.delay_s or 0.0
    share_s = min(felt_s, contended_s(evidence, taken))
    crowded_out = taken >= CROWDED_OUT and (phase.cpu_ratio or 0.0) >= FULL_CPU
    if share_s < FELT_S and not crowded_out:
        return None
    proof = ProofOf(evidence)
    for each in evidence.phases:
        proof.add(each, "CPUs used by others", *_of_all(each.others_ratio, OTHERS, each))
    proof.add(phase, "CPUs busy", *_of_all(phase.cpu_ratio, CROWDED, phase))
    proof.add(phase, "GPU memory of others", phase.gpu("other_memory_bytes").maximum, None, "bytes")
    proof.add(phase, "GPU busy", phase.gpu("utilisation_ratio").mean, BUSY, "")
    proof.add(phase, "one inference", phase.service_s)
    return Finding(
        Cause.DEVICE_CONTENTION,
        "transcription delay",
        share_s,
        felt_s,
        phase.name,
        proof.all,
        notes=_who(phase),
        certain=crowded_out,
    )


def contended_s(evidence: Evidence, taken: float) -> float:
    """Seconds of the delay that others can explain at most, who take this share of the device.

    Work that has the device to itself is done that much sooner, and so is what waits behind it.
    Where the server makes copies or floods itself with partials, and one speaker felt the same load
    of others, they explain no more than what that one felt: the rest came with the speakers.
    """
    phase, one = evidence.worst, evidence.one
    alone_s = None
    if one is not None and one.timed and (one.others_ratio or 0.0) >= ALIKE * taken:
        alone_s = min(one.delay_s or 0.0, _exposed_s(one, evidence))
    own_s = _own_making_s(evidence)
    if own_s is not None and alone_s is not None:
        return taken * alone_s
    hidden = hidden_backlog(evidence)
    hidden_s = 0.0 if hidden is None else hidden.share_s
    left_s = _exposed_s(phase, evidence) - (own_s or 0.0) - hidden_s
    return taken * max(0.0, left_s, alone_s or 0.0)


def _exposed_s(phase: Phase, evidence: Evidence) -> float:
    """Seconds of the delay that a crowded device can lengthen."""
    felt_s = phase.delay_s or 0.0
    engine_s = phase.engine_felt_s if phase.timed else engine_excess_s(evidence)
    if engine_s is None:
        engine_s = max(0.0, felt_s - 0.3)
    return min(felt_s, engine_s + (input_excess_s(phase) or 0.0))


def _own_making_s(evidence: Evidence) -> float | None:
    """Seconds of it that the server makes by itself, with a proof of its own; None: it does not."""
    starving = partials_starving_finals(evidence)
    copies_s = None if model_per_session(evidence) is None else copies_cost_s(evidence)
    if starving is None and copies_s is None:
        return None
    return (copies_s or 0.0) + (0.0 if starving is None else starving.share_s)


def _of_all(
    ratio: float | None, limit: float, phase: Phase
) -> tuple[float | None, float | None, str]:
    """A share of all CPUs, and its limit, in CPUs."""
    cpus = phase.cpus
    if ratio is None or not cpus:
        return ratio, limit, ""
    return ratio * cpus, limit * cpus, f"of {cpus:g}"


def _who(phase: Phase) -> tuple[str, ...]:
    """Who they are, as far as that can be seen."""
    seen = [f"{one.name} ({one.pid}) {one.cpus:.2g} CPUs" for one in phase.neighbours]
    notes = ["most of it by " + ", ".join(seen)] if seen else []
    if phase.children_cores >= 0.05:
        own = f"{phase.children_cores:.2g} of the CPUs that others use"
        notes.append(f"{own} are used by processes that the server itself started")
    return tuple(notes)


def partial_pace(phase: Phase) -> tuple[float, float] | None:
    """Seconds of speech a partial, and that against the time one takes; None: not told."""
    partial = phase.all_jobs.get("partial")
    if partial is None or partial.service_s <= 0:
        return None
    spoken_s = sum(turn.spoke_s for turn in phase.turns)
    every_s = spoken_s / partial.count
    return every_s, every_s / (partial.service_s + partial.wait_s)


def partials_starving_finals(evidence: Evidence) -> Finding | None:
    """The engine is full of partials, asked for as fast as they are answered."""
    phase = evidence.worst
    felt_s = engine_excess_s(evidence)
    shares = evidence.seen(lambda one: one.partial_share)
    share = fmean(shares) if shares and phase.partial_share is not None else None
    pace = partial_pace(evidence.fewest)
    if share is None or share < PARTIALS or felt_s is None or felt_s < FELT_S or pace is None:
        return None
    if not _pressed(evidence) and not _crowded_out(phase):
        return None
    (every_s, ratio), of_s = pace, phase.delay_s or 0.0
    proof = ProofOf(evidence)
    for each in evidence.phases:
        name = "share of the engine's time for partials"
        proof.add(each, name, each.partial_share, PARTIALS, "")
    proof.add(evidence.fewest, "speech a partial", every_s, USELESS_S)
    proof.add(evidence.fewest, "that, against a partial's own time", ratio, BACK_TO_BACK, "")
    proof.add(phase, "finals waited for a worker", phase.final_wait_s, FELT_S)
    proof.add(phase, "queue_wait, felt", phase.felt("queue_wait"))
    return Finding(
        Cause.PARTIALS_STARVING_FINALS,
        "transcription delay",
        min(of_s, felt_s * (phase.partial_share or 0.0)),
        of_s,
        phase.name,
        proof.all,
    )


def _pressed(evidence: Evidence) -> bool:
    """Whether partials are asked for at once again, with one speaker and under load."""
    paces = evidence.seen(lambda one: (partial_pace(one) or (None, None))[1])
    every_s = (partial_pace(evidence.fewest) or (math.inf, 0.0))[0]
    at_once = paces[0] <= BACK_TO_BACK and every_s <= USEFUL_S and max(paces) <= NEVER_YIELDS
    return every_s <= USELESS_S or at_once


def _crowded_out(phase: Phase) -> bool:
    """Whether nearly all of a full engine's time goes to partials while finals wait."""
    full = max(device_busy(phase) or 0.0, phase.engine_busy or 0.0) >= BUSY
    waits = (phase.final_wait_s or 0.0) >= FELT_S
    return full and waits and (phase.partial_share or 0.0) >= NEARLY_ALL


def serialised_inference(evidence: Evidence) -> Finding | None:
    """Jobs wait for one another although the device has room and each is as quick as alone."""
    phase, one = evidence.many, evidence.one
    wait_s, felt_s = phase.final_wait_s, engine_excess_s(evidence)
    if wait_s is None or felt_s is None or felt_s < FELT_S or phase.speakers < 2:
        return None
    if not _waits_grow(phase, one) or not _has_room(phase) or not _one_by_one(phase, one):
        return None
    if partials_starving_finals(evidence) is not None:
        return None
    queued_s = phase.felt("queue_wait")
    of_s = phase.delay_s or 0.0
    proof = ProofOf(evidence)
    proof.add(one or phase, "finals waited for a worker", (one or phase).final_wait_s)
    proof.add(phase, "finals waited for a worker", wait_s, FELT_S)
    proof.add(phase, "jobs an inference", phase.batch, BATCHED, "")
    proof.add(phase, "device busy", device_busy(phase), ROOM, "")
    proof.add(phase, "one inference", phase.service_s)
    # What waits less is done sooner, so that less of the work behind it is felt.
    share_s = min(felt_s, max(wait_s, queued_s or 0.0))
    return Finding(
        Cause.SERIALISED_INFERENCE,
        "transcription delay",
        min(of_s, share_s),
        of_s,
        phase.name,
        proof.all,
    )


def _waits_grow(phase: Phase, one: Phase | None) -> bool:
    wait_s, service_s = phase.final_wait_s or 0.0, phase.service_s or 0.0
    alone_s = one.final_wait_s or 0.0 if one is not None else 0.0
    grows = wait_s >= max(FELT_S, 0.2 * service_s) and wait_s >= 1.3 * alone_s + 0.02
    waits = [one.felt.get(_WAIT, 0.0) + one.hidden.get(_WAIT, 0.0) for one in phase.timed]
    typical_s = quantile(waits, 0.5)
    # One job that took for ever makes a mean, but no habit.
    return grows and (typical_s is None or typical_s >= 0.4 * FELT_S)


def _has_room(phase: Phase) -> bool:
    busy = device_busy(phase)
    return busy is not None and busy <= ROOM


def _one_by_one(phase: Phase, one: Phase | None) -> bool:
    if (phase.batch or 1.0) > BATCHED or (phase.engine_busy or 0.0) > 1.2:
        return False
    alone_s = one.service_s if one is not None else None
    return alone_s is None or (phase.service_s or 0.0) <= AS_QUICK * alone_s


def slowed_by(evidence: Evidence) -> float | None:
    """How many times slower an inference became over the run at the same load; None: it did not."""
    told = [(phase, phase.service_over_time) for phase in evidence.phases if _alike(phase)]
    if (sessions_step(evidence, "rtvc_engine_processes") or 0.0) >= ONE_EACH:
        told = [(phase, series) for phase, series in told if phase.speakers <= 1]
    ratios = [(phase, r) for phase, series in told if (r := _end_to_begin(series)) is not None]
    if not ratios or _trend_of([series for _, series in told]) < SURELY:
        return None
    values = [ratio for _, ratio in ratios]
    mean_ratio = prod(values) ** (1 / len(values))
    if not _ends_slower(evidence):
        return None
    steadily = mean_ratio >= SLOWER and min(values) >= 0.9
    steadily = steadily and sum(ratio >= SLOWER for ratio in values) >= 2
    once = ratios[0][0].speakers <= 1 and values[0] >= SLOWER_ONCE and _stays_slow(evidence)
    return float(prod(max(1.0, ratio) for ratio in values)) if steadily or once else None


def _alike(phase: Phase) -> bool:
    """Whether inferences meet the same load throughout: on a full device they slow each other down
    as speakers come to talk at once.
    """
    return phase.speakers <= 1 or (device_busy(phase) or 0.0) < FULL_CPU


def _end_to_begin(series: Series) -> float | None:
    parts = series.thirds()
    return parts[2] / parts[0] if parts and parts[0] > 0 else None


def _trend_of(every: Sequence[Series]) -> float:
    """Standard deviations by which all of it rises beyond chance."""
    sums = [series.trend for series in every]
    variance = sum(part for _, part in sums)
    return sum(signs for signs, _ in sums) / sqrt(variance) if variance > 0 else 0.0


def _ends_slower(evidence: Evidence) -> bool:
    """Whether the last phase's inferences are slower than the first's by more than load does."""
    services = [phase.service_s for phase in evidence.phases if phase.service_s is not None]
    return len(services) < 2 or services[-1] >= SLOWER_WITH_LOAD * services[0]


def _stays_slow(evidence: Evidence) -> bool:
    """Whether what the first phase ended with was not over with it."""
    services = [phase.service_s for phase in evidence.phases if phase.service_s is not None]
    return len(services) >= 2 and min(services[1:]) >= 1.15 * services[0]


def device_throttling(evidence: Evidence) -> Finding | None:
    """The same work takes longer the longer it runs."""
    phase = evidence.worst
    flagged = max(evidence.seen(lambda one: one.gpu("throttled").mean), default=0.0)
    times = slowed_by(evidence)
    if others_share(evidence) is not None or (times is None and flagged < THROTTLED):
        return None
    if flagged < THROTTLED and events(evidence):
        # What a hang or a restart takes is in the times of those inferences.
        return None
    clock_ratio = _clock_ratio(phase)
    if times is None:
        times = 1.0 / clock_ratio if clock_ratio else 1.5
    felt_s, of_s = engine_excess_s(evidence) or 0.0, phase.delay_s or 0.0
    share_s = min(of_s, felt_s * max(0.5, 1 - 1 / max(times, 1.0)))
    proof = ProofOf(evidence)
    for each in evidence.phases:
        ratio = _end_to_begin(each.service_over_time)
        proof.add(each, "an inference at the end against the begin", ratio, SLOWER, "")
    proof.add(phase, "clock against its maximum", clock_ratio, None, "")
    proof.add(phase, "samples with a throttle reason", flagged or None, THROTTLED, "")
    return Finding(
        Cause.DEVICE_THROTTLING, "transcription delay", share_s, of_s, phase.name, proof.all
    )


def _clock_ratio(phase: Phase) -> float | None:
    clock, most = phase.gpu("sm_clock_hz").mean, phase.gpu("max_sm_clock_hz").maximum
    return clock / most if clock and most else None


def inference_saturated(evidence: Evidence, explained_s: float) -> Finding | None:
    """More is asked for than the device answers, and nothing else explains it.

    `explained_s`: seconds of queue and compute that other causes account for.
    """
    phase = evidence.worst
    felt_s, of_s = engine_excess_s(evidence), phase.delay_s or 0.0
    if felt_s is None or felt_s < FELT_S or not _usually_felt(phase):
        return None
    share_s = min(of_s, felt_s - explained_s)
    if share_s < max(FELT_S, REMAINS * felt_s) or not _is_full(phase, alone=explained_s == 0):
        return None
    proof = ProofOf(evidence)
    for each in evidence.phases:
        proof.add(each, "finals waited for a worker", each.final_wait_s, FELT_S)
        proof.add(each, "one inference", each.service_s)
    proof.add(phase, "device busy", device_busy(phase), BUSY, "")
    proof.add(phase, "CPUs used by the server", phase.server_ratio, 0.6, "")
    proof.add(phase, "inferences under way", phase.engine_busy, None, "")
    alone_s = evidence.one.felt(*COMPUTE_SEGMENTS) if evidence.one is not None else None
    notes = []
    if alone_s is not None and alone_s > 0.5 * share_s:
        notes.append("one speaker alone already waits: the model is too slow for this device")
    if device_busy(phase) is None:
        notes.append("the device was not seen: inferences that wait for a lock look the same")
    return Finding(
        Cause.INFERENCE_SATURATED,
        "transcription delay",
        share_s,
        of_s,
        phase.name,
        proof.all,
        notes=tuple(notes),
    )


def _usually_felt(phase: Phase) -> bool:
    """Whether the typical turn waits for the engine, and not one that met a mishap."""
    felt = [sum(turn.felt.get(name, 0.0) for name in ENGINE_SEGMENTS) for turn in phase.timed]
    typical_s = quantile(felt, 0.5)
    return typical_s is None or typical_s >= 0.4 * FELT_S


def _is_full(phase: Phase, *, alone: bool) -> bool:
    """Whether the device is full, or, where nothing else was found, too slow for the model."""
    busy, own = device_busy(phase), phase.server_ratio
    if busy is not None and (busy >= BUSY or (own is not None and own >= 0.6)):
        return True
    computed_s = phase.felt(*COMPUTE_SEGMENTS) or 0.0
    slow_alone = alone and computed_s >= max(0.1, 0.5 * (phase.engine_felt_s or 0.0))
    # Where neither device nor engine can be seen, waits for them must do.
    return slow_alone or (busy is None and (phase.engine_busy or BUSY) >= BUSY)
