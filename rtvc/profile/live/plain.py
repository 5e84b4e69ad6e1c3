"""The view for programs and for places without a terminal: a line or an object a reading."""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from rtvc.profile.live.figures import View
from rtvc.profile.live.view import TARGET_S
from rtvc.profile.live.watch import Status
from rtvc.profile.live.window import Times

Cell = Callable[[View], str]

UNKNOWN = "-"

HISTORIES = frozenset({"history", "busy"})
"""What an object leaves out: the reader has the objects before it."""


def _number(value: float | None, digits: int = 0) -> str:
    return UNKNOWN if value is None else f"{value:.{digits}f}"


def _ms(value: float | None, digits: int = 0) -> str:
    return UNKNOWN if value is None else f"{1000 * value:.{digits}f}"


def _tail(times: Times) -> str:
    """p95, or where n does not support it "<=" and what the largest was at most."""
    if times.p95_s is not None:
        return _ms(times.p95_s)
    if times.at_most_s is not None:
        return f"<={_ms(times.at_most_s)}"
    return UNKNOWN if times.more_than_s is None else f">{_ms(times.more_than_s)}"


def _queue(name: str, what: str, digits: int) -> Cell:
    def cell(view: View) -> str:
        queue = next(queue for queue in view.queues if queue.name == name)
        return _number(getattr(queue, what), digits)

    return cell


def _cores(view: View) -> str:
    told = [one.cpu_cores for one in view.processes if one.cpu_cores is not None]
    return _number(sum(told), 2) if told else UNKNOWN


def _memory(view: View) -> str:
    told = [one.resident_bytes for one in view.processes if one.resident_bytes is not None]
    return _number(sum(told) / 1e6) if told else UNKNOWN


def _gpu(view: View) -> str:
    told = [one.now.busy_ratio for one in view.gpus if one.now.busy_ratio is not None]
    return _number(100 * max(told)) if told else UNKNOWN


COLUMNS: tuple[tuple[str, int, Cell], ...] = (
    ("engine", 11, lambda view: view.engine.state),
    ("sess", 5, lambda view: _number(view.open_sessions)),
    ("max", 5, lambda view: _number(view.max_sessions)),
    ("room", 6, lambda view: _number(view.headroom, 1)),
    ("turns", 6, lambda view: f"{view.delay.times.n}"),
    ("p50_ms", 7, lambda view: _ms(view.delay.times.p50_s)),
    ("p95_ms", 8, lambda view: _tail(view.delay.times)),
    (f"over_{1000 * TARGET_S:.0f}", 9, lambda view: _number(view.delay.above)),
    ("inbox_s", 8, _queue("inbox", "backlog_s", 2)),
    ("jobs", 5, _queue("inference", "items", 0)),
    ("jobs_s", 7, _queue("inference", "backlog_s", 2)),
    ("unsent", 7, _queue("outbox", "items", 0)),
    ("worst_lag_ms", 13, lambda view: _ms(view.loop.worst_s, 1)),
    ("cpus", 6, _cores),
    ("mem_mb", 7, _memory),
    ("gpu_%", 6, _gpu),
)
"""Name, width, what stands in it."""

AT = 8
"""Characters of the first column: seconds since the begin."""


LEGEND = (
    "engine, sess, jobs, unsent, mem_mb: now; turns to over: of the last 60 s; cpus: of the last 5",
    "sess: sessions, of max; room: how many more would fit; turns: with a final transcript",
    f"p50_ms, p95_ms: transcription delay; over_{1000 * TARGET_S:.0f}: turns later than that",
    "inbox_s: audio not yet heard; jobs, jobs_s: speech-to-text waiting, and its audio in seconds",
    "unsent: messages waiting for slow clients; worst_lag_ms: of the event loop, in the last 60 s",
    "cpus: cores in use; mem_mb: server and engine; gpu_%: busiest GPU; -: unknown; <=, >: bounds",
)
"""What the columns mean; each line is shown behind a #."""


def heading() -> str:
    """Names of the columns."""
    return f"{'at_s':>{AT}}" + "".join(f"{name:>{width}}" for name, width, _ in COLUMNS)


def line(status: Status) -> str:
    """A reading; while the server is away every column is unknown but the first two."""
    view = None if status.missing is not None else status.view
    cells = [("gone" if view is None else view.engine.state)]
    cells += [UNKNOWN if view is None else cell(view) for _, _, cell in COLUMNS[1:]]
    padded = (f"{cell:>{width}}" for cell, (_, width, _) in zip(cells, COLUMNS, strict=True))
    return f"{status.at_s:>{AT}.1f}" + "".join(padded)


def to_json(status: Status) -> str:
    """A reading as one object on one line; seconds, bytes and counts; null is unknown."""
    missing = status.missing
    view = None if missing is not None or status.view is None else asdict(status.view)
    told = {
        "at_s": round(status.at_s, 3),
        "url": status.url,
        "there": missing is None,
        "reason": None if missing is None else missing.reason,
        "no_gpu": status.no_gpu,
        **(_without_histories(view) if view is not None else {}),
    }
    return json.dumps(told, allow_nan=False, ensure_ascii=False)


def _without_histories(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name: each for name, each in value.items() if name not in HISTORIES}
        return {name: _without_histories(each) for name, each in kept.items()}
    if isinstance(value, list | tuple):
        return [_without_histories(each) for each in value]
    return value
