"""The same flows for every place that can run them: each takes the store and the executor and asserts the outcome."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from reflow import RunState, TaskState, Workflow
from reflow.code import load_file
from reflow.run import Run
from reflow.stores.sqlite import SqliteStore

PIPELINES = Path(__file__).parent.parent / "pipelines"


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until something is so that nobody announces."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def survey() -> Workflow:
    return load_file(PIPELINES / "survey.py").wf


def states(run: Run, task: str) -> dict[int | None, TaskState]:
    return {each.array_index: each.state for each in run._store.list_task_instance_records(run.run_id, task)}


def fan_out_chain_and_gather(folder: Path, store: SqliteStore, executor, *, width: int, seconds: float) -> Run:
    """A run of `width` elements ends SUCCESS with right results."""
    run = survey().submit(folder, store=store, executor=executor, size=width, by=3)
    assert run.wait(seconds) is RunState.SUCCESS, run.status(as_dict=True, errors=True)
    assert run.results("measure") == list(range(width))
    assert run.results("square") == [number**2 for number in range(width)]
    assert run.results("shift") == [number**2 + 3 for number in range(width)]
    assert run.results("total") == sum(number**2 + 3 for number in range(width))
    return run


def three_failures(folder: Path, store: SqliteStore, executor, *, width: int, seconds: float) -> Run:
    """Three elements fail: the run ends FAILED and says which; what does not depend on them is done."""
    (folder / "broken").write_text("3 5 11")
    run = survey().submit(folder, store=store, executor=executor, size=width)
    assert run.wait(seconds) is RunState.FAILED
    status = run.status(as_dict=True, errors=True)
    assert status["tasks"]["square"]["failed"] == "3,5,11"
    assert "element 5 is broken" in status["failures"][1]["error_text"]
    assert run.results("shift") == [number**2 + 1 for number in range(width) if number not in (3, 5, 11)]
    assert states(run, "total") == {}
    return run


def retry_of_three(folder: Path, run: Run, *, width: int, seconds: float) -> None:
    """After the cause is gone, a retry runs those three and then what depends on them."""
    (folder / "broken").unlink()
    waves_before = len(run._store.list_waves(run.run_id))
    assert run.retry() == 3
    assert run.wait(seconds) is RunState.SUCCESS, run.status(as_dict=True, errors=True)
    assert run.results("total") == sum(number**2 + 1 for number in range(width))
    # Elements of `shift` whose parents have succeeded meanwhile go in a wave of their own.
    again: dict[str, list[int | None]] = {}
    for wave in run._store.list_waves(run.run_id)[waves_before:]:
        again.setdefault(wave.task_name, []).extend([None] if wave.slots is None else wave.slots)
    assert {task: sorted(slots, key=lambda slot: slot or 0) for task, slots in again.items()} == {
        "square": [3, 5, 11],
        "shift": [3, 5, 11],
        "total": [None],
    }
