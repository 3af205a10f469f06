"""The examples give the results that anyone can work out without them."""

from __future__ import annotations

import csv
import math
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from reflow import RunState
from reflow.code import load_file
from reflow.stores.sqlite import SqliteStore

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

workers = pytest.mark.parametrize("max_workers", [1, 2])


def load(name: str) -> ModuleType:
    return load_file(EXAMPLES / f"{name}.py")


@pytest.fixture
def store(tmp_path):
    with SqliteStore.for_run_dir(tmp_path) as store:
        yield store


@workers
def test_word_count_of_the_chunks_is_that_of_the_whole_text(tmp_path, store, max_workers):
    run = load("wordcount").wf.run_local(tmp_path, store=store, max_workers=max_workers, chunks=7, lines=100)
    expected = Counter((tmp_path / "corpus" / "whole.txt").read_text().split())
    assert run.state is RunState.SUCCESS
    assert run.results("total") == expected
    assert len(run.results("count")) == 7
    with (tmp_path / "totals.csv").open() as file:
        assert {row["word"]: int(row["count"]) for row in csv.DictReader(file)} == expected


def test_word_count_of_no_chunks_is_empty(tmp_path, store):
    run = load("wordcount").wf.run_local(tmp_path, store=store, chunks=0)
    assert run.state is RunState.SUCCESS
    assert run.results("count") == []
    assert run.results("total") == {}


def test_second_word_count_in_the_same_folder_runs_nothing_again(tmp_path, store):
    wf = load("wordcount").wf
    first = wf.run_local(tmp_path, store=store, chunks=5, lines=50)
    second = wf.run_local(tmp_path, store=store, chunks=5, lines=50)
    cached = {task.task_name: task.cached for task in store.summarize(second.run_id)}
    assert cached == {"split": 1, "count": 5, "total": 1}
    assert second.results("total") == first.results("total")


def test_chunk_that_was_changed_since_is_written_anew_and_not_taken_from_the_cache(tmp_path, store):
    wf = load("wordcount").wf
    wf.run_local(tmp_path, store=store, chunks=5, lines=50)
    with (tmp_path / "corpus" / "chunk-0003.txt").open("a") as file:
        file.write(" neutrino")
    again = wf.run_local(tmp_path, store=store, chunks=5, lines=50)
    # The file is an output of `split`, so `split` runs again.
    assert "neutrino" not in again.results("total")
    assert "neutrino" not in (tmp_path / "corpus" / "chunk-0003.txt").read_text()


@workers
def test_sweep_finds_the_periods_and_exponents_that_theory_gives(tmp_path, store, max_workers):
    run = load("sweep").wf.run_local(tmp_path, store=store, max_workers=max_workers, rates=13, settle=3_000)
    found = {round(each.rate, 6): each for each in run.results("analyse")}
    assert run.state is RunState.SUCCESS
    assert len(found) == 13
    # Below 3 the orbit rests at 1 - 1/r, where the slope of the map is 2 - r.
    assert found[2.8].period == 1
    assert found[2.8].lyapunov == pytest.approx(math.log(0.8))
    # From 3 to 1 + sqrt(6) it alternates between two points; the slope over both is 4 + 2 r - r^2.
    assert found[3.2].period == 2
    assert found[3.2].lyapunov == pytest.approx(math.log(abs(4 + 2 * 3.2 - 3.2**2)) / 2)
    assert found[3.5].period == 4
    # At 4 it is chaotic, with the exponent ln 2.
    assert found[4.0].period == 0
    assert found[4.0].lyapunov == pytest.approx(math.log(2), abs=0.05)


def test_sweep_leaves_a_table_and_a_plot(tmp_path, store):
    run = load("sweep").wf.run_local(tmp_path, store=store, rates=13, settle=3_000)
    table, plot = run.results("report")
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["rate"]) for row in rows] == pytest.approx([2.8 + 0.1 * step for step in range(13)])
    assert rows[0]["period"] == "1"
    dots = ElementTree.parse(plot).getroot().findall("{http://www.w3.org/2000/svg}circle")
    across = Counter(dot.get("cx") for dot in dots)
    assert len(across) == 13
    assert list(across.values())[4] == 2, "at a rate of 3.2 the orbit has two points"


@workers
def test_preprocess_compares_the_stations_without_the_broken_sensor(tmp_path, store, max_workers):
    run = load("preprocess").wf.run_local(
        tmp_path,
        store=store,
        max_workers=max_workers,
        north_measure_latitude=60.0,
        south_measure_latitude=30.0,
        days=40,
    )
    assert run.state is RunState.SUCCESS
    assert len(run.results("north_clean")) == len(run.results("south_clean")) == 40
    assert min(min(day.temperatures) for day in run.results("north_clean")) >= 30 * 0.5 - 6 - 1e-9
    means = run.results("compare")
    # At 15 h it is 30 cos(latitude) + 6 degrees; a day whose reading of 15 h is lost has a little less.
    assert means[60.0] == pytest.approx(30 * 0.5 + 6, abs=0.1)
    assert means[30.0] == pytest.approx(30 * math.sqrt(3) / 2 + 6, abs=0.1)


def test_flow_with_one_station_missing_names_the_flag(tmp_path, store):
    with pytest.raises(TypeError, match="--south-measure-latitude"):
        load("preprocess").wf.run_local(tmp_path, store=store, north_measure_latitude=60.0)


def test_demo_without_slurm_runs_here_and_shows_the_words(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    shown = subprocess.run(
        [sys.executable, str(EXAMPLES / "demo.py")], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    (run_dir,) = tmp_path.iterdir()
    assert shown.returncode == 0, shown.stderr
    assert str(run_dir) in shown.stdout
    assert "SUCCESS" in shown.stdout
    most_frequent = Counter((run_dir / "corpus" / "whole.txt").read_text().split()).most_common(1)[0]
    assert shown.stdout.split("The most frequent words:")[1].split()[:2] == [most_frequent[0], str(most_frequent[1])]


def test_first_pipeline_of_the_readme_runs_and_has_its_option(tmp_path):
    readme = (EXAMPLES.parent / "README.md").read_text()
    pipeline = tmp_path / "squares.py"
    pipeline.write_text(readme.split("```python\n")[1].split("```")[0])
    with SqliteStore.for_run_dir(tmp_path / "runs") as store:
        run = load_file(pipeline).wf.run_local(tmp_path / "runs", store=store, count=12)
        assert run.results("total") == sum(number**2 for number in range(12))
    shown = subprocess.run(
        [sys.executable, str(pipeline), "submit", "--help"], capture_output=True, text=True, check=False
    )
    assert "--count" in shown.stdout
