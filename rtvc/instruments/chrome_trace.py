"""Spans as a Chrome trace: JSON that ui.perfetto.dev and chrome://tracing open.

Complete events ("ph": "X") with `ts` and `dur` in microseconds. A viewer takes what overlaps on a
track for nested, so what overlaps without nesting goes to a second lane of the same track.
"""

import atexit
import json
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtvc.errors import RecordError, why
from rtvc.instruments.recorder import RECORDER, Recorder, Span
from rtvc.record import ServerTurnRow, TurnRow

SPEECH, SERVER, HIDDEN = "speech", "server", "hidden work"
"""Tracks of a session."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One bar of a trace."""

    group: str
    """Tracks with the same group stand together: a process, a session."""
    track: str
    """Row within the group: a thread, "speech", "server" or "hidden work"."""
    name: str
    """Text on the bar."""
    start_s: float
    """Instant."""
    end_s: float
    """Instant."""
    more: dict[str, str | int | float] = field(default_factory=dict)
    """Shown when the bar is clicked."""


def marks_of_spans(spans: Iterable[Span], names: dict[int, str] | None = None) -> list[Mark]:
    """Recorded spans, a track for each thread; `names` of threads, by identifier."""
    known = names or {}
    marks = []
    for span in spans:
        track = known.get(span.thread, f"thread {span.thread}")
        more: dict[str, str | int | float] = {"self_ms": round(1000 * span.self_s, 3)}
        more |= {
            name: value
            for name, value in (("turn", span.turn), ("in", span.parent), ("error", span.error))
            if value is not None
        }
        where = f"{track}: {HIDDEN}" if span.hidden else track
        marks.append(Mark("stages", where, span.name, span.start_s, span.end_s, more))
    return marks


def marks_of_turns(turns: Sequence[TurnRow], server_turns: Sequence[ServerTurnRow]) -> list[Mark]:
    """A run's turns, a group for each speaker: speech, the server's segments, its hidden work.

    The server's times are durations on a clock of its own. A turn is laid so that its transcript
    left the server when the client had it; without a final it begins at the end of speech.
    """
    rows: dict[tuple[str, str], list[ServerTurnRow]] = {}
    for row in server_turns:
        rows.setdefault((row.session_id, row.item_id), []).append(row)
    marks = []
    for turn in turns:
        group = f"speaker {turn.speaker}"
        said: dict[str, str | int | float] = {"utterance": turn.utterance}
        start_s, end_s = turn.speech_start_at_s, turn.speech_end_at_s
        marks.append(Mark(group, SPEECH, turn.kind, start_s, end_s, said))
        segments = rows.get((turn.session_id or "", turn.item_id or ""), [])
        marks += _server_marks(group, said, _origin_s(turn, segments), segments)
    return marks


def _origin_s(turn: TurnRow, segments: Sequence[ServerTurnRow]) -> float:
    """Where the server's zero, its last speech sample, is laid."""
    ends_s = [
        row.start_s + row.duration_s
        for row in segments
        if row.stage == "transcript" and not row.hidden
    ]
    if turn.final_at_s is None or not ends_s:
        return turn.speech_end_at_s
    return turn.final_at_s - max(ends_s)


def _server_marks(
    group: str,
    more: dict[str, str | int | float],
    origin_s: float,
    segments: Sequence[ServerTurnRow],
) -> list[Mark]:
    """Each segment once: those of a reply repeat those of its transcript."""
    # Rounded to a microsecond: the same instant written twice may differ in its last digits.
    once = {(row.segment, round(row.start_s, 6), row.hidden): row for row in segments}
    return [
        Mark(
            group,
            HIDDEN if row.hidden else SERVER,
            row.segment,
            origin_s + row.start_s,
            origin_s + row.start_s + row.duration_s,
            more,
        )
        for row in once.values()
        if row.duration_s > 0
    ]


def trace(marks: Sequence[Mark], **about: str) -> dict[str, Any]:
    """The whole trace, beginning at 0; `about` is shown as its metadata."""
    begin_s = min((mark.start_s for mark in marks), default=0.0)
    groups: dict[str, dict[str, list[Mark]]] = {}
    for mark in marks:
        groups.setdefault(mark.group, {}).setdefault(mark.track, []).append(mark)
    events: list[dict[str, Any]] = []
    for process, (group, tracks) in enumerate(groups.items(), start=1):
        events.append(_name("process_name", process, 0, group))
        lanes = [(name, lane) for name, inside in tracks.items() for lane in in_lanes(inside)]
        for thread, (name, lane) in enumerate(lanes, start=1):
            events.append(_name("thread_name", process, thread, name))
            events.append(_sorted(process, thread))
            events += [_event(mark, process, thread, begin_s) for mark in lane]
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": about}


def in_lanes(marks: Iterable[Mark]) -> list[list[Mark]]:
    """The bars of a track in as few lanes as need be, so that within one they only nest."""
    lanes: list[list[Mark]] = []
    around: list[list[Mark]] = []
    for mark in sorted(marks, key=lambda mark: (mark.start_s, -mark.end_s)):
        for lane, stack in zip(lanes, around, strict=True):
            while stack and _ns(stack[-1].end_s) <= _ns(mark.start_s):
                stack.pop()
            if not stack or _ns(mark.end_s) <= _ns(stack[-1].end_s):
                lane.append(mark)
                stack.append(mark)
                break
        else:
            lanes.append([mark])
            around.append([mark])
    return lanes


def _ns(instant_s: float) -> int:
    """As exact as a trace is: what differs by less touches."""
    return round(instant_s * 1e9)


def _event(mark: Mark, process: int, thread: int, begin_s: float) -> dict[str, Any]:
    begin_ns = _ns(begin_s)
    start_ns, end_ns = _ns(mark.start_s) - begin_ns, _ns(mark.end_s) - begin_ns
    return {
        "name": mark.name,
        "cat": "stage",
        "ph": "X",
        "ts": start_ns / 1000,
        "dur": (end_ns - start_ns) / 1000,
        "pid": process,
        "tid": thread,
        "args": mark.more,
    }


def _name(what: str, process: int, thread: int, name: str) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": process, "tid": thread, "args": {"name": name}}


def _sorted(process: int, thread: int) -> dict[str, Any]:
    place = {"sort_index": thread}
    return {"name": "thread_sort_index", "ph": "M", "pid": process, "tid": thread, "args": place}


def write_trace(path: Path, content: dict[str, Any]) -> None:
    """Write it, compact; RecordError if that cannot be."""
    try:
        path.write_text(json.dumps(content, separators=(",", ":"), allow_nan=False), "utf-8")
    except OSError as error:
        raise RecordError(f"cannot write {path}: {why(error)}") from error


def save_spans(path: Path | str, recorder: Recorder = RECORDER) -> None:
    """Write what the recorder keeps as a trace."""
    names = {thread.ident or 0: thread.name for thread in threading.enumerate()}
    content = trace(marks_of_spans(recorder.spans(), names), dropped=str(recorder.dropped))
    write_trace(Path(path), content)


def save_spans_at_exit(path: Path | str, recorder: Recorder = RECORDER) -> None:
    """Write them when the program ends; after a kill there is no file."""
    atexit.register(save_spans, Path(path), recorder)
