"""What the source of a voice chat tells without being run; here its models and its queues."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from rtvc.profile.doctor.audio import cleared_finals, discarded, page_rate, rates, unread_finals
from rtvc.profile.doctor.checkout import Checkout
from rtvc.profile.doctor.findings import Finding, Severity
from rtvc.profile.doctor.loop import loops, polls, threads
from rtvc.profile.doctor.module import Function, last_name, parameters
from rtvc.profile.doctor.project import Project
from rtvc.profile.doctor.ways import (
    AUDIO,
    Ways,
    constructor,
    is_cached,
    kept_once,
    target_of,
    way,
)

LONG_QUEUE_S = 2.0
"""Audio that may wait before a bound is called long."""
ASSUMED_CHUNK_S = 0.02
"""Where the source names no chunk length."""
RECORDER_CHUNK_S = 0.032
"""512 samples at 16 kHz: what one item of RealtimeSTT's queue holds."""
RECORDER_LIMIT = 100
"""Its allowed_latency_limit unless given."""


@dataclass(frozen=True, slots=True)
class _Model:
    """A constructor that loads weights."""

    packages: tuple[str, ...] = ()
    """Where it must come from; empty: the name is enough."""
    large: bool = True
    """Whether it takes seconds and much memory."""


_SMALL = _Model(large=False)
_SPEECH = _Model()
_MODELS = {
    "WhisperModel": _SPEECH,
    "AudioToTextRecorder": _SPEECH,
    "load_model": _Model(("whisper", "whisperx", "whisper_timestamped", "stable_whisper")),
    "pipeline": _Model(("transformers",)),
    "Whisper": _Model(("ctranslate2",)),
    "Llama": _Model(("llama_cpp",)),
    "LLM": _Model(("vllm",)),
    "CoquiEngine": _SPEECH,
    "KokoroEngine": _SPEECH,
    "OrpheusEngine": _SPEECH,
    "InferenceSession": _SMALL,
    "load_silero_vad": _SMALL,
    "load": _Model(("torch.hub",), large=False),
}
_TOKENS = ("Tokenizer", "Processor", "Extractor", "Config")

_QUEUES = {
    f"{module}.{kind}"
    for module in ("asyncio", "queue", "multiprocessing")
    for kind in ("Queue", "LifoQueue", "PriorityQueue", "SimpleQueue", "JoinableQueue")
}
_CHUNK = re.compile(r"(chunk|frame|block|buffer)_?(size|samples|len|length)$", re.IGNORECASE)
_CHUNK_MS = re.compile(r"(chunk|frame|block|buffer)_?(duration_?|length_?)?ms$", re.IGNORECASE)
_RATE = re.compile(r"(sample_?rate(_hz)?|rate_hz|rate)$", re.IGNORECASE)


def check_source(checkout: Checkout) -> list[Finding]:
    """All that the Python and the pages of a checkout tell."""
    findings = [*page_rate(checkout.pages)]
    if not checkout.modules:
        return findings
    ways = Ways(Project(checkout.modules))
    if not ways.handlers:
        found = f"{len(checkout.modules)} Python files"
        findings.append(Finding("no-handlers", "note", "no WebSocket handler was found", found))
    for check in (_models, _servers, _queues, _recorder_queue, loops, polls, threads):
        findings += check(ways)
    for function in ways.project.functions:
        findings += [*rates(function, ways.project), *cleared_finals(function)]
        if function in ways.called or function not in ways.starting:
            findings += discarded(function)
    return [*findings, *unread_finals(ways.project)]


def _made(call: ast.Call, scope: Function, project: Project) -> tuple[str, bool] | None:
    """Name of what loads weights, and whether it is large; None: it loads none."""
    full = project.full_name(call.func, scope)
    if full is None:
        return None
    *_, owner, last = ["", *full.split(".")]
    if last == "from_pretrained":
        light = not owner or any(word in owner for word in _TOKENS)
        return None if light else (f"{owner}.{last}", True)
    known = _MODELS.get(last)
    if known is None or project.resolve(call.func, scope) is not None:
        return None
    ours = not known.packages or any(full.startswith(f"{p}.") for p in known.packages)
    return (last, known.large) if ours else None


