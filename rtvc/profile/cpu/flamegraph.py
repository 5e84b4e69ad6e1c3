"""Pictures of stacks: a flamegraph in SVG, and the file that speedscope.app opens."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from rtvc.profile.cpu.rules import Frame, Stage, stage_of
from rtvc.profile.cpu.sampling import Stack, process_title
from rtvc.report.svg import tag, text

WIDTH = 1200
"""User units."""

ROW = 17
"""User units: height of a call."""

TOP = 76
"""User units above the stacks: title, note and legend."""

NARROWEST = 0.4
"""User units: narrower calls are left out, with what they called."""

CHARACTER = 6.6
"""User units: width of a character, on average."""

COLOURS: dict[Stage, str] = {
    Stage.VAD: "#8fc1a9",
    Stage.FEATURES: "#c9b458",
    Stage.INFERENCE: "#e08a4f",
    Stage.TURN: "#b79ad9",
    Stage.AUDIO: "#7fb2d9",
    Stage.MESSAGES: "#d98fae",
    Stage.WEBSOCKET: "#6fa3a0",
    Stage.EVENT_LOOP: "#9fb0c4",
    Stage.LLM: "#a8c66c",
    Stage.TTS: "#d9a28f",
    Stage.METRICS: "#8f9fd9",
    Stage.UPKEEP: "#b5a99a",
    Stage.OTHER: "#cfcfc8",
    Stage.IDLE: "#e9e9e4",
}
"""Of boxes with dark text; one for each stage."""

_STYLE = (
    "svg{background:#fff;font:11px ui-monospace,Menlo,Consolas,monospace}"
    "text{fill:#1b1f24;pointer-events:none}.title{font-size:15px}.label{font-size:11px}"
    "rect{stroke:#fff;stroke-width:.5}rect:hover{stroke:#1b1f24;stroke-width:1}"
)


@dataclass
class _Node:
    """A call and all that it called."""

    name: str
    """As drawn."""
    samples: int = 0
    """With this call on the stack."""
    stages: dict[Stage, int] = field(default_factory=dict)
    """Samples of each stage."""
    calls: dict[str, "_Node"] = field(default_factory=dict)
    """By name."""

    def add(self, stage: Stage, count: int) -> None:
        self.samples += count
        self.stages[stage] = self.stages.get(stage, 0) + count

    @property
    def stage(self) -> Stage:
        """That of most samples."""
        return max(self.stages, key=lambda stage: self.stages[stage])


def flamegraph(
    stacks: Sequence[Stack], names: Mapping[int, str], title: str, note: str = ""
) -> str:
    """Callers above, callees below; a box is as wide as its samples, coloured by its stage.

    Hovering tells the call, its samples and its share; it needs no script.
    """
    root, depth = _tree(stacks, names)
    parts = [tag("style", _STYLE), text(10, 22, title, "title"), text(10, 40, note)]
    parts += _legend(root)
    if root.samples:
        parts += _boxes(root)
    height = TOP + (depth + 1) * ROW + 10
    return tag(
        "svg",
        "".join(parts),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {height}",
        width=WIDTH,
        height=height,
        role="img",
        aria_label=title,
    )


def _tree(stacks: Iterable[Stack], names: Mapping[int, str]) -> tuple[_Node, int]:
    root, depth = _Node("all"), 0
    for stack in stacks:
        stage = stage_of(stack.frames)
        root.add(stage, stack.count)
        node = root
        path = [process_title(stack.pid, names), *(_call(frame) for frame in stack.frames)]
        for name in path:
            node = node.calls.setdefault(name, _Node(name))
            node.add(stage, stack.count)
        depth = max(depth, len(path))
    return root, depth


def _call(frame: Frame) -> str:
    return f"{frame.function} ({frame.file})" if frame.file else frame.function


def _legend(root: _Node) -> list[str]:
    parts: list[str] = []
    x = 10.0
    for stage, count in sorted(root.stages.items(), key=lambda each: -each[1]):
        name = f"{stage} {count / root.samples:.0%}".replace("%", " %")
        parts.append(tag("rect", x=x, y=50, width=12, height=12, fill=COLOURS[stage]))
        parts.append(text(x + 17, 60, name))
        x += 17 + len(name) * CHARACTER + 16
    return parts


def _boxes(root: _Node) -> list[str]:
    """Every call that is wide enough, what it called below it, the widest first."""
    scale = WIDTH / root.samples
    parts: list[str] = []
    rest = [(root, 0.0, 0)]
    while rest:
        node, x, row = rest.pop()
        if node.samples * scale < NARROWEST:
            continue
        parts.append(_box(node, x, row, node.samples * scale, root.samples))
        for called in sorted(node.calls.values(), key=lambda each: (-each.samples, each.name)):
            rest.append((called, x, row + 1))
            x += called.samples * scale
    return parts


def _box(node: _Node, x: float, row: int, width: float, whole: int) -> str:
    y = TOP + row * ROW
    share = f"{100 * node.samples / whole:.1f} %"
    hint = f"{node.name}\n{node.samples} samples, {share}, mostly {node.stage}"
    box = tag(
        "rect",
        tag("title", escape(hint)),
        x=x,
        y=y,
        width=width,
        height=ROW,
        fill=COLOURS[node.stage],
    )
    room = int((width - 6) / CHARACTER)
    if room < 3:
        return box
    name = node.name if len(node.name) <= room else f"{node.name[: room - 1]}…"
    return box + text(x + 3, y + 12, name)


def speedscope(
    stacks: Sequence[Stack], names: Mapping[int, str], title: str, rate_hz: float
) -> dict[str, Any]:
    """Speedscope's sampled format: a profile a thread, weights in seconds."""
    frames: dict[Frame, int] = {}
    threads: dict[tuple[int, str], list[Stack]] = {}
    for stack in stacks:
        threads.setdefault((stack.pid, stack.thread), []).append(stack)
    profiles = [_thread(each, frames, names, rate_hz) for each in threads.values()]
    profiles.sort(key=lambda profile: -profile["endValue"])
    return {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "name": title,
        "exporter": "rtvc profile cpu",
        "activeProfileIndex": 0,
        "shared": {"frames": [_shared(frame) for frame in frames]},
        "profiles": profiles,
    }


def _thread(
    stacks: Sequence[Stack], frames: dict[Frame, int], names: Mapping[int, str], rate_hz: float
) -> dict[str, Any]:
    first = stacks[0]
    weights = [stack.count / rate_hz for stack in stacks]
    return {
        "type": "sampled",
        "name": f"{process_title(first.pid, names)}: {first.thread_name or first.thread}",
        "unit": "seconds",
        "startValue": 0,
        "endValue": sum(weights),
        "samples": [
            [frames.setdefault(frame, len(frames)) for frame in stack.frames] for stack in stacks
        ],
        "weights": weights,
    }


def _shared(frame: Frame) -> dict[str, Any]:
    shared: dict[str, Any] = {"name": frame.function}
    if frame.file:
        shared["file"] = frame.file
    if frame.line is not None:
        shared["line"] = frame.line
    return shared
