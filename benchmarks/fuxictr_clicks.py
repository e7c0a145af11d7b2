"""Train DLRM with FuxiCTR on the click task. Runs in the peer's environment.

`python fuxictr_clicks.py fuxictr-dlrm FOLDER SEEDS`: arguments and output as in deepctr_clicks.py.
FuxiCTR's package carries layers, loader and training loop, but its DLRM lives in the repository's
model zoo, which is not installed: here it is put together from FuxiCTR's layers, with the sizes and
the learning rate that the model zoo has as defaults.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.layers import FeatureEmbedding, InnerProductInteraction, MLP_Block
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.torch_utils import seed_everything
from peer_side import Clicks, Part, choose_epochs, read, say, versions
from torch import Tensor

PACKAGES = ("fuxictr", "torch", "numpy")
BATCH_SIZE, DIM, HIDDEN, LEARNING_RATE = 256, 10, [64, 64, 64], 1e-3
NEVER = 10**9  # steps between evaluations: the epochs are chosen here, as for the other peers


class DLRM(BaseModel):
    """Bottom MLP, tables, dot products, top MLP, out of FuxiCTR's parts."""

    def __init__(self, features: FeatureMap, n_dense: int) -> None:
        super().__init__(
            features, eval_steps=NEVER, verbose=0, model_root="", metrics=["logloss", "AUC"]
        )
        self.dense = [name for name, spec in features.features.items() if spec["type"] == "numeric"]
        n_vectors = len(features.features) - n_dense + 1
        self.tables = FeatureEmbedding(features, DIM, not_required_feature_columns=self.dense)
        self.bottom = MLP_Block(n_dense, HIDDEN, output_dim=DIM, output_activation="ReLU")
        self.interaction = InnerProductInteraction(n_vectors, output="inner_product")
        pairs = n_vectors * (n_vectors - 1) // 2
        self.top = MLP_Block(
            pairs + DIM, HIDDEN, output_dim=1, output_activation=self.output_activation
        )
        self.compile("adam", "binary_crossentropy", LEARNING_RATE)
        self.reset_parameters()

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The probabilities (B, 1), as `y_pred`."""
        columns = self.get_inputs(inputs)
        dense = self.bottom(torch.stack([columns[name] for name in self.dense], 1).float())
        vectors = torch.cat([self.tables(columns), dense[:, None]], dim=1)
        together = torch.cat([self.interaction(vectors), dense], dim=1)
        return {"y_pred": self.top(together)}

    def load_weights(self, checkpoint: str) -> None:
        """`fit` ends with the best checkpoint; there is none, the last weights are wanted."""


def features(data: Clicks, folder: Path) -> FeatureMap:
    known = FeatureMap("clicks", str(folder))
    for name, size in zip(data.names, data.sizes, strict=True):
        known.features[name] = {"source": "", "type": "categorical", "vocab_size": size}
    known.features[data.bag_name] = {
        **{"source": "", "type": "sequence", "vocab_size": data.bag_size + 1, "padding_idx": 0},
        **{"max_len": data.train.bag.shape[1], "feature_encoder": "layers.MaskedSumPooling()"},
    }
    for number in range(data.train.dense.shape[1]):
        known.features[f"dense_{number}"] = {"source": "", "type": "numeric"}
    known.labels = ["label"]
    known.set_column_index()
    return known


def write(data: Clicks, part: Part, path: Path) -> str:
    """The rows in the form that FuxiCTR's loader reads."""
    columns = {name: part.ids[:, place] for place, name in enumerate(data.names)}
    dense = {f"dense_{number}": column for number, column in enumerate(part.dense.T)}
    np.savez(path, **columns, **{data.bag_name: part.bag}, **dense, label=part.labels)
    return str(path)


def main(name: str, folder: Path, seeds: int) -> None:
    torch.set_num_threads(1)
    settings = {"batch_size": BATCH_SIZE, "num_workers": 0}

    def ready(file: str) -> tuple[Clicks, FeatureMap, dict[str, str]]:
        data = read(folder / file)
        written = {p: write(data, getattr(data, p), folder / f"fuxictr-{p}.npz") for p in PARTS}
        return data, features(data, folder), written

    def loader(known: FeatureMap, path: str) -> object:
        return RankDataLoader(known, "train", train_data=path, shuffle=True, **settings)[0]

    def unshuffled(known: FeatureMap, path: str) -> object:
        return RankDataLoader(known, "test", test_data=path, **settings)

    data, known, paths = ready("choose.npz")
    seed_everything(0)
    model = DLRM(known, data.train.dense.shape[1])
    train, test = loader(known, paths["train"]), unshuffled(known, paths["test"])
    epochs = choose_epochs(lambda: model.fit(train), lambda: model.predict(test), data.test.labels)
    data, known, paths = ready("rows.npz")
    seconds, predicted = [], []
    for seed in range(seeds):
        started = time.perf_counter()
        seed_everything(seed)
        model = DLRM(known, data.train.dense.shape[1])
        model.fit(loader(known, paths["train"]), epochs=epochs)
        seconds.append(time.perf_counter() - started)
        predicted.append(model.predict(unshuffled(known, paths["test"])))
    np.save(folder / f"{name}.npy", predicted)
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    say(versions=versions(*PACKAGES), s=seconds, epochs=epochs, parameters=parameters)


PARTS = ("train", "test")

if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
