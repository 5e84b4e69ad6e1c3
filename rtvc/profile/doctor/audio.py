"""Sample rates taken for granted, and texts that nobody reads, by the source alone."""

import ast
import re
from collections.abc import Iterator

from rtvc.profile.doctor.findings import Finding
from rtvc.profile.doctor.module import Function, assigned, dotted, last_name, own_attribute
from rtvc.profile.doctor.project import Project
from rtvc.profile.doctor.ways import AUDIO

_RESAMPLING = {"resample", "Resample", "Resampler", "ratecv", "ResampleStream"}
STT_RATE_HZ = 16000
_RATES_HZ = {24000, 32000, 44100, 48000}
_LOGS = {"debug", "info", "warning", "error", "critical", "exception", "log", "print"}
_FINAL = re.compile(r"final\w*(transcri|text)(?!\w*(callback|handler|_cb))", re.IGNORECASE)
_WARM_UP = re.compile(r"warm|prime|preload", re.IGNORECASE)
_OPTION = re.compile(r"\bsampleRate\s*:")
_COMMENT = re.compile(r"/\*.*?\*/|(?<!:)//[^\n]*", re.DOTALL)
_FIXED = re.compile(r"AudioContext\s*\(\s*\{[^}]*sampleRate")


def discarded(function: Function) -> Iterator[Finding]:
    """A transcription that nobody reads."""
    what = "a transcription is made and its text is not used"
    if _WARM_UP.search(function.name):
        return
    for node in function.nodes:
        value = node.value if isinstance(node, ast.Expr | ast.Assign) else None
        if isinstance(value, ast.Await):
            value = value.value
        if not isinstance(value, ast.Call) or not _transcribes(value):
            continue
        at = f"{function.module.at(node)} {dotted(value.func) or last_name(value.func)}(...)"
        if isinstance(node, ast.Expr):
            yield Finding("final-discarded", "warning", what, f"{at}: thrown away")
        elif isinstance(node, ast.Assign) and not _is_read(_text_of(node.targets[0]), function):
            yield Finding("final-discarded", "warning", what, f"{at}: at most logged")


def _transcribes(call: ast.Call) -> bool:
    if not isinstance(call.func, ast.Attribute):
        return False
    owner = (last_name(call.func.value) or "").lower()
    if call.func.attr == "text":
        return not call.args and not call.keywords and "recorder" in owner
    return call.func.attr == "transcribe" and owner not in ("self", "super")


def _text_of(target: ast.expr) -> str | None:
    """The name that holds the text: the first of `segments, info`; None: not a plain name."""
    first = target.elts[0] if isinstance(target, ast.Tuple) and target.elts else target
    return first.id if isinstance(first, ast.Name) else None


def _is_read(name: str | None, function: Function) -> bool:
    """Somebody but the log reads a name."""
    if name is None or isinstance(function.node, ast.Module):
        return True
    logged = _logged(function)
    return any(
        isinstance(node, ast.Name)
        and node.id == name
        and isinstance(node.ctx, ast.Load)
        and node not in logged
        for node in ast.walk(function.node)
    )


def _logged(function: Function) -> set[ast.AST]:
    return {
        inner
        for call, _ in function.calls
        if last_name(call.func) in _LOGS
        for inner in ast.walk(call)
    }


def unread_finals(project: Project) -> Iterator[Finding]:
    """Fields for a final text that are written and, but for the log, never read."""
    written: dict[str, str] = {}
    read: set[str] = set()
    for function in project.functions:
        logged = _logged(function)
        for node in function.nodes:
            if not isinstance(node, ast.Attribute) or not _FINAL.search(node.attr):
                continue
            if isinstance(node.ctx, ast.Store) and own_attribute(node):
                written.setdefault(node.attr, function.module.at(node))
            elif isinstance(node.ctx, ast.Load) and node not in logged:
                read.add(node.attr)
    what = "a final text is kept and never read"
    for name, at in written.items():
        if name not in read:
            yield Finding("final-discarded", "warning", what, f"{at} {name}")


def cleared_finals(function: Function) -> Iterator[Finding]:
    """What handles a partial empties the final text: whoever reads it finds the partial's."""
    if "partial" not in function.name.lower():
        return
    for node in function.nodes:
        for target, value in assigned(node):
            empty = isinstance(value, ast.Constant) and not value.value
            if empty and _FINAL.search(own_attribute(target) or ""):
                evidence = f"{function.module.at(node)} {function.name}: {own_attribute(target)}"
                what = "each partial empties the final text"
                yield Finding("final-discarded", "warning", what, evidence)


def rates(function: Function, project: Project) -> Iterator[Finding]:
    for node in function.nodes:
        found = None
        if isinstance(node, ast.Call):
            found = _fixed_resampling(node, function, project)
        elif isinstance(node, ast.Subscript):
            found = _decimation(node)
        if found is not None:
            evidence = f"{function.module.at(node)} {found}"
            what = "the rate of the client's audio is taken for granted"
            yield Finding("rate-assumed", "warning", what, evidence)


def _fixed_resampling(call: ast.Call, scope: Function, project: Project) -> str | None:
    name = last_name(call.func)
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    numbers = [n for n in (project.number(argument, scope) for argument in given) if n]
    if name == "resample_poly" and len(numbers) >= 2 and numbers[0] < numbers[1]:
        return f"resample_poly by exactly {numbers[0]:g}/{numbers[1]:g}"
    rates = [number for number in numbers if number in _RATES_HZ or number == STT_RATE_HZ]
    if name in _RESAMPLING and rates[1:] == [STT_RATE_HZ] and rates[0] in _RATES_HZ:
        return f"{name} from a fixed {rates[0]:.0f} Hz"
    return None


def _decimation(node: ast.Subscript) -> str | None:
    step = node.slice.step if isinstance(node.slice, ast.Slice) else None
    name = last_name(node.value) or ""
    if isinstance(step, ast.Constant) and step.value == 3 and AUDIO.search(name):
        return f"{name}[::3]"
    return None


def page_rate(pages: dict[str, str]) -> Iterator[Finding]:
    """A page that records and never asks at which rate."""
    code = {path: _COMMENT.sub("", text) for path, text in pages.items()}
    microphones = [path for path, text in code.items() if "getUserMedia" in text]
    everything = "\n".join(code.values())
    if not microphones or "AudioContext" not in everything or _FIXED.search(everything):
        return
    if "sampleRate" not in _OPTION.sub("", everything):
        path = microphones[0]
        line = pages[path][: pages[path].find("getUserMedia")].count("\n") + 1
        what = "the page never reads the rate of its AudioContext"
        yield Finding("page-rate-unread", "warning", what, f"{path}:{line} getUserMedia")
