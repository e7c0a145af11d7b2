"""What looking for ids without a row costs, as a share of a training step of DLRM.

    python -m benchmarks.id_check

A step is cutting the batch, forward, backward and optimizer, at 2048 rows of the click task. Steps
with and without the check alternate, so that a busy machine slows both alike; that difference is
small beside the noise of a step, so the check is timed alone as well, on the same batches.
"""

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from dlrm_mini import hardware
from dlrm_mini.datasets import movielens
from dlrm_mini.datasets.batches import Batch, Loader
from dlrm_mini.datasets.clicks import click_task
from dlrm_mini.datasets.splits import random_split
from dlrm_mini.embeddings import check_features
from dlrm_mini.models.dlrm import DLRM
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.shell.models import usual
from dlrm_mini.training import logistic_loss, set_seed

BATCH_SIZE = 2048
EPOCHS = 6  # of 40 steps each


def measure() -> dict[str, Any]:
    """Median milliseconds of a step with and without the check, and of the check alone.

    Returns:
        `step_ms`, `step_without_ms`, `check_ms`; `share` is `check_ms` over `step_without_ms`, and
        `share_by_difference` the median over pairs of steps of what the one with the check took
        longer, over the same. One thread.
    """
    ml = movielens.load()
    task = click_task(ml, random_split(len(ml.rating)))
    sizes = usual("dlrm", "clicks", "random")
    config = DLRMConfig(
        len(task.dense_names),
        task.cardinalities,
        sizes["dim"],
        bottom=(*sizes["bottom"], sizes["dim"]),
        top=(*sizes["top"], 1),
    )
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        step = _steps(config)
        seconds: dict[str, list[float]] = {"with": [], "without": [], "alone": []}
        loader = Loader(task.train, BATCH_SIZE, shuffle=True, drop_last=True)
        for number, rows in enumerate(row for _ in range(EPOCHS) for row in _orders(loader)):
            for arm in ("with", "without") if number % 2 else ("without", "with"):
                seconds[arm].append(_timed(step, task.train, rows, arm))
            sparse = task.train.select(rows).sparse
            seconds["alone"].append(_timed(check_features, sparse, task.cardinalities))
    finally:
        torch.set_num_threads(before)
    kept = {arm: values[len(loader) :] for arm, values in seconds.items()}  # the first warms up
    medians = {arm: 1000 * statistics.median(values) for arm, values in kept.items()}
    pairs = zip(kept["with"], kept["without"], strict=True)
    difference = 1000 * statistics.median(a - b for a, b in pairs)
    return {
        "batch_size": BATCH_SIZE,
        "steps": len(kept["with"]),
        "step_ms": round(medians["with"], 3),
        "step_without_ms": round(medians["without"], 3),
        "check_ms": round(medians["alone"], 4),
        "share": round(medians["alone"] / medians["without"], 4),
        "share_by_difference": round(difference / medians["without"], 4),
        "hardware": hardware.describe(),
    }


def _orders(loader: Loader) -> list[torch.Tensor]:
    """The rows of each batch of the loader's next epoch."""
    order, size = loader.order(), loader.batch_size
    loader.epoch += 1
    return [order[number * size : (number + 1) * size] for number in range(len(loader))]


def _steps(config: DLRMConfig) -> Callable[[Batch, torch.Tensor, str], None]:
    """A function that trains one model on some rows; the same model for both arms."""
    set_seed(0)
    model = DLRM(config)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.01)

    def step(data: Batch, rows: torch.Tensor, arm: str) -> None:
        model.tables.check = arm == "with"
        optimizer.zero_grad(set_to_none=True)
        logistic_loss(model, data.select(rows)).backward()
        optimizer.step()

    return step


def _timed(call: Callable[..., object], *arguments: object) -> float:
    started = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - started


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
