"""Our side of a training step, see step_side.py."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.step_side import Plan, Rows, Side, serve
from dlrm_mini import optimizers
from dlrm_mini.datasets.batches import Batch, SparseFeatures
from dlrm_mini.embeddings import FusedEmbeddingTables
from dlrm_mini.models.dlrm import DLRM
from dlrm_mini.models.dlrm_config import DLRMConfig


def build(plan: Plan) -> Side:
    """The model of the package, fused tables, and one step with and one without bfloat16."""
    names = tuple(f"table{place}" for place in range(len(plan.rows)))
    config = DLRMConfig(
        plan.n_dense,
        dict(zip(names, plan.rows, strict=True)),
        plan.dim,
        bottom=plan.bottom[1:],
        top=plan.top[1:],
    )
    model = DLRM(config, tables=FusedEmbeddingTables(config.cardinalities, config.dim))
    optimizer: torch.optim.Optimizer = optimizers.SGD(model.parameters(), lr=plan.lr)
    if plan.rule == "rowwise_adagrad":
        optimizer = optimizers.RowWiseAdagrad(model.parameters(), lr=plan.lr, eps=plan.eps)
    model.tables.fuse(optimizer)

    def step(rows: Rows, bf16: bool = False) -> torch.Tensor:
        # A new batch each time, as a loader gives it: nothing that it remembers is used twice.
        batch = Batch(rows.dense, SparseFeatures(names, rows.ids, rows.offsets), rows.labels)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model(batch)
        loss = F.binary_cross_entropy_with_logits(logits.float(), rows.labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return Side(
        {"ours": step, "ours-bf16": lambda rows: step(rows, bf16=True)},
        [model.tables.tables[name] for name in names],
        [layer for layer in (*model.bottom, *model.top) if isinstance(layer, nn.Linear)],
    )


if __name__ == "__main__":
    serve(build, "dlrm-mini", "torch", "numba", "numpy")