def _models(ways: Ways) -> Iterator[Finding]:
    for function in ways.project.functions:
        for call, _ in function.calls:
            made = _made(call, function, ways.project)
            if made is not None:
                yield from _model(call, function, made, ways)
            if last_name(call.func) == "BatchedInferencePipeline":
                where = function.module.at(call)
                what = "BatchedInferencePipeline around utterances"
                yield Finding("batching-for-nothing", "note", what, where)


def _model(
    call: ast.Call, function: Function, made: tuple[str, bool], ways: Ways
) -> Iterator[Finding]:
    name, large = made
    site = f"{function.module.at(call)} {name}(...)"
    once = is_cached(function) or kept_once(function, call, ways.project)
    if function in ways.each and not once:
        severity: Severity = "bad" if large else "warning"
        if _handed_in(function, call):
            severity = "warning"
        kind = "model-per-connection" if large else "small-model-per-connection"
        evidence = way(ways.each[function], site)
        yield Finding(kind, severity, f"{name} is built for each connection", evidence)
    elif function in ways.called:
        evidence = way(ways.called[function], site)
        what = f"{name} is built when the first connection needs it"
        yield Finding("model-loaded-lazily", "warning", what, evidence)
    elif large and ways.handlers and function in ways.start:
        what = f"{name} is built once, before any connection"
        yield Finding("model-shared", "good", what, site)


def _handed_in(function: Function, call: ast.Call) -> bool:
    """It is built only where the caller brought none: `model or WhisperModel()`."""
    own = {argument.arg for argument in parameters(function.node)}
    for node in function.nodes:
        if isinstance(node, ast.If | ast.IfExp):
            test: ast.expr = node.test
        elif isinstance(node, ast.BoolOp):
            test = node.values[0]
        else:
            continue
        asked = {part.id for part in ast.walk(test) if isinstance(part, ast.Name)}
        if asked & own - {"self"} and any(inner is call for inner in ast.walk(node)):
            return True
    return False


def _servers(ways: Ways) -> Iterator[Finding]:
    """`uvicorn.run(...)` with several workers or with reload."""
    for function in ways.project.functions:
        for call, _ in function.calls:
            full = ways.project.full_name(call.func, function) or ""
            if full not in ("uvicorn.run", "uvicorn.Config"):
                continue
            where = function.module.at(call)
            given = {keyword.arg: keyword.value for keyword in call.keywords}
            workers = ways.project.number(given.get("workers"), function)
            if workers is not None and workers > 1:
                what = f"{workers:.0f} workers, each with models of its own"
                yield Finding("several-workers", "warning", what, where)
            reload = given.get("reload")
            if isinstance(reload, ast.Constant) and reload.value is True:
                yield Finding("reload", "warning", "the server is started with reload", where)


def _queues(ways: Ways) -> Iterator[Finding]:
    guards = _guards(ways.project)
    chunk_s = chunk_seconds(ways.project)
    for function in ways.project.functions:
        for call, _ in function.calls:
            if constructor(call, function, ways.project) not in _QUEUES:
                continue
            name = last_name(target_of(function, call)) or function.name
            bound = _bound(call, function, ways.project)
            if bound == 0 and name in guards:
                bound = guards[name]
            site = f"{function.module.at(call)} {name}"
            heard = AUDIO.search(name) is not None
            if bound == 0:
                severity: Severity = "warning" if heard or function in ways.called else "note"
                yield Finding("queue-unbounded", severity, "a queue without a bound", site)
            elif bound is not None and heard:
                yield _bounded(site, bound, chunk_s)


def _bounded(site: str, bound: float, chunk_s: float | None) -> Finding:
    seconds = bound * (chunk_s or ASSUMED_CHUNK_S)
    assumed = "" if chunk_s else ", if each holds 20 ms"
    evidence = f"{site}: {bound:.0f} items = {seconds:.1f} s{assumed}"
    if seconds > LONG_QUEUE_S:
        what = f"a queue that holds {seconds:.1f} s of audio"
        return Finding("queue-long", "warning", what, evidence)
    return Finding("queue-bounded", "good", "a queue of audio with a short bound", evidence)


