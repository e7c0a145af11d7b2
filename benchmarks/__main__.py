"""Run the benchmarks: all of them, or those that are named; write `build/bench.json`."""

import sys
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import (
    click_speed,
    clicks,
    criteo_prepare,
    mf_fold,
    parallel_step,
    ratings,
    report,
    step_kaggle,
    step_profile,
    step_rows,
    synthetic_speed,
)
from dlrm_mini.errors import UserError
from dlrm_mini.paths import build_dir

# A benchmark gets the folder for its files and returns what it measured.
BENCHMARKS: dict[str, Callable[[Path], list[report.Row]]] = {
    module.NAME: module.run
    for module in (
        mf_fold,
        ratings,
        clicks,
        click_speed,
        synthetic_speed,
        criteo_prepare,
        step_profile,
        step_kaggle,
        step_rows,
        parallel_step,
    )
}


def main(names: list[str], folder: Path | None = None) -> int:
    folder = folder or build_dir()
    torch.set_num_threads(1)
    unknown = set(names) - set(BENCHMARKS)
    try:
        if unknown:
            raise UserError(f"no benchmark {', '.join(unknown)}; there is {', '.join(BENCHMARKS)}.")
        rows = [row for name in names or BENCHMARKS for row in BENCHMARKS[name](folder)]
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    print(report.table(rows))
    print(f"written: {report.write(rows, folder / 'bench.json')}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
