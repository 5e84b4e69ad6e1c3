"""Who calls whom, and what names mean, across the Python of a checkout.

Calls are followed as far as names, annotations and constructors tell; what they don't tell is not
followed, so a path that is shown is one that is written there.
"""

import ast
import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rtvc.profile.doctor.module import Class, Function, Module, dotted, last_name

LEVELS = 8
"""Calls followed from a start."""
_HOPS = 5
"""Names followed to find what one of them means."""
_NUMBERS = {"int", "float", "round", "get", "getenv"}


@dataclass(frozen=True, slots=True)
class Edge:
    """One function mentions another, so may call it or have it called."""

    caller: Function
    """Where."""
    node: ast.AST
    """The call, or the name that is handed on."""
    callee: Function
    """Whom."""


Chain = tuple[Function, ...]


class Project:
    """What names mean across the files of a checkout."""

    def __init__(self, modules: Iterable[Module]) -> None:
        self.modules = list(modules)
        self.functions = [function for module in self.modules for function in module.every]
        self._by_suffix: dict[str, Module] = {}
        self._edges: dict[Function, list[Edge]] = {}
        for module in self.modules:
            parts = module.name.split(".")
            for start in range(len(parts)):
                self._by_suffix.setdefault(".".join(parts[start:]), module)

    def imported_by(self, modules: Iterable[Module]) -> list[Module]:
        """These and what they import, and what that imports."""
        found = list(dict.fromkeys(modules))
        for module in found:
            for full in module.imports.values():
                origin = self._by_suffix.get(full) or self._by_suffix.get(full.rpartition(".")[0])
                if origin is not None and origin not in found:
                    found.append(origin)
        return found

    def full_name(self, node: ast.AST | None, scope: Function) -> str | None:
        """What a dotted name stands for, imports put in: `np.zeros` is `numpy.zeros`."""
        written = dotted(node)
        if written is None:
            return None
        first, _, rest = written.partition(".")
        first = scope.module.imports.get(first, first)
        return f"{first}.{rest}" if rest else first

    def imported_name(self, node: ast.AST | None, scope: Function) -> str | None:
        """The same for what was imported; None: it begins with a name of their own."""
        first = (dotted(node) or "").split(".")[0]
        return self.full_name(node, scope) if first in scope.module.imports else None

    def find(self, full: str, hops: int = 0) -> Function | Class | None:
        """A function or class of the checkout by its full name."""
        head, _, last = full.rpartition(".")
        module = self._by_suffix.get(head)
        if module is None:
            path, _, name = head.rpartition(".")
            around = self._by_suffix.get(path)
            owner = around.classes.get(name) if around else None
            return self.method(owner, last) if owner else None
        again = module.imports.get(last)
        if last in module.functions or last in module.classes:
            return module.functions.get(last) or module.classes.get(last)
        return self.find(again, hops + 1) if again and hops < _HOPS else None

    def method(self, owner: Class, name: str, hops: int = 0) -> Function | None:
        """A method, its bases' too."""
        if name in owner.methods:
            return owner.methods[name]
        if hops < _HOPS:
            for base in self.bases(owner):
                found = self.method(base, name, hops + 1)
                if found is not None:
                    return found
        return None

    def bases(self, owner: Class) -> list[Class]:
        found = [self.resolve(base, owner.module.body) for base in owner.node.bases]
        return [base for base in found if isinstance(base, Class) and base is not owner]

    def resolve(self, node: ast.AST, scope: Function, hops: int = 0) -> Function | Class | None:
        """The function or class of the checkout that an expression names; None: not one of them."""
        if isinstance(node, ast.Name):
            return self._named(node.id, scope)
        if not isinstance(node, ast.Attribute):
            return None
        if _is_super(node.value) and scope.owner is not None:
            found = (self.method(base, node.attr) for base in self.bases(scope.owner))
            return next((method for method in found if method is not None), None)
        owner = self.resolve(node.value, scope, hops) if isinstance(node.value, ast.Name) else None
        if not isinstance(owner, Class):
            owner = self.type_of(node.value, scope, hops + 1)
        if owner is not None:
            return self.method(owner, node.attr)
        written = dotted(node)
        if written is None or any(f.knows(written.split(".")[0]) for f in scope.around()):
            return None
        return self.find(self.full_name(node, scope) or written)

    def _named(self, name: str, scope: Function) -> Function | Class | None:
        for function in scope.around():
            if name in function.nested:
                return function.nested[name]
            if function.knows(name):
                return None
        module = scope.module
        if name in module.functions or name in module.classes:
            return module.functions.get(name) or module.classes.get(name)
        full = module.imports.get(name)
        return self.find(full) if full else None

    def type_of(self, node: ast.AST | None, scope: Function, hops: int = 0) -> Class | None:
        """The class of the checkout that an expression is of, as far as the source tells."""
        if node is None or hops > _HOPS:
            return None
        if isinstance(node, ast.Name):
            return self._type_of_name(node.id, scope, hops)
        if isinstance(node, ast.Attribute):
            owner = self.type_of(node.value, scope, hops + 1)
            return self._type_of_field(owner, node.attr, hops) if owner else None
        if isinstance(node, ast.Call):
            made = self.resolve(node.func, scope, hops + 1)
            if isinstance(made, Function) and not isinstance(made.node, ast.Module):
                return self._told(made.node.returns, made, hops)
            return made if isinstance(made, Class) else None
        return self.type_of(node.value, scope, hops + 1) if isinstance(node, ast.Await) else None

    def _type_of_name(self, name: str, scope: Function, hops: int) -> Class | None:
        if name in ("self", "cls") and scope.owner is not None:
            return scope.owner
        for function in (*scope.around(), scope.module.body):
            if name in function.told:
                return self._told(function.told[name], function, hops)
            if name in function.given:
                return self.type_of(function.given[name], function, hops + 1)
            if name in function.bare:
                return None
        head, _, last = scope.module.imports.get(name, "").rpartition(".")
        origin = self._by_suffix.get(head)
        return self._type_of_name(last, origin.body, hops + 1) if origin and hops < _HOPS else None

    def _type_of_field(self, owner: Class, name: str, hops: int) -> Class | None:
        if name in owner.told:
            return self._told(*owner.told[name], hops)
        if name in owner.given:
            value, scope = owner.given[name]
            return self.type_of(value, scope, hops + 1)
        method = owner.methods.get(name)
        if method is not None and not isinstance(method.node, ast.Module):
            return self._told(method.node.returns, method, hops)
        return None

    def _told(self, annotation: ast.expr | None, scope: Function, hops: int) -> Class | None:
        """The class that an annotation names."""
        if hops > _HOPS:
            return None
        if isinstance(annotation, ast.BinOp):
            left = self._told(annotation.left, scope, hops + 1)
            return left or self._told(annotation.right, scope, hops + 1)
        if isinstance(annotation, ast.Subscript) and last_name(annotation.value) == "Optional":
            return self._told(annotation.slice, scope, hops + 1)
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            return self._told(_parsed(annotation.value), scope, hops + 1)
        found = self.resolve(annotation, scope, hops + 1) if annotation else None
        return found if isinstance(found, Class) else None

    def edges(self, function: Function) -> list[Edge]:
        """Whom a function mentions: calls, callbacks, threads' targets, properties."""
        if function not in self._edges:
            self._edges[function] = [
                Edge(function, node, callee)
                for node in function.nodes
                for callee in self._mentioned(node, function)
                if callee is not function
            ]
        return self._edges[function]

    def _mentioned(self, node: ast.AST, scope: Function) -> list[Function]:
        if isinstance(node, ast.Call):
            made = self.resolve(node.func, scope)
            return self._built(made) if isinstance(made, Class) else []
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            found = self.resolve(node, scope)
            return [found] if isinstance(found, Function) else []
        return []

    def _built(self, made: Class) -> list[Function]:
        found = [self.method(made, name) for name in ("__init__", "__post_init__")]
        return [method for method in found if method is not None]

    def reachable(
        self, starts: Iterable[Function], follows: Callable[[Edge], bool]
    ) -> dict[Function, Chain]:
        """Function → the shortest way to it from a start."""
        chains: dict[Function, Chain] = {start: (start,) for start in starts}
        waiting = deque(chains)
        while waiting:
            function = waiting.popleft()
            chain = chains[function]
            if len(chain) > LEVELS:
                continue
            for edge in self.edges(function):
                if edge.callee not in chains and follows(edge):
                    chains[edge.callee] = (*chain, edge.callee)
                    waiting.append(edge.callee)
        return chains

    def number(self, node: ast.AST | None, scope: Function, hops: int = 0) -> float | None:
        """A number that the source fixes: a literal, a constant, a default of the environment."""
        if node is None or hops > _HOPS:
            return None
        if isinstance(node, ast.Constant):
            return _as_number(node.value)
        if isinstance(node, ast.BinOp):
            left = self.number(node.left, scope, hops + 1)
            right = self.number(node.right, scope, hops + 1)
            return _computed(node.op, left, right)
        if isinstance(node, ast.Call):
            # int(os.getenv("NAME", 50)): the last argument is the value or its default.
            plain = node.args and last_name(node.func) in _NUMBERS
            return self.number(node.args[-1], scope, hops + 1) if plain else None
        return self._constant(node.id, scope, hops) if isinstance(node, ast.Name) else None

    def _constant(self, name: str, scope: Function, hops: int) -> float | None:
        for function in (*scope.around(), scope.module.body):
            if name in function.given:
                return self.number(function.given[name], function, hops + 1)
            if function.knows(name):
                return None
        head, _, last = scope.module.imports.get(name, "").rpartition(".")
        origin = self._by_suffix.get(head)
        return self._constant(last, origin.body, hops + 1) if origin and hops < _HOPS else None


def _as_number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _computed(op: ast.operator, left: float | None, right: float | None) -> float | None:
    if left is None or right is None:
        return None
    if isinstance(op, ast.Mult):
        return left * right
    if isinstance(op, ast.Add):
        return left + right
    if isinstance(op, ast.Sub):
        return left - right
    return left / right if isinstance(op, ast.Div | ast.FloorDiv) and right else None


def _parsed(annotation: str) -> ast.expr | None:
    try:
        return ast.parse(annotation, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _is_super(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and last_name(node.func) == "super"
