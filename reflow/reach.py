"""What a function reaches in the user's own modules: names followed to their definitions, again and again.

Text in, parts out: nothing is imported. What cannot be followed (a computed name, ``eval``, a module that is handed
around) makes its whole module a part, or all modules. Limits: code that is run as another program, objects whose
class no reached code names, and installed packages.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .scopes import Imported, Path, Uses, words
from .statements import Effect, Module, Statement

#: Returns the user's own module of that full name; None for installed packages and names that no module has.
Finder = Callable[[str], Module | None]

#: With one of these, any module may be reached.
_REACHES_ALL = words(
    "importlib.import_module importlib.__import__ importlib.util importlib.machinery sys.modules runpy pkgutil "
    "sys._getframe inspect.currentframe inspect.stack inspect.getmodule gc.get_objects pickle.load pickle.loads "
    "pickle.Unpickler cloudpickle.load cloudpickle.loads dill.load dill.loads joblib.load shelve.open "
    "pandas.read_pickle torch.load"
)
#: With one of these, anything in the module that uses it.
_REACHES_MODULE = ("eval", "exec", "globals")

#: Attributes and functions that read docstrings.
_READS_DOCSTRINGS = frozenset({"__doc__", "getdoc", "getsource", "getsourcelines", "help"})


@dataclass(frozen=True)
class Root:
    """Where to start: the top-level statement of a module that has this line, or what binds this name."""

    module: str
    line: int = 0
    name: str = ""


@dataclass(frozen=True)
class Reached:
    """What is reached from some functions."""

    #: Normalised source by qualified name.
    parts: Mapping[str, str]
    #: The modules that have a part, or that these import.
    modules: frozenset[str]
    #: For each module the names in it that are reached.
    names: Mapping[str, frozenset[str]]
    #: Whether docstrings are read somewhere, so that they must count.
    docstrings: bool


class Reach:
    """Follows functions through the modules that `find` gives; `everything` returns all of the user's modules."""

    def __init__(self, find: Finder, everything: Callable[[], Sequence[Module]]) -> None:
        self._find = find
        self._everything = everything
        self._effects: dict[tuple[str, int], _Executed] = {}

    def of(self, roots: Iterable[Root], whole: Iterable[str] = ()) -> Reached:
        """Return what the roots reach, and the modules named by `whole`.

        Raises `LookupError` when a root is in no module that `find` knows.
        """
        search = _Search(self._find, self._everything)
        for root in roots:
            module = self._find(root.module)
            if module is not None and root.name:
                search.take(module, Uses(paths={(root.name,)}))
                continue
            place = None if module is None else module.statement_at(root.line)
            if module is None or place is None:
                raise LookupError(f"{root.module} has no statement at line {root.line}")
            search.include(module, place)
        for name in whole:
            module = self._find(name)
            if module is not None:
                search.reach_whole(module)
        search.follow_all()
        self._add_effects(search)
        return search.result()

    def _add_effects(self, search: _Search) -> None:
        """Include every statement of the loaded modules that may change what is reached, until there is none."""
        again = True
        while again:
            again = False
            for module in search.loaded():
                for place, statement in enumerate(module.statements):
                    if statement.effect is Effect.NONE or search.has(module, place):
                        continue
                    if search.is_changed_by(self._executed(module, place), statement.effect):
                        search.include(module, place)
                        search.follow_all()
                        again = True

    def _executed(self, module: Module, place: int) -> _Executed:
        key = (module.name, place)
        if key not in self._effects:
            statement = module.statements[place]
            # Twice: the names as they stand there, and all that executing them may reach.
            direct, passed, in_full = (_Search(self._find, self._everything) for _ in range(3))
            direct.take(module, statement.executed)
            passed.take(module, statement.passed)
            in_full.take(module, statement.executed)
            in_full.follow_all()
            self._effects[key] = _Executed(direct, passed, in_full)
        return self._effects[key]


@dataclass(frozen=True)
class _Executed:
    """What executing a statement reaches."""

    #: What the statement itself names.
    direct: _Search
    #: What it hands to the calls that it makes.
    passed: _Search
    #: All that these reach.
    in_full: _Search


