"""`train`: rows, model, loader, objective, optimizer, and the loop of every chapter."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from dlrm_mini import checkpoints
from dlrm_mini.errors import UserError
from dlrm_mini.shell import recipes
from dlrm_mini.shell.files import check_target
from dlrm_mini.shell.jobs import Job, movielens_job
from dlrm_mini.shell.models import prepare
from dlrm_mini.training import fit
from dlrm_mini.training_step import make_scaler


def train(options: Namespace) -> int:
    """Train what the options ask for, and leave a checkpoint after every epoch.

    `fit` is called for one epoch at a time, and all that moves is saved with the recipe in between.
    So a run that was stopped anywhere goes on from its last whole epoch, and ends at the same
    weights as one that was not.

    Raises:
        UserError: the options ask for something impossible, or for what would lose a checkpoint.
    """
    if options.engine is not None:
        from dlrm_mini.shell.engines import train_split

        return train_split(options)
    if options.processes is not None:
        raise UserError(
            f"--processes is {options.processes}, but one device needs one process. Say --engine "
            "sharded to split the model, or leave --processes out."
        )
    device = prepare(options.device)
    out = options.out or Path("runs") / recipes.usual_name(options)
    resuming = options.resume and out.exists()
    old, extra = begun(out) if resuming else (None, None)
    recipe = recipes.from_options(options, old)
    check_target(
        out,
        "checkpoint",
        overwrite=options.overwrite or resuming,
        otherwise="Go on from it with --resume. ",
    )
    job = job_of(recipe, options, device, out, extra)
    plan = job.plan
    scaler = make_scaler(device) if recipe.precision == "float16" else None
    run = checkpoints.Run(plan.model, plan.optimizer, job.batches, plan.schedule, scaler)
    table: list[dict[str, float]] = run.load(out)["table"] if resuming else []
    if options.resume and not resuming:
        print(f"There is no checkpoint at {out} to go on from: this run begins at the beginning.")
    print(recipe.title)
    print(recipe.numbers)
    print(job.about(penalty="l2" in recipe.setting))
    print(line(["epoch", "loss", *job.metrics, "seconds"]), flush=True)
    for row in table:
        print(line(row.values()), flush=True)
    while job.batches.epoch < recipe.setting["epochs"]:
        started = time.perf_counter()
        history = fit(plan.model, job.batches, objective=plan.objective, optimizer=plan.optimizer,
                      schedule=plan.schedule, epochs=job.batches.epoch + 1,
                      progress=False, precision=recipe.precision, scaler=scaler)  # fmt: skip
        row = {"epoch": job.batches.epoch, "loss": history.values("loss", "train")[0]}
        row |= job.watch(plan.model)
        table.append(row | {"seconds": time.perf_counter() - started})
        run.save(out, {"recipe": asdict(recipe), "table": table, "log": job.log})
        print(line(table[-1].values()), flush=True)
    print(f"{len(table)} epochs in {sum(row['seconds'] for row in table):.1f} s; "
          f"the model is in {out}")  # fmt: skip
    for what, measured in job.final(plan.model):
        print(recipes.report(what, measured))
    return 0


def begun(out: Path) -> tuple[recipes.Recipe, Mapping[str, Any]]:
    """The recipe of a run that is to go on, and what else its checkpoint says."""
    content = checkpoints.load(out)
    return recipes.from_checkpoint(content, out), content["extra"]


def job_of(
    recipe: recipes.Recipe,
    options: Namespace,
    device: torch.device,
    out: Path,
    old: Mapping[str, Any] | None,
) -> Job:
    """The run of a recipe. Click logs bring numba with them, which takes a while to import."""
    if recipe.data != "criteo":
        return movielens_job(recipe, device)
    from dlrm_mini.shell.click_logs import click_log_job

    return click_log_job(recipe, options.folder, device, out, old)


def line(cells: Iterable[object]) -> str:
    """A row of the table: words, epochs as they are, all else with four digits."""
    texts = [f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in cells]
    return "".join(f"{text:>12}" for text in texts)
