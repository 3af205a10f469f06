"""``show`` tells where a run comes from."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from reflow import __version__


def git(folder, *words):
    who = ["-c", "user.name=x", "-c", "user.email=x@y"]
    done = subprocess.run(["git", *who, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def shown(project, run):
    outcome = project.reflow("show", run.run_id, "--json")
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def test_show_has_provenance_parameters_settings_and_resources(project, done):
    found = shown(project, done)
    assert found["run_id"] == done.run_id
    assert found["parameters"] == {"n": 3}
    assert found["provenance"]["reflow"] == __version__
    assert found["provenance"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["provenance"]["command"]
    assert found["settings"]["run_dir"] == str(project.run_dir)
    assert found["tasks"]["square"]["mem"] == "4G"
    assert found["tasks"]["square"]["dependencies"] == ["prepare"]


def test_show_is_plain_text_without_what_nobody_has_set(project, done):
    lines = project.reflow("show", done.run_id).out.splitlines()
    assert lines[0] == f"{done.run_id}  SUCCESS"
    assert "  square   [array]  cpus=1  time=00:30:00  mem=4G  <- prepare" in lines
    assert not any("retries" in line or "git" in line for line in lines)


def test_the_commit_of_the_pipelines_repository_is_recorded_and_whether_it_was_changed(project):
    git(project.folder, "init", "-q")
    git(project.folder, "add", "pipeline.py")
    git(project.folder, "commit", "-q", "-m", "first")
    commit = git(project.folder, "rev-parse", "HEAD")
    clean = shown(project, project.workflow.run_local(project.run_dir, n=1))["provenance"]
    assert (clean["git_commit"], clean["git_dirty"]) == (commit, False)
    project.file.write_text(project.file.read_text() + "\n# changed\n")
    dirty_run = project.workflow.run_local(project.run_dir, n=1)
    assert shown(project, dirty_run)["provenance"]["git_dirty"] is True
    assert f"{commit} with uncommitted changes" in project.reflow("show", dirty_run.run_id).out


def test_without_git_the_run_goes_on(project, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    made = shown(project, project.workflow.run_local(project.run_dir, n=1))["provenance"]
    assert (made["git_commit"], made["git_dirty"]) == (None, None)


def test_a_git_that_hangs_does_not_hold_up_a_submit(project, monkeypatch):
    slow = project.write("#!/bin/sh\nexec sleep 600\n", "git")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{project.folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("reflow.provenance.GIT_SECONDS", 0.2)
    made = shown(project, project.workflow.run_local(project.run_dir, n=1))["provenance"]
    assert made["git_commit"] is None


def test_show_of_an_unknown_run_is_one_line(project, done):
    outcome = project.reflow("show", "nobody")
    assert outcome.code == 1
    assert len(outcome.err.splitlines()) == 1
