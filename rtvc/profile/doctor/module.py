"""A Python file as the doctor reads it: what it defines, and what it says of names."""

import ast
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

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


def read_module(path: str, tree: ast.Module, package_name: str = "") -> Module:
    """What a file defines and imports; `package_name`: of the folder, if that is a package."""
    own = path.removesuffix(".py").removesuffix("__init__").strip("/").replace("/", ".")
    name = ".".join(filter(None, (package_name, own)))
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
