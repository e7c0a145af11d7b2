"""A model, a batch size and a way to train: what is measured, and what is predicted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch

from dlrm_mini import optimizers
from dlrm_mini.datasets.batches import Batch
from dlrm_mini.embeddings import FusedEmbeddingTables
from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm import DLRM, random_batch
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.training_step import DensePart, Precision, TrainingStep

Tables = Literal["dense", "sparse", "fused"]
Rule = Literal["sgd", "rowwise_adagrad"]


@dataclass(frozen=True)
class Workload:
    """What a step has to do.

    Attributes:
        config: the model; its `lookups` say how many ids a bag holds.
        batch_size: B.
        tables: nn.EmbeddingBag with dense or with sparse gradients, or fused tables.
        rule: of the tables; the MLPs take the same (Adagrad for "rowwise_adagrad").
        precision: of the MLPs and the interaction; tables are float32.
        dense_part: eager, compiled by torch.compile, or replayed as a CUDA graph.

    Raises:
        UserError: a choice that does not exist.
    """

    config: DLRMConfig
    batch_size: int
    tables: Tables = "fused"
    rule: Rule = "sgd"
    precision: Precision = "float32"
    dense_part: DensePart = "eager"

    def __post_init__(self) -> None:
        for name, kinds in (
            ("tables", Tables), ("rule", Rule), ("precision", Precision), ("dense_part", DensePart),
        ):  # fmt: skip
            if getattr(self, name) not in get_args(kinds):
                choice = ", ".join(map(repr, get_args(kinds)))
                raise UserError(f"{name} is {getattr(self, name)!r}; expected one of {choice}.")
        if self.batch_size < 1:
            raise UserError(f"batch_size is {self.batch_size}; expected at least 1.")

    def but(self, **changes: Any) -> Workload:
        """The same with other fields; those of `DLRMConfig` may be named as well."""
        mine = {name: value for name, value in changes.items() if name in vars(self)}
        sizes = {name: value for name, value in changes.items() if name not in mine}
        config = replace(mine.pop("config", self.config), **sizes)
        return replace(self, config=config, **mine)

    def batches(self, number: int, seed: int = 0) -> list[Batch]:
        """Random batches with uniform ids on the CPU, in pageable memory."""
        return [random_batch(self.config, self.batch_size, seed + i) for i in range(number)]

    def build(self, device: torch.device | str = "cpu", seed: int = 0) -> TrainingStep:
        """An untrained model on a device, and the step that trains it."""
        torch.manual_seed(seed)
        fused = self.tables == "fused"
        tables = (
            FusedEmbeddingTables(
                self.config.cardinalities, self.config.dim, pooling=self.config.pooling
            )
            if fused
            else None
        )
        model = DLRM(self.config, tables=tables, sparse_gradient=self.tables == "sparse")
        model.to(device)
        # To look at ids and dense features, the host would wait for a GPU in every step.
        model.tables.check = model.tables.check and torch.device(device).type == "cpu"
        make = optimizers.SGD if self.rule == "sgd" else optimizers.RowWiseAdagrad
        optimizer = make(model.parameters(), lr=0.01)
        if fused:
            model.tables.fuse(optimizer)
        return TrainingStep(model, optimizer, precision=self.precision, dense_part=self.dense_part)
