"""The layers, families and doors of DESIGN.md section 3, read from the source.

An import counts wherever it stands: inside a function, and under TYPE_CHECKING too.
"""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import reflow

ROOT = Path(reflow.__file__).parent

#: Every module, by layer; ``name.*`` stands for a package and all in it. The more exact pattern wins.
LAYERS: dict[int, tuple[str, ...]] = {
    # Words.
    0: (
        *("clock", "deferred", "digests", "errors", "indices", "log", "paths", "states", "stores.records", "suggest"),
        *("trust", "wording"),
    ),
    # Rules: pure, no input and no output.
    1: (
        "amounts",
        "annotations",
        "arrays",
        "callables",
        "codec",
        "declarations",
        "declared",
        "declared_classes",
        "expansion",
        "failures",
        "flow",
        "forms",
        "graph",
        "identity",
        "inputs",
        "options",
        "parameters",
        "pacing",
        "params",
        "plan",
        "reach",
        "remaking",
        "retry_options",
        "retrying",
        "room",
        "scopes",
        "signature",
        "spec",
        "statements",
        "tags",
        "wiring",
    ),
    # Adapters.
    2: (
        *("code", "config", "config_example", "executors.*", "fingerprints", "rendering", "run_files", "stores.*"),
        *("closures", "copies", "sources", "waves"),
    ),
    # Engine.
    3: (
        *("active", "asking", "checkpoints", "deferring", "dispatch", "elements", "expanding", "jobs", "launch"),
        *("own_identity", "packs", "reconcile", "reuse", "sentinels", "signals", "wave_files", "worker"),
    ),
    # Facade.
    4: (
        *("attention", "cleaning", "damage", "description", "explain", "forecast", "local_run", "logs", "provenance"),
        *("run", "status", "upkeep_checks", "waiting", "watching", "workflow"),
    ),
    # Edge.
    5: ("__init__", "__main__", "cli.*", "testing.*"),
}

#: Adapters that know nothing of each other.
FAMILIES: dict[str, tuple[str, ...]] = {
    "code": ("closures", "code", "copies", "sources"),
    "config": ("config", "config_example"),
    "executors": ("executors.*",),
    "rendering": ("rendering",),
    "run_files": ("run_files",),
    "stores": ("stores.*",),
    "waves": ("waves",),
}

#: Pairs of importing and imported pattern that break the rules above, each with its reason.
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("executors.*", "rendering"): "rendering is the door to jinja2, and scripts are templates",
    ("provenance", "__init__"): "the version stands in the package itself, where people and installers look for it",
    ("workflow", "cli.*"): "API.md has Workflow.cli(), which hands over to the command line when it is called",
}

#: The only modules that may import each library. One that is not of the standard library must be here.
DOORS: dict[str, tuple[str, ...]] = {
    "_sha2": ("digests",),
    "_sha256": ("digests",),
    "click": ("cli.*",),
    "cloudpickle": ("code",),
    "filelock": ("stores.locking",),
    "jinja2": ("rendering",),
    "numpy": ("arrays",),
    "platformdirs": ("paths",),
    "pytest": ("testing.*",),
    "rich": ("cli.*",),
    "sqlite3": ("stores.*",),
    "subprocess": ("executors.commands", "testing.*"),
    "tomli": ("config",),
}

# About 400; `SqliteStore` has a method for each of its interface, and nothing else.
LONGEST_MODULE = 450

#: The module with the one broad ``except``: around the user's function.
RUNS_THE_USERS_FUNCTION = "elements"


@dataclass(frozen=True)
class Module:
    """One source file of the package."""

    #: Without the package's own name: ``stores.records``; a package is called as its folder.
    name: str
    path: Path
    source: str
    tree: ast.Module

    @property
    def package(self) -> tuple[str, ...]:
        """The package from which its relative imports start."""
        parts = tuple(self.name.split(".")) if self.name != "__init__" else ()
        return parts if self.path.name == "__init__.py" else parts[:-1]


@dataclass(frozen=True)
class Import:
    """One name that a module imports."""

    module: Module
    line: int
    #: Of the package itself, like `Module.name`; None for a library.
    inside: str | None
    #: Top-level name of a library; None for the package itself.
    library: str | None

    def __str__(self) -> str:
        return f"{self.module.name}:{self.line} imports {self.inside or self.library}"


def read_package(root: Path) -> list[Module]:
    """Return the modules below `root`, ordered by name."""
    modules = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        source = path.read_text()
        modules.append(Module(name, path, source, ast.parse(source)))
    return modules


