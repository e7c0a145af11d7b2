"""Our sharding plans in TorchRec's words, and back. Importing this needs TorchRec.

TorchRec's planner decides where the tables go when nobody else does. A plan of ours says it
rectangle by rectangle, and is handed over as it is, where TorchRec has such a form.
"""

from __future__ import annotations

import os
from typing import cast

from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.parallel.sharding import Form, Placement, Plan

try:
    import torch.distributed as dist
    from torch import nn
    from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, PoolingType
    from torchrec.distributed import sharding_plan
    from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
    from torchrec.distributed.planner import (
        EmbeddingShardingPlanner,
        ParameterConstraints,
        Topology,
    )
    from torchrec.distributed.types import ParameterSharding, ShardingPlan, ShardingType
except (ImportError, OSError) as error:  # OSError: a library of FBGEMM's for another torch
    raise UserError(
        f"TorchRec cannot be imported ({str(error).splitlines()[0]}). Install it with "
        "`python -m dlrm_mini torchrec`; it runs on Linux."
    ) from error

COLLECTION = "tables.collection"  # where a DLRM with `Tables` has the collection
FUSED = {"compute_kernel": "fused"}  # tables that are updated inside backward
PREFIX = "t_"  # of a table: a feature may be called "training", which no module of torch may
FORMS: dict[str, Form] = {
    ShardingType.TABLE_WISE.value: "table-wise",
    ShardingType.ROW_WISE.value: "row-wise",
    ShardingType.COLUMN_WISE.value: "column-wise",
    ShardingType.DATA_PARALLEL.value: "data-parallel",
}
# What TorchRec's planner may choose from. It would put several pieces of a column-wise table on one
# rank, which a `Plan` cannot say.
PLANNED = [name for name, form in FORMS.items() if form != "column-wise"]


class Sharder(EmbeddingBagCollectionSharder):  # type: ignore[misc]  # TorchRec's types are not read
    """TorchRec offers row-wise tables on GPUs only; gloo has had what they need since."""

    def sharding_types(self, compute_device_type: str) -> list[str]:
        """The forms for a kind of device."""
        types = cast(list[str], super().sharding_types(compute_device_type))
        return types + [ShardingType.ROW_WISE.value] * (compute_device_type == "cpu")


def collection(config: DLRMConfig) -> EmbeddingBagCollection:
    """The tables of a config, without memory: TorchRec takes it rank by rank when it has a plan."""
    tables = [
        EmbeddingBagConfig(
            name=PREFIX + name,
            embedding_dim=config.dim,
            num_embeddings=rows,
            feature_names=[name],
            # Of any config: where a plan mixes forms, the mean of TorchRec 1.8.0 divides the bags
            # of one feature by the lengths of another, so `Tables` does it.
            pooling=PoolingType.SUM,
        )
        for name, rows in config.cardinalities.items()
    ]
    return EmbeddingBagCollection(device="meta", tables=tables)


