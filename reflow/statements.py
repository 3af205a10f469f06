"""A module of the user's as its top-level statements: what each binds, uses, and changes when it is executed.

The text of a statement is its parsed form, so comments and formatting do not count; docstrings and what only tells
the scheduler or wires the tasks (``@wf.job(mem=...)``, ``Result(step=...)``) are left out too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from .scopes import Imported, Uses, names_of_import, stored_names, uses_of, words

#: Calls whose value nobody changes later, by the last part of their name.
_HARMLESS_CALLS = words(
    "getLogger compile Path PurePath frozenset TypeVar ParamSpec NewType namedtuple NamedTuple Enum Decimal Fraction "
    "timedelta datetime date time int float str bool bytes complex tuple range slice field "
    "Workflow Flow Param Result"
)
#: Decorators that keep no state that others see.
_HARMLESS_DECORATORS = words(
    "dataclass wraps lru_cache cache cached_property property staticmethod classmethod contextmanager abstractmethod "
    "total_ordering unique njit jit vectorize guvectorize overload final override setter getter"
)
_HARMLESS_BASES = words("object Enum IntEnum StrEnum Flag IntFlag NamedTuple TypedDict Protocol Generic")

_ADDING_METHODS = words("append add extend update insert appendleft")

_IMMUTABLE_NODES = (
    *(ast.Constant, ast.Tuple, ast.UnaryOp, ast.BinOp, ast.JoinedStr, ast.FormattedValue),
    *(ast.operator, ast.unaryop, ast.expr_context),
)

_SCOPES = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef


class Effect(str, Enum):
    """What executing a statement may do to what others bind."""

    NONE = "none"
    #: It calls something whose own code might change what it reaches: ``A = make()``, ``@register``.
    CALLS = "calls"
    #: It stands there for what it changes: ``CONFIG["a"] = 1``, ``register(f)``.
    ACTS = "acts"

    __str__ = str.__str__


class Statement:
    """One top-level statement."""

    def __init__(self, node: ast.stmt, lines: tuple[int, int], workflows: frozenset[str]) -> None:
        self._node = node
        self._workflows = workflows
        #: First and last line, decorators included.
        self.lines = lines
        #: The names that it binds, or that functions inside it declare ``global``.
        self.names = frozenset(stored_names([node])) | {
            name for each in ast.walk(node) if isinstance(each, ast.Global) for name in each.names
        }

    @property
    def is_import(self) -> bool:
        """Whether it is an import and nothing else."""
        return isinstance(self._node, ast.Import | ast.ImportFrom)

    @cached_property
    def loads(self) -> tuple[Imported, ...]:
        """Every import in it at the module's own level, in full: what executing it loads."""
        found: list[Imported] = []
        for each in _at_top_level(self._node):
            if isinstance(each, ast.Import):
                found += [Imported(0, alias.name) for alias in each.names]
            elif isinstance(each, ast.ImportFrom):
                found += names_of_import(each).values()
        return tuple(found)

    @property
    def is_code(self) -> bool:
        """Whether it defines a function or a class."""
        return isinstance(self._node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)

    @cached_property
    def text(self) -> str:
        """Its normalised source."""
        return ast.unparse(self._node)

    @cached_property
    def uses(self) -> Uses:
        """What it uses, now or when something in it is called."""
        return uses_of([self._node])

    @cached_property
    def executed(self) -> Uses:
        """What it uses when it is executed."""
        return uses_of([self._node], bodies=False)

    @cached_property
    def passed(self) -> Uses:
        """What it hands to the calls that it makes when it is executed."""
        calls = [each for each in _executed(self._node) if isinstance(each, ast.Call)]
        return uses_of((each for call in calls for each in (*call.args, *call.keywords)), bodies=False)

    @cached_property
    def effect(self) -> Effect:
        """What executing it may do to what others bind."""
        return max((self._effect_of(node) for node in _executed(self._node)), key=list(Effect).index)

    @cached_property
    def literal(self) -> str | None:
        """The literal that it binds to its one name, else None."""
        match self._node:
            case (
                ast.Assign(targets=[ast.Name()], value=value)
                | ast.AnnAssign(target=ast.Name(), value=ast.expr() as value)
            ):
                text = ast.unparse(value)
                try:
                    ast.literal_eval(text)
                except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                    return None
                return text
        return None

    @cached_property
    def mutable(self) -> bool:
        """Whether what it binds may be changed in place, so that an effect elsewhere matters to its users."""
        match self._node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                return any(isinstance(each, ast.Global) for each in ast.walk(self._node)) or any(
                    _last_name(each) not in _HARMLESS_DECORATORS for each in self._node.decorator_list
                )
            case ast.ClassDef():
                return _has_class_state(self._node)
            case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
                return not _is_immutable(value)
        return True

    def _is_workflows(self, value: ast.expr) -> bool:
        """Return whether a call is one of a workflow's methods: what it changes is no task's code."""
        return _root_name(value) in self._workflows

    def _effect_of(self, node: ast.AST) -> Effect:
        match node:
            case ast.Expr(value=value):
                calls = any(isinstance(each, ast.Call | ast.Await) for each in ast.walk(value))
                return Effect.ACTS if calls and not self._is_workflows(value) else Effect.NONE
            case ast.Assign(targets=targets) | ast.Delete(targets=targets):
                changes = any(isinstance(each, ast.Attribute | ast.Subscript) for each in _parts(targets))
                return Effect.ACTS if changes or isinstance(node, ast.Delete) else Effect.NONE
            case ast.AugAssign() | ast.Raise():
                return Effect.ACTS
            case ast.AnnAssign(target=ast.Attribute() | ast.Subscript()):
                return Effect.ACTS
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                harmless = all(_last_name(each) in _HARMLESS_DECORATORS for each in node.decorator_list)
                return Effect.NONE if harmless else Effect.CALLS
            case ast.ClassDef():
                plain = all(_last_name(each) in _HARMLESS_BASES for each in node.bases) and not node.keywords
                harmless = all(_last_name(each) in _HARMLESS_DECORATORS for each in node.decorator_list)
                return Effect.NONE if plain and harmless else Effect.CALLS
            case ast.Call():
                return Effect.NONE if _last_name(node.func) in _HARMLESS_CALLS else Effect.CALLS
        return Effect.NONE


