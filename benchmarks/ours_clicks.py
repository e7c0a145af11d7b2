"""Train one of this project's models on the click task: the other side of deepctr_clicks.py.

`python -m benchmarks.ours_clicks ours-MODEL FOLDER SEEDS SPLIT` prints the same line of JSON, and
leaves the probabilities in the same place. The settings, epochs among them, are those that
`python -m dlrm_mini measure clicks-search` chose for the split on validation rows.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.peer_side import say
from dlrm_mini import hardware
from dlrm_mini.datasets import movielens
from dlrm_mini.datasets.clicks import click_task
from dlrm_mini.ladders.click_models import CHOSEN, FITTERS
from dlrm_mini.ladders.clicks import click_split
from dlrm_mini.training import predict

PACKAGES = ("dlrm-mini", "torch", "numpy")


def main(name: str, folder: Path, seeds: int, split: str) -> None:
    torch.set_num_threads(1)
    ml = movielens.load()
    task = click_task(ml, click_split(ml, split))
    model_name = name.removeprefix("ours-")
    setting = CHOSEN[split][model_name]
    seconds, predicted = [], []
    for seed in range(seeds):
        started = time.perf_counter()
        model, _ = FITTERS[model_name](task, seed, setting)
        seconds.append(time.perf_counter() - started)
        predicted.append(predict(model, task.test).double().sigmoid().numpy())
    np.save(folder / f"{name}.npy", predicted)
    parameters = sum(p.numel() for p in model.parameters())
    say(
        versions=hardware.versions(*PACKAGES),
        s=seconds,
        epochs=setting.epochs,
        parameters=parameters,
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
