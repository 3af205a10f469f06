"""The user's own modules as files, and what of them decides a task's result: the parts of its fingerprint.

Names are followed in the source (`reach`). Where only the running process knows - a closure, a function of a
notebook, a constant that is read from a file or the environment - the value itself becomes a part.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from .closures import PROCESS_BEGAN, Unknown, closure_parts, live_parts, matches_source, value_text
from .copies import SourceFile
from .flow import Flow
from .reach import Reach, Reached, Root
from .statements import Module, only_changes, parse_module

#: The most files that are read when any module of the user's may be reached; beyond, nothing is used again.
MOST_FILES = 2_000

_SKIPPED_FOLDERS = frozenset({"site-packages", "dist-packages", "node_modules", "__pycache__"})

_STANDARD = tuple(Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib"))
_REFLOW = Path(__file__).resolve().parent


@dataclass(frozen=True)
class TaskCode:
    """What decides the results of a workflow's tasks, as far as it is code."""

    #: By task, normalised source by qualified name; None when the code cannot be known.
    parts: Mapping[str, Mapping[str, str] | None]
    #: The user's files that these tasks may load, as they were read.
    files: tuple[SourceFile, ...]

    def with_parts(self, more: Mapping[str, Mapping[str, str]]) -> TaskCode:
        """Return this with more parts by task; where the code cannot be known it still cannot."""
        return replace(
            self, parts={task: None if parts is None else {**parts, **more[task]} for task, parts in self.parts.items()}
        )

    def fingerprint(self, task: str) -> str:
        """Return SHA-256 over the task's parts; '' when they cannot be known, which switches the cache off."""
        parts = self.parts.get(task)
        return "" if parts is None else parts_hash(parts)

    def to_json(self) -> dict[str, Any]:
        """Return the parts by task as `explain` reads them, tasks of unknown code left out."""
        return {task: dict(parts) for task, parts in self.parts.items() if parts is not None}


