"""FBGEMM's fused operator in a training step. Runs in the peer's environment, see step_side.py.

The tables and their optimizer are one operator of FBGEMM's on the CPU, the MLPs plain torch.
TorchRec's fused tables run this same operator.
"""

import torch
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation, PoolingMode
from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
    ComputeDevice,
    SplitTableBatchedEmbeddingBagsCodegen,
)
from step_side import Plain, Plan, Side, serve, step_of
from torch import Tensor

RULES = {
    "sgd": EmbOptimType.EXACT_SGD,
    "rowwise_adagrad": EmbOptimType.EXACT_ROWWISE_ADAGRAD,
}


def build(plan: Plan) -> Side:
    bags = SplitTableBatchedEmbeddingBagsCodegen(
        [(n, plan.dim, EmbeddingLocation.HOST, ComputeDevice.CPU) for n in plan.rows],
        optimizer=RULES[plan.rule],
        learning_rate=plan.lr,
        eps=plan.eps,
        pooling_mode=PoolingMode.SUM,
        device=torch.device("cpu"),
    )

    def tables(ids: Tensor, offsets: Tensor) -> Tensor:
        return bags(ids, offsets).view(-1, len(plan.rows), plan.dim)

    model = Plain(plan, tables)
    mlps = list(
        model.parameters()
    )  # the tables are in no list of parameters: they update themselves
    optimizer: torch.optim.Optimizer = torch.optim.SGD(mlps, lr=plan.lr)
    if plan.rule == "rowwise_adagrad":
        optimizer = torch.optim.Adagrad(mlps, lr=plan.lr, eps=plan.eps)
    steps = {"fbgemm": step_of(model, [optimizer])}
    return Side(steps, list(bags.split_embedding_weights()), model.linear())


if __name__ == "__main__":
    serve(build, "fbgemm-gpu-cpu", "torch", "numpy")
