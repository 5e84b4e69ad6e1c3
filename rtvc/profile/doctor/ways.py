"""What of a checkout runs when: for each connection, at start-up, or whenever it is imported.

What runs for each connection is everything that the handler of a WebSocket mentions, a few calls
deep; what runs at start-up is what modules and lifespans mention.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cached_property

from rtvc.profile.doctor.module import (
    Class,
    Function,
    assigned,
    dotted,
    last_name,
    parameters,
)
from rtvc.profile.doctor.project import Chain, Edge, Project

AUDIO = re.compile(r"audio|pcm|chunk|frame|wav|mic|sample|speech", re.IGNORECASE)
"""Names of what holds audio."""

_SOCKETS = {"WebSocket", "WebSocketServerProtocol", "ServerConnection", "WebSocketCommonProtocol"}
_ENDPOINTS = {
    "WebSocketEndpoint",
    "WebSocketHandler",
    "AsyncWebsocketConsumer",
    "AsyncJsonWebsocketConsumer",
    "WebsocketConsumer",
}
_ROUTES = {"websocket", "websocket_route"}
_ADDERS = {
    "add_websocket_route",
    "add_api_websocket_route",
    "WebSocketRoute",
    "APIWebSocketRoute",
}
_STARTERS = {"lifespan", "startup", "on_startup"}
_CACHES = {"cache", "lru_cache", "cached", "cache_resource", "singleton"}


class Ways:
    """Which functions run when."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.handlers = list(_handlers(project))
        self.each = project.reachable(self.handlers, lambda edge: not self._once(edge))
        self.called = project.reachable(self.handlers, lambda edge: True)
        starters = [function for function in project.functions if _starts(function)]
        self.starting = project.reachable(starters, lambda edge: True)
        # What belongs to another program, such as a script beside it, says nothing of this one.
        bodies = [module.body for module in project.imported_by(f.module for f in self.handlers)]
        self.start = project.reachable([*bodies, *starters], lambda edge: True)

    def _once(self, edge: Edge) -> bool:
        return is_cached(edge.callee) or kept_once(edge.caller, edge.node, self.project)

    @cached_property
    def called_names(self) -> set[str]:
        """Every name that is called on behalf of a connection."""
        return {
            name
            for function in self.called
            for call, _ in function.calls
            if (name := last_name(call.func))
        }

    @cached_property
    def made(self) -> dict[str, set[str]]:
        """Name of a variable or field → full names of what is assigned to it by calls."""
        made: dict[str, set[str]] = {}
        for function in self.project.functions:
            for name, call in _assigned_calls(function):
                made.setdefault(name, set()).add(constructor(call, function, self.project) or "")
        return made


def way(chain: Chain, site: str) -> str:
    """From the handler to the place."""
    return " → ".join([*(function.where for function in chain), site])


def _handlers(project: Project) -> Iterator[Function]:
    seen: set[Function] = set()
    for function in project.functions:
        for found in [*([function] if _serves(function) else []), *_handed(function, project)]:
            if found not in seen:
                seen.add(found)
                yield found


def _serves(function: Function) -> bool:
    node = function.node
    if isinstance(node, ast.Module):
        return False
    if any(_is_route(decorator) for decorator in node.decorator_list):
        return True
    if any(_is_socket(argument) for argument in parameters(node)):
        return True
    if function.owner is not None and function.parent is None:
        bases = {last_name(base) for base in function.owner.node.bases}
        if bases & _ENDPOINTS:
            return True
    return any(last_name(call.func) == "WebSocketResponse" for call, _ in function.calls)


def _is_route(decorator: ast.expr) -> bool:
    named = decorator.func if isinstance(decorator, ast.Call) else decorator
    if last_name(named) in _ROUTES:
        return True
    written = dotted(named) or ""
    return written.endswith(".route") and "sock" in written.split(".")[0].lower()


def _is_socket(argument: ast.arg) -> bool:
    annotation = argument.annotation
    if annotation is None:
        return argument.arg == "websocket"
    if isinstance(annotation, ast.Constant):
        return str(annotation.value).split(".")[-1] in _SOCKETS
    return last_name(annotation) in _SOCKETS


def _handed(function: Function, project: Project) -> Iterator[Function]:
    """Handlers that are handed to `websockets.serve` or to a router."""
    for call, _ in function.calls:
        full = project.full_name(call.func, function) or ""
        if last_name(call.func) in _ADDERS:
            yield from _named(call.args[1:2], function, project)
        elif full.startswith("websockets.") and full.endswith("serve"):
            yield from _named(call.args[:1], function, project)


def _named(nodes: Iterable[ast.expr], scope: Function, project: Project) -> Iterator[Function]:
    for node in nodes:
        if isinstance(node, ast.Call):
            yield from _named(node.args[:1], scope, project)
            continue
        inner = node
        if isinstance(node, ast.Lambda) and isinstance(node.body, ast.Call):
            inner = node.body.func
        found = project.resolve(inner, scope)
        if isinstance(found, Class):
            yield from found.methods.values()
        elif found is not None:
            yield found


def _starts(function: Function) -> bool:
    node = function.node
    if isinstance(node, ast.Module):
        return False
    if node.name in _STARTERS:
        return True
    return any(
        isinstance(decorator, ast.Call)
        and last_name(decorator.func) == "on_event"
        and any(isinstance(a, ast.Constant) and a.value == "startup" for a in decorator.args)
        for decorator in node.decorator_list
    )


def constructor(call: ast.Call, scope: Function, project: Project) -> str | None:
    """The full name of what is called; `Queue[int]()` is a `Queue`."""
    function = call.func.value if isinstance(call.func, ast.Subscript) else call.func
    return project.imported_name(function, scope)


def assignments(function: Function) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Target and value of each."""
    for node in function.nodes:
        yield from assigned(node)


def _assigned_calls(function: Function) -> Iterator[tuple[str, ast.Call]]:
    for target, value in assignments(function):
        name = last_name(target)
        if name and isinstance(value, ast.Call):
            yield name, value


def target_of(function: Function, node: ast.AST) -> ast.expr | None:
    """What a value, or what contains it, is assigned to."""
    for target, value in assignments(function):
        if any(inner is node for inner in ast.walk(value)):
            return target
    return None


def kept_once(function: Function, node: ast.AST, project: Project) -> bool:
    """It is made only if it is not there yet, and kept where all connections see it."""
    target = target_of(function, node)
    if target is None or not _is_shared(target, function, project):
        return False
    kept = target.value if isinstance(target, ast.Subscript) else target
    name = last_name(kept)
    return any(
        last_name(part) == name
        for check in function.nodes
        if isinstance(check, ast.If | ast.IfExp)
        for part in ast.walk(check.test)
    )


def _is_shared(target: ast.expr, function: Function, project: Project) -> bool:
    if isinstance(target, ast.Subscript):
        target = target.value
        if isinstance(target, ast.Name):
            return not function.knows(target.id)
    if isinstance(target, ast.Name):
        outer = (node for node in function.nodes if isinstance(node, ast.Global))
        return any(target.id in node.names for node in outer)
    first = (dotted(target) or "self").split(".")[0]
    if first == "cls" or isinstance(project.resolve(ast.Name(first), function), Class):
        return True
    return first != "self" and not any(scope.knows(first) for scope in function.around())


def is_cached(function: Function) -> bool:
    node = function.node
    if isinstance(node, ast.Module):
        return False
    named = (d.func if isinstance(d, ast.Call) else d for d in node.decorator_list)
    return any(last_name(decorator) in _CACHES for decorator in named)
