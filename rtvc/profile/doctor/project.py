"""Someone's checkout as the doctor reads it: its files, and who calls whom in its Python.

Nothing is imported or run. Calls are followed as far as names, annotations and constructors
tell; what they don't tell is not followed, so a path that is shown is one that is written there.
"""

import ast
import math
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from rtvc.errors import why
from rtvc.profile.doctor.findings import Finding

MAX_FILE_BYTES = 1_000_000
MAX_FILES = 5000
LEVELS = 8
"""Calls followed from a start."""
_HOPS = 5
"""Names followed to find what one of them means."""

_SKIPPED = {"node_modules", "__pycache__", "venv", "env", "build", "dist", "site-packages"}
_TESTS = {"test", "tests", "testing"}
_DEPLOYED = (
    "*Dockerfile*",
    "Containerfile*",
    "*compose*.y*ml",
    "*requirements*.txt",
    "*constraints*.txt",
    "pyproject.toml",
    "Procfile",
    "*.sh",
)
_PAGES = ("*.js", "*.mjs", "*.ts", "*.html")
_WRAPPERS = {
    "wait_for",
    "create_task",
    "gather",
    "ensure_future",
    "shield",
    "wait",
    "as_completed",
    "start_soon",
    "run_coroutine_threadsafe",
}
_NUMBERS = {"int", "float", "round", "get", "getenv"}
_LOCKS = {"uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock"}

Definition = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(eq=False, slots=True)
class Function:
    """A function, or what a module runs when it is imported."""

    name: str
    """With its class, such as `Ear.feed`."""
    node: Definition | ast.Module
    """Its source."""
    module: "Module"
    """Where it stands."""
    owner: "Class | None" = None
    """Whose `self` it sees; None: nobody's."""
    parent: "Function | None" = None
    """The function around it; None: none."""
    nested: dict[str, "Function"] = field(default_factory=dict)
    """Functions defined in it."""
    bare: set[str] = field(default_factory=set)
    """Parameters without an annotation: they hide what else has their name."""
    nodes: list[ast.AST] = field(default_factory=list)
    """What it holds, without the functions and classes defined in it; in source order."""
    calls: list[tuple[ast.Call, bool]] = field(default_factory=list)
    """Calls that it makes itself; whether a coroutine is awaited or handed on by each."""
    told: dict[str, ast.expr] = field(default_factory=dict)
    """Name → annotation of a parameter or a local."""
    given: dict[str, ast.expr] = field(default_factory=dict)
    """Name → what is first assigned to it."""

    @property
    def is_async(self) -> bool:
        return isinstance(self.node, ast.AsyncFunctionDef)

    @property
    def where(self) -> str:
        line = 1 if isinstance(self.node, ast.Module) else self.node.lineno
        return f"{self.module.path}:{line} {self.name}"

    def knows(self, name: str) -> bool:
        """It has a parameter or local of that name."""
        return name in self.bare or name in self.told or name in self.given

    def around(self) -> Iterator["Function"]:
        """It and those around it, from within."""
        scope: Function | None = self
        while scope is not None:
            yield scope
            scope = scope.parent


@dataclass(eq=False, slots=True)
class Class:
    """A class and what its fields are."""

    name: str
    """As written."""
    node: ast.ClassDef
    """Its source."""
    module: "Module"
    """Where it stands."""
    methods: dict[str, Function] = field(default_factory=dict)
    """Name → method."""
    told: dict[str, tuple[ast.expr, Function]] = field(default_factory=dict)
    """Field → its annotation, and where that stands."""
    given: dict[str, tuple[ast.expr, Function]] = field(default_factory=dict)
    """Field → what is first assigned to it, and where."""


@dataclass(eq=False, slots=True)
class Module:
    """A Python file."""

    path: str
    """As shown to a person."""
    name: str
    """Dotted, from the root of the checkout."""
    tree: ast.Module
    """Its source."""
    body: Function = field(init=False)
    """What it runs when it is imported."""
    imports: dict[str, str] = field(default_factory=dict)
    """Name → what it stands for, in full."""
    functions: dict[str, Function] = field(default_factory=dict)
    """Those at the top."""
    classes: dict[str, Class] = field(default_factory=dict)
    """Those at the top."""
    every: list[Function] = field(default_factory=list)
    """All functions, nested ones and methods too; its body first."""

    def __post_init__(self) -> None:
        self.body = Function("(module)", self.tree, self)
        self.every.append(self.body)

    def at(self, node: ast.AST) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 1)}"


