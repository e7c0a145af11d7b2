"""`train`: rows, model, loader, objective, optimizer, and the loop of every chapter."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from dlrm_mini import checkpoints
from dlrm_mini.datasets import movielens
from dlrm_mini.datasets.batches import Loader
from dlrm_mini.shell import recipes
from dlrm_mini.shell.files import check_target
from dlrm_mini.shell.models import build, prepare
from dlrm_mini.training import evaluate, fit, set_seed


def train(options: Namespace) -> int:
    """Train what the options ask for, and leave a checkpoint after every epoch.

    `fit` is called for one epoch at a time, and all that moves is saved with the recipe in between.
    So a run that was stopped anywhere goes on from its last whole epoch, and ends at the same
    weights as one that was not.

    Raises:
        UserError: the options ask for something impossible, or for what would lose a checkpoint.
    """
    device = prepare(options.device)
    out = options.out or Path("runs") / f"{options.model or 'model'}-{options.task or 'clicks'}.pt"
    resuming = options.resume and out.exists()
    old = recipes.from_checkpoint(checkpoints.load(out), out) if resuming else None
    recipe = recipes.from_options(options, old)
    check_target(
        out,
        "checkpoint",
        overwrite=options.overwrite or resuming,
        otherwise="Go on from it with --resume. ",
    )
    metrics, epochs = recipes.METRICS[recipe.task], recipe.setting["epochs"]
    rows = recipe.rows(movielens.load())
    watched, part = (rows.valid, "validation") if recipe.validate else (rows.test, "test")

    set_seed(recipe.seed)
    plan = build(recipe.model, recipe.task, recipe.setting, rows.made, device)
    loader = Loader(rows.train, plan.batch_size, shuffle=True, seed=recipe.seed)
    run = checkpoints.Run(plan.model, plan.optimizer, loader, plan.schedule)
    table: list[dict[str, float]] = run.load(out)["table"] if resuming else []
    if options.resume and not resuming:
        print(f"There is no checkpoint at {out} to go on from: this run begins at the beginning.")
    print(recipe.title)
    print(recipe.numbers)
    print(f"loss: of the {len(rows.train):,} training rows, while they are learnt, penalty "
          f"included; {', '.join(metrics)}: of the {len(watched):,} {part} rows")  # fmt: skip
    print(_line(["epoch", "loss", *metrics, "seconds"]))
    for row in table:
        print(_line(row.values()))
    while loader.epoch < epochs:
        history = fit(plan.model, loader, objective=plan.objective, optimizer=plan.optimizer,
                      schedule=plan.schedule, epochs=loader.epoch + 1, valid=watched,
                      metrics=metrics, progress=False)  # fmt: skip
        row = {"epoch": loader.epoch, "loss": history.values("loss", "train")[0]}
        row |= {name: history.values(name)[0] for name in metrics}
        table.append(row | {"seconds": history.seconds})
        run.save(out, {"recipe": asdict(recipe), "table": table})
        print(_line(table[-1].values()), flush=True)
    print(f"{len(table)} epochs in {sum(row['seconds'] for row in table):.1f} s; "
          f"the model is in {out}")  # fmt: skip
    print(recipes.report(f"{len(rows.test):,} test rows", evaluate(plan.model, rows.test, metrics)))
    return 0


def _line(cells: Iterable[object]) -> str:
    """A row of the table: words, epochs as they are, all else with four digits."""
    texts = [f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in cells]
    return "".join(f"{text:>10}" for text in texts)
