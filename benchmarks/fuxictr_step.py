"""FuxiCTR's DLRM in a training step. Runs in the peer's environment, see step_side.py.

The model is put together from FuxiCTR's layers, as in fuxictr_clicks.py, and a step is its
`train_step`, which also clips gradients. Its tables have dense gradients: every step reads and
writes all rows. The optimizer is SGD, whatever the plan's rule: torch has no row-wise Adagrad.
"""

import logging

import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import FeatureEmbedding, InnerProductInteraction, MLP_Block
from fuxictr.pytorch.models import BaseModel
from step_side import Plan, Rows, Side, serve
from torch import Tensor, nn

NORM = 10.0  # the default of FuxiCTR's `fit`


class DLRM(BaseModel):
    """Bottom MLP, tables, dot products, top MLP, out of FuxiCTR's parts."""

    def __init__(self, features: FeatureMap, plan: Plan) -> None:
        super().__init__(features, verbose=0, model_root="", metrics=["logloss"])
        self._max_gradient_norm = NORM
        self.dense = [name for name, spec in features.features.items() if spec["type"] == "numeric"]
        n = len(plan.rows) + 1
        self.tables = FeatureEmbedding(features, plan.dim, not_required_feature_columns=self.dense)
        *hidden, _ = plan.bottom[1:]
        self.bottom = MLP_Block(plan.n_dense, hidden, output_dim=plan.dim, output_activation="ReLU")
        self.interaction = InnerProductInteraction(n, output="inner_product")
        *hidden, _ = plan.top[1:]
        self.top = MLP_Block(
            plan.top[0], hidden, output_dim=1, output_activation=self.output_activation
        )
        self.compile("SGD", "binary_crossentropy", plan.lr)
        self.reset_parameters()

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The probabilities (B, 1), as `y_pred`."""
        columns = self.get_inputs(inputs)
        dense = self.bottom(torch.stack([columns[name] for name in self.dense], 1))
        vectors = torch.cat([self.tables(columns), dense[:, None]], dim=1)
        together = torch.cat([self.interaction(vectors), dense], dim=1)
        return {"y_pred": self.top(together)}


def features(plan: Plan) -> FeatureMap:
    """One id a row: a categorical feature; several: a sequence, whose id 0 would be padding."""
    known = FeatureMap("step", "")
    for place, (n, lookups) in enumerate(zip(plan.rows, plan.lookups, strict=True)):
        spec = {"source": "", "type": "categorical", "vocab_size": n}
        if lookups > 1:
            spec = {"source": "", "type": "sequence", "vocab_size": n + 1, "padding_idx": 0}
            spec |= {"max_len": lookups, "feature_encoder": "layers.MaskedSumPooling()"}
        known.features[f"table{place}"] = spec
    for number in range(plan.n_dense):
        known.features[f"dense{number}"] = {"source": "", "type": "numeric"}
    known.labels = ["label"]
    known.set_column_index()
    return known


def columns(plan: Plan) -> Tensor:
    """Where each input of the top MLP is among ours: the vectors and pairs have another order."""
    n = len(plan.rows) + 1
    own = [*range(1, n), 0]  # here the dense vector is the last, there the first
    pairs = [(own[a], own[b]) for a in range(n) for b in range(a + 1, n)]
    places = [plan.dim + max(p) * (max(p) - 1) // 2 + min(p) for p in pairs]
    return torch.tensor([*places, *range(plan.dim)])


def build(plan: Plan) -> Side:
    model = DLRM(features(plan), plan)

    def step(rows: Rows) -> Tensor:
        inputs = {f"dense{number}": column for number, column in enumerate(rows.dense.unbind(1))}
        ids = rows.ids.split([plan.batch_size * k for k in plan.lookups])
        for place, (mine, lookups) in enumerate(zip(ids, plan.lookups, strict=True)):
            column = mine if lookups == 1 else mine.view(-1, lookups) + 1
            inputs[f"table{place}"] = column
        return model.train_step(inputs | {"label": rows.labels}).detach()

    found = model.tables.embedding_layer.embedding_layers
    tables = [found[f"table{place}"].weight for place in range(len(plan.rows))]
    tables = [table[1:] if k > 1 else table for table, k in zip(tables, plan.lookups, strict=True)]
    mlps = [m for m in (*model.bottom.mlp, *model.top.mlp) if isinstance(m, nn.Linear)]
    return Side({"fuxictr": step}, tables, mlps, columns(plan))


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    serve(build, "fuxictr", "torch", "numpy")
