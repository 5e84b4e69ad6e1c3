"""Causes on the way: the load generator, the network, the event loop, what waits to be heard."""

from rtvc.profile.diagnose.evidence import Evidence, Phase
from rtvc.profile.diagnose.finding import Cause, Finding, ProofOf

FRAME_S = 0.02
"""A frame sent later than by its own length makes every delay of its turn a guess."""

GENERATOR_CPU = 0.9
"""Share of a core beyond which a load generator is late somewhere (Locust warns there)."""

BEYOND_LAG = 4.0
"""Lag times this does not explain a delay that is further beyond its target."""

FULL_CPU = 0.85
"""Share of all CPUs from which on whatever becomes ready has to wait for one."""

OTHERS = 0.2
"""Share of all CPUs in other hands from which on the server's own work is slowed noticeably."""

OTHER_CPU = 0.7
"""Share of all CPUs used by others than the load test: they make it late, not it itself."""

USUAL_TRANSPORT_S = 0.03
"""A loopback or a data centre takes single milliseconds; three times a busy one."""

USUAL_VAD_DELAY_S = 0.1
"""Silero judges every 32 ms and wants two frames of silence."""

USUAL_VAD_OFFSET_S = 0.15
"""Recordings, annotated by level, show 92 ms in the mean (docs/measurements.md)."""

ROUND_TRIP_S = 0.03
"""A round trip that is felt: as between cities; twice within a turn it is a tenth of 0.5 s."""

BURST_S = 0.1
"""A round trip, or a stop of the event loop, that a person can feel by itself."""

LOOP_HELD = 0.04
"""Share of the time for which a loop is held up: below it no turn of ten meets a stop."""

STUTTERS = 0.2
"""Share of the time for which a loop that stands still is a fault, whatever the transcripts take:
audio, pages and pings come in bursts."""

REPLY_HOPS = 1.5
"""Times that a segment of a reply passes through the loop: asking and the first piece; a wait in
between takes part of a stop away."""

HOPS = 6.0
"""Times that a turn passes through the loop: audio, VAD and back, asking, answer, sending."""

INBOX_S = 0.1
"""Audio not heard yet: five messages; a healthy server hears each as it comes."""

WAITS_UNSEEN_S = 0.1
"""Below this, buffers of sockets and VAD frames could be it."""


def input_excess_s(phase: Phase) -> float | None:
    """Seconds a turn lost on the way to the server's ear and back; None: not told."""
    if not phase.timed:
        return None
    usual = {
        "transport": USUAL_TRANSPORT_S,
        "vad_delay": USUAL_VAD_DELAY_S,
        "vad_offset": USUAL_VAD_OFFSET_S,
    }
    return sum(max(0.0, (phase.felt(name) or 0.0) - s) for name, s in usual.items())


def generator_saturated(evidence: Evidence) -> Finding | None:
    """The load test was late by its own doing: nothing follows about the server."""
    late = [phase for phase in evidence.phases if _void(phase, evidence)]
    if not late:
        return None
    phase = max(late, key=lambda one: one.lag_p99_s or 0.0)
    proof = ProofOf(evidence)
    proof.add(phase, "the load generator's lag at p99", phase.lag_p99_s, FRAME_S)
    proof.add(phase, "its busiest process", phase.generator_cpu, GENERATOR_CPU, "of a core")
    felt_s = phase.delay_s or 0.0
    share_s = min(felt_s, max(phase.lag_p99_s or 0.0, phase.felt("framing") or 0.0))
    return Finding(
        Cause.GENERATOR_SATURATED,
        "transcription delay",
        share_s,
        felt_s,
        phase.name,
        proof.all,
        certain=True,
    )


def _void(phase: Phase, evidence: Evidence) -> bool:
    if phase.generator_cpu is not None and phase.generator_cpu > GENERATOR_CPU:
        return True
    lag_s = phase.lag_p99_s
    if lag_s is None or lag_s <= FRAME_S + 1e-9:
        return False
    if (phase.others_ratio or 0.0) >= OTHERS and (phase.cpu_ratio or 0.0) >= FULL_CPU:
        # Then it is one of those who suffer.
        return False
    # Late because others hold the machine, and by far too little to be what was felt.
    beyond_s = (phase.delay_s or 0.0) - evidence.delay_target_s
    by_others = (phase.others_ratio or 0.0) + (phase.server_ratio or 0.0) >= OTHER_CPU
    crowded = (phase.cpu_ratio or 0.0) >= FULL_CPU and by_others
    return not (crowded and beyond_s > BEYOND_LAG * lag_s)