def imports_of(module: Module, names: frozenset[str]) -> Iterator[Import]:
    """Yield what a module imports; `names` are the package's modules."""

    def inside(line: int, base: Sequence[str], name: str = "") -> Import:
        # `name` may be a module of the package `base`, or something in the module `base`.
        longer = ".".join([*base, name])
        return Import(module, line, longer if longer in names else ".".join(base) or "__init__", None)

    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == "reflow":
                    yield inside(node.lineno, parts[1:])
                else:
                    yield Import(module, node.lineno, None, parts[0])
        elif isinstance(node, ast.ImportFrom):
            origin = node.module.split(".") if node.module else []
            if node.level:
                package = module.package
                base = [*package[: len(package) - (node.level - 1)], *origin]
            elif origin[0] == "reflow":
                base = origin[1:]
            else:
                yield Import(module, node.lineno, None, origin[0])
                continue
            for alias in node.names:
                yield inside(node.lineno, base, alias.name)


def all_imports(modules: Sequence[Module]) -> list[Import]:
    """Return every import of every module."""
    names = frozenset(module.name for module in modules)
    return [found for module in modules for found in imports_of(module, names)]


def matches(name: str, pattern: str) -> bool:
    """Return whether a module's name is the pattern's, or in the pattern's package."""
    if pattern.endswith(".*"):
        return name == pattern[:-2] or name.startswith(pattern[:-1])
    return name == pattern


def layer_of(name: str) -> int | None:
    """Return the layer of a module, None when the table does not have it."""
    found = [(len(pattern), layer) for layer, row in LAYERS.items() for pattern in row if matches(name, pattern)]
    return max(found)[1] if found else None


def family_of(name: str) -> str | None:
    """Return the family of a module, None when it has none; words such as `stores.records` are everybody's."""
    if layer_of(name) != 2:
        return None
    for family, row in FAMILIES.items():
        if any(matches(name, pattern) for pattern in row):
            return family
    return None


def is_excepted(found: Import) -> bool:
    """Return whether an import is one of `EXCEPTIONS`."""
    return any(
        matches(found.module.name, importing) and matches(found.inside or "", imported)
        for importing, imported in EXCEPTIONS
    )


def modules_without_layer(modules: Sequence[Module]) -> list[str]:
    return [
        f"{module.name} has no layer: choose one in LAYERS of {Path(__file__).name} and in DESIGN.md"
        for module in modules
        if layer_of(module.name) is None
    ]


def upward_imports(modules: Sequence[Module]) -> list[str]:
    complaints = []
    for found in all_imports(modules):
        if found.inside is None or is_excepted(found):
            continue
        own, other = layer_of(found.module.name), layer_of(found.inside)
        if own is not None and other is not None and other > own:
            complaints.append(f"{found}, which is of layer {other}, above its own layer {own}")
    return complaints


def imports_between_families(modules: Sequence[Module]) -> list[str]:
    complaints = []
    for found in all_imports(modules):
        if found.inside is None or is_excepted(found):
            continue
        own, other = family_of(found.module.name), family_of(found.inside)
        if own is not None and other is not None and own != other:
            complaints.append(f"{found}: the adapters {own} and {other} must not know each other")
    return complaints


def imports_past_the_door(modules: Sequence[Module]) -> list[str]:
    complaints = []
    for found in all_imports(modules):
        library = found.library
        if library is None:
            continue
        if library in DOORS:
            if not any(matches(found.module.name, door) for door in DOORS[library]):
                complaints.append(f"{found}, whose door is {' and '.join(DOORS[library])}")
        elif library not in sys.stdlib_module_names:
            complaints.append(f"{found}, which has no door: name one in DOORS, or do without it")
    return complaints


def long_modules(modules: Sequence[Module]) -> list[str]:
    lengths = ((module, len(module.source.splitlines())) for module in modules)
    return [f"{module.name} has {length} lines" for module, length in lengths if length > LONGEST_MODULE]


def modules_without_docstring(modules: Sequence[Module]) -> list[str]:
    return [f"{module.name} does not say what it is for" for module in modules if not ast.get_docstring(module.tree)]


def type_ignores(modules: Sequence[Module]) -> list[str]:
    return [
        f"{module.name}:{token.start[0]} {token.string}"
        for module in modules
        for token in tokenize.generate_tokens(io.StringIO(module.source).readline)
        if token.type == tokenize.COMMENT and token.string.replace(" ", "").startswith("#type:ignore")
    ]


def broad_excepts(modules: Sequence[Module]) -> list[str]:
    complaints = []
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ExceptHandler):
                caught = [node.type]
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
                caught = list(node.args)
            else:
                continue
            if any(is_broad(error) for error in caught) and not passes_on(node):
                complaints.append(f"{module.name}:{node.lineno} catches whatever comes")
    return complaints


def is_broad(error: ast.expr | None) -> bool:
    """Return whether an ``except`` of this catches errors that nobody has named."""
    if error is None:
        return True
    if isinstance(error, ast.Tuple):
        return any(is_broad(each) for each in error.elts)
    return ast.unparse(error).rpartition(".")[2] in ("Exception", "BaseException")


