"""Find a workflow again in another process: by the file that holds it, or pickled when no file can give it back.

The file is the one in which the `Workflow` stands, whatever `sys.argv[0]` is. Code goes with code: pickles lie in
the run's own code folder, never in the manifest.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .copies import Copies, write_copies
from .deferred import asdict, dataclass, replace
from .digests import sha256
from .errors import PipelineError
from .trust import require_trusted

if TYPE_CHECKING:
    from .sources import TaskCode

#: The file of a run's code folder that says what each task's fingerprint is made of.
PARTS = "parts.json"

_files_loading = 0


@dataclass(frozen=True)
class CodeReference:
    """Where a worker finds the workflow."""

    #: ``file``: load `location` by path; ``module``: import it by name; ``pickle``: load the pickle at `location`.
    kind: str
    location: str
    #: Name of the variable that holds the workflow; '' in a pickle.
    attribute: str
    #: Folders to look in for the user's own modules.
    search_path: tuple[str, ...]
    #: The run's code folder, if it has a copy of the user's files: workers run those.
    copies: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the reference as JSON-safe values."""
        return asdict(self)

    @classmethod
    def from_json(cls, reference: Mapping[str, Any]) -> CodeReference:
        """Read what `to_json` wrote."""
        return cls(**{**reference, "search_path": tuple(reference["search_path"])})


def find_reference(workflow: object, module_globals: Mapping[str, Any]) -> CodeReference | None:
    """Return where the workflow can be found again, or None when only a pickle can carry it.

    `module_globals` is the namespace in which the workflow was created; the main script is looked at too, because
    it may hold a workflow that a function of another module made.
    """
    for namespace in (module_globals, vars(sys.modules["__main__"])):
        file = namespace.get("__file__")
        attribute = next((name for name, value in namespace.items() if value is workflow), None)
        if attribute is None or not isinstance(file, str) or not file.endswith(".py") or not os.path.isfile(file):
            continue
        path = Path(file).resolve()
        specification = namespace.get("__spec__")
        package = namespace.get("__package__") or ""
        if package and specification is not None:
            root = path.parents[package.count(".") + 1]
            return CodeReference("module", specification.name, attribute, (str(root),))
        return CodeReference("file", str(path), attribute, (str(path.parent),))
    return None


def pickle_workflow(workflow: Any, module_globals: Mapping[str, Any], folder: Path) -> CodeReference:
    """Pickle the workflow's tasks by value into `folder` and return the reference to the pickle.

    Raises `PipelineError` when something that a task's function refers to cannot travel.
    """
    from pickle import PicklingError

    try:
        content = _pickled(dict(workflow.tasks), module_globals.get("__name__", ""))
    except (PicklingError, TypeError, ValueError, AttributeError, RuntimeError, ImportError) as error:
        raise PipelineError(
            f"workflow '{workflow.name}' stands in no file, so its functions must be pickled, and that failed "
            f"({error}): put the workflow at the top level of a .py file"
        ) from None
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "workflow.pickle"
    path.write_bytes(content)
    # The interactive interpreter puts '' first: the folder it was started in.
    search_path = tuple(os.path.abspath(entry) for entry in sys.path if not entry.endswith(".zip"))
    return CodeReference("pickle", str(path), "", search_path)


