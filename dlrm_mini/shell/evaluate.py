"""`evaluate`: how good a checkpoint is on rows it has not learnt from."""

from argparse import Namespace

import torch

from dlrm_mini import checkpoints, training
from dlrm_mini.errors import UserError
from dlrm_mini.shell import recipes
from dlrm_mini.shell.rows import named_split
from dlrm_mini.shell.trained import Trained


def evaluate(options: Namespace) -> int:
    """Print the metrics of a checkpoint on test rows.

    Raises:
        UserError: the checkpoint cannot be used, or it has learnt from all test rows of the split.
    """
    content = checkpoints.load(options.checkpoint)
    recipe = recipes.from_checkpoint(content, options.checkpoint)
    if recipe.data == "criteo":
        from dlrm_mini.shell import click_logs  # numba takes a while to import

        return click_logs.evaluate(options, recipe, content)
    if options.folder is not None:
        raise UserError(
            f"--from is {options.folder}, but {options.checkpoint} was trained on {recipe.data}, "
            "and its rows are in no folder. Leave --from out."
        )
    model, recipe, rows = Trained.load(options.checkpoint, options.device)
    test, what = rows.test, f"{len(rows.test):,} test rows"
    if options.split not in (None, recipe.split):
        wanted = named_split(rows.ml, options.split).test
        fresh = wanted[~torch.isin(wanted, rows.train_rows)]
        if not len(fresh):
            raise UserError(
                f"{options.checkpoint} has learnt from all {len(wanted):,} test rows of split "
                f"{options.split}, so they say nothing about it. Leave --split out to use those of "
                f"its own split, {recipe.split}, or train a model with --split {options.split}."
            )
        test = rows.of(fresh)
        what = (
            f"{len(fresh):,} test rows of split {options.split}, those of {len(wanted):,} that the "
            "model has not learnt from"
        )
    print(recipe.title)
    print(recipes.report(what, training.evaluate(model, test, recipes.METRICS[recipe.task])))
    return 0