@dataclass(frozen=True)
class Module:
    """One source file, parsed."""

    #: As it is imported: ``lab.tools``; the name of the file for a script.
    name: str
    is_package: bool
    statements: tuple[Statement, ...]
    #: What the names that its imports bind are; a name may be bound by several.
    imports: dict[str, list[Imported]]
    #: What it imports all names of.
    stars: tuple[Imported, ...]
    #: A hash for what is not Python source, such as a compiled extension.
    opaque: str = ""

    @cached_property
    def binders(self) -> dict[str, list[int]]:
        """The places in `statements` that bind each name, plain imports left out."""
        found: dict[str, list[int]] = {}
        for place, statement in enumerate(self.statements):
            if not statement.is_import:
                for name in statement.names:
                    found.setdefault(name, []).append(place)
        return found

    def bindings(self, name: str) -> int:
        """Return how many statements bind a name."""
        return sum(name in statement.names for statement in self.statements)

    def is_settled(self, statement: Statement) -> bool:
        """Return whether a statement binds the same wherever it stands: it reads nothing that changes."""
        if statement.effect is not Effect.NONE:
            return False
        return all(
            self.bindings(path[0]) <= 1 and all(self.statements[each].is_code for each in self.binders.get(path[0], ()))
            for path in statement.executed.paths - {(name,) for name in statement.names}
        )

    def literal(self, name: str) -> str | None:
        """Return the literal that the name is bound to, once and for all; None when its value is computed."""
        places = self.binders.get(name, [])
        return self.statements[places[0]].literal if len(places) == 1 else None

    def statement_at(self, line: int) -> int | None:
        """Return the place in `statements` of the one that has this line."""
        for place, statement in enumerate(self.statements):
            if statement.lines[0] <= line <= statement.lines[1]:
                return place
        return None

    def absolute(self, imported: Imported) -> str:
        """Return the full name of the module that one of its imports names."""
        if not imported.level:
            return imported.module
        package = self.name.split(".") if self.is_package else self.name.split(".")[:-1]
        base = package[: len(package) - (imported.level - 1)]
        return ".".join([*base, *filter(None, [imported.module])])


def parse_module(
    name: str,
    source: str | bytes,
    *,
    is_package: bool = False,
    docstrings: bool = False,
    workflows: frozenset[str] = frozenset(),
) -> Module:
    """Parse a module; raises `SyntaxError` or `ValueError`.

    `docstrings` keeps those, for code that reads them. `workflows` are names known to hold a workflow or flow, besides
    those that the source shows to do so.
    """
    tree = ast.parse(source)
    nodes = [each for node in tree.body for each in _without_main_guard(node)]
    spans = [(_first_line(node), node.end_lineno or node.lineno) for node in nodes]
    top = [each for node in nodes for each in _at_top_level(node)]
    imports: dict[str, list[Imported]] = {}
    for each in top:
        if isinstance(each, ast.Import | ast.ImportFrom):
            for bound, imported in names_of_import(each).items():
                imports.setdefault(bound, []).append(imported)
    stars = tuple(imports.pop("*", ()))
    workflows |= frozenset(_workflow_names(tree))
    marks = {
        bound
        for bound, sources in imports.items()
        if any(each.module.partition(".")[0] == "reflow" and each.name in ("Param", "Result") for each in sources)
    }
    normaliser = _Normaliser(workflows, marks, docstrings)
    statements = tuple(
        Statement(normaliser.normalised(node), span, workflows) for node, span in zip(nodes, spans, strict=True)
    )
    return Module(name, is_package, statements, imports, stars)


