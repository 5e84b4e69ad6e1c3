"""What is shown of a server: the figures of one moment and of the last minute, and a sentence.

A pure function of the window of scrapes; nothing here knows how it will be drawn.
"""

from collections.abc import Iterable
from typing import Any

from rtvc.profile.live.figures import (
    Delay,
    Engine,
    GpuLine,
    JobsLine,
    Loop,
    ProcessLine,
    QueueLine,
    SessionLine,
    StageLine,
    Tone,
    Verdict,
    View,
)
from rtvc.profile.live.window import Times, Window
from rtvc.slo import shown

TARGET_S = 0.5
"""Transcription delay p95 that is aimed at; an edge of the server's buckets."""


FEW = 10
"""Turns of which one cannot even say that half of them took too long."""

ALLOWED_ABOVE = 0.05
"""Share of the turns that may take longer than the target."""


def view_of(window: Window) -> View:
    """The view of a window that holds at least one scrape."""
    delay, engine, queues = _delay(window), _engine(window), _queues(window)
    ready, aside = window.gauge("rtvc_ready"), window.gauge("rtvc_aside")
    restarted_at_s = window.restarted_at_s
    sessions = window.gauge("rtvc_open_sessions")
    most, headroom = window.gauge("rtvc_max_sessions"), window.gauge("rtvc_headroom_sessions")
    parts = [_room(sessions, most, headroom), _of_delay(delay, window.span_s)]
    said = "; ".join([*parts, _of_engine(engine, ready=ready, aside=aside)])
    return View(
        sentence=f"{said}.",
        tone=_tone(delay, engine, headroom, ready),
        span_s=window.span_s,
        version=next((one.get("version") for one in window.labels("rtvc_build_info")), None),
        ready=None if ready is None else bool(ready),
        open_sessions=sessions,
        max_sessions=most,
        headroom=headroom,
        refused=window.count("rtvc_refused_sessions_total"),
        delay=delay,
        sessions=session_lines(window.last.sessions),
        stages=_stages(window, delay.times.n),
        queues=queues,
        engine=engine,
        loop=_loop(window),
        cpus=window.gauge("rtvc_usable_cpus"),
        processes=_processes(window),
        gpus=_gpus(window),
        restarted_s=None if restarted_at_s is None else window.last.at_s - restarted_at_s,
    )


# The delay, and the sentence.


def _delay(window: Window) -> Delay:
    buckets = window.histogram("rtvc_transcription_delay_seconds")
    times = Times.of(buckets)
    above = None if buckets is None else buckets.above(TARGET_S)
    return Delay(times, above, _verdict(times, above))


def _verdict(times: Times, above: int | None) -> Verdict:
    """p95 below the target: at most one in twenty above it, which buckets tell exactly."""
    if not times.n:
        return "no turns"
    if above is None:
        return "undecided"
    if times.p95_s is not None or above == 0:
        return "within" if above <= ALLOWED_ABOVE * times.n else "missed"
    # Half of them above it is too many, however few there are.
    few = times.n < FEW or above <= times.n / 2
    return "undecided" if few else "missed"


def _room(sessions: float | None, most: float | None, headroom: float | None) -> str:
    now = "sessions unknown" if sessions is None else f"{sessions:g}"
    of = "" if most is None else f" of {most:g}"
    room = _room_for(sessions, most, headroom)
    return f"{now}{of} sessions, {room}" if sessions is not None else f"{now}, {room}"


def _room_for(sessions: float | None, most: float | None, headroom: float | None) -> str:
    """What runs out first: the engine's headroom, or the slots."""
    if headroom is None:
        return "headroom unknown"
    if sessions is not None and most is not None and most - sessions < headroom:
        return f"room for {most - sessions:g} more"
    return f"room for about {headroom:.0f} more"


