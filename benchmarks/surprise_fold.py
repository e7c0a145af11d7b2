"""Fit one of Surprise's models to one fold. Runs in the peer's environment, without torch.

`python surprise_fold.py MODEL FOLD.npz` prints one line of JSON: rmse, s, versions.
"""

import random
import sys
import time

import numpy as np
from peer_side import say, versions
from surprise import SVD, Dataset, Reader, SVDpp, accuracy

MODELS = {"surprise-svd": SVD, "surprise-svdpp": SVDpp}


def main(model: str, path: str) -> None:
    fold = np.load(path)
    random.seed(0)
    np.random.seed(0)
    # The data set's reader knows the scale, to which Surprise clips its predictions.
    dataset = Dataset(Reader(rating_scale=(1, 5)))
    columns = (fold["train_user"], fold["train_item"], fold["train_rating"])
    train = dataset.construct_trainset(
        [(u, i, r, None) for u, i, r in zip(*(c.tolist() for c in columns), strict=True)]
    )
    columns = (fold["test_user"], fold["test_item"], fold["test_rating"])
    test = list(zip(*(c.tolist() for c in columns), strict=True))
    algorithm = MODELS[model](random_state=0)  # with Surprise's default hyper-parameters
    started = time.perf_counter()
    algorithm.fit(train)
    seconds = time.perf_counter() - started
    rmse = accuracy.rmse(algorithm.test(test), verbose=False)
    say(rmse=float(rmse), s=seconds, versions=versions("scikit-surprise", "numpy"))


if __name__ == "__main__":
    main(*sys.argv[1:])
