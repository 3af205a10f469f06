"""Count the words of a text in chunks: fan out over the chunks, gather the counts.

python examples/wordcount.py submit --run-dir runs --chunks 100
"""

from __future__ import annotations

import csv
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

from reflow import Param, Result, RunDir, Workflow

WORDS = (
    *("the", "of", "and", "to", "in", "wave", "star", "dust", "field", "noise"),
    *("orbit", "energy", "photon", "plasma", "crystal", "protein", "enzyme", "genome"),
)

wf = Workflow("wordcount")


@wf.job(cpus=1, time="00:05:00", mem="200M")
def split(
    run_dir: RunDir,
    chunks: Annotated[int, Param(help="Number of pieces to cut the text into", short="-n")] = 20,
    lines: Annotated[int, Param(help="Number of lines of the text")] = 2_000,
    seed: Annotated[int, Param(help="Seed of the text")] = 1,
) -> list[Path]:
    """Write a text of random words, and the same text cut into chunks; return the files of the chunks."""
    text = make_text(lines, seed)
    folder = run_dir / "corpus"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "whole.txt").write_text("\n".join(text))
    files = []
    for number in range(chunks):
        file = folder / f"chunk-{number:04d}.txt"
        file.write_text("\n".join(text[number * lines // chunks : (number + 1) * lines // chunks]))
        files.append(file)
    return files


@wf.array_job(cpus=1, time="00:05:00", mem="200M")
def count(chunk: Annotated[Path, Result(step="split")]) -> dict[str, int]:
    """Return how often each word occurs in one chunk."""
    counts = Counter(chunk.read_text().split())
    print(f"{chunk.name}: {counts.total()} words")
    return dict(counts)


@wf.job(cpus=1, time="00:05:00", mem="200M")
def total(counts: Annotated[list[dict[str, int]], Result(step="count")], run_dir: RunDir) -> dict[str, int]:
    """Add the counts of all chunks, write them to totals.csv, and return them, the most frequent word first."""
    totals: Counter[str] = Counter()
    for each in counts:
        totals.update(each)
    ordered = dict(totals.most_common())
    with (run_dir / "totals.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("word", "count"), *ordered.items()])
    return ordered


def make_text(lines: int, seed: int) -> list[str]:
    """Return lines of 5 to 15 words; a word far down the list is rarer than one at its start."""
    numbers = random.Random(seed)
    weights = [1 / rank for rank in range(1, len(WORDS) + 1)]
    return [" ".join(numbers.choices(WORDS, weights, k=numbers.randint(5, 15))) for _ in range(lines)]


if __name__ == "__main__":
    sys.exit(wf.cli())
