"""How fast this project's DLRM trains on the click task: the other side of deepctr_speed.py.

`python -m benchmarks.ours_speed` answers lines BATCH_SIZE:BOTTOM/TOP, the hidden layers of both
MLPs, such as 2048:64/91, in the same way.
"""

import sys
import time

import torch

from benchmarks.peer_side import say
from dlrm_mini import hardware
from dlrm_mini.datasets import movielens, splits
from dlrm_mini.datasets.batches import Loader
from dlrm_mini.datasets.clicks import ClickTask, click_task
from dlrm_mini.models.dlrm import DLRM
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.training import fit, logistic_loss, set_seed

PACKAGES = ("dlrm-mini", "torch", "numpy")
DIM = 16


def build(task: ClickTask, hidden: str) -> DLRM:
    bottom, top = (tuple(int(width) for width in part.split(",")) for part in hidden.split("/"))
    sizes = {"bottom": (*bottom, DIM), "top": (*top, 1)}
    return DLRM(DLRMConfig(len(task.dense_names), task.cardinalities, DIM, **sizes))


def train(model: DLRM, task: ClickTask, batch_size: int) -> None:
    """One epoch."""
    fit(
        model,
        Loader(task.train, batch_size, shuffle=True),
        objective=logistic_loss,
        optimizer=torch.optim.Adam(model.parameters()),
        epochs=1,
        progress=False,
    )


def main() -> None:
    torch.set_num_threads(1)
    ml = movielens.load()
    task = click_task(ml, splits.random_split(len(ml.rating)))
    for line in sys.stdin:
        batch_size, hidden = line.strip().split(":")
        set_seed(0)
        model = build(task, hidden)
        started = time.perf_counter()
        train(model, task, int(batch_size))
        rate = len(task.train) / (time.perf_counter() - started)
        say(
            versions=hardware.versions(*PACKAGES),
            rate=rate,
            parameters=sum(p.numel() for p in model.parameters()),
        )


if __name__ == "__main__":
    main()