def check_plan(plan: Plan, config: DLRMConfig, size: int, rule: str) -> None:
    """Raise a UserError where a plan is another model's, or TorchRec has no such form.

    Args:
        plan: complete.
        config: of the model.
        size: P, the number of processes.
        rule: "sgd" or "rowwise_adagrad".
    """
    if (plan.size, plan.dim) != (size, config.dim) or (
        list(plan.cardinalities.items()) != list(config.cardinalities.items())
    ):
        raise UserError(
            f"The plan is for {plan.size} ranks and {len(plan.cardinalities)} tables of width "
            f"{plan.dim}; there are {size} processes, and the config has "
            f"{len(config.cardinalities)} tables of width {config.dim}, which the plan must name "
            "with their rows, in this order. Make the plan from the config."
        )
    for name, (form, ranks) in ((n, (p.form, p.ranks)) for n, p in plan.placements.items()):
        if form == "row-wise" and ranks != tuple(range(size)):
            raise UserError(
                f"Table '{name}' is row-wise on the ranks {ranks}; TorchRec cuts rows over all "
                f"ranks, in order. Place it on {tuple(range(size))}, or train it with "
                "ShardedDLRM."
            )
        if form == "row-wise" and not _enough_rows(config.cardinalities[name], size):
            raise UserError(
                f"Table '{name}' is row-wise with {config.cardinalities[name]} rows, which leaves "
                f"the last of {size} ranks without one; TorchRec's kernel for CPUs stops there. "
                "Place it on one rank, or train it with ShardedDLRM."
            )
        if form == "column-wise" and config.dim % (4 * len(ranks)):
            raise UserError(
                f"Table '{name}' is {config.dim} wide and column-wise on {len(ranks)} ranks; "
                "TorchRec's pieces are equally wide, by fours. Take fewer ranks, or train it "
                "with ShardedDLRM."
            )
        if form == "column-wise" and len(ranks) > 1 and rule == "rowwise_adagrad":
            raise UserError(
                f"Table '{name}' is column-wise, and TorchRec's row-wise Adagrad would keep a "
                "mean square for each piece of a row, where one device keeps one for the row. "
                "Take another form or SGD, or train it with ShardedDLRM, which sums them."
            )


def to_torchrec(plan: Plan, tables: EmbeddingBagCollection, device: str) -> ShardingPlan:
    """A checked plan of ours, exactly, as TorchRec's."""
    parameters = {}
    for name, placement in plan.placements.items():
        ranks = list(placement.ranks)
        parameters[PREFIX + name] = {
            "table-wise": lambda ranks=ranks: sharding_plan.table_wise(ranks[0], **FUSED),
            "row-wise": lambda: sharding_plan.row_wise(**FUSED),
            "column-wise": lambda ranks=ranks: sharding_plan.column_wise(ranks, **FUSED),
            "data-parallel": sharding_plan.data_parallel,
        }[placement.form]()
    module = sharding_plan.construct_module_sharding_plan(
        tables, parameters, sharder=Sharder(), local_size=local_size(), device_type=device
    )
    return ShardingPlan({COLLECTION: module})


def planned(module: nn.Module, config: DLRMConfig, batch_size: int, device: str) -> ShardingPlan:
    """What TorchRec's own planner chooses, the same on all ranks.

    Args:
        module: the model, its collection under `COLLECTION`.
        config: of the model; its lookups tell the planner what a table costs.
        batch_size: b, rows of a rank's batch.
        device: "cpu" or "cuda".
    """
    topology = Topology(
        world_size=dist.get_world_size(), local_world_size=local_size(), compute_device=device
    )
    constraints = {}
    for name, ids in config.lookups_by_table.items():
        enough = _enough_rows(config.cardinalities[name], dist.get_world_size())
        forms = [form for form in PLANNED if enough or FORMS[form] != "row-wise"]
        constraint = ParameterConstraints(sharding_types=forms, pooling_factors=[float(ids)])
        constraints[PREFIX + name] = constraint
    planner = EmbeddingShardingPlanner(
        topology=topology, batch_size=batch_size, constraints=constraints
    )
    return planner.collective_plan(module, [Sharder()], dist.group.WORLD)


def from_torchrec(found: ShardingPlan, config: DLRMConfig) -> Plan:
    """TorchRec's plan as ours."""
    tables: dict[str, ParameterSharding] = found.plan[COLLECTION]
    placements = {}
    for name in config.cardinalities:
        sharding = tables[PREFIX + name]
        form = FORMS[sharding.sharding_type]
        ranks = () if form == "data-parallel" else tuple(sharding.ranks)
        placements[name] = Placement(form, ranks)
    return Plan(dist.get_world_size(), config.cardinalities, config.dim, placements)


def _enough_rows(rows: int, size: int) -> bool:
    """Whether blocks of ceil(rows / size) leave the last rank a row."""
    return -(-rows // size) * (size - 1) < rows


def local_size() -> int:
    """Processes on this machine, as torchrun says."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", dist.get_world_size()))