def passes_on(node: ast.ExceptHandler | ast.Call) -> bool:
    """Return whether a handler tidies up and ends by raising the same error again: then nothing is swallowed."""
    last = node.body[-1] if isinstance(node, ast.ExceptHandler) else None
    return isinstance(last, ast.Raise) and last.exc is None


PACKAGE = read_package(ROOT)


def test_every_module_has_a_layer():
    assert modules_without_layer(PACKAGE) == []


def test_no_module_imports_a_higher_layer():
    assert upward_imports(PACKAGE) == []


def test_adapters_do_not_know_each_other():
    assert imports_between_families(PACKAGE) == []


def test_every_library_has_one_door():
    assert imports_past_the_door(PACKAGE) == []


def test_no_module_is_too_long():
    assert long_modules(PACKAGE) == []


def test_every_module_says_what_it_is_for():
    assert modules_without_docstring(PACKAGE) == []


def test_the_type_checker_is_never_told_to_look_away():
    assert type_ignores(PACKAGE) == []


def test_only_the_users_function_may_raise_whatever_it_likes():
    complaints = broad_excepts(PACKAGE)
    elsewhere = [line for line in complaints if not line.startswith(f"{RUNS_THE_USERS_FUNCTION}:")]
    assert elsewhere == []
    assert len(complaints) == 1, complaints


def test_every_exception_is_needed():
    used = {
        pair
        for found in all_imports(PACKAGE)
        for pair in EXCEPTIONS
        if matches(found.module.name, pair[0]) and matches(found.inside or "", pair[1])
    }
    assert used == set(EXCEPTIONS)


def test_the_rules_see_what_breaks_them(tmp_path):
    files = {
        "__init__.py": "",
        "states.py": '"""Words."""\ndef later():\n    from .workflow import Workflow\n',
        "workflow.py": '"""Facade."""\nimport click\nimport requests\n',
        "novel.py": '"""Nobody has placed this."""\nx = 1  # type: ignore[misc]\n',
        "waves.py": '"""Adapter."""\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import stores\n',
        "stores/__init__.py": '"""Adapter."""\nfrom ..stores.records import Record\n',
        "stores/records.py": '"""Words."""\nfrom .. import states\ntry:\n    pass\nexcept (OSError, Exception): pass\n',
        "stores/turns.py": '"""Adapter."""\ntry:\n    pass\nexcept BaseException:\n    x = 1\n    raise\n',
        "stores/sqlite.py": '"""Adapter."""\nimport sqlite3\nimport reflow.executors.slurm\n' + "\n" * LONGEST_MODULE,
        "executors/slurm.py": '"""Adapter."""\nimport subprocess as sub\nfrom ..rendering import render\n',
        "rendering.py": '"""Adapter."""\nimport contextlib\nwith contextlib.suppress(BaseException):\n    pass\n',
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    package = read_package(tmp_path)

    assert [line.split()[0] for line in modules_without_layer(package)] == ["novel"]
    assert upward_imports(package) == ["states:3 imports workflow, which is of layer 4, above its own layer 0"]
    assert imports_between_families(package) == [
        "stores.sqlite:3 imports executors.slurm: the adapters stores and executors must not know each other",
        "waves:4 imports stores: the adapters waves and stores must not know each other",
    ]
    assert imports_past_the_door(package) == [
        "executors.slurm:2 imports subprocess, whose door is executors.commands and testing.*",
        "workflow:2 imports click, whose door is cli.*",
        "workflow:3 imports requests, which has no door: name one in DOORS, or do without it",
    ]
    assert long_modules(package) == [f"stores.sqlite has {LONGEST_MODULE + 3} lines"]
    assert modules_without_docstring(package) == ["__init__ does not say what it is for"]
    assert type_ignores(package) == ["novel:2 # type: ignore[misc]"]
    assert broad_excepts(package) == [
        "rendering:3 catches whatever comes",
        "stores.records:5 catches whatever comes",
    ]


def test_worker_starts_without_what_only_the_login_node_needs():
    heavy = ["asyncio", "click", "filelock", "jinja2", "platformdirs", "reflow.executors.slurm", "rich"]
    assert loaded_by("reflow.worker", "reflow.workflow", "reflow.stores.sqlite") & set(heavy) == set()


def test_worker_and_pipeline_start_without_the_slow_parts_of_the_standard_library():
    slow = ["ast", "dataclasses", "hashlib", "inspect", "logging", "subprocess", "traceback"]
    assert loaded_by("reflow.worker", "reflow.workflow", "reflow.stores.sqlite") & set(slow) == set()


def loaded_by(*modules: str) -> set[str]:
    script = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())