def _bound(call: ast.Call, scope: Function, project: Project) -> float | None:
    """Items; 0: none; None: not told by the source."""
    if last_name(call.func) == "SimpleQueue":
        return 0.0
    given = [keyword.value for keyword in call.keywords if keyword.arg == "maxsize"]
    size = (call.args[:1] or given)[:1]
    if not size:
        return None if any(keyword.arg is None for keyword in call.keywords) else 0.0
    number = project.number(size[0], scope)
    negative = number is None and isinstance(size[0], ast.UnaryOp)
    return 0.0 if negative or (number is not None and number < 0) else number


def _guards(project: Project) -> dict[str, float | None]:
    """Name of a queue → the bound that some code keeps by looking at `qsize()`."""
    guards: dict[str, float | None] = {}
    for function in project.functions:
        for node in function.nodes:
            if not isinstance(node, ast.Compare):
                continue
            sides = [node.left, *node.comparators]
            asked = [_asked_size(side) for side in sides]
            numbers = [project.number(side, function) for side in sides if not _asked_size(side)]
            guards.update({name: (numbers or [None])[0] for name in asked if name})
    return guards


def _asked_size(node: ast.expr) -> str | None:
    """`q` of `q.qsize()`."""
    if not isinstance(node, ast.Call) or last_name(node.func) != "qsize":
        return None
    return last_name(node.func.value) if isinstance(node.func, ast.Attribute) else None


def chunk_seconds(project: Project) -> float | None:
    """How long a chunk is, by the constants of the source; None: they don't say."""
    milliseconds = _constant(project, _CHUNK_MS)
    samples, rate_hz = _constant(project, _CHUNK), _constant(project, _RATE)
    seconds = samples / rate_hz if samples and rate_hz else None
    if milliseconds:
        seconds = milliseconds / 1000
    # Anything else is the length of something else.
    return seconds if seconds and 0.005 <= seconds <= 1 else None


def _constant(project: Project, pattern: re.Pattern[str]) -> float | None:
    for module in project.modules:
        for name, value in module.body.given.items():
            number = project.number(value, module.body) if pattern.search(name) else None
            if number is not None and number > 0:
                return number
    return None


def _recorder_queue(ways: Ways) -> Iterator[Finding]:
    """RealtimeSTT's own queue, whose bound hides in a setting."""
    given = list(_recorder_limits(ways.project))
    for site, limit in given:
        yield _recorder_bound(f"{site} allowed_latency_limit", limit, "warning")
    for function in ways.project.functions if not given else ():
        for call, _ in function.calls:
            if last_name(call.func) == "AudioToTextRecorder":
                site = f"{function.module.at(call)} AudioToTextRecorder (default)"
                yield _recorder_bound(site, RECORDER_LIMIT, "note")


def _recorder_limits(project: Project) -> Iterator[tuple[str, float]]:
    name = "allowed_latency_limit"
    for function in project.functions:
        for node in function.nodes:
            value: ast.expr | None = None
            if isinstance(node, ast.keyword) and node.arg == name:
                value = node.value
            elif isinstance(node, ast.Dict):
                pairs = zip(node.keys, node.values, strict=True)
                found = (v for k, v in pairs if isinstance(k, ast.Constant) and k.value == name)
                value = next(found, None)
            limit = project.number(value, function)
            if limit is not None:
                yield function.module.at(node), limit


def _recorder_bound(site: str, limit: float, severity: Severity) -> Finding:
    seconds = limit * RECORDER_CHUNK_S
    evidence = f"{site}: {limit:.0f} x 32 ms = {seconds:.1f} s"
    if seconds > LONG_QUEUE_S:
        what = f"a hidden queue that holds {seconds:.1f} s of audio"
        return Finding("queue-long", severity, what, evidence)
    return Finding("queue-bounded", "good", "the recorder's queue has a short bound", evidence)
