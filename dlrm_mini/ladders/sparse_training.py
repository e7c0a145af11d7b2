"""Chapter 08's experiment: what a step costs by the rows of a table, and by its optimizer's state.

    python -m dlrm_mini measure sparse-training

records `sparse_training`: times of a step (`sparse_steps`) with tables of ten thousand to ten
million rows, and the accuracy that row-wise state costs (`sparse_accuracy`). The chapter measures
the smaller tables again, live, and trains one of the models.
"""

from pathlib import Path
from typing import Any

import torch

from dlrm_mini import measurements
from dlrm_mini.ladders import sparse_accuracy, sparse_steps
from dlrm_mini.ladders.plans import one_thread
from dlrm_mini.progress import bar

DIM, BATCH, POOLING = 16, 2048, 20
ROWS = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
LIVE = tuple(rows for rows in ROWS if rows <= 1_000_000)
ZIPF = 1.05  # chapter 07's log
LAWS = {"all ids equally often": 0.0, f"Zipf, exponent {ZIPF}": ZIPF}


@one_thread()
def times(rows: tuple[int, ...], zipf: float, ways: tuple[str, ...]) -> dict[str, Any]:
    """Seconds a step on one thread, and distinct rows, for tables of so many rows.

    Args:
        rows: N of each table.
        zipf: the exponent of the ids' law.
        ways: of `sparse_steps.WAYS`.
    """
    found: dict[str, Any] = {"distinct": [], "seconds": {way: [] for way in ways}}
    for n in rows:
        given = sparse_steps.batches(n, BATCH, POOLING, zipf)
        found["distinct"].append(len(torch.unique(given[0].values)))
        for way in ways:
            found["seconds"][way].append(sparse_steps.seconds(way, n, DIM, given))
    return found


def measure(progress: bool = True) -> Path:
    """Time, train and record `sparse_training`: five minutes on one core, 4 GB of memory."""
    steps = len(ROWS) * len(LAWS) + sparse_accuracy.trainings()
    with bar(total=steps, desc="sparse-training", unit="part", disable=not progress) as shown:

        def done(found: Any) -> Any:
            shown.update()
            return found

        with one_thread():
            speed = sparse_steps.copy_speed()
        laws = {name: _by_rows(zipf, done) for name, zipf in LAWS.items()}
        results = {
            "setting": {"dim": DIM, "batch": BATCH, "pooling": POOLING, "threads": 1},
            "copy_bytes_per_second": speed,
            "rows": list(ROWS),
            "laws": laws,
            "accuracy": sparse_accuracy.compare(done),
        }
    command = "python -m dlrm_mini measure sparse-training"
    return measurements.write("sparse_training", results, command)


def _by_rows(zipf: float, done: Any) -> dict[str, Any]:
    """`times` of all `ROWS`, one after the other; dense ways do not mind which ids come."""
    ways = tuple(way for way in sparse_steps.WAYS if not (zipf and way.startswith("dense")))
    parts = [done(times((rows,), zipf, ways)) for rows in ROWS]
    return {
        "zipf": zipf,
        "distinct": [part["distinct"][0] for part in parts],
        "seconds": {way: [part["seconds"][way][0] for part in parts] for way in ways},
    }
