"""`train --engine sharded`: the recipe of one device on the course's own split model.

The same rows in the same batches, the same first weights, rule, penalty and schedule: weights end
where one device ends, but for the order in which floats are added.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from dlrm_mini import checkpoints
from dlrm_mini.ladders.plans import Plan as Recipe
from dlrm_mini.models.dlrm import DLRM
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.parallel import sharded_checkpoints
from dlrm_mini.parallel.cost import replicated
from dlrm_mini.parallel.dense_adagrad import DenseAdagrad
from dlrm_mini.parallel.machine import MACHINES
from dlrm_mini.parallel.planner import Planned, plan
from dlrm_mini.parallel.planner_text import seconds
from dlrm_mini.parallel.process_group import ProcessGroup
from dlrm_mini.parallel.sharded_model import ShardedDLRM
from dlrm_mini.parallel.sharded_step import ShardedStep
from dlrm_mini.parallel.sharding import FORMS
from dlrm_mini.parallel.topology import topology
from dlrm_mini.parallel.trainer import Together, Trainer
from dlrm_mini.shell import recipes
from dlrm_mini.shell.jobs import Job
from dlrm_mini.shell.train import line

if TYPE_CHECKING:
    from dlrm_mini.shell.engines import Task

# What the planner counts with: device -> machine, link inside a node, link between nodes.
COUNTED = {
    "cpu": ("2 x Xeon Gold 6138", "PCIe", "10 Gbit/s"),
    "cuda": ("A100 80 GB", "NVLink", "100 Gbit/s"),
}
SPLIT = tuple(form for form in FORMS if form != "data-parallel")


def train(task: Task, job: Job, communicator: ProcessGroup) -> None:
    """Train one rank's part; at the end, rank 0 writes a checkpoint as of one device.

    Args:
        task: what to do.
        job: as on one device, the same on every rank.
        communicator: this rank's.
    """
    recipe, whole, rank = task.recipe, job.plan, communicator.rank
    say = print if not rank else silent
    config = whole.model.config
    planned, counted = _planned(config, whole.batch_size, communicator)
    model = ShardedDLRM(config, planned.plan, communicator)
    optimizer, schedule = _of_recipe(model.to(communicator.device), whole)
    trainer = Trainer(
        ShardedStep(model, optimizer, l2=recipe.setting.get("l2", 0.0)), job.batches, communicator,
        schedule=schedule, folder=task.shards,
    )  # fmt: skip
    trainer.note = {"recipe": asdict(recipe), "log": job.log}
    _start(task, job, trainer, model)
    lay_down = _set_aside(whole)
    say(recipe.title)
    say(recipe.numbers)
    say(planned)
    say(counted)
    say(job.about(penalty="l2" in recipe.setting))
    say(line(["epoch", "loss", *job.metrics, "seconds"]), flush=True)
    for row in trainer.rows:
        say(line(row.values()), flush=True)
    together = Together(model)
    while trainer.batches.epoch < recipe.setting["epochs"]:
        started = time.perf_counter()

        def watch(started: float = started) -> dict[str, float]:
            found = dict(job.watch(together))
            return found | {"seconds": time.perf_counter() - started}

        trainer.train(trainer.batches.epoch + 1, watch)
        say(line(trainer.rows[-1].values()), flush=True)
    if not rank:
        lay_down()
        _write(task, job)
    spent = sum(row["seconds"] for row in trainer.rows)
    say(f"{len(trainer.rows)} epochs in {spent:.1f} s; the model is in {task.out}, its shards are "
        f"in {task.shards}")  # fmt: skip
    for what, measured in job.final(together):
        say(recipes.report(what, measured))


def _planned(
    config: DLRMConfig, batch_size: int, communicator: ProcessGroup
) -> tuple[Planned, str]:
    """A plan that splits some table where there are ranks to split it over, and what it is worth.

    The best plan for small tables is often a copy of each on every rank. That is no split model,
    which is what this engine was asked for: then copies are not among the forms.
    """
    machine, inside, across = COUNTED[communicator.device.type]
    per_node = int(os.environ.get("LOCAL_WORLD_SIZE", communicator.size))
    where = topology(f"{inside} + {across}", communicator.size, per_node=per_node)
    planned = plan(config, where, MACHINES[machine], batch_size, rule="adagrad")
    links = inside if where.nodes == 1 else f"{inside} in a node and {across} between nodes"
    said = (
        f"Seconds are modelled, not measured, and not for this machine: for {machine} as each rank "
        f"and {links}."
    )
    if len(replicated(planned.plan)) < len(config.cardinalities) or communicator.size == 1:
        return planned, said
    copies = seconds(planned.cost.seconds)
    planned = plan(config, where, MACHINES[machine], batch_size, rule="adagrad", forms=SPLIT)
    return planned, (
        f"{said}\nBy the same model these tables are so small that a copy of each on every rank "
        f"would be faster, {copies} a step; --engine asks for a split, so no table is copied."
    )


def _of_recipe(model: ShardedDLRM, whole: Recipe[DLRM]) -> tuple[DenseAdagrad, LambdaLR]:
    """The recipe's optimizer and schedule, over one rank's part."""
    of_tables = {id(p) for p in whole.model.tables.parameters()}
    mlps = [*model.bottom.parameters(), *model.top.parameters()]
    groups = []
    for group in whole.optimizer.param_groups:
        mine = [*model.tables.parameters()] if id(group["params"][0]) in of_tables else mlps
        options = {name: group[name] for name in ("weight_decay", "lr_decay", "eps")}
        groups.append({"params": mine, "lr": group["initial_lr"], **options})
    first = whole.optimizer.defaults["initial_accumulator_value"]
    optimizer = DenseAdagrad(groups, initial_accumulator_value=first)
    assert isinstance(whole.schedule, LambdaLR)
    return optimizer, LambdaLR(optimizer, whole.schedule.lr_lambdas)


def _start(task: Task, job: Job, trainer: Trainer, model: ShardedDLRM) -> None:
    """Take the first weights, or go on: from shards, or from a checkpoint of one device."""
    whole = job.plan
    model.load_full(whole.model.state_dict())
    if not task.resuming:
        return
    if not task.from_shards:
        run = checkpoints.Run(whole.model, whole.optimizer, job.batches, whole.schedule)
        rows = run.load(task.out)["table"]
        trainer.communicator.barrier()  # all have read it
        if not trainer.communicator.rank:
            state = {
                "batches": job.batches.state_dict(), "rows": rows, "within": [0, 0.0, 0],
                "schedule": whole.schedule and whole.schedule.state_dict(), "note": trainer.note,
            }  # fmt: skip
            sharded_checkpoints.save(task.shards, whole.model, whole.optimizer, extra=state)
        trainer.communicator.barrier()
    trainer.resume()


def _set_aside(whole: Recipe[DLRM]) -> Callable[[], None]:
    """Give back the memory of a whole model and its optimizer state; how to have it again, empty.

    Whole tables on every rank are what a split model is to avoid.
    """
    shapes = [(p, p.shape) for p in whole.model.parameters()]
    for parameter, _ in shapes:
        parameter.data = parameter.data.new_empty(0)
    whole.optimizer.state.clear()

    def again() -> None:
        for parameter, shape in shapes:
            parameter.data = parameter.data.new_empty(shape)

    return again


def _write(task: Task, job: Job) -> None:
    """Write the checkpoint that one device would have written, from the shards."""
    whole: Recipe[nn.Module] = job.plan
    state = sharded_checkpoints.load(task.shards, whole.model, whole.optimizer)
    if whole.schedule is not None:
        whole.schedule.load_state_dict(state["schedule"])
    run = checkpoints.Run(whole.model, whole.optimizer, job.batches, whole.schedule)
    run.save(task.out, {**state["note"], "table": state["rows"]})


def silent(*words: object, flush: bool = False) -> None:
    """What all ranks but the first have to say."""
