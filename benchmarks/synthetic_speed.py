"""How fast the synthetic click log is drawn: rows a second on one core and on two, and as text.

The log has the shape of Criteo's Kaggle data at its full cardinalities: 26 fields with one id a
row, 13 dense columns, all three orders planted. A row is complete when it stands in a `Batch`, with
its true probability. The arms take turns; values are medians of the repetitions.
"""

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.report import Row
from dlrm_mini import hardware
from dlrm_mini.datasets import synthetic_text
from dlrm_mini.datasets.synthetic import ClickLog, ClickLogConfig

NAME = "synthetic"
ROWS, BATCH = 2**20, 2**13
REPETITIONS = 7
CONFIG = ClickLogConfig(third=0.4)


def run(folder: Path) -> list[Row]:
    """Measure, return the rows."""
    folder.mkdir(parents=True, exist_ok=True)
    one, two = ClickLog(CONFIG, threads=1), ClickLog(CONFIG, threads=2)
    arms: dict[str, Callable[[], None]] = {
        "one-core": lambda: draw(one),
        "two-cores": lambda: draw(two),
        "text-one-core": lambda: write(one, folder),
    }
    rates: dict[str, list[float]] = {arm: [] for arm in arms}
    for repetition in range(REPETITIONS + 1):  # the first warms up
        for arm, work in arms.items():
            start = time.perf_counter()
            work()
            if repetition:
                rates[arm].append(ROWS / (time.perf_counter() - start))
    return to_rows(rates)


def draw(log: ClickLog) -> None:
    """All rows, a batch at a time."""
    for start in range(0, ROWS, BATCH):
        log.batch(start, start + BATCH)


def write(log: ClickLog, folder: Path) -> None:
    """All rows as Criteo's text, on the disk of `folder`."""
    path = folder / "bench-synthetic.txt"
    synthetic_text.write(log, path, 0, ROWS, progress=False).unlink()


def to_rows(rates: dict[str, list[float]]) -> list[Row]:
    """Medians of the rates."""
    machine, versions = hardware.describe(), hardware.versions("numba", "numpy", "torch")
    note = (
        f"26 fields with one id a row, 13 dense columns, {ROWS} rows, {BATCH} a batch; "
        f"median of {REPETITIONS}; load of the machine {os.getloadavg()[0]:.1f}"
    )
    about = ("rows/s", machine, versions, note)
    return [
        Row(NAME, arm, "rows_per_s", statistics.median(values), statistics.stdev(values), *about)
        for arm, values in rates.items()
    ]