def round_trip_floor_s(evidence: Evidence) -> float | None:
    """What the way there and back takes at least, whatever the load; None: not told."""
    floors = evidence.seen(lambda phase: phase.round_trip.at(0.2))
    if floors:
        return min(floors)
    shakes = [a.handshake_s for p in evidence.phases for a in p.attempts if a.handshake_s]
    # TCP connect and the upgrade: two round trips.
    return min(shakes) / 2 if len(shakes) > 2 else None


def network(evidence: Evidence) -> Finding | None:
    """The way is long at any load, or now and then, without the server being busy."""
    floor_s = round_trip_floor_s(evidence)
    if floor_s is None:
        return None
    phase = max(evidence.phases, key=lambda one: one.felt("transport") or one.delay_s or 0.0)
    typical_s = phase.round_trip.at(0.5) or floor_s
    bursts_s = phase.round_trip.at(0.9) or floor_s
    held_s = phase.lag_peak_s
    jitter = held_s is not None and bursts_s >= BURST_S and held_s < bursts_s / 3
    jitter = jitter and (phase.cpu_ratio or 0.0) < FULL_CPU
    if floor_s < ROUND_TRIP_S and not jitter:
        return None
    mean_s = max(typical_s, phase.round_trip.mean or 0.0)
    transport_s = phase.felt("transport")
    felt_s = phase.delay_s or 0.0
    share_s = min(felt_s, mean_s)
    if transport_s is not None:
        share_s = min(felt_s, max(0.0, transport_s - USUAL_TRANSPORT_S / 3), 1.5 * mean_s + 0.02)
    proof = ProofOf(evidence)
    proof.add(phase, "the shortest round trips", floor_s, ROUND_TRIP_S)
    proof.add(phase, "round trip at p90", bursts_s, BURST_S)
    proof.add(phase, "transport of a turn", transport_s, USUAL_TRANSPORT_S)
    proof.add(phase, "event loop held up in a second (p95)", held_s, BURST_S)
    return Finding(Cause.NETWORK, "transcription delay", share_s, felt_s, phase.name, proof.all)


def blocked_event_loop(evidence: Evidence) -> Finding | None:
    """Everything stands still at once, again and again, though CPUs are free."""
    phase = max(evidence.phases, key=lambda one: (one.lag_share or 0.0, one.delay_s or 0.0))
    held, stop_s = _loop(phase)
    if held is None or stop_s is None:
        return None
    enough, long_s = _loop_limits(phase)
    if held < enough or stop_s < long_s:
        return None
    felt_s = phase.delay_s or 0.0
    share_s = min(felt_s, _lost_to_loop_s(phase, held, stop_s))
    proof = ProofOf(evidence)
    proof.add(phase, "share of the time in which the loop was held up", held, enough, "")
    proof.add(phase, "held up within one second (p95)", stop_s, long_s)
    proof.add(phase, "round trip at p50", phase.round_trip.at(0.5))
    proof.add(phase, "round trip at p95", phase.round_trip.at(0.95), BURST_S)
    return Finding(
        Cause.BLOCKED_EVENT_LOOP,
        "transcription delay",
        share_s,
        felt_s,
        phase.name,
        proof.all,
        certain=held >= STUTTERS and stop_s >= 2 * long_s,
    )


def stops_cost_s(evidence: Evidence) -> float:
    """Seconds that a segment of a reply loses to a loop that stands still; 0: it does not."""
    if blocked_event_loop(evidence) is None:
        return 0.0
    held, stop_s = _loop(evidence.slowest_reply)
    return REPLY_HOPS * (held or 0.0) * (stop_s or 0.0) / 2


def _loop(phase: Phase) -> tuple[float | None, float | None]:
    """Share of the time, and length, of the loop's stops; by round trips where it is not told."""
    if phase.lag_share is not None:
        return phase.lag_share, phase.lag_peak_s
    trips = phase.round_trip
    typical_s, rare_s = trips.at(0.5), trips.at(0.95)
    connects_s = phase.host.of("tcp_connect_s").at(0.95) or 0.0
    if typical_s is None or rare_s is None or typical_s > rare_s / 3 or connects_s > rare_s / 3:
        return None, None
    slow = [value for value in trips.values if value > (typical_s + rare_s) / 2]
    return len(slow) / len(trips.values), rare_s


def _loop_limits(phase: Phase) -> tuple[float, float]:
    """Share and length above which it is blocked, and not merely waiting for a CPU."""
    if (phase.cpu_ratio or 0.0) >= FULL_CPU:
        return 5 * LOOP_HELD, 2.5 * BURST_S
    return LOOP_HELD, BURST_S


