"""Trainings on P ranks and on one device, that must end at the same weights.

The same cases run on simulated ranks and as processes: `train` is for one rank, with either's
communicator; `reference` is the course's own training on a single device.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from dlrm_mini.datasets.batches import Batch
from dlrm_mini.datasets.sparse import SparseFeatures
from dlrm_mini.models.dlrm import DLRM
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.optimizers import SGD, Adagrad, RowWiseAdagrad
from dlrm_mini.parallel.communicator import Communicator
from dlrm_mini.parallel.sharded_model import ShardedDLRM, share
from dlrm_mini.parallel.sharded_rules import make_optimizer
from dlrm_mini.parallel.sharded_step import ShardedStep
from dlrm_mini.parallel.sharding import Placement, Plan
from dlrm_mini.parallel.simulated import SimulatedCluster

State = dict[str, Tensor]

# Uneven: also a table of one row, fewer rows than ranks, and blocks of rows that end up empty.
TABLES = {"user": 13, "item": 5, "genres": 3, "one": 1, "shop": 9}
DIM = 6
BATCH, LAST = 13, 3  # rows; neither divides, and the last batch leaves ranks without a row
RULES = {"sgd": SGD, "rowwise_adagrad": RowWiseAdagrad, "adagrad": Adagrad}
FORMS = ("table-wise", "row-wise", "column-wise", "data-parallel")


@dataclass(frozen=True)
class Case:
    """One training.

    Attributes:
        size: P.
        placements: table -> where it lies.
        rule: of the tables.
        pooling: of bags.
        weighted: whether ids have weights.
        dtype: of the weights.
        rows: of each batch.
        fused: whether tables are updated inside backward.
        mistake: whether they see P times their gradient.
        lr: learning rate.
    """

    size: int
    placements: Mapping[str, Placement]
    rule: str = "sgd"
    pooling: str = "sum"
    weighted: bool = False
    dtype: torch.dtype = torch.float64
    rows: tuple[int, ...] = (BATCH, BATCH, LAST)
    fused: bool = False
    mistake: bool = False
    lr: float = 0.1

    @property
    def config(self) -> DLRMConfig:
        return DLRMConfig(4, dict(TABLES), DIM, bottom=(7, DIM), top=(8, 1), pooling=self.pooling)

    @property
    def plan(self) -> Plan:
        return Plan(self.size, TABLES, DIM, self.placements)

    @property
    def batches(self) -> list[Batch]:
        return [batch(self, rows, seed) for seed, rows in enumerate(self.rows)]

    @property
    def tolerance(self) -> float:
        return 1e-6 if self.dtype == torch.float64 else 1e-4


def placed(form: str, size: int) -> dict[str, Placement]:
    """Every table in one form, or "mixed", on as many ranks as it can be; none begins at rank 0."""
    found = {}
    for place, (name, rows) in enumerate(TABLES.items()):
        mine = FORMS[(place + size) % 4] if form == "mixed" else form
        most = {"table-wise": 1, "row-wise": rows, "column-wise": DIM, "data-parallel": 0}[mine]
        ranks = [(place + 1 + rank) % size for rank in range(size)]
        found[name] = Placement(mine, tuple(ranks[:most]))
    return found


def batch(case: Case, rows: int, seed: int) -> Batch:
    """Users one a row, the other features in bags of 0 to 3 ids."""
    generator = torch.Generator().manual_seed(seed)
    columns = {}
    for name, n_rows in TABLES.items():
        lengths = torch.randint(4, (rows,), generator=generator)
        if name == "user":
            lengths = torch.ones_like(lengths)
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        ids = torch.randint(n_rows, (int(offsets[-1]),), generator=generator)
        weights = torch.rand(len(ids), generator=generator)
        columns[name] = (ids, offsets, weights) if case.weighted else (ids, offsets)
    dense = torch.randn(rows, 4, generator=generator)
    labels = torch.randint(2, (rows,), generator=generator).float()
    return Batch(dense, SparseFeatures.from_columns(columns), labels)


def whole_model(case: Case) -> DLRM:
    """The model on one device, as it starts."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return DLRM(case.config, sparse_gradient=True).to(case.dtype)


def train(case: Case, communicator: Communicator) -> tuple[list[float], State | None]:
    """What one rank does: the losses, and on rank 0 all weights in the end."""
    model = ShardedDLRM(case.config, case.plan, communicator, dtype=case.dtype, fused=case.fused)
    model.load_full(whole_model(case).state_dict())
    step = ShardedStep(model, make_optimizer(model, case.rule, case.lr), mistake=case.mistake)
    losses = [step.step(share(batch, communicator)) for batch in case.batches]
    assert step.step(None) is None
    return losses, model.full_state_dict()


def simulate(case: Case) -> tuple[list[float], State]:
    """All ranks in this process; they agree about the losses."""
    results = SimulatedCluster(case.size).run(lambda communicator: train(case, communicator))
    losses, state = results[0]
    assert all(result == (losses, None) for result in results[1:])
    return losses, state


def reference(case: Case) -> tuple[list[float], State]:
    """The same training on a single device."""
    model = whole_model(case)
    optimizer = RULES[case.rule](model.parameters(), case.lr)
    losses = []
    for batch in case.batches:
        optimizer.zero_grad()
        # With labels in float32, torch would give the loss in float32 as well.
        loss = binary_cross_entropy_with_logits(model(batch), batch.labels.to(case.dtype))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model.state_dict()


def off(case: Case, found: State, expected: State) -> dict[str, float]:
    """Weight -> its largest error, relative to how far the tensor's entries moved at most."""
    start = whole_model(case).state_dict()
    assert list(found) == list(expected)
    return {
        name: float((found[name] - end).abs().max() / (end - start[name]).abs().max())
        for name, end in expected.items()
    }


def check(case: Case, losses: list[float], found: State) -> None:
    """Raise an AssertionError unless loss and every weight are those of a single device."""
    expected, weights = reference(case)
    torch.testing.assert_close(losses, expected, rtol=case.tolerance, atol=0)
    worst = off(case, found, weights)
    assert max(worst.values()) <= case.tolerance, worst


def short_case(form: str, size: int, rule: str) -> Case:
    """A few steps in float64, with what else there is taken in turns."""
    return Case(
        size,
        placed(form, size),
        rule,
        pooling="sum" if size % 2 else "mean",
        weighted=size % 3 == 0,
    )


def long_case(form: str, size: int, rule: str, fused: bool) -> Case:
    """50 steps in float32, large ones: SGD's are added to a table lookup by lookup on one device.

    Each addition rounds in the last digit of the weight, and that is compared with the way moved.
    """
    return Case(
        size,
        placed(form, size),
        rule,
        pooling="mean",
        dtype=torch.float32,
        rows=(BATCH,) * 49 + (LAST,),
        fused=fused,
        lr=0.3 if rule == "sgd" else 0.1,
    )


# What is trained where: name -> case.
SHORT = {
    f"{form}, {size} ranks, {rule}": short_case(form, size, rule)
    for form in (*FORMS, "mixed")
    for size in range(1, 9)
    for rule in RULES
    if rule != "adagrad" or size == 3
}
LONG = {
    f"{form}, {rule}, {'fused' if fused else 'plain'}": long_case(form, 3, rule, fused)
    for form in (*FORMS, "mixed")
    for rule in ("sgd", "rowwise_adagrad")
    for fused in (False, True)
    if not fused or form in ("table-wise", "row-wise", "mixed")
}