def _of_delay(delay: Delay, span_s: float) -> str:
    times, last = delay.times, f"last {span_s:.0f} s"
    if not times.n:
        return "no turn has ended while watched" if span_s < 1 else f"no turn ended in the {last}"
    figures = ", ".join(figures_of(times))
    said = f"transcription delay {figures} (n={times.n}, {last})"
    target = f"{shown(TARGET_S, 's')} target"
    match delay.verdict:
        case "within":
            return f"{said}: within the {target}"
        case "missed":
            return f"{said}: misses the {target}, {delay.above} above it"
        case _:
            some = "" if delay.above is None else f", {delay.above} above the {target}"
            return f"{said}{some}: too few to judge p95"


def figures_of(times: Times) -> list[str]:
    """
    >>> figures_of(Times(12, 0.3, None, None, 0.5, None, 0.29))
    ['p50 300 ms', 'at most 500 ms']
    """
    said = [] if times.p50_s is None else [f"p50 {shown(times.p50_s, 's')}"]
    if times.p95_s is not None:
        return [*said, f"p95 {shown(times.p95_s, 's')}"]
    if times.at_most_s is not None:
        return [*said, f"at most {shown(times.at_most_s, 's')}"]
    if times.more_than_s is not None:
        return [*said, f"up to more than {shown(times.more_than_s, 's')}"]
    return said


def _of_engine(engine: Engine, *, ready: float | None, aside: float | None) -> str:
    said = f"engine {engine.state}"
    if engine.recent_restarts:
        said += f", restarted {engine.recent_restarts:g}×"
    if engine.failed:
        said += f", {engine.failed:g} jobs failed"
    if ready != 0:
        return said
    return f"{said}; stands aside for its group" if aside else f"{said}; takes no sessions"


def _tone(delay: Delay, engine: Engine, headroom: float | None, ready: float | None) -> Tone:
    if engine.state == "failed" or engine.failed or delay.verdict == "missed":
        return "bad"
    doubtful = (
        delay.verdict == "undecided",
        engine.state != "ready",
        bool(engine.recent_restarts),
        ready == 0,
        headroom is not None and headroom < 1,
    )
    if any(doubtful):
        return "doubtful"
    return "unknown" if delay.verdict == "no turns" else "good"


# Sessions.


SHORT = 8
"""Characters of a session's id."""


def session_lines(body: Any) -> tuple[SessionLine, ...] | None:
    """From `/v1/sessions`, the oldest first; None: it is not there, or not rtvc's."""
    listed = body.get("sessions") if isinstance(body, dict) else None
    if not isinstance(listed, list):
        return None
    lines = [_session(each) for each in listed if isinstance(each, dict)]
    return tuple(sorted(lines, key=lambda line: -(line.age_s or 0.0)))


def _session(each: dict[str, Any]) -> SessionLine:
    name = str(each.get("id", "?"))
    state = "speaking" if each.get("speaking") else "listening"
    delays = each.get("transcription_delays_s")
    return SessionLine(
        id=name.rpartition("_")[2][:SHORT] or name[:SHORT],
        protocol=str(each.get("protocol", "?")),
        age_s=_number(each.get("age_s")),
        state="replying" if each.get("replying") and state != "speaking" else state,
        utterances=_whole(each.get("utterances")),
        backlog_s=_number(each.get("audio_backlog_s")),
        unsent=_whole(each.get("unsent_messages")),
        delays_s=_numbers(delays) if isinstance(delays, list) else (),
    )


def _numbers(values: Iterable[Any]) -> tuple[float, ...]:
    return tuple(number for value in values if (number := _number(value)) is not None)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


# Stages.


def _stages(window: Window, turns: int) -> tuple[StageLine, ...]:
    name = "rtvc_turn_stage_seconds"
    lines = []
    for labels in window.labels(name):
        buckets = window.histogram(name, **labels)
        if buckets is None or not buckets.n:
            continue
        hidden = labels.get("path") == "hidden"
        per_turn_s = buckets.total / turns if turns else None
        lines.append(StageLine(labels.get("stage", "?"), hidden, Times.of(buckets), per_turn_s))
    return tuple(sorted(lines, key=lambda line: line.hidden))


# Queues.


