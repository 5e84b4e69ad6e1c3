"""What holds an event loop or leaves a thread behind, by the source alone."""

import ast
from collections.abc import Iterator

from rtvc.profile.doctor.findings import Finding, Severity
from rtvc.profile.doctor.module import Function, calls, last_name, own_nodes
from rtvc.profile.doctor.project import Chain, Project
from rtvc.profile.doctor.ways import Ways, assignments, target_of, way

POLL_S = 0.005
_FOLLOWED = 3
"""Calls of plain functions followed from a coroutine."""

_HTTP = ("get", "post", "put", "patch", "delete", "head", "request", "stream")
_BLOCKING = {
    "time.sleep",
    "os.system",
    "urllib.request.urlopen",
    "socket.create_connection",
    *(f"subprocess.{name}" for name in ("run", "call", "check_call", "check_output")),
    *(f"{client}.{verb}" for client in ("requests", "httpx") for verb in _HTTP),
}
_WAITS = {
    ("threading.Event", "wait"),
    ("threading.Thread", "join"),
    ("queue.Queue", "get"),
    ("queue.SimpleQueue", "get"),
}
_RESAMPLERS = {
    "scipy.signal.resample_poly",
    "scipy.signal.resample",
    "librosa.resample",
    "soxr.resample",
    "audioop.ratecv",
    "torchaudio.functional.resample",
}


def loops(ways: Ways) -> Iterator[Finding]:
    seen: set[ast.AST] = set()
    coroutines = [function for function in ways.project.functions if function.is_async]
    # Those that serve connections first: what they share with others counts as theirs.
    for function in sorted(coroutines, key=lambda one: one not in ways.called):
        if function in ways.starting and function not in ways.called:
            continue
        serving = function in ways.called
        for chain, call, name, kind in _blockers(function, ways):
            if call in seen:
                continue
            seen.add(call)
            severity: Severity = "bad" if serving and kind == "blocking-call" else "warning"
            site = f"{chain[-1].module.at(call)} {name}(...)"
            yield Finding(kind, severity, f"{name} on the event loop", way(chain, site))


def _blockers(function: Function, ways: Ways) -> Iterator[tuple[Chain, ast.Call, str, str]]:
    """Blocking calls of a coroutine and of the plain functions that it calls."""
    waiting: list[Chain] = [(function,)]
    seen = {function}
    while waiting:
        chain = waiting.pop(0)
        for call, awaited in chain[-1].calls:
            named = _blocks(call, awaited, chain[-1], ways)
            if named is not None:
                yield (chain, call, *named)
                continue
            callee = ways.project.resolve(call.func, chain[-1])
            if not isinstance(callee, Function) or callee.is_async or callee in seen:
                continue
            seen.add(callee)
            if len(chain) <= _FOLLOWED:
                waiting.append((*chain, callee))


def _blocks(call: ast.Call, awaited: bool, scope: Function, ways: Ways) -> tuple[str, str] | None:
    """Name and kind of a call that holds the loop; None: it doesn't, or one can't tell."""
    full = ways.project.imported_name(call.func, scope) or ""
    if full in _BLOCKING:
        nothing = full == "time.sleep" and ways.project.number(_first(call), scope) == 0
        return None if nothing else (full, "blocking-call")
    if full in _RESAMPLERS:
        return full, "resampling-on-loop"
    if awaited or not isinstance(call.func, ast.Attribute):
        return None
    owner = last_name(call.func.value) or ""
    if _waits(call, owner, call.func.attr, ways) or _infers(call, owner, scope, ways):
        return f"{owner}.{call.func.attr}", "blocking-call"
    return None


def _first(call: ast.Call) -> ast.expr | None:
    return call.args[0] if call.args else None


def _waits(call: ast.Call, owner: str, attribute: str, ways: Ways) -> bool:
    """Waiting on something of threads, where the name can be nothing else."""
    made = ways.made.get(owner, set())
    if len(made) != 1 or (next(iter(made)), attribute) not in _WAITS:
        return False
    arguments = [*call.args, *(k.value for k in call.keywords if k.arg in ("block", "timeout"))]
    return not any(
        isinstance(argument, ast.Constant) and not argument.value for argument in arguments
    )


def _infers(call: ast.Call, owner: str, scope: Function, ways: Ways) -> bool:
    attribute = last_name(call.func)
    if attribute == "text":
        return not call.args and "recorder" in owner.lower()
    if attribute != "transcribe" or ways.project.resolve(call.func, scope) is not None:
        return False
    # Someone's own coroutine of that name might be meant.
    return not any(
        function.is_async and function.name.split(".")[-1] == "transcribe"
        for function in ways.project.functions
    )


