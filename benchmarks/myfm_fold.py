"""Fit myFM's Bayesian factorization machine to one fold. Runs in the peer's environment.

`python myfm_fold.py FOLD.npz` prints one line of JSON: rmse, s, versions. The file holds a sparse
matrix of ones and `group_sizes`, the columns of each feature, which get a prior of their own.
"""

import sys
import time

import myfm
import numpy as np
from peer_side import say, versions
from scipy.sparse import csr_matrix

RANK, SAMPLES = 10, 300  # those of the published figures that the course cites


def main(path: str) -> None:
    fold = np.load(path)
    groups = fold["group_sizes"].tolist()
    train, test = (
        csr_matrix(
            (np.ones(len(fold[f"{p}_columns"])), fold[f"{p}_columns"], fold[f"{p}_offsets"]),
            shape=(len(fold[f"{p}_rating"]), sum(groups)),
        )
        for p in ("train", "test")
    )
    model = myfm.MyFMRegressor(rank=RANK, random_seed=0)
    started = time.perf_counter()
    model.fit(
        train, fold["train_rating"], n_iter=SAMPLES, n_kept_samples=SAMPLES, group_shapes=groups
    )
    seconds = time.perf_counter() - started
    # Clipped to the scale, as Surprise clips. Ours are not: the peers have this advantage.
    error = model.predict(test).clip(1, 5) - fold["test_rating"]
    rmse = float(np.sqrt(np.mean(error**2)))
    say(rmse=rmse, s=seconds, versions=versions("myfm", "numpy"))


if __name__ == "__main__":
    main(*sys.argv[1:])
