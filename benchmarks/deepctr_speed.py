"""How fast DeepCTR-Torch trains. Runs in the peer's environment.

`python deepctr_speed.py MODEL FILE` answers each line BATCH_SIZE:HIDDEN:VERBOSE on standard input,
such as 2048:256,128:0, with one of JSON, until there are no more: it trains one epoch on the
training rows of FILE, with tables 16 wide and these hidden layers, and says rate (samples a
second), parameters, versions. With VERBOSE 1 it also computes logloss and AUC of every batch, which
its `fit` does unless it is silenced. The clock runs from the arrays in memory to the end of the
epoch; building the model is not counted.
"""

import sys
import time
from pathlib import Path

import torch
from deepctr_models import PACKAGES, build, train
from peer_side import read, say, versions

DIM = 16


def main(name: str, file: Path) -> None:
    torch.set_num_threads(1)
    data = read(file)
    for line in sys.stdin:
        batch_size, hidden, verbose = line.strip().split(":")
        widths = tuple(int(width) for width in hidden.split(","))
        model = build(name, data, dim=DIM, dnn_hidden_units=widths)
        started = time.perf_counter()
        train(model, data, int(batch_size), epochs=1, verbose=int(verbose))
        rate = len(data.train.labels) / (time.perf_counter() - started)
        say(
            versions=versions(*PACKAGES),
            rate=rate,
            parameters=sum(p.numel() for p in model.parameters()),
        )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
