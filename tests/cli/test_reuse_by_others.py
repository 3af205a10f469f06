"""What one user of a shared manifest takes from another's run: results of the same identity, if she can read them."""

from __future__ import annotations

import json
import os

import pytest

from .test_sharing import GROUP
from .users import make_user, reachable_folder

PIPELINE = """
import os
from pathlib import Path
from typing import Annotated
from reflow import Param, Result, RunDir, Workflow
wf = Workflow("demo")
Place = Annotated[Path, Param(cache=False)]

def write(path: Path, mode: int = 0o640) -> Path:
    path.parent.mkdir(mode=0o750, exist_ok=True)
    path.write_text("text")
    path.chmod(mode)
    return path

@wf.job()
def value(x: int = 1) -> int:
    return x

@wf.job()
def given(seed: int) -> int:
    return seed

@wf.job()
def readable(place: Place) -> Path:
    return write(place / "readable")

@wf.job()
def follows(path: Annotated[Path, Result("readable")]) -> str:
    return path.read_text()

@wf.job()
def private(place: Place) -> Path:
    return write(place / "private", 0o600)

@wf.job()
def hidden(place: Place) -> Path:
    path = write(place / "hidden" / "file")
    path.parent.chmod(0o700)
    return path

@wf.job()
def deleted(place: Place) -> Path:
    return write(place / "deleted")

@wf.job()
def changed(place: Place) -> Path:
    return write(place / "changed")

@wf.job()
def big() -> str:
    return "x" * 100_000

@wf.job()
def knows_run_dir(run_dir: RunDir) -> int:
    return 1

@wf.job()
def numbers(seed: int) -> list[int]:
    return [1, 2, seed]

@wf.array_job()
def twice(number: Annotated[int, Result("numbers")]) -> int:
    return 2 * number
"""

RUN = f"""
import json
from pathlib import Path
Path("pipeline.py").write_text({PIPELINE!r})
from reflow.cli.pipeline import load_workflow
wf = load_workflow(Path("pipeline.py"))
run = wf.run_local("runs", store=sys.argv[5], place=Path(sys.argv[6]), seed=int(sys.argv[7]))
assert run.state == "SUCCESS", run.status(as_dict=True, errors=True)
found = {{}}
for task in wf.tasks:
    rows = run._store.list_task_instance_records(run.run_id, task)
    reused = sum(row.cached_from is not None for row in rows)
    found[task] = [reused, len(rows) - reused]
print(json.dumps(found))
"""

REUSED, AGAIN = [1, 0], [0, 1]

#: What the other user's first run takes from the first one's, and what her second run does.
ROWS = {
    "same value": ("value", REUSED, REUSED),
    "another parameter": ("given", AGAIN, REUSED),
    "file that the group may read": ("readable", REUSED, REUSED),
    "made from such a file": ("follows", REUSED, REUSED),
    "file that only its owner may read": ("private", AGAIN, REUSED),
    "file in a folder that only its owner may enter": ("hidden", AGAIN, REUSED),
    "file that is gone": ("deleted", AGAIN, REUSED),
    "file that was written over": ("changed", AGAIN, REUSED),
    "output beside the manifest": ("big", REUSED, REUSED),
    "other run directory, RunDir taken": ("knows_run_dir", AGAIN, REUSED),
    "elements, one of three differs": ("twice", [2, 1], [3, 0]),
}


@pytest.mark.parametrize("umask", ["022", "077"])
def test_another_user_gets_what_has_the_same_identity_and_can_be_read(umask):
    with reachable_folder() as folder:
        ann, ben = (make_user(folder, number, GROUP, umask) for number in (47_001, 47_002))
        shared = folder / "shared"
        shared.mkdir()
        os.chown(shared, ann.number, GROUP)
        shared.chmod(0o2770)
        for user in (ann, ben):
            (shared / str(user.number)).mkdir()
            os.chown(shared / str(user.number), user.number, GROUP)
            (shared / str(user.number)).chmod(0o2750)
        first = ann.python(RUN, shared / "manifest.db", shared / str(ann.number), 3)
        assert first.code == 0, first.err
        (shared / str(ann.number) / "deleted").unlink()
        (shared / str(ann.number) / "changed").write_text("another text")
        runs = []
        for _ in range(2):
            outcome = ben.python(RUN, shared / "manifest.db", shared / str(ben.number), 9)
            assert outcome.code == 0, outcome.err
            runs.append(json.loads(outcome.out))
        found = {change: (task, runs[0][task], runs[1][task]) for change, (task, *_) in ROWS.items()}
        assert found == ROWS