@dataclass(slots=True)
class Checkout:
    """Files of a folder, read once."""

    modules: list[Module] = field(default_factory=list)
    """Its Python, without tests."""
    texts: dict[str, str] = field(default_factory=dict)
    """Path → text of what deploys it."""
    pages: dict[str, str] = field(default_factory=dict)
    """Path → text of scripts and pages for browsers."""
    locked: bool = False
    """A lock file pins all versions."""
    unread: list[Finding] = field(default_factory=list)
    """What could not be read."""

    def texts_like(self, *patterns: str) -> dict[str, str]:
        return {
            path: text
            for path, text in self.texts.items()
            if any(fnmatch(Path(path).name, pattern) for pattern in patterns)
        }


def read_checkout(root: Path) -> Checkout:
    """Read a folder, or one file; what can't be read becomes a note."""
    checkout = Checkout()
    base = root if root.is_dir() else root.parent
    for number, path in enumerate(_files(root) if root.is_dir() else [root]):
        if number >= MAX_FILES:
            found = f"more than {MAX_FILES} files"
            checkout.unread.append(_unread("only the first files were read", found))
            break
        _read(path, path.relative_to(base).as_posix(), checkout)
    return checkout


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if _is_read(Path(folder, name)))
        for name in sorted(names):
            if _is_wanted(name) and Path(folder, name).is_file():
                yield Path(folder, name)


def _is_read(folder: Path) -> bool:
    name = folder.name
    if name.startswith(".") or name in _SKIPPED or name.lower() in _TESTS:
        return False
    return not (folder / "pyvenv.cfg").exists()


def _is_wanted(name: str) -> bool:
    if name.endswith(".py"):
        return not (name.startswith("test_") or name.endswith("_test.py") or name == "conftest.py")
    return name in _LOCKS or any(fnmatch(name, pattern) for pattern in _DEPLOYED + _PAGES)


def _read(path: Path, shown: str, checkout: Checkout) -> None:
    if path.name in _LOCKS:
        checkout.locked = True
        return
    try:
        size = path.stat().st_size
        source = b"" if size > MAX_FILE_BYTES else path.read_bytes()
    except OSError as error:
        checkout.unread.append(_unread("a file could not be read", f"{shown}: {why(error)}"))
        return
    if size > MAX_FILE_BYTES:
        if not _is_page(path):
            found = f"{shown}: {size / 1e6:.1f} MB, more than {MAX_FILE_BYTES / 1e6:.0f} MB"
            checkout.unread.append(_unread("a file is too large", found))
    elif path.suffix == ".py":
        _read_python(source, shown, checkout)
    else:
        kept = checkout.pages if _is_page(path) else checkout.texts
        kept[shown] = source.decode("utf-8", "replace")


def _is_page(path: Path) -> bool:
    return any(fnmatch(path.name, pattern) for pattern in _PAGES)


def _read_python(source: bytes, shown: str, checkout: Checkout) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        said = error.msg if isinstance(error, SyntaxError) else why(error)
        checkout.unread.append(_unread("a file is no valid Python", f"{shown}{line}: {said}"))
        return
    checkout.modules.append(read_module(shown, tree))


def _unread(what: str, evidence: str) -> Finding:
    return Finding("not-read", "note", what, evidence)


def read_module(path: str, tree: ast.Module) -> Module:
    """What a file defines and imports."""
    name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    module = Module(path, name, tree)
    _define(module)
    package = name.split(".") if path.endswith("__init__.py") else name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            module.imports.update(_imported(node))
        elif isinstance(node, ast.ImportFrom):
            module.imports.update(_imported_from(node, package))
    for function in module.every:
        _learn(function)
    return module


def _imported(node: ast.Import) -> dict[str, str]:
    # `import a.b` binds a, `import a.b as c` binds c to a.b.
    plain = {alias.name.split(".")[0] for alias in node.names if not alias.asname}
    renamed = {alias.asname: alias.name for alias in node.names if alias.asname}
    return {**{name: name for name in plain}, **renamed}


def _imported_from(node: ast.ImportFrom, package: list[str]) -> dict[str, str]:
    near = package[: len(package) - node.level + 1] if node.level else []
    origin = ".".join([*near, *([node.module] if node.module else [])])
    return {alias.asname or alias.name: f"{origin}.{alias.name}" for alias in node.names}


def _define(module: Module) -> None:
    """Find functions and classes; without recursion, for sources may be nested deep."""
    waiting: list[tuple[ast.AST, Class | None, Function | None]] = [(module.tree, None, None)]
    while waiting:
        node, within, parent = waiting.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Definition):
                waiting.append((child, None, _defined(child, module, within, parent)))
            elif isinstance(child, ast.ClassDef):
                waiting.append((child, _class(child, module, parent), parent))
            else:
                waiting.append((child, within, parent))