class _Search:
    """Collects statements until nothing new is reached."""

    def __init__(self, find: Finder, everything: Callable[[], Sequence[Module]]) -> None:
        self._find = find
        self._everything = everything
        self._modules: dict[str, Module] = {}
        self._statements: set[tuple[str, int]] = set()
        self._names: set[tuple[str, str]] = set()
        self._libraries: set[str] = set()
        self._imports: dict[tuple[str, str], str] = {}
        self._followed: set[tuple[str, Path]] = set()
        self._whole: set[str] = set()
        self._all = False
        self._attributes: set[str] = set()
        self._stores: set[str] = set()
        self._pending: list[tuple[Module, Uses]] = []

    def include(self, module: Module, place: int) -> None:
        """Make a statement a part, and what it uses to be followed."""
        self._modules[module.name] = module
        if not self.has(module, place):
            statement = module.statements[place]
            self._statements.add((module.name, place))
            self._names |= {(module.name, name) for name in statement.names}
            self._pending.append((module, statement.uses))

    def has(self, module: Module, place: int) -> bool:
        """Return whether a statement is a part already."""
        return (module.name, place) in self._statements

    def take(self, module: Module, uses: Uses) -> None:
        """Follow what some code of a module uses, one step."""
        self._modules[module.name] = module
        self._attributes |= uses.attributes
        self._stores |= uses.stores
        for path in sorted(uses.paths):
            self._name(module, path)
        for imported in uses.loads:
            self._load(module, imported)
        for imported, attributes in uses.imports:
            self._import(module, imported, attributes)

    def follow_all(self) -> None:
        """Follow until nothing is left."""
        while self._pending:
            self.take(*self._pending.pop())

    def is_changed_by(self, executed: _Executed, effect: Effect) -> bool:
        """Return whether executing a statement may change what is reached."""
        full = executed.in_full
        if full._all or any(name in self._modules for name in full._whole):
            return True
        common = self._names & full._names
        if any(bound in full._stores or self._is_mutable(name, bound) for name, bound in common):
            return True
        if effect is Effect.ACTS:
            # register(f), f.calls = 0, np.random.seed(1)
            libraries = _top_names(executed.direct._libraries) & _top_names(self._libraries)
            return bool(libraries or self._names & executed.direct._names)
        return any(self._is_code(*each) for each in self._names & executed.passed._names)

    def result(self) -> Reached:
        """Return what was found."""
        parts: dict[str, list[str]] = {}
        for name, place in sorted(self._statements):
            statement = self._modules[name].statements[place]
            parts.setdefault(_part_name(name, statement), []).append(statement.text)
        for (name, bound), text in sorted(self._imports.items()):
            parts.setdefault(f"{name}.{bound}", []).append(text)
        for name, module in sorted(self._modules.items()):
            if module.opaque:
                parts[name] = [module.opaque]
            order = self._order(module)
            if len(order) > 1:
                parts[f"{name} (order)"] = order
            futures = [bound for bound, each in module.imports.items() if each[0].module == "__future__"]
            if futures:
                parts[f"{name}.__future__"] = sorted(futures)
        names: dict[str, set[str]] = {}
        for name, bound in self._names:
            names.setdefault(name, set()).add(bound)
        return Reached(
            {name: "\n".join(texts) for name, texts in parts.items()},
            frozenset(module.name for module in self.loaded()),
            {name: frozenset(bound) for name, bound in names.items()},
            bool((self._attributes | {each.rpartition(".")[2] for each in self._libraries}) & _READS_DOCSTRINGS),
        )

    def _order(self, module: Module) -> list[str]:
        """Return the statements of a module that could do something else in another order, in their order."""
        is_whole = module.name in self._whole or bool(module.stars)
        acts = any(self._modules[name].statements[place].effect is not Effect.NONE for name, place in self._statements)
        order = []
        for place, statement in enumerate(module.statements):
            rebinds = any((module.name, name) in self._names and module.bindings(name) > 1 for name in statement.names)
            if statement.is_import:
                own = {name for each in statement.loads for name in self._own_modules(module, each)}
                if is_whole or rebinds:
                    order.append(statement.text)
                elif acts and own:
                    order += [f"import {name}" for name in sorted(own)]
            elif self.has(module, place) and (is_whole or rebinds or not module.is_settled(statement)):
                order.append(_part_name(module.name, statement))
        return order

    def _is_mutable(self, name: str, bound: str) -> bool:
        binders = self._binders(name, bound)
        return any(each.mutable or (each.is_code and "__subclasses__" in self._attributes) for each in binders)

    def _is_code(self, name: str, bound: str) -> bool:
        return any(each.is_code for each in self._binders(name, bound))

    def _binders(self, name: str, bound: str) -> list[Statement]:
        module = self._modules[name]
        return [module.statements[place] for place in module.binders.get(bound, ())]

    def loaded(self) -> list[Module]:
        """Return the modules with a part and all that importing them loads."""
        found = dict(self._modules)
        pending = list(found.values())
        while pending:
            module = pending.pop()
            for statement in module.statements:
                for imported in statement.loads:
                    for name, loaded in self._own_modules(module, imported).items():
                        if name not in found:
                            found[name] = loaded
                            pending.append(loaded)
        return [found[name] for name in sorted(found)]

    def _name(self, module: Module, path: Path) -> None:
        """Follow a name of a module, with the attributes taken from it."""
        if (module.name, path) in self._followed:
            return
        self._followed.add((module.name, path))
        self._modules[module.name] = module
        name = path[0]
        found = False
        if name in module.imports or name in module.binders:
            self._names.add((module.name, name))
            found = True
        for imported in module.imports.get(name, ()):
            self._imports[module.name, name] = _import_text(name, module.imports[name])
            self._import(module, imported, path[1:])
        for place in module.binders.get(name, ()):
            self.include(module, place)
        for star in module.stars:
            source = self._find(module.absolute(star))
            if source is not None and _binds(source, name, self._find):
                self._name(source, path)
                found = True
        if not found:
            self._unbound(module, path)

    def _unbound(self, module: Module, path: Path) -> None:
        """Follow a name that the module does not bind: a built-in one, or one that a star brings from somewhere."""
        name = path[0]
        if name == "__import__":
            self._reach_all()
        elif name in _REACHES_MODULE:
            self.reach_whole(module)
        elif name in _READS_DOCSTRINGS:
            self._attributes.add(name)
        elif module.stars and not hasattr(builtins, name) and not name.startswith("__"):
            for star in module.stars:
                source = self._find(module.absolute(star))
                self._imports[module.name, f"* {module.absolute(star)}"] = f"from {module.absolute(star)} import *"
                if source is not None:
                    self.reach_whole(source)

    def _load(self, module: Module, imported: Imported) -> None:
        """Note the modules that an import executes: what stands at their top level may change things."""
        for name, loaded in self._own_modules(module, imported).items():
            self._modules.setdefault(name, loaded)

    def _own_modules(self, module: Module, imported: Imported) -> dict[str, Module]:
        """Return the user's modules that an import of a module executes, packages around them included."""
        base = module.absolute(imported)
        names = [base] if imported.name in (None, "*") else [base, f"{base}.{imported.name}"]
        found = {each: self._find(each) for name in names for each in _with_parents(name)}
        return {name: loaded for name, loaded in found.items() if loaded is not None}

    def _import(self, module: Module, imported: Imported, attributes: Path) -> None:
        """Follow what an import of a module names, and the attributes taken from it."""
        self._load(module, imported)
        taken = () if imported.name in (None, "*") else (imported.name,)
        self._take(module.absolute(imported), (*(name for name in taken if name), *attributes))

    def _take(self, name: str, attributes: Path) -> None:
        """Follow attributes that are taken from the module of that name."""
        module = self._find(name)
        if module is None:
            self._library(".".join((name, *attributes)))
            return
        self._modules[module.name] = module
        if not attributes or module.opaque:
            self.reach_whole(module)
            return
        first = attributes[0]
        found = _binds(module, first, self._find)
        if found:
            self._name(module, attributes)
        if module.is_package and self._find(f"{name}.{first}") is not None:
            self._take(f"{name}.{first}", attributes[1:])
        elif not found:
            self.reach_whole(module)

    def _library(self, dotted: str) -> None:
        """Note a name of an installed package."""
        self._libraries.add(dotted)
        # Also a module that is handed around whole: anything may be taken from it elsewhere.
        if any(f"{dotted}.".startswith(f"{each}.") or each.startswith(f"{dotted}.") for each in _REACHES_ALL):
            self._reach_all()

    def reach_whole(self, module: Module) -> None:
        if module.name not in self._whole:
            self._whole.add(module.name)
            self._modules[module.name] = module
            for place, statement in enumerate(module.statements):
                if not statement.is_import:
                    self.include(module, place)
            for name, sources in module.imports.items():
                self._names.add((module.name, name))
                self._imports[module.name, name] = _import_text(name, sources)
                for imported in sources:
                    self._load(module, imported)
                    if self._find(module.absolute(imported)) is not None:
                        self._import(module, imported, ())
            for star in module.stars:
                source = self._find(module.absolute(star))
                if source is not None:
                    self.reach_whole(source)

    def _reach_all(self) -> None:
        if not self._all:
            self._all = True
            for module in self._everything():
                self.reach_whole(module)


def _binds(module: Module, name: str, find: Finder, seen: frozenset[str] = frozenset()) -> bool:
    """Return whether a module has a name, its own or one that a star brings."""
    if name in module.binders or name in module.imports:
        return True
    for star in module.stars:
        source = find(module.absolute(star))
        if source is not None and source.name not in seen and _binds(source, name, find, seen | {module.name}):
            return True
    return False


def _top_names(libraries: Iterable[str]) -> set[str]:
    return {each.partition(".")[0] for each in libraries}


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _part_name(module: str, statement: Statement) -> str:
    if statement.names:
        return f"{module}.{', '.join(sorted(statement.names))}"
    first = statement.text.partition("\n")[0]
    return f"{module}: {first[:60]}"


def _import_text(bound: str, sources: Sequence[Imported]) -> str:
    texts = []
    for each in sources:
        module = "." * each.level + each.module
        source = f"import {module}" if each.name is None else f"from {module} import {each.name}"
        texts.append(f"{source} as {bound}")
    return "\n".join(texts)