def parts_hash(parts: Mapping[str, str]) -> str:
    """Return SHA-256 in full over parts."""
    return sha256(json.dumps(dict(parts), sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()


def read_code(
    functions: Mapping[str, Callable[..., Any]], module_globals: Mapping[str, Any], *, in_process: bool = False
) -> TaskCode:
    """Read what the tasks' functions reach; `module_globals` is where the workflow stands.

    With `in_process` the functions run here, so that constants which were changed in memory count as they are.
    """
    reader = _Reader(module_globals, functions.values(), in_process)
    parts = {task: reader.parts(function) for task, function in functions.items()}
    return TaskCode(parts, reader.files())


class _Reader:
    """Reads the tasks of one workflow."""

    def __init__(
        self, module_globals: Mapping[str, Any], functions: Iterable[Callable[..., Any]], in_process: bool
    ) -> None:
        self._in_process = in_process
        self._current: set[str] = set()
        namespaces = [module_globals, *(each.__globals__ for function in functions for each in wrapped(function))]
        self.folders: list[Path] = []
        homes: dict[Path, str] = {}
        for namespace in namespaces:
            home = _home(namespace)
            if home is not None:
                file, name, folder = home
                homes.setdefault(file, name)
                if folder not in self.folders:
                    self.folders.append(folder)
        contents: dict[Path, bytes] = {}
        self._sources = {
            keep: Sources(self.folders, homes, contents=contents, docstrings=keep) for keep in (False, True)
        }
        self._reaches = {keep: Reach(each.find, each.everything) for keep, each in self._sources.items()}

    def parts(self, function: Callable[..., Any]) -> dict[str, str] | None:
        """Return the parts of one task's fingerprint, None when they cannot be known."""
        try:
            roots, parts, whole = self._start(function)
            reached = self._reaches[False].of(roots, whole)
            if reached.docstrings:
                reached = self._reaches[True].of(roots, whole)
            if self._in_process and not all(self._is_as_loaded(name) for name in reached.modules):
                return None
            parts.update(reached.parts)
            parts.update(self._values(reached))
        except (Unknown, LookupError, RecursionError):
            return None
        return parts

    def files(self) -> tuple[SourceFile, ...]:
        """Return every file of the user's that was read, and all that these import."""
        self._sources[False].follow_imports()
        return tuple(file for _, file in sorted(self._sources[False].files.items()))

    def _start(self, function: Callable[..., Any]) -> tuple[list[Root], dict[str, str], list[str]]:
        """Return where to start in the source, what only the running process knows, and modules to take whole."""
        roots: list[Root] = []
        parts: dict[str, str] = {}
        whole: list[str] = []
        pending, seen = list(wrapped(function)), set[int]()
        # A function inside another may take anything from it; one of a module's level, only what the source shows.
        is_nested = "<locals>" in pending[-1].__qualname__
        while pending:
            each = pending.pop(0)
            if id(each) in seen:
                continue
            seen.add(id(each))
            file = Path(each.__code__.co_filename)
            name = self._sources[False].name_of(file)
            if name is not None:
                roots.append(Root(name, each.__code__.co_firstlineno))
                found = closure_parts(each, values=is_nested and "<locals>" in each.__qualname__)
            elif not file.is_file():
                found = live_parts(each)
            else:
                found = closure_parts(each, values=False)  # of an installed package: a decorator's wrapper
            parts.update(found.parts)
            pending += [inner for outer in found.functions for inner in wrapped(outer)]
            for module in found.modules:
                if self._sources[False].find(module) is not None:
                    whole.append(module)
            for owner in found.classes:
                if self._sources[False].find(owner.__module__) is not None and "<locals>" not in owner.__qualname__:
                    roots.append(Root(owner.__module__, name=owner.__qualname__.partition(".")[0]))
        return roots, parts, whole

    def _is_as_loaded(self, name: str) -> bool:
        """Return whether what runs in this process is what the file says, as far as functions tell."""
        file, loaded = self._sources[False].files.get(name), self._sources[False].loaded(name)
        if file is None or loaded is None or name in self._current:
            return True
        if _changed_at(file.path) > PROCESS_BEGAN and not matches_source(loaded, file.content, str(file.path)):
            return False
        self._current.add(name)
        return True

    def _values(self, reached: Reached) -> Iterator[tuple[str, str]]:
        """Yield the values of reached constants that their source does not give."""
        for name, bound in reached.names.items():
            module = self._sources[False].find(name)
            loaded = self._sources[False].loaded(name)
            if module is None or loaded is None:
                continue
            for constant in sorted(bound & module.binders.keys() & vars(loaded).keys()):
                value = vars(loaded)[constant]
                if any(module.statements[place].is_code for place in module.binders[constant]):
                    continue
                written = module.literal(constant)
                if written is not None:
                    # What was changed in memory counts where it is used, unless the tasks only add to it.
                    if not self._in_process or all(only_changes(text, constant) for text in reached.parts.values()):
                        continue
                    if repr(value) == repr(ast.literal_eval(written)):
                        continue
                text = value_text(value)
                if text is not None:
                    yield f"{name}.{constant} (value)", text


class Sources:
    """The user's own modules by name, parsed when they are asked for."""

    def __init__(
        self,
        folders: Sequence[Path],
        homes: Mapping[Path, str],
        *,
        contents: dict[Path, bytes],
        docstrings: bool = False,
    ) -> None:
        self._folders = [str(folder) for folder in folders]
        self._docstrings = docstrings
        self._names = dict(homes)
        self._known: dict[str, Module | None] = {}
        self._specifications: dict[str, ModuleSpec | None] = {}
        self._own_packages = [file.parents[name.count(".") - 1] for file, name in homes.items() if "." in name]
        #: What is in each file that was read: what is hashed is what is copied, whoever edits it meanwhile.
        self._contents = contents
        #: The file of each module that was found.
        self.files: dict[str, SourceFile] = {}
        self._homes = {name: file for file, name in homes.items()}
        self._loaded = {
            str(module.__file__): module
            for module in list(sys.modules.values())
            if isinstance(module, ModuleType) and isinstance(getattr(module, "__file__", None), str)
        }
        PathFinder.invalidate_caches()  # a file may be younger than Python's list of its folder
        self._workflows = frozenset(
            name
            for file, module in self._loaded.items()
            if self._is_own(Path(file))
            for name, value in list(vars(module).items())
            if isinstance(value, Flow)
        )

    def name_of(self, file: Path) -> str | None:
        """Return the name of the user's own module that this file is, None for any other file."""
        path = file.resolve()
        if path not in self._names:
            if not path.is_file() or not self._is_own(path):
                return None
            module = self._loaded.get(str(file)) or self._loaded.get(str(path))
            home = None if module is None else _home(vars(module))
            self._names[path] = path.stem if home is None else home[1]
            self._homes.setdefault(self._names[path], path)
        return self._names[path]

    def find(self, name: str) -> Module | None:
        """Return the user's own module of that full name, None when no file of hers is that module."""
        if name not in self._known:
            self._known[name] = self._read(name)
        return self._known[name]

    def loaded(self, name: str) -> ModuleType | None:
        """Return the module of that name as this process has it, None when it is not loaded."""
        file = self.files.get(name)
        return None if file is None else self._loaded.get(str(file.path))

    def everything(self) -> list[Module]:
        """Return all modules in the user's folders and all of hers that are loaded; `LookupError` when too many."""
        names = {name for name in (self.name_of(Path(file)) for file in self._loaded) if name is not None}
        for folder in self._folders:
            for path in _python_files(Path(folder)):
                parts = path.relative_to(folder).with_suffix("").parts
                names.add(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
                if len(names) > MOST_FILES:
                    raise LookupError(f"{folder} has more than {MOST_FILES} Python files")
        found = (self.find(name) for name in sorted(names - {""}))
        return [module for module in found if module is not None]

    def follow_imports(self) -> None:
        """Find every module of the user's that those found so far import, at once or when a function runs."""
        for name in list(self._homes):
            self.find(name)
        pending = list(self.files)
        while pending:
            module = self.find(pending.pop())
            for statement in module.statements if module is not None else ():
                named = {*statement.loads, *statement.uses.loads, *(each for each, _ in statement.uses.imports)}
                for imported in named:
                    base = module.absolute(imported) if module is not None else ""
                    parts = [*base.split("."), imported.name or ""]
                    for count in range(1, len(parts) + 1):
                        name = ".".join(parts[:count])
                        if name not in self.files and self.find(name) is not None and name in self.files:
                            pending.append(name)

    def _read(self, name: str) -> Module | None:
        home = self._homes.get(name)
        if home is not None:
            return self._parse(name, home, is_package=home.name == "__init__.py")
        specification = self._specification(name)
        if specification is None:
            return None
        if not specification.has_location or specification.origin is None:
            is_namespace = specification.submodule_search_locations is not None and specification.origin is None
            inside = [Path(each) for each in specification.submodule_search_locations or ()]
            own = is_namespace and all(self._is_own(each / "any.py") for each in inside)
            return Module(name, True, (), {}, ()) if own else None
        path = Path(specification.origin)
        if not self._is_own(path):
            return None
        return self._parse(name, path, is_package=specification.submodule_search_locations is not None)

    def _parse(self, name: str, path: Path, *, is_package: bool) -> Module | None:
        if path not in self._contents:
            try:
                self._contents[path] = path.read_bytes()
            except OSError:
                return None
        source = self._contents[path]
        self.files[name] = SourceFile(name, path, is_package, source)
        if path.suffix == ".py":
            try:
                return parse_module(
                    name, source, is_package=is_package, docstrings=self._docstrings, workflows=self._workflows
                )
            except (SyntaxError, ValueError):
                pass  # no module of this Python's, so only its bytes can count
        return Module(name, is_package, (), {}, (), opaque=f"sha256 {sha256(source).hexdigest()}")

    def _specification(self, name: str) -> ModuleSpec | None:
        if name not in self._specifications:
            self._specifications[name] = self._find_specification(name)
        return self._specifications[name]

    def _find_specification(self, name: str) -> ModuleSpec | None:
        parent, _, _ = name.rpartition(".")
        if parent:
            package = self._specification(parent)
            places = None if package is None else package.submodule_search_locations
            return None if places is None else PathFinder.find_spec(name, list(places))
        beside = PathFinder.find_spec(name, self._folders)
        if beside is not None and beside.origin is not None:
            return beside
        if name in sys.builtin_module_names:
            return None
        try:
            return importlib.util.find_spec(name) or beside
        except (ImportError, ValueError, AttributeError):  # a module that was put there by hand
            return beside

    def _is_own(self, path: Path) -> bool:
        """Return whether a file is the user's own: not installed, not Python's, not reflow's."""
        if not path.name.endswith((".py", *EXTENSION_SUFFIXES)):
            return False
        path = path.resolve()
        if any(package in path.parents for package in self._own_packages):
            return True
        if _REFLOW in path.parents or _SKIPPED_FOLDERS & set(path.parts):
            return False
        return not any(folder in path.parents for folder in _STANDARD)


def wrapped(function: Callable[..., Any]) -> list[FunctionType]:
    """Return the function and what it wraps (`functools.wraps`), outermost first."""
    found: list[FunctionType] = []
    each: Any = function
    while each is not None and len(found) < 100:
        if isinstance(each, FunctionType):
            found.append(each)
        each = getattr(each, "__wrapped__", None)
    return found


def _home(namespace: Mapping[str, Any]) -> tuple[Path, str, Path] | None:
    """Return the file of a module, the name it is imported by, and the folder from which; None without a file."""
    file = namespace.get("__file__")
    if not isinstance(file, str) or not file.endswith(".py") or not os.path.isfile(file):
        return None
    path = Path(file).resolve()
    package = namespace.get("__package__") or ""
    if not package:
        return path, path.stem, path.parent
    folder = path.parents[package.count(".") + 1]
    specification = namespace.get("__spec__")
    name = specification.name if specification is not None else namespace.get("__name__", path.stem)
    return path, name, folder


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _python_files(folder: Path) -> Iterator[Path]:
    """Yield the Python files below a folder, without environments, hidden folders and caches."""
    for place, folders, files in os.walk(folder):
        folders[:] = [
            each
            for each in sorted(folders)
            if not each.startswith(".")
            and each not in _SKIPPED_FOLDERS
            and not os.path.exists(os.path.join(place, each, "pyvenv.cfg"))
        ]
        yield from (Path(place, each) for each in sorted(files) if each.endswith(".py"))