def _class(node: ast.ClassDef, module: Module, parent: Function | None) -> Class:
    made = Class(node.name, node, module)
    if parent is None:
        module.classes.setdefault(node.name, made)
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            made.told[statement.target.id] = (statement.annotation, module.body)
    return made


def _defined(
    node: Definition, module: Module, within: Class | None, parent: Function | None
) -> Function:
    name = f"{within.name}.{node.name}" if within else node.name
    owner = within or (parent.owner if parent else None)
    function = Function(name, node, module, owner, parent)
    module.every.append(function)
    if within is not None:
        within.methods.setdefault(node.name, function)
    elif parent is not None:
        parent.nested.setdefault(node.name, function)
    else:
        module.functions.setdefault(node.name, function)
    return function


def parameters(node: Definition | ast.Module) -> list[ast.arg]:
    if isinstance(node, ast.Module):
        return []
    arguments = node.args
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]


def _learn(function: Function) -> None:
    """What the names in a function, and the fields of its `self`, are."""
    function.nodes = list(own_nodes(function.node))
    function.calls = list(calls(function.node))
    for argument in parameters(function.node):
        if argument.annotation is not None:
            function.told[argument.arg] = argument.annotation
        else:
            function.bare.add(argument.arg)
    for node in function.nodes:
        if isinstance(node, ast.AnnAssign):
            _annotate(function, node)
        for target, value in assigned(node):
            _assign(function, target, value)


def assigned(node: ast.AST) -> list[tuple[ast.expr, ast.expr]]:
    """Targets and values of an assignment, or of `with value as target`."""
    if isinstance(node, ast.Assign):
        return [(target, node.value) for target in node.targets]
    if isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
        return [(node.target, node.value)]
    if isinstance(node, ast.withitem) and node.optional_vars is not None:
        return [(node.optional_vars, node.context_expr)]
    return []


def _assign(function: Function, target: ast.expr, value: ast.expr) -> None:
    if isinstance(value, ast.Constant) and value.value is None:
        return
    if isinstance(target, ast.Name):
        function.given.setdefault(target.id, value)
    elif (attribute := own_attribute(target)) and function.owner is not None:
        function.owner.given.setdefault(attribute, (value, function))


def _annotate(function: Function, node: ast.AnnAssign) -> None:
    if isinstance(node.target, ast.Name):
        function.told.setdefault(node.target.id, node.annotation)
    elif (attribute := own_attribute(node.target)) and function.owner is not None:
        function.owner.told.setdefault(attribute, (node.annotation, function))


def own_attribute(node: ast.AST) -> str | None:
    """`x` of `self.x`."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.attr if node.value.id in ("self", "cls") else None
    return None


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """What a function holds, without the functions and classes defined in it; in source order."""
    waiting = deque([node])
    while waiting:
        current = waiting.popleft()
        if current is not node:
            yield current
        if current is node or not isinstance(current, Definition | ast.ClassDef):
            waiting.extendleft(reversed(list(_within(current))))


def _within(node: ast.AST) -> Iterator[ast.AST]:
    # Decorators run elsewhere; defaults are kept, for there stands `Depends(...)`.
    decorators = getattr(node, "decorator_list", ())
    return (child for child in ast.iter_child_nodes(node) if child not in decorators)


def calls(root: ast.AST) -> Iterator[tuple[ast.Call, bool]]:
    """Calls that a function makes itself, and whether a coroutine is awaited or handed on by it."""
    waiting: list[tuple[ast.AST, bool]] = [(root, False)]
    while waiting:
        node, awaited = waiting.pop()
        if node is not root and isinstance(node, Definition | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.Call):
            yield node, awaited
        inner = [(child, _awaits(node, child, awaited)) for child in ast.iter_child_nodes(node)]
        waiting += reversed(inner)


def _awaits(node: ast.AST, child: ast.AST, awaited: bool) -> bool:
    if isinstance(node, ast.Await):
        return True
    if isinstance(node, ast.AsyncFor | ast.comprehension):
        return child is node.iter and (isinstance(node, ast.AsyncFor) or bool(node.is_async))
    if isinstance(node, ast.AsyncWith):
        return isinstance(child, ast.withitem)
    if isinstance(node, ast.Call):
        return last_name(node.func) in _WRAPPERS
    return awaited and not isinstance(node, ast.stmt)


def dotted(node: ast.AST | None) -> str | None:
    """`a.b.c` as written; None: it is something else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([node.id, *reversed(parts)])


def last_name(node: ast.AST | None) -> str | None:
    """`c` of `a.b.c`, of `f().c` and of `c`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


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
