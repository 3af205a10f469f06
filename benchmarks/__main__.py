"""Run the benchmarks that are named on the command line, or all, and print one table each."""

from __future__ import annotations

import sys

from . import (
    bench_cache,
    bench_chain,
    bench_contention,
    bench_local,
    bench_million,
    bench_slurm,
    bench_start,
    bench_status,
    bench_submit,
)

BENCHMARKS = {
    "start": bench_start.measure,
    "local": bench_local.measure,
    "submit": bench_submit.measure,
    "status": bench_status.measure,
    "contention": bench_contention.measure,
    "million": bench_million.measure,
    "chain": bench_chain.measure,
    "cache": bench_cache.measure,
    "slurm": bench_slurm.measure,
}


def main(names: list[str]) -> int:
    """Measure and print; return the exit code."""
    unknown = sorted(set(names) - set(BENCHMARKS))
    if unknown:
        print(f"no benchmark '{unknown[0]}': use {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    for name in names or BENCHMARKS:
        print(BENCHMARKS[name](), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
