"""What each process of `test_torchrec.py` runs: trainings beside a single device's, and refusals.

Rank 0 prints what came out as a line of JSON.
"""

import json
import warnings

import torch

from dlrm_mini import optimizers
from dlrm_mini.datasets.batches import Batch, SparseFeatures
from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm import DLRM
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.parallel.process_group import connect, leave
from dlrm_mini.parallel.sharded_model import share
from dlrm_mini.parallel.sharding import Placement, Plan
from dlrm_mini.parallel.torchrec_engine import TorchRecDLRM
from dlrm_mini.training_step import TrainingStep

ROWS = {"user": 50, "item": 7, "place": 23, "kind": 4}
LR = {"sgd": 0.5, "rowwise_adagrad": 0.02}
SIZES = (12, 12, 7, 1, 12)  # rows of each global batch: one does not divide, one leaves a rank none


def config_of(pooling="sum"):
    return DLRMConfig(4, ROWS, 16, bottom=(8, 16), top=(16, 1), pooling=pooling)


def plans(size):
    """Every form for all tables, and two mixtures."""
    everyone = tuple(range(size))
    at = [Placement("table-wise", (place % size,)) for place in range(len(ROWS))]
    rows, copy = Placement("row-wise", everyone), Placement("data-parallel")
    columns = Placement("column-wise", everyone[::-1])
    forms = {
        "table-wise": at,
        "row-wise": [rows] * 4,
        "data-parallel": [copy] * 4,
        "mixture": [rows, copy, at[1], at[0]],
        "column-wise": [columns] * 4,
        "mixture-with-columns": [copy, at[1], columns, rows],
    }
    return {
        name: Plan(size, ROWS, 16, dict(zip(ROWS, placements, strict=True)))
        for name, placements in forms.items()
    }


def batches(seed):
    """Global batches with bags of none to three ids; a whole feature may be empty."""
    generator = torch.Generator().manual_seed(seed)
    for number, size in enumerate(SIZES):
        columns = {}
        for name, rows in reversed(ROWS.items()):  # not in the order of the tables
            most = 1 if (number, name) == (1, "item") else 4
            lengths = torch.randint(0, most, (size,), generator=generator)
            ids = torch.randint(rows, (int(lengths.sum()),), generator=generator)
            columns[name] = ids, torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        dense = torch.randn(size, 4, generator=generator)
        labels = torch.randint(2, (size,), generator=generator).float()
        yield Batch(dense, SparseFeatures.from_columns(columns), labels)


def wrong(factor):
    """The engine with a learning rate of the tables that is `factor` times what it should be."""

    class Wrong(TorchRecDLRM):
        def _fuse(self, collection, rule, options):
            super()._fuse(collection, rule, options | {"lr": factor * options["lr"]})

    return Wrong


def parity(communicator, plan, rule, *, pooling="sum", engine=TorchRecDLRM):
    """After each step: the worst difference to one device, over how far the tensor has moved."""
    config = config_of(pooling)
    torch.manual_seed(0)
    single = DLRM(config, sparse_gradient=True)
    start = {name: weight.clone() for name, weight in single.state_dict().items()}
    kinds = {"sgd": optimizers.SGD, "rowwise_adagrad": optimizers.RowWiseAdagrad}
    step = TrainingStep(single, kinds[rule](single.parameters(), LR[rule]))
    model = engine(config, plan, rule, LR[rule])
    model.from_weights(start)
    untouched = model.to_weights()
    errors, losses = [], []
    for batch in batches(seed=3):
        losses.append(abs(model.step(share(batch, communicator)) - float(step(batch))))
        found = model.to_weights()
        if found is not None:
            errors.append(
                {
                    name: float((found[name] - weight).abs().max() / moved)
                    for name, weight in single.state_dict().items()
                    if (moved := (weight - start[name]).abs().max()) > 0
                }
            )
    assert model.step(None) is None
    if untouched is None:
        return None
    return {
        "carried": all(torch.equal(untouched[name], start[name]) for name in start),
        "names": list(untouched) == sorted(start),
        "worst": [max(step.values()) for step in errors],
        "still": sorted(start.keys() - errors[-1].keys()),
        "losses": max(losses),
        "plan": {name: placement.form for name, placement in model.plan.placements.items()},
    }


def refusals(communicator):
    """What the engine says to wrong inputs."""
    size, rank = communicator.size, communicator.rank
    config, good = config_of(), plans(size)["table-wise"]
    model = TorchRecDLRM(config, good, "sgd", 0.1)
    weights = DLRM(config).state_dict()
    one = share(next(batches(0)), communicator)
    weighted = SparseFeatures(
        one.sparse.names, one.sparse.values, one.sparse.offsets, torch.ones(len(one.sparse.values))
    )
    part = Placement("row-wise", (size - 1,))
    thirds = DLRMConfig(4, ROWS, 6, bottom=(6,), top=(1,))
    columns = dict.fromkeys(ROWS, Placement("column-wise", (0, 1)))
    attempts = {
        "rule": lambda: TorchRecDLRM(config, good, "adam", 0.1),
        "size": lambda: TorchRecDLRM(config, plans(size + 1)["table-wise"], "sgd", 0.1),
        "rows": lambda: TorchRecDLRM(
            config, Plan(size, ROWS, 16, good.placements | {"user": part}), "sgd", 0.1
        ),
        "columns": lambda: TorchRecDLRM(thirds, Plan(size, ROWS, 6, columns), "sgd", 0.1),
        "adagrad": lambda: TorchRecDLRM(config, plans(size)["column-wise"], "rowwise_adagrad", 1),
        "weights": lambda: model.from_weights(weights | {"tables.tables.item": torch.ones(8, 16)}),
        "missing": lambda: model.from_weights({k: v for k, v in weights.items() if k[0] != "b"}),
        "weighted": lambda: model.step(Batch(one.dense, weighted, one.labels)),
        "ended": lambda: model.step(None if rank == 0 else one),
        "empty": lambda: model.step(one.select(torch.arange(0))),
    }
    said = {}
    for name, attempt in attempts.items():
        try:
            attempt()
            said[name] = ""
        except UserError as error:
            said[name] = str(error)
    return said


def results(communicator):
    size = communicator.size
    mixture = plans(size)["mixture"]
    found = {
        f"{name}, {rule}": parity(communicator, plan, rule)
        for name, plan in plans(size).items()
        for rule in LR
        if "column" not in name or rule == "sgd"
    }
    return found | {
        "mean": parity(communicator, mixture, "sgd", pooling="mean"),
        "planner": parity(communicator, None, "rowwise_adagrad"),
        "P-fold": parity(communicator, mixture, "sgd", engine=wrong(size)),
        "1 %": parity(communicator, mixture, "rowwise_adagrad", engine=wrong(1.01)),
        "refusals": refusals(communicator),
    }


if __name__ == "__main__":
    warnings.simplefilter("error", FutureWarning)  # the engine keeps them to itself
    torch.set_num_threads(1)
    with connect(timeout=30) as communicator:
        found = results(communicator)
        if communicator.rank == 0:
            print(json.dumps(found))
    leave()
