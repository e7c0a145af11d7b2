"""What `train` trains: a plan, its batches, and how good the model is in between and at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from dlrm_mini.datasets import movielens
from dlrm_mini.datasets.batches import Batches, Loader
from dlrm_mini.ladders.plans import Plan
from dlrm_mini.shell import recipes
from dlrm_mini.shell.models import build
from dlrm_mini.training import evaluate, set_seed

Measured = Mapping[str, float]


@dataclass(frozen=True)
class Job:
    """A run, ready to begin.

    Attributes:
        plan: the model, and how it is trained.
        batches: the training rows.
        metrics: what is measured, by name.
        learnt: how many training rows there are.
        watched: the rows that are measured after each epoch, in words.
        watch: measures a model after each epoch: the plan's own, or one that stands for it.
        final: what is said at the end: some rows in words, and what was measured on them.
        log: what tells a prepared click log from others; a checkpoint carries it.
    """

    plan: Plan[Any]
    batches: Batches
    metrics: tuple[str, ...]
    learnt: int
    watched: str
    watch: Callable[[nn.Module], Measured]
    final: Callable[[nn.Module], Iterator[tuple[str, Measured]]]
    log: dict[str, int | str] = field(default_factory=dict)

    def about(self, *, penalty: bool) -> str:
        """Of which rows the columns of the table are, and whether a penalty is in the loss."""
        return (
            f"loss: of the {self.learnt:,} training rows, while they are learnt"
            f"{', penalty included' * penalty}; {', '.join(self.metrics)}: of the {self.watched}"
        )


def movielens_job(recipe: recipes.Recipe, device: torch.device) -> Job:
    """The run that a recipe for MovieLens describes."""
    metrics, rows = recipes.METRICS[recipe.task], recipe.rows(movielens.load())
    watched, part = (rows.valid, "validation") if recipe.validate else (rows.test, "test")
    set_seed(recipe.seed)
    plan: Plan[nn.Module] = build(recipe.model, recipe.task, recipe.setting, rows.made, device)

    def final(model: nn.Module) -> Iterator[tuple[str, Measured]]:
        yield f"{len(rows.test):,} test rows", evaluate(model, rows.test, metrics)

    return Job(
        plan,
        Loader(rows.train, plan.batch_size, shuffle=True, seed=recipe.seed),
        tuple(metrics),
        len(rows.train),
        f"{len(watched):,} {part} rows",
        lambda model: evaluate(model, watched, metrics),
        final,
    )
