"""DeepCTR-Torch's models on the click task. Runs in the peer's environment."""

import contextlib
import io
import sys
import types

# On import DeepCTR-Torch asks a server for its newest version, with `requests`. Here it has none.
sys.modules["requests"] = types.ModuleType("requests")

import numpy as np  # noqa: E402
from deepctr_torch.inputs import DenseFeat, SparseFeat, VarLenSparseFeat  # noqa: E402
from deepctr_torch.models import DCN, DeepFM  # noqa: E402
from deepctr_torch.models.basemodel import BaseModel  # noqa: E402
from peer_side import Clicks, Part  # noqa: E402

MODELS = {"deepctr-deepfm": DeepFM, "deepctr-dcn": DCN}
PACKAGES = ("deepctr-torch", "torch", "numpy")


def build(name: str, data: Clicks, *, dim: int = 4, seed: int = 0, **setting: object) -> BaseModel:
    """A model with DeepCTR-Torch's defaults for all but what is given; 4 is its default width."""
    bag = SparseFeat(data.bag_name, data.bag_size + 1, embedding_dim=dim)
    columns = [
        *(SparseFeat(n, s, embedding_dim=dim) for n, s in zip(data.names, data.sizes, strict=True)),
        VarLenSparseFeat(bag, maxlen=data.train.bag.shape[1], combiner="sum"),
        DenseFeat("dense", data.train.dense.shape[1]),
    ]
    model = MODELS[name](columns, columns, seed=seed, **setting)
    model.compile("adam", "binary_crossentropy", metrics=["binary_crossentropy", "auc"])
    return model


def inputs(data: Clicks, part: Part) -> dict[str, np.ndarray]:
    named = {name: part.ids[:, place] for place, name in enumerate(data.names)}
    return named | {data.bag_name: part.bag, "dense": part.dense}


def train(model: BaseModel, data: Clicks, batch_size: int, epochs: int, verbose: int = 0) -> None:
    """Train with its own loop; with `verbose` it computes its metrics for every batch as well."""
    rows, labels = inputs(data, data.train), data.train.labels
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        model.fit(rows, labels, batch_size, epochs, verbose=verbose)
