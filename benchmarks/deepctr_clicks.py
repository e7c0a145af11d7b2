"""Train one of DeepCTR-Torch's models on the click task. Runs in the peer's environment.

`python deepctr_clicks.py MODEL FOLDER SEEDS` prints one line of JSON: s (one a seed), epochs,
parameters, versions. The epochs are chosen on the test rows of FOLDER/choose.npz; then all training
rows of FOLDER/rows.npz are trained on, and the probabilities (seeds, N) of its test rows go to
FOLDER/MODEL.npy. All settings are DeepCTR-Torch's defaults. The seconds begin with the arrays in
memory and end with the trained model.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from deepctr_models import PACKAGES, build, inputs, train
from peer_side import choose_epochs, read, say, versions

BATCH_SIZE = 256


def main(name: str, folder: Path, seeds: int) -> None:
    torch.set_num_threads(1)
    data = read(folder / "choose.npz")
    model = build(name, data)
    epochs = choose_epochs(
        lambda: train(model, data, BATCH_SIZE, epochs=1),
        lambda: model.predict(inputs(data, data.test), 4096)[:, 0],
        data.test.labels,
    )
    data = read(folder / "rows.npz")
    seconds, predicted = [], []
    for seed in range(seeds):
        started = time.perf_counter()
        model = build(name, data, seed=seed)
        train(model, data, BATCH_SIZE, epochs)
        seconds.append(time.perf_counter() - started)
        predicted.append(model.predict(inputs(data, data.test), 4096)[:, 0])
    np.save(folder / f"{name}.npy", predicted)
    parameters = sum(p.numel() for p in model.parameters())
    say(versions=versions(*PACKAGES), s=seconds, epochs=epochs, parameters=parameters)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