def _queues(window: Window) -> tuple[QueueLine, ...]:
    inbox, inference = "rtvc_inbox_backlog_seconds", "rtvc_engine_backlog_seconds"
    told = _reported(window.last.sessions)
    return (
        QueueLine(
            "inbox",
            _number(told.get("inbox", {}).get("depth")),
            window.gauge(inbox),
            window.gauge("rtvc_inbox_backlog_max_seconds"),
            *_age_and_drops(told.get("inbox")),
            tuple(window.series(inbox)),
        ),
        QueueLine(
            "inference",
            window.gauge("rtvc_engine_queued_jobs"),
            window.gauge(inference),
            None,
            *_age_and_drops(told.get("inference")),
            tuple(window.series(inference)),
        ),
        QueueLine(
            "outbox",
            window.gauge("rtvc_unsent_messages"),
            None,
            None,
            *_age_and_drops(told.get("outbox")),
            tuple(window.series("rtvc_unsent_messages")),
        ),
    )


def _reported(body: Any) -> dict[str, dict[str, Any]]:
    """Queues of `/v1/sessions` by name."""
    listed = body.get("queues") if isinstance(body, dict) else None
    queues = listed if isinstance(listed, list) else []
    return {str(queue.get("name")): queue for queue in queues if isinstance(queue, dict)}


def _age_and_drops(queue: dict[str, Any] | None) -> tuple[float | None, float | None]:
    told = queue or {}
    return _number(told.get("oldest_age_s")), _number(told.get("dropped"))


# The engine and the machine.


def _engine(window: Window) -> Engine:
    states = [labels.get("state", "?") for labels in window.labels("rtvc_engine_state")]
    state = next((one for one in states if window.gauge("rtvc_engine_state", state=one)), "unknown")
    inference = "rtvc_engine_inference_seconds"
    kinds = [labels["kind"] for labels in window.labels(inference) if "kind" in labels]
    restarts = "rtvc_engine_restarts_total"
    return Engine(
        state=state,
        about=next(iter(window.labels("rtvc_engine_info")), {}),
        workers=window.gauge("rtvc_engine_workers"),
        processes=window.gauge("rtvc_engine_processes"),
        restarts=window.last.metrics.counters.get((restarts, ())),
        recent_restarts=window.count(restarts),
        failed=window.count("rtvc_engine_jobs_total", outcome="failed"),
        jobs=tuple(_jobs(window, kind) for kind in kinds),
    )


def _jobs(window: Window, kind: str) -> JobsLine:
    work = Times.of(window.histogram("rtvc_engine_inference_seconds", kind=kind))
    wait = Times.of(window.histogram("rtvc_engine_queue_wait_seconds", kind=kind))
    batch = Times.of(window.histogram("rtvc_engine_batch_jobs", kind=kind)).mean_s
    return JobsLine(kind, work.n, wait, work, batch)


def _loop(window: Window) -> Loop:
    name = "rtvc_event_loop_lag_seconds"
    worst_s = window.gauge("rtvc_event_loop_lag_max_seconds")
    return Loop(Times.of(window.histogram(name)), worst_s, tuple(window.largest(name)))


def _processes(window: Window) -> tuple[ProcessLine, ...]:
    roles = [labels.get("process", "?") for labels in window.labels("rtvc_processes")]
    cpu = "rtvc_process_cpu_seconds_total"
    return tuple(
        ProcessLine(
            role,
            window.gauge("rtvc_processes", process=role),
            window.rate(cpu, process=role),
            window.gauge("rtvc_process_resident_memory_bytes", process=role),
            window.gauge("rtvc_process_threads", process=role),
            tuple(window.rates(cpu, process=role)),
        )
        for role in roles
    )


def _gpus(window: Window) -> tuple[GpuLine, ...]:
    read = window.gpus()
    return tuple(
        GpuLine(
            now,
            tuple(
                next((one.busy_ratio for one in each if one.index == now.index), None)
                for each in read
            ),
        )
        for now in window.last.gpus
    )
