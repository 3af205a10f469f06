"""A run's own copy of the user's code, and the loader that lets workers run from it.

A copied module keeps its name, its `__file__` and the file name in tracebacks: data files beside the pipeline are
found where they are. Only the source comes from the copy. ::

    <run>/code/files/lab/tools.py       the copies, and their bytecode
    <run>/code/files.json               module name -> original path, whether a package, size and time of change
"""

from __future__ import annotations

import json
import linecache
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import decode_source, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from .deferred import dataclass

#: A larger code base is not copied: then workers run the files where they are.
MOST_BYTES = 50_000_000

_INDEX = "files.json"


@dataclass(frozen=True)
class SourceFile:
    """One file of the user's, as it was read."""

    module: str
    path: Path
    is_package: bool
    content: bytes


def write_copies(files: Sequence[SourceFile], folder: Path) -> bool:
    """Write the copies into a run's code folder; return False where there is nothing to copy, or too much."""
    sources = [file for file in files if file.path.suffix == ".py"]
    if not sources or sum(len(file.content) for file in sources) > MOST_BYTES:
        return False
    index = {}
    for file in sources:
        path = folder / _place(file.module, file.is_package)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
        index[file.module] = [str(file.path), file.is_package, *_signs(str(file.path))]
    (folder / _INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")
    return True


def changed_files(folder: Path) -> list[Path]:
    """Return the originals that differ from a run's copies of them now, sorted; not those that are gone.

    Files that look as they did when they were copied are not read.
    """
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    except OSError:
        return []  # nothing was copied, or the run's folder was cleaned up
    return sorted(
        Path(original)
        for module, (original, is_package, *signs) in index.items()
        if _signs(original) != tuple(signs)
        and _content(Path(original)) not in (None, _content(folder / _place(module, is_package)))
    )


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


class Copies:
    """Finds the copied modules of one run; goes first in `sys.meta_path`, so that they win over what is on disk now."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        with open(os.path.join(folder, _INDEX), encoding="utf-8") as file:
            index: Mapping[str, tuple[str, bool, int, int]] = json.load(file)
        self._modules = index
        self._names = {original: name for name, (original, *_) in index.items()}

    def install(self) -> None:
        """Let this process import from the copies, once."""
        if not any(isinstance(each, Copies) and each._folder == self._folder for each in sys.meta_path):
            sys.meta_path.insert(0, self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to load a copied module by its name, None for any other."""
        # A pipeline called statistics.py must not stand in for Python's own module.
        if fullname not in self._modules or fullname.partition(".")[0] in sys.stdlib_module_names:
            return None
        return self._specification(fullname, fullname)

    def specification_of(self, path: str, name: str) -> ModuleSpec | None:
        """Return how to load the copy of the file at `path` as a module of that name, None when it was not copied."""
        module = self._names.get(path)
        return None if module is None else self._specification(module, name)

    def _specification(self, module: str, name: str) -> ModuleSpec | None:
        original, is_package, size, changed_at = self._modules[module]
        loader = _CopyLoader(name, original, os.path.join(self._folder, _place(module, is_package)), (size, changed_at))
        places = [os.path.dirname(original)] if is_package else None
        return spec_from_file_location(name, original, loader=loader, submodule_search_locations=places)


class _CopyLoader(SourceFileLoader):
    """Loads a module as if from its original path, with source and bytecode from the copy."""

    def __init__(self, name: str, original: str, copy: str, signs: tuple[int, int]) -> None:
        super().__init__(name, original)
        self._copy = copy
        self._signs = signs

    def exec_module(self, module: ModuleType) -> None:
        """Run the module; tracebacks show the lines of the copy when the original has been changed."""
        if _signs(self.path) != self._signs:
            lines = decode_source(super().get_data(self._copy)).splitlines(keepends=True)
            # No time of change: `linecache` never compares such an entry with the file.
            linecache.cache[self.path] = (len(lines), None, lines, self.path)
        super().exec_module(module)

    def get_data(self, path: str) -> bytes:
        """Return the copy's source or bytecode."""
        return super().get_data(self._place(path))

    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        """Keep bytecode beside the copy."""
        super().set_data(self._place(path), data, _mode=_mode)

    def path_stats(self, path: str) -> Mapping[str, float]:
        """Return size and time of change of the copy, by which its bytecode is known to be of it."""
        return super().path_stats(self._place(path))

    def _place(self, path: str) -> str:
        if path == self.path:
            return self._copy
        return os.path.join(os.path.dirname(self._copy), "__pycache__", os.path.basename(path))


def _place(module: str, is_package: bool) -> str:
    path = os.path.join("files", *module.split("."))
    return os.path.join(path, "__init__.py") if is_package else f"{path}.py"


def _signs(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return (-1, 0)
    return (found.st_size, found.st_mtime_ns)