def keep(task_code: TaskCode, reference: CodeReference, folder: Path) -> CodeReference:
    """Write what is known of the tasks' code into the run's code folder; return the reference for its workers.

    ``parts.json`` says what each task's fingerprint is made of; beside it lie copies of the files, unless a pickle
    carries the code.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = json.dumps(task_code.to_json(), indent=1)
    (folder / PARTS).write_text(parts, encoding="utf-8", errors="surrogatepass")
    if reference.kind == "pickle" or not write_copies(task_code.files, folder):
        return reference
    return replace(reference, copies=str(folder))


def load_tasks(reference: CodeReference, *, from_copies: bool = False) -> Mapping[str, Any]:
    """Return the workflow's tasks by name; `PipelineError` names the file when they cannot be had.

    With `from_copies`, for the rest of this process, as they were when the run was submitted; otherwise those of this
    process, or as they are on disk now. What the pipeline's own code raises while it is loaded passes through
    unchanged.
    """
    copies = _installed_copies(reference) if from_copies else None
    for folder in reversed(reference.search_path):
        if folder not in sys.path:
            # Before the standard places for a file's own folder, as `python file.py` would do; behind them for the
            # whole path of another process, which may be another Python's.
            sys.path.insert(len(sys.path) if reference.kind == "pickle" else 0, folder)
    if reference.kind == "pickle":
        return _load_pickle(Path(reference.location))
    module = None if copies else _main_script(reference)
    if module is None:
        module = (
            importlib.import_module(reference.location)
            if reference.kind == "module"
            else load_file(Path(reference.location), copies)
        )
    workflow = getattr(module, reference.attribute, None)
    if workflow is None:
        raise PipelineError(
            f"{reference.location} has no variable '{reference.attribute}' any more: the file was changed after the "
            "run was submitted; restore it, or submit a new run"
        )
    tasks: Mapping[str, Any] = workflow.tasks
    return tasks


def _installed_copies(reference: CodeReference) -> Copies | None:
    if not reference.copies:
        return None
    try:
        copies = Copies(reference.copies)
    except OSError as error:
        raise PipelineError(
            f"the run's copy of its code in {reference.copies} cannot be read ({error.strerror}): was the run's "
            "folder moved or deleted?"
        ) from None
    copies.install()
    return copies


def _main_script(reference: CodeReference) -> ModuleType | None:
    """Return the script that this process runs, if it is the pipeline: a local run works on its live functions."""
    main = sys.modules["__main__"]
    file, specification = getattr(main, "__file__", None), getattr(main, "__spec__", None)
    if reference.kind == "module":
        is_pipeline = specification is not None and specification.name == reference.location
    else:
        is_pipeline = isinstance(file, str) and Path(file).resolve() == Path(reference.location)
    return main if is_pipeline and hasattr(main, reference.attribute) else None


def load_file(path: Path, copies: Copies | None = None) -> ModuleType:
    """Run a Python file as a module of its own name, not as ``__main__``, and return it; once per process.

    With `copies`, the run's copy of it, if it has one.
    """
    if copies is None and not path.is_file():
        raise PipelineError(f"the pipeline file {path} does not exist: was it moved after the run was submitted?")
    name = _module_name(path)
    loaded = sys.modules.get(name)
    if loaded is not None:
        return loaded
    specification = copies.specification_of(str(path), name) if copies else None
    if specification is None:
        specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise PipelineError(f"{path} is not a Python file: give a file that ends in .py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # before it runs: dataclasses and pickle look their module up
    global _files_loading
    _files_loading += 1
    try:
        specification.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        _files_loading -= 1
    return module


def is_loading() -> bool:
    """Return whether a pipeline file is being loaded by `load_file` just now."""
    return _files_loading > 0


def pickle_object(value: object, path: Path) -> None:
    """Pickle an object of the user's own class, such as an executor, into the run's code folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_pickled(value, type(value).__module__))


def _pickled(value: object, module_name: str) -> bytes:
    """Pickle a value, and what the module of that name defines by value: no worker could import it by its name."""
    import cloudpickle  # 43 ms, and most runs never need it

    module = sys.modules.get(module_name)
    if module is None or module_name == "__main__":  # cloudpickle takes the main script by value anyway
        return bytes(cloudpickle.dumps(value))
    cloudpickle.register_pickle_by_value(module)
    try:
        return bytes(cloudpickle.dumps(value))
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def unpickle_object(path: Path) -> Any:
    """Load what `pickle_object` wrote."""
    import pickle

    require_trusted(path, "the run's pickled code")
    try:
        return pickle.loads(path.read_bytes())
    except OSError as error:
        raise PipelineError(f"{path} cannot be read ({error.strerror}): was the run's folder moved?") from None


def _load_pickle(path: Path) -> Mapping[str, Any]:
    tasks: Mapping[str, Any] = unpickle_object(path)
    return tasks


def _module_name(path: Path) -> str:
    stem = path.stem
    known = sys.modules.get(stem)
    taken = stem in sys.stdlib_module_names or stem == "reflow"
    if known is not None and not taken:
        from inspect import getfile  # here, because a worker has seldom such a module and start-up is on its bill

        try:
            taken = Path(getfile(known)).resolve() != path.resolve()
        except TypeError:  # a built-in module, or a namespace package
            taken = True
    # A pipeline called statistics.py must not stand in for the standard module that its own imports want.
    # The path too: two files called pipeline.py may be loaded into one process.
    unique = sha256(str(path.resolve()).encode()).hexdigest()[:12]
    return f"reflow_pipeline_{stem}_{unique}" if taken or not stem.isidentifier() else stem