def polls(ways: Ways) -> Iterator[Finding]:
    for function in ways.called:
        for node in function.nodes:
            if not isinstance(node, ast.While):
                continue
            for call, _ in calls(node):
                full = ways.project.imported_name(call.func, function)
                pause = ways.project.number(_first(call), function)
                if full in ("asyncio.sleep", "time.sleep") and pause and 0 < pause <= POLL_S:
                    what = f"a loop that looks every {pause * 1000:g} ms"
                    yield Finding("polling", "note", what, function.module.at(call))


def threads(ways: Ways) -> Iterator[Finding]:
    joined = _names_of(ways.project, "join")
    for function, chain in ways.each.items():
        for call, _ in function.calls:
            full = ways.project.imported_name(call.func, function)
            if full not in ("threading.Thread", "multiprocessing.Process"):
                continue
            name = last_name(target_of(function, call))
            found = _leak(call, function, name in joined, ways)
            if found is not None:
                severity, end, evidence = found
                site = f"{function.module.at(call)} {last_name(call.func)}(...): {evidence}"
                what = f"a thread is started for each connection and {end}"
                yield Finding("thread-leak", severity, what, way(chain, site))


def _leak(
    call: ast.Call, scope: Function, joined: bool, ways: Ways
) -> tuple[Severity, str, str] | None:
    """How sure it is, what is wrong with the thread's end, and where that shows."""
    target = next((k.value for k in call.keywords if k.arg == "target"), None)
    run = ways.project.resolve(target, scope) if target is not None else None
    if not isinstance(run, Function):
        return None if joined else ("warning", "nothing shows that it ends", "nobody joins it")
    for node in run.nodes:
        if not isinstance(node, ast.While):
            continue
        at = run.module.at(node)
        if isinstance(node.test, ast.Constant) and node.test.value and not _has_way_out(node):
            return "bad", "does not end with it", f"{at} {run.name} loops for ever"
        stop = _stop(node.test)
        if stop is None or _has_way_out(node) or not _is_flag(node.test, stop, ways):
            continue
        if not _is_stopped(stop, ways):
            evidence = f"{at} {run.name} ends on {stop}, which no connection's end sets"
            return "warning", "does not end with it", evidence
    return None


def _has_way_out(loop: ast.While) -> bool:
    return any(isinstance(node, ast.Break | ast.Return | ast.Raise) for node in own_nodes(loop))


def _stop(test: ast.expr) -> str | None:
    """`stop` of `while not self.stop.is_set()`, `running` of `while self.running`."""
    if isinstance(test, ast.UnaryOp):
        test = test.operand
    if isinstance(test, ast.Call):
        asked = test.func
        if not isinstance(asked, ast.Attribute) or asked.attr not in ("is_set", "wait"):
            return None
        return last_name(asked.value)
    return last_name(test)


def _is_flag(test: ast.expr, name: str, ways: Ways) -> bool:
    """An event, or something that is True or False: not a queue that runs empty."""
    asked = test.operand if isinstance(test, ast.UnaryOp) else test
    if isinstance(asked, ast.Call):
        return True
    return any(_switches(function, name) for function in ways.project.functions)


def _is_stopped(stop: str, ways: Ways) -> bool:
    """Something that runs for a connection, or is called by what does, sets it."""
    return any(
        function in ways.called or function.name.split(".")[-1] in ways.called_names
        for function in ways.project.functions
        if not function.name.endswith("__init__") and _sets(function, stop)
    )


def _sets(function: Function, stop: str) -> bool:
    return _switches(function, stop) or any(
        call.func.attr == "set" and last_name(call.func.value) == stop
        for call, _ in function.calls
        if isinstance(call.func, ast.Attribute)
    )


def _switches(function: Function, flag: str) -> bool:
    """It assigns True or False to it."""
    return any(
        last_name(target) == flag
        and isinstance(value, ast.Constant)
        and isinstance(value.value, bool)
        for target, value in assignments(function)
    )


def _names_of(project: Project, method: str) -> set[str | None]:
    """Names on which a method is called somewhere."""
    return {
        last_name(call.func.value)
        for function in project.functions
        for call, _ in function.calls
        if isinstance(call.func, ast.Attribute) and call.func.attr == method
    } - {None}
