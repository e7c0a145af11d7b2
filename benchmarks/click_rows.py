"""The click task as a file for the peers: the same rows and the same features."""

import json
from pathlib import Path

import numpy as np
import torch

from dlrm_mini.datasets.batches import Batch
from dlrm_mini.datasets.clicks import ClickTask

BAG = "genres"  # the one feature with several ids a row
MOST_GENRES = 6


def write(task: ClickTask, path: Path) -> None:
    """Write what `peer_side.read` reads."""
    names = [name for name in task.cardinalities if name != BAG]
    sizes = [task.cardinalities[name] for name in names]
    about = {"names": names, "sizes": sizes, "bag_name": BAG, "bag_size": task.cardinalities[BAG]}
    arrays = {
        f"{part}_{name}": array
        for part, batch in (("train", task.train), ("test", task.test))
        for name, array in _arrays(batch, names).items()
    }
    np.savez(path, about=json.dumps(about), **arrays)


def _arrays(batch: Batch, names: list[str]) -> dict[str, np.ndarray]:
    """The columns of `peer_side.Part`."""
    ids = torch.stack([batch.sparse.ids(name) for name in names], dim=1)  # (N, F)
    genres, lengths = batch.sparse.bag(BAG).ids, batch.sparse.bag(BAG).offsets.diff()
    filled = torch.arange(MOST_GENRES) < lengths[:, None]  # (N, L)
    bag = torch.zeros(filled.shape, dtype=torch.int64)
    bag[filled] = genres + 1
    tensors = {"ids": ids, "bag": bag, "dense": batch.dense, "labels": batch.labels}
    return {name: tensor.numpy() for name, tensor in tensors.items()}