def only_changes(source: str, name: str) -> bool:
    """Return whether code adds to what has this name (``calls.append(x)``) and never reads it."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return False
    added_to = {
        id(node.value.func.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Attribute)
        and node.value.func.attr in _ADDING_METHODS
    }
    return not any(
        isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load) and id(node) not in added_to
        for node in ast.walk(tree)
    )


class _Normaliser(ast.NodeTransformer):
    """Takes out of the parsed source what cannot change a result."""

    def __init__(self, workflows: frozenset[str], marks: set[str], docstrings: bool) -> None:
        self._workflows = workflows
        self._marks = marks
        self._docstrings = docstrings

    def normalised(self, node: ast.stmt) -> ast.stmt:
        """Return the statement without them."""
        visited = self.visit(node)
        assert isinstance(visited, ast.stmt), "only decorators, docstrings and marks are taken out"
        return visited

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._without_job(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._without_job(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = self._without_docstring(node.body)
        return self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        match node:
            case ast.Subscript(
                value=ast.Name(id="Annotated") | ast.Attribute(attr="Annotated"), slice=ast.Tuple(elts=elements)
            ):
                # Which results and parameters reach the function is in the identity by their values.
                elements[:] = [each for each in elements if not self._is_mark(each)]
        return node

    def _without_job(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.decorator_list = [each for each in node.decorator_list if not self._is_job(each)]
        node.body = self._without_docstring(node.body)
        return self.generic_visit(node)

    def _without_docstring(self, body: list[ast.stmt]) -> list[ast.stmt]:
        match body:
            case [ast.Expr(value=ast.Constant(value=str())), *rest] if not self._docstrings:
                return rest or [ast.Pass()]
        return body

    def _is_job(self, node: ast.expr) -> bool:
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name() | ast.Attribute() as base, attr="job" | "array_job")):
                return _last_name(base) in self._workflows
        return False

    def _is_mark(self, node: ast.expr) -> bool:
        match node:
            case ast.Call(func=ast.Name(id=name)):
                return name in self._marks
            case ast.Call(func=ast.Attribute(value=ast.Name(id="reflow"), attr="Param" | "Result")):
                return True
        return False


def _workflow_names(tree: ast.Module) -> Iterator[str]:
    """Yield the names that hold a workflow or flow anywhere in the module, as far as it shows."""
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=called)):
                if _last_name(called) in ("Workflow", "Flow"):
                    yield name
            case ast.arg(arg=name, annotation=ast.expr() as annotation):
                if _last_name(annotation) in ("Workflow", "Flow"):
                    yield name


def _without_main_guard(node: ast.stmt) -> Sequence[ast.stmt]:
    """Return the statement, or of an ``if __name__ == "__main__"`` what a worker executes: its else."""
    match node:
        case ast.If(test=ast.Compare(left=ast.Name(id="__name__"), ops=[ast.Eq()], comparators=[other])):
            if isinstance(other, ast.Constant) and other.value == "__main__":
                return node.orelse
    return [node]


def _first_line(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(each.lineno for each in decorators)])


def _at_top_level(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the node and what is inside it at the module's own level."""
    yield node
    if not isinstance(node, _SCOPES):
        for child in ast.iter_child_nodes(node):
            yield from _at_top_level(child)


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the node and all inside it that is executed with it: bodies of classes, but not of functions."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            body = node.body if isinstance(node.body, list) else [node.body]
            if child in body:
                continue
        yield from _executed(child)


def _parts(targets: Sequence[ast.expr]) -> Iterator[ast.expr]:
    for target in targets:
        if isinstance(target, ast.Tuple | ast.List):
            yield from _parts(target.elts)
        else:
            yield target.value if isinstance(target, ast.Starred) else target


def _last_name(node: ast.expr) -> str:
    """Return ``c`` for ``a.b.c``, ``a.b.c(...)`` and ``a.b.c[...]``; '' for anything else."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Call(func=inner) | ast.Subscript(value=inner):
            return _last_name(inner)
    return ""


def _root_name(node: ast.expr) -> str:
    """Return ``a`` for ``a.b(...).c(...)``; '' when no name is at its root."""
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _is_immutable(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        return _last_name(value.func) in _HARMLESS_CALLS
    return all(isinstance(each, _IMMUTABLE_NODES) for each in ast.walk(value))


def _has_class_state(node: ast.ClassDef) -> bool:
    """Return whether a class may keep state of its own, such as a registry of its subclasses."""
    if node.keywords or any(_last_name(each) not in _HARMLESS_DECORATORS for each in node.decorator_list):
        return True
    for each in node.body:
        match each:
            case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value) if not _is_immutable(value):
                return True
            case ast.FunctionDef(name="__init_subclass__" | "__set_name__" | "__new__" | "__class_getitem__"):
                return True
    owners = {node.name, "cls", "__class__", "type"}
    for inner in ast.walk(node):
        match inner:
            case (
                ast.Attribute(value=owner, ctx=ast.Store() | ast.Del())
                | ast.Subscript(value=ast.Attribute(value=owner), ctx=ast.Store() | ast.Del())
            ):
                if _root_name(owner) in owners or "__class__" in ast.unparse(owner):
                    return True
            case ast.Call(func=ast.Name(id="setattr")) | ast.Global():
                return True
    return False