def _lost_to_loop_s(phase: Phase, held: float, stop_s: float) -> float:
    """What the segments say that pass through the loop; else what such stops cost a turn."""
    stops_s = HOPS * held * stop_s / 2
    if not phase.timed:
        return stops_s
    beyond = {"emit": 0.01, "endpoint_wait": 0.3, "queue_wait": 0.0, "turn_model": 0.0}
    way = {"transport": 0.01, "vad_delay": 0.06, "vad_offset": USUAL_VAD_OFFSET_S}
    rest_s = sum(max(0.0, (phase.felt(name) or 0.0) - usual) for name, usual in beyond.items())
    lost_s = sum(max(0.0, (phase.felt(name) or 0.0) - usual) for name, usual in way.items())
    return lost_s + min(rest_s, stops_s)


def inbox_s(phase: Phase) -> float | None:
    """Audio of the session most behind that was not heard yet, in the mean; None: not told."""
    worst = phase.server.of("rtvc_inbox_backlog_max_seconds").mean
    if worst is not None:
        return worst
    together = phase.server.of("rtvc_inbox_backlog_seconds").mean
    return None if together is None else together / max(1, phase.speakers)


def audio_backlog(evidence: Evidence) -> Finding | None:
    """Audio waits where the server counts it."""
    phase = max(evidence.phases, key=lambda one: inbox_s(one) or 0.0)
    waiting_s = inbox_s(phase)
    if waiting_s is None or waiting_s < INBOX_S:
        return None
    blocked = blocked_event_loop(evidence)
    # What comes in while the loop stands still is found in the inbox when it goes on.
    if blocked is not None and waiting_s < 1.5 * (phase.lag_peak_s or 0.0):
        return None
    # Where it is worst no transcript may have come at all.
    felt_s = max(evidence.worst.delay_with_losses_s, phase.delay_s or 0.0)
    lost_s = input_excess_s(evidence.worst)
    share_s = min(felt_s, waiting_s if lost_s is None else lost_s)
    if phase.delay_s is None:
        share_s = min(felt_s, max(share_s, waiting_s))
    gauge = phase.server.of("rtvc_inbox_backlog_max_seconds")
    proof = ProofOf(evidence)
    proof.add(phase, "audio not heard yet, of the session most behind", waiting_s, INBOX_S)
    proof.add(phase, "its growth", gauge.slope, None, "s/s")
    proof.add(phase, "vad_delay", phase.felt("vad_delay"), USUAL_VAD_DELAY_S)
    proof.add(phase, "transport", phase.felt("transport"), USUAL_TRANSPORT_S)
    return Finding(
        Cause.AUDIO_BACKLOG, "transcription delay", share_s, felt_s, phase.name, proof.all
    )


def hidden_backlog(evidence: Evidence) -> Finding | None:
    """Speech is heard late at any load, and no queue, link or stop of the loop explains it."""
    rests = [(rest, phase) for phase in evidence.phases if (rest := _unseen_s(phase)) is not None]
    crowded = evidence.fewest.speakers > 1 and not 0 < (evidence.worst.cpu_ratio or 0) < FULL_CPU
    # A server that is overloaded reads late, too: without one speaker alone it cannot be told.
    if not rests or crowded:
        return None
    known_s = sum(found.share_s for found in _known_ways(evidence))
    least_s = min(rest for rest, _ in rests) - known_s
    most_s, phase = max(rests, key=lambda pair: pair[0])
    held_s = max(evidence.seen(lambda one: one.lag_peak_s), default=0.0)
    if blocked_event_loop(evidence) is None:
        held_s = 0.0
    if least_s < max(WAITS_UNSEEN_S, 2 * held_s):
        return None
    felt_s = phase.delay_s or 0.0
    share_s = min(felt_s, max(0.0, most_s - known_s))
    proof = ProofOf(evidence)
    proof.add(phase, "transport", phase.felt("transport"), USUAL_TRANSPORT_S)
    proof.add(phase, "vad_delay", phase.felt("vad_delay"), USUAL_VAD_DELAY_S)
    proof.add(phase, "vad_offset", phase.felt("vad_offset"), USUAL_VAD_OFFSET_S)
    proof.add(phase, "the least of it in any phase", least_s, WAITS_UNSEEN_S)
    proof.add(phase, "the shortest round trips", round_trip_floor_s(evidence), ROUND_TRIP_S)
    proof.add(phase, "audio not heard yet, as the server counts it", inbox_s(phase), INBOX_S)
    return Finding(
        Cause.HIDDEN_BACKLOG, "transcription delay", share_s, felt_s, phase.name, proof.all
    )


def _unseen_s(phase: Phase) -> float | None:
    """What no gauge of the server shows of the time lost on the way in."""
    lost_s = input_excess_s(phase)
    return None if lost_s is None else max(0.0, lost_s - (inbox_s(phase) or 0.0))


def _known_ways(evidence: Evidence) -> list[Finding]:
    found = network(evidence)
    return [] if found is None else [found]
