"""What the scripts for the peers share. Runs in the peers' environments, with numpy alone."""

import json
import platform
from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

MOST_EPOCHS, PATIENCE = 12, 2


@dataclass(frozen=True)
class Part:
    """Some rows of the click task.

    Attributes:
        ids: (N, F) int64, the features with one id a row.
        bag: (N, L) int64, the multi-hot feature: ids plus one, filled up with 0.
        dense: (N, n_dense) float32.
        labels: (N,) float32, 0 or 1.
    """

    ids: np.ndarray
    bag: np.ndarray
    dense: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Clicks:
    """What `click_rows.write` wrote.

    Attributes:
        train: rows to train on.
        test: rows to judge or to choose on.
        names: of the columns of `ids`.
        sizes: the number of ids of each of them.
        bag_name: of the multi-hot feature.
        bag_size: the number of its ids.
    """

    train: Part
    test: Part
    names: list[str]
    sizes: list[int]
    bag_name: str
    bag_size: int


def read(path: Path) -> Clicks:
    with np.load(path) as file:
        train, test = (
            Part(*(file[f"{part}_{field.name}"] for field in fields(Part)))
            for part in ("train", "test")
        )
        return Clicks(train, test, **json.loads(str(file["about"])))


def choose_epochs(
    train_one: Callable[[], None], predict: Callable[[], np.ndarray], labels: np.ndarray
) -> int:
    """Train epoch by epoch until the validation logloss has not fallen twice; the best number.

    Args:
        train_one: trains one more epoch.
        predict: the probabilities (N,) of the validation rows.
        labels: (N,) theirs.
    """
    best, best_loss = 0, np.inf
    for epoch in range(1, MOST_EPOCHS + 1):
        train_one()
        p = predict().astype(np.float64).clip(1e-7, 1 - 1e-7)
        loss = -np.mean(np.where(labels == 1, np.log(p), np.log(1 - p)))
        if loss < best_loss:
            best, best_loss = epoch, loss
        elif epoch - best >= PATIENCE:
            break
    return best


def versions(*packages: str) -> dict[str, str]:
    """The versions of Python and of the named packages."""
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def say(**measured: Any) -> None:
    """Hand what was measured to the benchmark: a line of JSON on standard output."""
    print(json.dumps(measured), flush=True)
