"""`train --engine`: the same recipe, with DLRM's tables split over several processes.

The command starts itself once more, under torchrun, unless torchrun has started it already: then
each process is a rank, on this machine or on several.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import warnings
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dlrm_mini.errors import UserError
from dlrm_mini.parallel import launch, sharded_checkpoints
from dlrm_mini.parallel.process_group import ProcessGroup, connect, leave
from dlrm_mini.parallel.standing import BOARD
from dlrm_mini.shell import recipes
from dlrm_mini.shell.files import check_target
from dlrm_mini.shell.models import prepare
from dlrm_mini.shell.train import begun, job_of

WAIT = 1800.0  # seconds for what one rank does while the others wait, such as reading and writing


class Task(NamedTuple):
    """What a run is to do, checked.

    Attributes:
        recipe: what to train.
        out: the checkpoint at the end, as of one device.
        shards: the folder of sharded checkpoints, beside it.
        resuming: whether there is a checkpoint to go on from.
        from_shards: whether that is the sharded one, and not one device's at `out`.
        old: `extra` of that checkpoint.
    """

    recipe: recipes.Recipe
    out: Path
    shards: Path
    resuming: bool
    from_shards: bool
    old: Mapping[str, Any] | None


def train_split(options: Namespace) -> int:
    """Train what the options ask for on several ranks.

    Raises:
        UserError: the options ask for something impossible, or for what would lose a checkpoint; a
            rank that has failed: which, and why.
    """
    inside = "RANK" in os.environ
    _check_processes(options, inside)
    task = _task(options)
    if not inside:
        if task.recipe.data == "movielens":
            _have_movielens()
        if options.resume and not task.resuming:
            print(
                f"There is no checkpoint at {task.out} to go on from: this run begins at the "
                "beginning.",
                flush=True,
            )
        words = [str(word) for word in options.words]
        launch.run("dlrm_mini", options.processes, words, timeout=None, show=True)
        return 0
    prepare("cpu")  # one thread a process
    # Of names that torch is to change: nothing that a reader could do about.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
    with connect(WAIT) as communicator:
        communicator.barrier()  # nobody writes before all have looked at what there is
        # The launcher shows what rank 0 prints: the time left is to be there as well.
        launched = BOARD in os.environ and communicator.rank == 0
        with contextlib.redirect_stderr(sys.stdout) if launched else contextlib.nullcontext():
            _run(task, options, communicator)
    leave()


def _run(task: Task, options: Namespace, communicator: ProcessGroup) -> None:
    job = job_of(task.recipe, options, communicator.device, task.out, task.old)
    if options.engine == "torchrec":
        from dlrm_mini.shell.engine_torchrec import train
    else:
        from dlrm_mini.shell.engine_sharded import train
    train(task, job, communicator)


def _task(options: Namespace) -> Task:
    """The task of the options, all that can be found out before anything is started."""
    engine = options.engine
    if options.model not in (None, "dlrm"):
        raise UserError(
            f"--engine {engine} splits the tables of dlrm, and --model is {options.model}. Say "
            "--model dlrm, or leave --engine out."
        )
    if options.device != "auto":
        raise UserError(
            f"--device is {options.device}, but with --engine each process takes a GPU of its own "
            "if there are as many, and else the CPU. Leave --device out."
        )
    new = Namespace(**{**vars(options), "model": "dlrm"})  # the only one that can be split
    out = options.out or Path("runs") / recipes.usual_name(new)
    shards = out.with_suffix(".shards")
    split = engine == "sharded" and sharded_checkpoints.exists(shards)
    resuming = options.resume and (split or out.exists())
    from_shards, old, extra = False, None, None
    if resuming and out.exists():
        old, extra = begun(out)
    if resuming and split:
        state = sharded_checkpoints.extra_of(shards)
        recipe = recipes.from_checkpoint({"extra": state["note"]}, shards)
        if old not in (None, recipe):
            raise UserError(
                f"{out} and {shards} are of different runs. Move away the one not to go on with."
            )
        # The run may have gone on, on one device, since the shards were written.
        from_shards = extra is None or len(state["rows"]) >= len(extra["table"])
        if from_shards:
            old, extra = recipe, state["note"]
    recipe = recipes.from_options(options if old else new, old)
    _check_recipe(recipe, engine)
    if engine == "torchrec":
        _check_torchrec(options)
    replace = options.overwrite or resuming
    check_target(out, "checkpoint", overwrite=replace, otherwise="Go on from it with --resume. ")
    if split and not replace:
        raise UserError(
            f"{shards} holds a checkpoint already, which would be lost. Go on from it with "
            "--resume. Name another --out, or say --overwrite."
        )
    return Task(recipe, out, shards, resuming, from_shards, extra)


def _check_processes(options: Namespace, inside: bool) -> None:
    """Raise a UserError unless it is clear how many processes there are."""
    said = options.processes
    if inside:
        there = int(os.environ.get("WORLD_SIZE", "1"))
        if said not in (None, there):
            raise UserError(
                f"--processes is {said}, but torchrun has started {there}. Leave --processes out, "
                "or torchrun."
            )
    elif said is None:
        raise UserError(
            f"--engine {options.engine} needs several processes; expected --processes N with "
            "their number on this machine, such as 2, or torchrun to have started them."
        )
    elif said < 1:
        raise UserError(f"--processes is {said}; expected at least 1.")


def _check_recipe(recipe: recipes.Recipe, engine: str) -> None:
    """Raise a UserError for what only one device can train."""
    if recipe.model != "dlrm":
        raise UserError(
            f"--engine {engine} splits the tables of dlrm, and the run to go on with is of "
            f"{recipe.model}. Leave --engine out."
        )
    if recipe.task != "clicks":
        raise UserError(
            f"--engine {engine} trains on clicks, and --task is {recipe.task}. Leave --task out, "
            "or leave --engine out."
        )
    if recipe.precision != "float32":
        raise UserError(
            f"--engine {engine} trains in float32, and --precision is {recipe.precision}. Leave "
            "--precision out, or leave --engine out."
        )


def _check_torchrec(options: Namespace) -> None:
    """Raise a UserError for what TorchRec is not here for."""
    if importlib.util.find_spec("torchrec") is None:
        raise UserError(
            "TorchRec is not installed here. `python -m dlrm_mini torchrec` installs it; --engine "
            "sharded needs nothing."
        )
    if options.resume:
        raise UserError(
            "--resume does not go with --engine torchrec, whose checkpoints hold weights and no "
            "state of the optimizer. Leave --resume out, or say --engine sharded."
        )
    if options.l2:
        raise UserError(
            f"--l2 is {options.l2:g}, but TorchRec updates tables inside backward, without a "
            "penalty. Leave --l2 out, or say --engine sharded."
        )


def _have_movielens() -> None:
    """Fetch the data once, and not in every process."""
    from dlrm_mini.datasets import sources

    sources.ensure("ml-100k")
