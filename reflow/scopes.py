"""Which names of its module a piece of Python code uses, by Python's own rules of scope.

Wrong in one direction only: a name that might be the module's counts as used.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

#: A name and the attributes taken from it: ``("helpers", "scale")`` for ``helpers.scale``.
Path = tuple[str, ...]

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


@dataclass(frozen=True)
class Imported:
    """What an import statement names, one for each name that it binds."""

    #: Leading dots of a relative import.
    level: int
    module: str
    #: What is taken from the module, ``*`` for all; None for the module itself.
    name: str | None = None


@dataclass
class Uses:
    """What a piece of code uses of its module's scope, and what it imports when it runs."""

    paths: set[Path] = field(default_factory=set)
    #: What is taken from modules that the code itself imports, in a function or a class.
    imports: set[tuple[Imported, Path]] = field(default_factory=set)
    #: The modules that it loads so, whether it takes something from them or not.
    loads: set[Imported] = field(default_factory=set)
    #: Attributes that it sets or deletes: ``X`` of ``helpers.X = 1``.
    stores: set[str] = field(default_factory=set)
    #: Every attribute that is named anywhere, of whatever object.
    attributes: set[str] = field(default_factory=set)


def uses_of(nodes: Iterable[ast.AST], *, bodies: bool = True) -> Uses:
    """Return what module-level code uses; without `bodies` what it uses when it is executed, not when it is called."""
    collector = _Collector(bodies)
    for node in nodes:
        collector.visit(node)
    return collector.uses


def names_of_import(node: ast.Import | ast.ImportFrom) -> dict[str, Imported]:
    """Return what each name that the statement binds is; ``*`` stands for whatever a star binds."""
    if isinstance(node, ast.ImportFrom):
        return {alias.asname or alias.name: Imported(node.level, node.module or "", alias.name) for alias in node.names}
    # `import a.b` binds a, `import a.b as c` binds the module a.b.
    return {
        alias.asname or alias.name.partition(".")[0]: Imported(
            0, alias.name if alias.asname else alias.name.partition(".")[0]
        )
        for alias in node.names
    }


def stored_names(nodes: Iterable[ast.AST]) -> set[str]:
    """Return the names that these statements bind in their own scope, imports included."""
    names: set[str] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
                continue
            case ast.Lambda():
                continue
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                # Its targets are its own; only := binds outside.
                names |= {
                    each.target.id
                    for each in ast.walk(node)
                    if isinstance(each, ast.NamedExpr) and isinstance(each.target, ast.Name)
                }
                continue
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                names.add(name)
            case ast.Import() | ast.ImportFrom():
                names |= set(names_of_import(node))
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                names.add(name)
            case ast.MatchMapping(rest=str(name)):
                names.add(name)
        pending.extend(ast.iter_child_nodes(node))
    return names


