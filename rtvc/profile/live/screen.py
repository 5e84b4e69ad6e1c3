"""The view as lines that fit a terminal: never wider, never more than it has."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from rtvc.profile.gpu.view import sparkline
from rtvc.profile.live.figures import (
    Engine,
    GpuLine,
    Loop,
    ProcessLine,
    QueueLine,
    SessionLine,
    StageLine,
    Tone,
    View,
)
from rtvc.profile.live.table import (
    Column,
    age,
    beside,
    cut,
    megabytes,
    number,
    seconds,
    table,
    wrapped,
)
from rtvc.profile.live.watch import Status
from rtvc.profile.live.window import Times
from rtvc.profile.stages.breakdown import kind_of
from rtvc.profile.stages.waterfall import STYLES

TWO_COLUMNS = 76
"""Characters of a terminal from which on blocks stand side by side."""

FEW_LINES = 4
"""Lines that the sessions have at least, heading included, where blocks stand side by side."""

BUSY_S = 1.0
"""Seconds waiting that fill a sparkline, where there was never more."""

BUSY_ITEMS = 32.0
"""Items waiting that fill one."""

LAGS_S = 0.1
"""Lag of the event loop that fills one."""

_TONES: dict[Tone, str] = {
    "good": "bold green",
    "doubtful": "bold yellow",
    "bad": "bold red",
    "unknown": "bold",
}


def screen(status: Status, width: int, height: int) -> RenderableType:
    """What is drawn."""
    return Group(*lines(status, width, height))


def lines(status: Status, width: int, height: int) -> list[Text]:
    """The whole screen: at most `height` lines of at most `width` characters."""
    foot = _foot(status, width)
    if status.view is None:
        waiting = _banner(status, width) or [Text(f"waiting for {status.url}")]
        return _fitted([*waiting, foot], width, height)
    head = _banner(status, width) + wrapped(
        status.view.sentence, width, _TONES[status.view.tone], 4
    )
    room = max(0, height - len(head) - 1)
    body = _body(status.view, status.no_gpu, width, room)
    if status.missing is not None:
        for line in body:
            line.stylize("dim")
    return _fitted([*head, *body[:room], foot], width, height)


def _fitted(every: Sequence[Text], width: int, height: int) -> list[Text]:
    fitted = [cut(line, width) for line in every][: max(1, height)]
    for line in fitted:
        line.no_wrap = True
    return fitted


def _banner(status: Status, width: int) -> list[Text]:
    missing, view = status.missing, status.view
    if missing is not None:
        gone = "" if view is None else f"gone for {status.missing_s:.0f} s, "
        old = "" if view is None else "; below is what it said last"
        said = f"{gone}{missing.reason}; asked again every {number(status.interval_s)} s{old}"
        return wrapped(said, width, "bold red", 3)
    if view is not None and view.restarted_s is not None and view.restarted_s < 60:
        said = f"the server was restarted {view.restarted_s:.0f} s ago: it counts from 0 again"
        return wrapped(said, width, "bold yellow", 2)
    return []


def _foot(status: Status, width: int) -> Text:
    version = (
        "" if status.view is None or not status.view.version else f"rtvc {status.view.version}"
    )
    every = f"every {number(status.interval_s)} s"
    return cut(Text(" · ".join(filter(None, ("q ends", status.url, version, every))), "dim"), width)


def _body(view: View, no_gpu: str | None, width: int, room: int) -> list[Text]:
    """Set apart by blank lines where there is room for them; the sessions get what is left."""
    for roomy in (True, False):
        drawn = _arranged(view, no_gpu, width, len(view.sessions or ()) + 2, roomy=roomy)
        if len(drawn) <= room:
            return drawn
    if width < TWO_COLUMNS:
        return _arranged(view, no_gpu, width, FEW_LINES + 1, roomy=False)[:room]
    below = _below(view, no_gpu, width, roomy=False)[: max(0, room - FEW_LINES)]
    return [*sessions_lines(view.sessions, width, room - len(below)), *below]


def _arranged(view: View, no_gpu: str | None, width: int, most: int, *, roomy: bool) -> list[Text]:
    """All blocks, at most so many lines of sessions."""
    sessions = sessions_lines(view.sessions, width, most)
    gap = [Text("")] if roomy else []
    if width >= TWO_COLUMNS:
        return gap + _apart([sessions, _below(view, no_gpu, width, roomy=roomy)], roomy=roomy)
    parts = [
        queue_lines(view.queues, width),
        sessions,
        stage_lines(view, width),
        engine_lines(view.engine, width),
        machine_lines(view, no_gpu, width),
    ]
    return gap + _apart(parts, roomy=roomy)


def _below(view: View, no_gpu: str | None, width: int, *, roomy: bool) -> list[Text]:
    """The blocks that stand side by side."""
    half = (width - 2) // 2
    right = [
        queue_lines(view.queues, half),
        engine_lines(view.engine, half),
        machine_lines(view, no_gpu, half),
    ]
    drawn = beside(stage_lines(view, half), _apart(right, roomy=roomy), width)
    return [*drawn, Text("")] if roomy else drawn


def _apart(parts: Sequence[Sequence[Text]], *, roomy: bool) -> list[Text]:
    every: list[Text] = []
    for part in parts:
        if every and part and roomy:
            every.append(Text(""))
        every.extend(part)
    return every


# Sessions.


def sessions_lines(sessions: Sequence[SessionLine] | None, width: int, most: int) -> list[Text]:
    """A line a session, the oldest first; the rest is counted."""
    if sessions is None:
        return [Text("sessions: the server does not tell (/v1/sessions)", "dim")]
    if not sessions:
        return [Text("no session is open", "dim")]
    fit = len(sessions) if len(sessions) < most else max(0, most - 2)
    drawn = _session_table(sessions[:fit], width)
    left = len(sessions) - fit
    return [*drawn, Text(f"and {left} more", "dim")] if left else drawn


def _session_table(sessions: Sequence[SessionLine], width: int) -> list[Text]:
    delays = [" ".join(f"{1000 * s:.0f}" for s in one.delays_s) or "–" for one in sessions]
    columns = [
        Column("session", [one.id for one in sessions], right=False),
        Column("protocol", [one.protocol for one in sessions], right=False, drop=5),
        Column("age", [age(one.age_s) for one in sessions], drop=3),
        Column("state", [_state(one) for one in sessions], right=False),
        Column("turns", [number(one.utterances) for one in sessions], drop=2),
        Column("behind", [_behind(one.backlog_s) for one in sessions]),
        Column("unsent", [number(one.unsent) for one in sessions], drop=4),
        Column("last delays, ms", delays, right=False, drop=1),
    ]
    return table(columns, width)


def _state(session: SessionLine) -> Text:
    return Text(session.state, "" if session.state == "listening" else "cyan")


def _behind(backlog_s: float | None) -> Text:
    late = backlog_s is not None and backlog_s > 0.25
    return Text(seconds(backlog_s), "red" if late else "")


# Stages.


def stage_lines(view: View, width: int) -> list[Text]:
    """Where the turns of the last minute spent their time."""
    title = Text(f"stages of {view.delay.times.n} turns, last {view.span_s:.0f} s", "bold")
    if not view.stages:
        return [cut(title, width), Text("no turn has ended yet", "dim")]
    whole_s = max(line.per_turn_s or 0.0 for line in view.stages)
    columns = [
        Column("stage", [_stage_name(line) for line in view.stages], right=False),
        Column("n", [f"{line.times.n}" for line in view.stages], drop=2),
        Column("p50", [seconds(line.times.p50_s) for line in view.stages]),
        Column("p95", [tail(line.times) for line in view.stages]),
        Column("a turn", [seconds(line.per_turn_s) for line in view.stages], drop=1),
    ]
    drawn = table(columns, width)
    room = min(24, width - max(line.cell_len for line in drawn) - 1)
    if room >= 6 and whole_s > 0:
        bars = [Text(""), *(_bar(line, whole_s, room) for line in view.stages)]
        drawn = [Text.assemble(line, " ", bar) for line, bar in zip(drawn, bars, strict=True)]
    return [cut(title, width), *drawn]


def _stage_name(line: StageLine) -> Text:
    name = f"{line.name}, hidden" if line.hidden else line.name
    return Text(name, "dim" if line.hidden else "")


def _bar(line: StageLine, whole_s: float, room: int) -> Text:
    share = (line.per_turn_s or 0.0) / whole_s
    style = "dim" if line.hidden else STYLES[kind_of(line.name)]
    return Text(("░" if line.hidden else "█") * round(room * share), style)


def tail(times: Times) -> Text:
    """p95, or, where n does not support it, what the largest was at most."""
    if times.p95_s is not None:
        return Text(seconds(times.p95_s))
    if times.at_most_s is not None:
        return Text(f"≤{seconds(times.at_most_s)}", "dim")
    return Text("–" if times.more_than_s is None else f">{seconds(times.more_than_s)}", "dim")


# Queues.


def queue_lines(queues: Sequence[QueueLine], width: int) -> list[Text]:
    """What waits, and how that was over the last minute."""
    columns = [
        Column("waiting", [queue.name for queue in queues], right=False),
        Column("items", [number(queue.items) for queue in queues]),
        Column("audio", [_behind(queue.backlog_s) for queue in queues]),
        Column("worst", [seconds(queue.worst_s) for queue in queues], drop=3),
        Column("oldest", [seconds(queue.oldest_s) for queue in queues], drop=2),
        Column("dropped", [_dropped(queue.dropped) for queue in queues], drop=4),
    ]
    least = 8 if width >= 36 else 0
    drawn = table(columns, width - least - 1)
    room = min(60, width - max(line.cell_len for line in drawn) - 1)
    sparks = [Text(""), *(_queue_spark(queue, room) for queue in queues)]
    return [Text.assemble(line, " ", spark) for line, spark in zip(drawn, sparks, strict=True)]


def _dropped(count: float | None) -> Text:
    return Text(number(count), "red" if count else "")


def _queue_spark(queue: QueueLine, room: int) -> Text:
    least = BUSY_ITEMS if queue.backlog_s is None else BUSY_S
    return _spark(queue.history, least, room)


def _spark(values: Sequence[float | None], least_top: float, room: int) -> Text:
    """Trifles are not blown up: the top is at least `least_top`."""
    top = max([least_top, *(value for value in values if value is not None)])
    return Text(sparkline(values, top, max(0, room)) if room > 0 else "", "cyan")


# The engine.


def engine_lines(engine: Engine, width: int) -> list[Text]:
    """What transcribes, and how long that takes by kind of job."""
    style = "bold" if engine.state == "ready" else "bold yellow"
    title = Text(f"engine {engine.state}", style)
    for fact in _engine_facts(engine):
        if title.cell_len + len(fact) + 3 <= width:
            title.append(f" · {fact}", "dim")
    jobs = engine.jobs
    if not jobs:
        return [cut(title, width)]
    columns = [
        Column("job", [job.kind for job in jobs], right=False),
        Column("n", [f"{job.n}" for job in jobs], drop=2),
        Column("wait p50", [seconds(job.wait.p50_s) for job in jobs], drop=5),
        Column("p95", [tail(job.wait) for job in jobs]),
        Column("work p50", [seconds(job.work.p50_s) for job in jobs]),
        Column("p95", [tail(job.work) for job in jobs], drop=4),
        Column("batch", [_batch(job.batch) for job in jobs], drop=3),
    ]
    if sum(column.width + 1 for column in columns) - 1 > width:
        columns[3] = Column("wait p95", columns[3].cells)
    return [cut(title, width), *table(columns, width)]


def _engine_facts(engine: Engine) -> list[str]:
    """The most telling first: what does not fit is left out."""
    about = engine.about
    facts = [
        "" if engine.workers is None else f"{engine.workers:g} at once",
        "" if not engine.restarts else f"restarts {engine.restarts:g}",
        about.get("model", ""),
        " ".join(filter(None, (about.get("device"), about.get("compute_type")))),
        about.get("sharing", ""),
    ]
    return [fact for fact in facts if fact]


def _batch(jobs: float | None) -> str:
    return "–" if jobs is None else f"{jobs:.1f}"


# The machine.


def machine_lines(view: View, no_gpu: str | None, width: int) -> list[Text]:
    """Processes, the event loop, and the GPUs or why there are none."""
    drawn = _process_lines(view.processes, view.cpus, width)
    drawn.append(_loop_line(view.loop, width))
    for device in view.gpus:
        drawn.extend(_gpu_lines(device, width))
    if not view.gpus and no_gpu:
        drawn.extend(wrapped(f"no GPU: {no_gpu}", width, "dim", 2))
    return [cut(line, width) for line in drawn]


def _process_lines(processes: Sequence[ProcessLine], cpus: float | None, width: int) -> list[Text]:
    if not processes:
        return []
    columns = [
        Column("process", [one.role for one in processes], right=False),
        Column("n", [number(one.processes) for one in processes], drop=2),
        Column("CPUs", [_cores(one.cpu_cores) for one in processes]),
        Column("memory", [megabytes(one.resident_bytes) for one in processes]),
        Column("threads", [number(one.threads) for one in processes], drop=1),
    ]
    drawn = table(columns, width)
    room = min(60, width - max(line.cell_len for line in drawn) - 1)
    head = Text(f"of {cpus:g} CPUs" if cpus is not None and room >= 10 else "", "dim")
    sparks = [head, *(_spark(one.history, cpus or 1.0, room) for one in processes)]
    return [Text.assemble(line, " ", spark) for line, spark in zip(drawn, sparks, strict=True)]


def _cores(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _loop_line(loop: Loop, width: int) -> Text:
    late = loop.worst_s is not None and loop.worst_s > 0.25
    line = Text("loop lag ")
    if loop.lag.p99_s is not None:
        line.append(f"p99 {seconds(loop.lag.p99_s)}, ")
    line.append(f"worst {seconds(loop.worst_s)} ", "red" if late else "")
    return line.append_text(_spark(loop.history, LAGS_S, min(60, width - line.cell_len)))


def _gpu_lines(device: GpuLine, width: int) -> list[Text]:
    now = device.now
    busy = "busy –" if now.busy_ratio is None else f"busy {100 * now.busy_ratio:.0f} %"
    line = Text(f"GPU {now.index} {busy} ")
    line.append_text(_spark(device.busy, 1.0, min(30, width - line.cell_len)))
    used, total = megabytes(now.memory_used_bytes), megabytes(now.memory_total_bytes)
    facts = [
        f"{used} of {total}",
        "" if now.power_w is None else f"{now.power_w:.0f} W",
        "" if now.temperature_c is None else f"{now.temperature_c} °C",
        ", ".join(now.throttled_by),
    ]
    style = "red" if now.throttled_by else ""
    return [line, Text("  " + " · ".join(filter(None, facts)), style)]
