"""The loop of a rank: the batches of one device, and a run that stops and goes on."""

import copy
import math
import os
from pathlib import Path

import pytest
import torch

from dlrm_mini import training
from dlrm_mini.datasets.batches import Loader
from dlrm_mini.epochs import TrainingDivergedError
from dlrm_mini.errors import UserError
from dlrm_mini.ladders.plans import penalised
from dlrm_mini.models.dlrm import DLRM, random_batch
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.optimizers import RowWiseAdagrad
from dlrm_mini.parallel import launch, shard_files
from dlrm_mini.parallel.dense_adagrad import DenseAdagrad
from dlrm_mini.parallel.sharded_checkpoints import gather
from dlrm_mini.parallel.sharded_model import ShardedDLRM
from dlrm_mini.parallel.sharded_rules import make_optimizer
from dlrm_mini.parallel.sharded_step import ShardedStep
from dlrm_mini.parallel.sharding import Placement, Plan
from dlrm_mini.parallel.simulated import SimulatedCluster
from dlrm_mini.parallel.trainer import Together, Trainer

CONFIG = DLRMConfig(3, {"a": 9, "b": 5, "c": 13}, 4, bottom=(6, 4), top=(5, 1), lookups={"c": 3})
ROWS = random_batch(CONFIG, 53, seed=1)
EPOCHS = 3


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda number: None)


def loader() -> Loader:
    return Loader(ROWS, 10, shuffle=True, seed=4)  # the last batch has 3 rows


def a_plan(size: int) -> Plan:
    """Every form."""
    every = tuple(range(size))
    placements = {"a": Placement("column-wise", every[:4]), "b": Placement("data-parallel"),
                  "c": Placement("row-wise", every[::-1])}  # fmt: skip
    return Plan(size, CONFIG.cardinalities, CONFIG.dim, placements)


def trainer_of(communicator, folder, rule="rowwise_adagrad", seed=0, every=None) -> Trainer:
    model = ShardedDLRM(
        CONFIG, a_plan(communicator.size), communicator, seed=seed, dtype=torch.float64
    )
    optimizer = make_optimizer(model, rule, 0.5)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 20)
    step = ShardedStep(model, optimizer)
    return Trainer(step, loader(), communicator, schedule=schedule, folder=folder, every=every)


def run(folder: Path, size: int, **options) -> list[list[dict[str, float]]]:
    def live(communicator):
        trainer = trainer_of(communicator, folder, **options)
        trainer.resume()
        return trainer.train(EPOCHS)

    return SimulatedCluster(size).run(live)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return run(folder, 3), gather(folder)


def close(one, other, tolerance=1e-12) -> bool:
    return all((one[name] - other[name]).abs().max() < tolerance for name in one | other)


def test_it_ends_where_one_device_ends(uninterrupted):
    rows, weights = uninterrupted
    assert rows[0] == rows[1] == rows[2]

    def start(communicator):
        model = ShardedDLRM(CONFIG, a_plan(1), communicator, dtype=torch.float64)
        return model.full_state_dict()

    model = DLRM(CONFIG, sparse_gradient=True).double()
    model.load_state_dict(SimulatedCluster(1).run(start)[0])
    optimizer = RowWiseAdagrad(model.parameters(), 0.5)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 20)
    before = copy.deepcopy(model.state_dict())
    history = training.fit(
        model, loader(), objective=double_loss, optimizer=optimizer, schedule=schedule,
        epochs=EPOCHS, progress=False,
    )  # fmt: skip
    assert close(weights, model.state_dict()) and not close(weights, before, 0.1)
    assert [row["loss"] for row in rows[0]] == pytest.approx(history.values("loss", "train"))
    assert [row["epoch"] for row in rows[0]] == [1, 2, 3]


def double_loss(model, batch):
    return torch.nn.functional.binary_cross_entropy_with_logits(model(batch), batch.labels.double())


class Died(BaseException):
    """A rank that is killed."""


@pytest.mark.parametrize(
    ("stop_at", "every"), [(0, None), (8, None), (13, None), (3, 2), (11, 2), (20, 4)]
)
def test_a_rank_dies_and_the_run_goes_on_to_the_same_weights(
    tmp_path, uninterrupted, monkeypatch, stop_at, every
):
    """In any step; from the last checkpoint, with starting weights of another seed."""
    rows, weights = uninterrupted
    steps = []

    def dies(self, batch, step=ShardedStep.step):
        if self.communicator.rank == 1:
            steps.append(1)
            if len(steps) > stop_at:
                raise Died
        return step(self, batch)

    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr(ShardedStep, "step", dies)
        run(tmp_path, 3, every=every)
    done = []

    def counted(self, batch, step=ShardedStep.step):
        done.append(batch is not None)
        return step(self, batch)

    monkeypatch.setattr(ShardedStep, "step", counted)
    kept = shard_files.newest(tmp_path) > 0
    again = run(tmp_path, 3, seed=9 if kept else 0, every=every)
    assert again == rows
    found = gather(tmp_path)
    assert all(torch.equal(found[name], value) for name, value in weights.items())
    if every and stop_at == 11:  # an epoch has six batches, and a call that ends it
        assert sum(done) == 3 * (18 - 10)