def _global_names(nodes: Iterable[ast.AST]) -> set[str]:
    """Return the names that a function's statements declare ``global``, not those of functions inside it."""
    return {name for node in nodes for each in _own_nodes(node) if isinstance(each, ast.Global) for name in each.names}


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the node and what is inside it in the same scope."""
    yield node
    if not isinstance(node, Function | ast.ClassDef):
        for child in ast.iter_child_nodes(node):
            yield from _own_nodes(child)


class _Collector(ast.NodeVisitor):
    """Walks code of the module's level and notes every name that no function around it binds."""

    def __init__(self, bodies: bool) -> None:
        self.uses = Uses()
        self._bodies = bodies
        self._local: frozenset[str] = frozenset()
        #: Those local names that an import binds.
        self._aliases: dict[str, list[Imported]] = {}
        self._class = ""
        self._in_function = False

    def visit_Name(self, node: ast.Name) -> None:
        self._use((node.id,))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        attributes: list[str] = []
        base: ast.expr = node
        while isinstance(base, ast.Attribute):
            attributes.insert(0, base.attr)
            base = base.value
        self.uses.attributes |= set(attributes)
        if not isinstance(node.ctx, ast.Load):
            self.uses.stores.add(node.attr)
        if isinstance(base, ast.Name):
            self._use((base.id, *attributes))
        else:
            self.visit(base)

    def visit_Global(self, node: ast.Global) -> None:
        self.uses.paths |= {(name,) for name in node.names}

    def visit_Import(self, node: ast.Import) -> None:
        # Of the module's own imports only those names count that something uses.
        if self._in_function:
            self.uses.loads |= {Imported(0, alias.name) for alias in node.names}
        elif self._class:
            self.uses.imports |= {(Imported(0, alias.name), ()) for alias in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        named = names_of_import(node).values()
        if self._in_function:
            self.uses.loads |= set(named)
        elif self._class:
            self.uses.imports |= {(each, ()) for each in named}

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        first = node.args[0] if node.args else None
        if called in ("import_module", "__import__") and len(node.args) == 1:
            match first:
                case ast.Constant(value=str(name)) if not name.startswith("."):
                    self.uses.imports.add((Imported(0, name), ()))
                    return
        if called in ("vars", "locals") and not (node.args or self._in_function):
            self._use(("globals",))
        if called in ("query", "eval") and isinstance(node.func, ast.Attribute):
            # pandas looks the names after @ up in the caller's scope.
            asks = first is not None and (not isinstance(first, ast.Constant) or "@" in str(first.value))
            if asks:
                self._use(("globals",))
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._visit_function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._visit_function(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._visit_defaults(node.args)
        self._visit_body(node.args, [node.body])

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._visit_annotation(node.annotation)
        self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for each in (*node.decorator_list, *node.bases, *node.keywords):
            self.visit(each)
        # What the class binds is no local: before it is bound, its name means the module's.
        around, self._class = self._class, node.name
        for statement in node.body:
            self.visit(statement)
        self._class = around

    def visit_ListComp(self, node: ast.ListComp) -> None:
        self._visit_comprehension(node.generators, [node.elt])

    def visit_SetComp(self, node: ast.SetComp) -> None:
        self._visit_comprehension(node.generators, [node.elt])

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        self._visit_comprehension(node.generators, [node.elt])

    def visit_DictComp(self, node: ast.DictComp) -> None:
        self._visit_comprehension(node.generators, [node.key, node.value])

    def _use(self, path: Path) -> None:
        name = path[0]
        if name not in self._local:
            self.uses.paths.add(path)
        for imported in self._aliases.get(name, ()) if name in self._local else ():
            self.uses.imports.add((imported, path[1:]))
        if self._class and name.startswith("__") and not name.endswith("__"):
            self.uses.paths.add((f"_{self._class.lstrip('_')}{name}", *path[1:]))  # as Python mangles it

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for decorator in node.decorator_list:
            self.visit(decorator)
        self._visit_defaults(node.args)
        arguments = _arguments(node.args)
        for annotation in (*(each.annotation for each in arguments), node.returns):
            if annotation is not None:
                self._visit_annotation(annotation)
        self._visit_body(node.args, node.body)

    def _visit_defaults(self, arguments: ast.arguments) -> None:
        for default in (*arguments.defaults, *arguments.kw_defaults):
            if default is not None:
                self.visit(default)

    def _visit_body(self, arguments: ast.arguments, body: Sequence[ast.AST]) -> None:
        if not self._bodies:
            return
        around = self._local, self._aliases, self._in_function
        bound = {each.arg for each in _arguments(arguments)} | stored_names(body)
        self._aliases = {name: each for name, each in self._aliases.items() if name not in bound}
        for imports in (each for statement in body for each in _own_nodes(statement)):
            if isinstance(imports, ast.Import | ast.ImportFrom):
                for name, imported in names_of_import(imports).items():
                    self._aliases.setdefault(name, []).append(imported)
        self._local = frozenset((self._local | bound) - _global_names(body))
        self._in_function = True
        for statement in body:
            self.visit(statement)
        self._local, self._aliases, self._in_function = around

    def _visit_comprehension(self, generators: Sequence[ast.comprehension], elements: Sequence[ast.expr]) -> None:
        self.visit(generators[0].iter)  # in the scope around it
        around = self._local
        self._local |= stored_names([each.target for each in generators])
        for number, generator in enumerate(generators):
            self.visit(generator.target)
            for each in (*([generator.iter] if number else []), *generator.ifs):
                self.visit(each)
        for element in elements:
            self.visit(element)
        self._local = around

    def _visit_annotation(self, node: ast.AST) -> None:
        """Visit an annotation, in which a string is a type too, but not an argument: ``Result(step="numbers")``."""
        match node:
            case ast.Constant(value=str(text)):
                try:
                    self._visit_annotation(ast.parse(text, mode="eval").body)
                except (SyntaxError, ValueError):
                    return
            case ast.Subscript(value=ast.Name(id="Literal") | ast.Attribute(attr="Literal")):
                self.visit(node.value)
            case ast.Subscript(
                value=ast.Name(id="Annotated") | ast.Attribute(attr="Annotated") as annotated,
                slice=ast.Tuple(elts=[first, *others]),
            ):
                self.visit(annotated)
                self._visit_annotation(first)
                for metadata in others:
                    self.visit(metadata)
            case ast.Subscript() | ast.BinOp() | ast.Tuple() | ast.List():
                for child in ast.iter_child_nodes(node):
                    self._visit_annotation(child)
            case _:
                self.visit(node)


def _arguments(arguments: ast.arguments) -> list[ast.arg]:
    stars = [each for each in (arguments.vararg, arguments.kwarg) if each is not None]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *stars]
