"""What the rows of a table have to do with the time of an embedding step: nothing, but for caches.

Two tables, 32 wide, are looked up, pooled and updated with SGD, with 10 thousand to 10 million rows
each and the same 204,800 lookups. Without model or loss: the gradient of the pooled vectors is
there already. Beside ours are plain torch with sparse gradients and, up to a million rows, with
dense ones. All sizes are in memory at once and take turns, a process for each arm.

`python -m benchmarks.step_rows ARM` answers lines `ROWS SECONDS` with the ms of a step.
"""

import contextlib
import os
import statistics
import sys
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks import arms, peer_env, steps
from benchmarks.arms import Measured, Outcome
from benchmarks.report import Row
from benchmarks.step_side import BATCHES, Plan, Rows, batch, say, timed
from dlrm_mini import hardware, style
from dlrm_mini.models.dlrm_description import human

NAME = "step-rows"
TABLES, DIM, LOOKUPS = 2, 32, 50
SIZES = {"10k": 10_000, "100k": 100_000, "1M": 1_000_000, "10M": 10_000_000}
DENSE, DENSE_ROWS = "torch-dense", 1_000_000  # more rows take seconds a step
ARMS = {"ours": style.BLUE, "torch-sparse": style.ORANGE, DENSE: style.RED}
SMALLEST = "times_10k"
PACKAGES = ("dlrm-mini", "torch", "numba")


def run(folder: Path) -> list[Row]:
    """Measure, draw the picture, return the rows."""
    folder.mkdir(parents=True, exist_ok=True)
    threads = steps.threads()
    with contextlib.ExitStack() as workers:
        asks = {}
        for arm in ARMS:
            worker = peer_env.Worker([sys.executable, "-m", "benchmarks.step_rows", arm], threads)
            workers.enter_context(contextlib.closing(worker))
            for size, rows in SIZES.items():
                if arm != DENSE or rows <= DENSE_ROWS:
                    asks[f"{arm} {size}"] = ask(worker, rows)
        outcome = arms.alternate(asks, range(steps.REPETITIONS + 1), "repetition")
    rows = to_rows(outcome, threads)
    draw(rows).savefig(folder / f"bench-{NAME}.png")
    return rows


def ask(worker: peer_env.Worker, rows: int) -> Callable[[int], Measured]:
    versions = hardware.versions(*PACKAGES)
    return lambda _: Measured(worker.ask(f"{rows} {steps.SECONDS / 3}"), versions)


def build(arm: str, rows: int) -> Callable[[], object]:
    """A step of the tables alone, on another batch at each call."""
    plan = Plan(1, (rows,) * TABLES, (LOOKUPS,) * TABLES, DIM, (1, DIM), (1, 1), "sgd")
    torch.manual_seed(0)
    gradient = torch.randn(plan.batch_size, TABLES, DIM)
    batches = cycle([batch(plan, seed) for seed in range(BATCHES)])
    pooled, optimizer = _ours(plan) if arm == "ours" else _torch(plan, sparse=arm != DENSE)

    def step() -> None:
        optimizer.zero_grad()
        pooled(next(batches)).backward(gradient)
        optimizer.step()

    return step


Tables = tuple[Callable[[Rows], Tensor], torch.optim.Optimizer]


def _ours(plan: Plan) -> Tables:
    from dlrm_mini import optimizers
    from dlrm_mini.datasets.sparse import SparseFeatures
    from dlrm_mini.embeddings import FusedEmbeddingTables

    names = tuple(f"table{place}" for place in range(TABLES))
    tables = FusedEmbeddingTables(dict(zip(names, plan.rows, strict=True)), DIM)
    optimizer = optimizers.SGD(tables.parameters(), lr=plan.lr)
    tables.fuse(optimizer)
    return lambda rows: tables(SparseFeatures(names, rows.ids, rows.offsets)), optimizer


def _torch(plan: Plan, *, sparse: bool) -> Tables:
    from benchmarks.torch_step import Bags

    tables = Bags(plan, sparse=sparse)
    optimizer = torch.optim.SGD(tables.parameters(), lr=plan.lr)
    return lambda rows: tables(rows.ids, rows.offsets), optimizer


def to_rows(outcome: Outcome, threads: int) -> list[Row]:
    """Medians, and how many times as long as with the smallest tables, within a repetition."""
    machine, rows = hardware.describe(), []
    smallest = next(iter(SIZES))
    note = (
        f"{TABLES} tables, {DIM} wide, {2048 * LOOKUPS * TABLES:,} uniform lookups, SGD; forward "
        f"and update, {threads} threads; tables that fit the caches are faster"
    )
    for key, jobs in outcome.measured.items():
        arm, size = key.split()
        values = {"ms": ([job.values["ms"] for job in jobs[1:]], "ms")}
        if first := outcome.measured.get(f"{arm} {smallest}"):
            both = zip(jobs[1:], first[1:], strict=True)
            values[SMALLEST] = ([a.values["ms"] / b.values["ms"] for a, b in both], "times")
        for metric, (found, unit) in values.items():
            spread = statistics.stdev(found) if len(found) > 1 else None
            about = (unit, machine, jobs[0].versions, f"{note}; median of {len(found)}")
            rows.append(
                Row(f"{NAME}-{size}", arm, metric, statistics.median(found), spread, *about)
            )
    for key, why in outcome.missing.items():
        arm, size = key.split()
        rows += arms.to_rows(f"{NAME}-{size}", Outcome({}, {arm: why}), {})
    return rows


def draw(rows: list[Row]) -> Figure:
    """The time of a step against the rows of a table, both axes logarithmic."""
    style.use()
    figure = Figure(figsize=(7.5, 4.2), dpi=100)
    axes = figure.subplots()
    found = {(row.benchmark, row.arm): row for row in rows if row.metric == "ms"}
    for arm, colour in ARMS.items():
        shown = {n: found[f"{NAME}-{size}", arm] for size, n in SIZES.items()
                 if (f"{NAME}-{size}", arm) in found}  # fmt: skip
        values = [row.value or 0 for row in shown.values()]
        spread = [row.spread or 0 for row in shown.values()]
        axes.errorbar(list(shown), values, spread, color=colour, marker="o", capsize=3, label=arm)
    sizes = [human(4 * TABLES * DIM * rows, "B") for rows in SIZES.values()]
    labels = [f"{name}\n{size}" for name, size in zip(SIZES, sizes, strict=True)]
    axes.set(xscale="log", yscale="log", title="An embedding step against the size of its tables")
    axes.set_xticks(list(SIZES.values()), labels)
    axes.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("rows of each of two tables, and bytes of both")
    axes.set_ylabel(f"ms a step of {2048 * LOOKUPS * TABLES:,} lookups")
    axes.legend()
    return figure


def main(arm: str) -> None:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    built: dict[int, Callable[[], object]] = {}
    for line in sys.stdin:
        rows, seconds = line.split()
        if int(rows) not in built:
            built[int(rows)] = build(arm, int(rows))
        say({"ms": timed(built[int(rows)], float(seconds))})


if __name__ == "__main__":
    main(sys.argv[1])