@pytest.mark.parametrize("sizes", [(3, 2, 4), (4, 1, 3)])
def test_it_goes_on_with_another_number_of_ranks(tmp_path, uninterrupted, sizes):
    """The sums of floats differ in their last bits, and nothing else."""
    rows, weights = uninterrupted

    def live(communicator, epochs):
        trainer = trainer_of(communicator, tmp_path, seed=epochs - 1)
        trainer.resume()
        return trainer.train(epochs)

    for epochs, size in enumerate(sizes, 1):
        found = SimulatedCluster(size).run(lambda comm, epochs=epochs: live(comm, epochs))
    assert close(gather(tmp_path), weights)
    assert [row["loss"] for row in found[0]] == pytest.approx([row["loss"] for row in rows[0]])


def test_without_a_checkpoint_there_is_nothing_to_resume(tmp_path):
    def live(communicator):
        return [trainer_of(communicator, folder).resume() for folder in (None, tmp_path)]

    assert SimulatedCluster(2).run(live) == [[False, False]] * 2


def test_a_loss_that_is_not_finite_stops_all_ranks_before_the_checkpoint(tmp_path):
    def live(communicator):
        trainer = trainer_of(communicator, tmp_path)
        trainer.train(1)
        with torch.no_grad():
            next(trainer.step.model.top.parameters()).fill_(math.nan)
        with pytest.raises(TrainingDivergedError, match="the loss is nan at step 1 of epoch 2"):
            trainer.train(2)

    SimulatedCluster(2).run(live)
    assert all(value.isfinite().all() for value in gather(tmp_path).values())


def test_every_is_at_least_one_step(tmp_path):
    def live(communicator):
        with pytest.raises(UserError, match="every is 0; expected at least 1 step"):
            trainer_of(communicator, tmp_path, every=0)

    SimulatedCluster(1).run(live)


@pytest.mark.parametrize("rows", [1, 5, 53])
def test_asked_together_it_says_what_one_device_says(rows):
    model = DLRM(CONFIG)
    batch = ROWS.select(torch.arange(rows))

    def ask(communicator):
        mine = ShardedDLRM(CONFIG, a_plan(4), communicator, seed=3)
        mine.load_full(model.state_dict())
        return training.predict(Together(mine), batch, batch_size=20)

    for found in SimulatedCluster(4).run(ask):
        torch.testing.assert_close(found, training.predict(model, batch))


@pytest.mark.parametrize(("l2", "decay"), [(0.3, 0.0), (0.0, 0.05), (0.3, 0.05)])
def test_the_recipes_penalty_and_prior(l2, decay):
    """As `penalised` and torch's Adagrad on one device, rows that nobody looks up included."""
    model = DLRM(CONFIG).double()
    start = copy.deepcopy(model.state_dict())

    def groups(of):
        tables = [p for name, p in of.named_parameters() if "tables." in name]
        mlps = [*of.bottom.parameters(), *of.top.parameters()]
        return [{"params": tables, "lr": 0.2, "weight_decay": decay}, {"params": mlps, "lr": 0.1}]

    optimizer = torch.optim.Adagrad(groups(model), initial_accumulator_value=1e-3)
    objective = penalised(double_loss, {"tables": l2})
    history = training.fit(
        model, loader(), objective=objective, optimizer=optimizer, epochs=2, progress=False
    )

    def live(communicator):
        mine = ShardedDLRM(CONFIG, a_plan(3), communicator, dtype=torch.float64)
        mine.load_full(start)
        its = DenseAdagrad(groups(mine), initial_accumulator_value=1e-3)
        trainer = Trainer(ShardedStep(mine, its, l2=l2), loader(), communicator)
        return trainer.train(2), mine.full_state_dict()

    (rows, weights), *_ = SimulatedCluster(3).run(live)
    assert close(weights, model.state_dict()) and not close(weights, start, 0.1)
    assert [row["loss"] for row in rows] == pytest.approx(history.values("loss", "train"))


def test_a_real_process_is_killed_and_the_run_goes_on(tmp_path):
    """Two processes; the sum of two floats has no order, so the simulation has the same bits."""
    with pytest.raises(UserError, match="Rank 1 has died, killed by SIGKILL"):
        launch.run("tests.parallel.trainer_worker", 2, [str(tmp_path), "13"], timeout=60)
    assert shard_files.newest(tmp_path) == 3  # after steps 4 and 6, the epoch's last, and 4
    said = launch.run("tests.parallel.trainer_worker", 2, [str(tmp_path), "0"], timeout=60)
    assert said == "10"  # 2 + 6 steps, and for each epoch a call that finds its end
    run(tmp_path / "simulated", 2)
    found, expected = gather(tmp_path), gather(tmp_path / "simulated")
    assert all(torch.equal(found[name], value) for name, value in expected.items())
