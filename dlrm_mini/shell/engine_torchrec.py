"""`train --engine torchrec`: the recipe's rows, sizes, rates and schedule on TorchRec's tables.

The rule is another one: row-wise Adagrad inside backward, without the recipe's penalty or prior and
with sums that start at zero. So the weights are not those of one device.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from torch.optim.lr_scheduler import LambdaLR

from dlrm_mini import checkpoints
from dlrm_mini.datasets.batches import Batch
from dlrm_mini.parallel.process_group import ProcessGroup
from dlrm_mini.parallel.torchrec_engine import TorchRecDLRM
from dlrm_mini.parallel.trainer import Trainer
from dlrm_mini.shell import recipes
from dlrm_mini.shell.engine_sharded import silent
from dlrm_mini.shell.jobs import Job
from dlrm_mini.shell.train import line

if TYPE_CHECKING:
    from dlrm_mini.shell.engines import Task


def train(task: Task, job: Job, communicator: ProcessGroup) -> None:
    """Train one rank's part; after each epoch rank 0 measures the whole model and writes it.

    Args:
        task: what to do.
        job: as on one device, the same on every rank.
        communicator: this rank's.
    """
    recipe, whole, rank = task.recipe, job.plan, communicator.rank
    say = print if not rank else silent
    config, schedule = whole.model.config, whole.schedule
    assert isinstance(schedule, LambdaLR)
    engine = TorchRecDLRM(
        config, None, "rowwise_adagrad", float(schedule.base_lrs[0]),
        batch_size=-(-whole.batch_size // communicator.size), device=communicator.device,
    )  # fmt: skip
    engine.from_weights(whole.model.state_dict())
    trainer = Trainer(Scheduled(engine, schedule), job.batches, communicator)
    say(recipe.title)
    say(recipe.numbers)
    for name, rows in config.cardinalities.items():
        place = engine.plan.placements[name]
        ranks = ", ".join(map(str, place.ranks)) or "all"
        say(f"{name:>12}, {rows:,} rows: {place.form}, ranks {ranks}")
    say(
        "TorchRec's planner chose these places. Its rule is row-wise Adagrad, without the recipe's "
        "penalty, prior and first sums: the weights are not those of one device."
    )
    say(job.about(penalty=False))
    say(line(["epoch", "loss", *job.metrics, "seconds"]), flush=True)
    table: list[dict[str, float]] = []
    while job.batches.epoch < recipe.setting["epochs"]:
        started = time.perf_counter()
        row = trainer.train(job.batches.epoch + 1)[-1]
        weights = engine.to_weights()
        if not rank:
            whole.model.load_state_dict(weights)
            measured = dict(job.watch(whole.model))
            table.append(row | measured | {"seconds": time.perf_counter() - started})
            extra = {"recipe": asdict(recipe), "table": table, "log": job.log}
            checkpoints.save(task.out, {"model": weights, "extra": extra})
            say(line(table[-1].values()), flush=True)
        communicator.barrier()
    if not rank:
        spent = sum(row["seconds"] for row in table)
        say(f"{len(table)} epochs in {spent:.1f} s with TorchRec; the model is in {task.out}")
        for what, found in job.final(whole.model):
            say(recipes.report(what, found))


class Scheduled:
    """TorchRec's step at the recipe's rates: one of the tables, one of the MLPs, both scheduled.

    Args:
        engine: fresh.
        schedule: of the recipe on one device, whose first group are the tables.
    """

    def __init__(self, engine: TorchRecDLRM, schedule: LambdaLR) -> None:
        self.engine, self.schedule, self.steps = engine, schedule, 0
        # Copied tables lie with the MLPs in our optimizer; they are not among the model's own.
        own, optimizer = {id(p) for p in engine.model.parameters()}, engine.optimizer
        (group,) = optimizer.param_groups
        copies = [p for p in group["params"] if id(p) not in own]
        group["params"] = [p for p in group["params"] if id(p) in own]
        optimizer.add_param_group({"params": copies})

    def step(self, batch: Batch | None) -> float | None:
        """As the engine's."""
        tables, mlps = (
            base * factor(self.steps)
            for base, factor in zip(self.schedule.base_lrs, self.schedule.lr_lambdas, strict=True)
        )
        for group, rate in zip(self.engine.optimizer.param_groups, (mlps, tables), strict=True):
            group["lr"] = rate
        split = self.engine.model.fused_optimizer
        for group in split.param_groups:
            group["lr"] = tables
        split.step()  # hands the rate to the kernels; rows have moved inside backward
        self.steps += 1
        return self.engine.step(batch)
