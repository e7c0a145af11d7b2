"""DLRM taken apart on the click task: what each part of it is worth.

Every variant differs from the ladder's DLRM in one thing and keeps its setting, which was chosen
for the whole. That is hard on the variants, so those that are asked about most, another top MLP, no
interaction, and linear weights beside it all, were also given a search of their own
(`clicks.search`) and come with its setting.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlrm_mini import measurements
from dlrm_mini.datasets import movielens
from dlrm_mini.datasets.batches import Batch, SparseFeatures
from dlrm_mini.datasets.clicks import ClickTask, click_task
from dlrm_mini.datasets.movielens import MovieLens
from dlrm_mini.datasets.splits import Split
from dlrm_mini.interactions import gram, pair_indices
from dlrm_mini.ladders.click_models import CHOSEN, NetSetting, WideDLRM, fit_dlrm
from dlrm_mini.ladders.clicks import SEEDS, SPLITS, click_split, measure, paired
from dlrm_mini.models.dlrm import DLRM
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.models.mlp import fully_connected
from dlrm_mini.progress import bar

DIMS = (1, 2, 4, 8, 16, 32, 64)
MEANS = ("user_mean", "item_mean")


class PairsOnly(DLRM):
    """A DLRM whose top MLP reads the dot products alone, and not the dense vector beside them."""

    def __init__(self, config: DLRMConfig) -> None:
        super().__init__(config)
        n_pairs = config.top_input - config.dim
        sizes = (n_pairs, *config.top)
        self.top = fully_connected(sizes, last="none", dropout=config.dropout)

    def forward(self, batch: Batch) -> Tensor:
        """The logits (B,) of a batch."""
        products = gram(*self.interact(batch))  # (B, n, n)
        rows, columns = pair_indices(products.shape[1])
        logits: Tensor = self.top(products[:, rows, columns]).squeeze(1)  # (B, n_pairs) -> (B,)
        return logits


@dataclass(frozen=True)
class Variant:
    """One thing changed.

    Attributes:
        task: what the model sees.
        setting: the hyper-parameters.
        kind: the class of the model.
    """

    task: ClickTask
    setting: NetSetting
    kind: type[DLRM] = DLRM


def with_dense(task: ClickTask, names: Iterable[str]) -> ClickTask:
    """The task with some of its dense columns; with none of them, a column of ones.

    A DLRM needs a dense column. From one that never changes, its bottom MLP makes one vector for
    all rows, and the dot product of an id's vector with it is a weight of that id alone.
    """
    kept = tuple(names)
    columns = [task.dense_names.index(name) for name in kept]

    def cut(batch: Batch) -> Batch:
        dense = batch.dense[:, columns] if kept else torch.ones(len(batch), 1)
        return Batch(dense, batch.sparse, batch.labels)

    return ClickTask(cut(task.train), cut(task.test), task.cardinalities, kept or ("one",))


def with_tables(task: ClickTask, names: Iterable[str]) -> ClickTask:
    """The task with some of its one-hot features only."""
    kept = tuple(names)

    def cut(batch: Batch) -> Batch:
        sparse = SparseFeatures.from_columns({name: batch.sparse.ids(name) for name in kept})
        return Batch(batch.dense, sparse, batch.labels)

    sizes = {name: task.cardinalities[name] for name in kept}
    return ClickTask(cut(task.train), cut(task.test), sizes, task.dense_names)


def with_leaking_means(task: ClickTask, ml: MovieLens, split: Split) -> ClickTask:
    """The task with the mistake that leave-one-out avoids: means that contain a row's own label."""
    train = task.train.dense.clone()
    for name, ids in zip(MEANS, (ml.user[split.train], ml.item[split.train]), strict=True):
        sums = torch.bincount(ids, weights=task.train.labels.double())
        means = (sums / torch.bincount(ids).clamp(min=1))[ids]  # (N,)
        column = task.dense_names.index(name)
        train[:, column] = ((means - means.mean()) / means.std(correction=0)).float()
    batch = Batch(train, task.train.sparse, task.train.labels)
    return ClickTask(batch, task.test, task.cardinalities, task.dense_names)


def variants(
    ml: MovieLens, split: Split, chosen: NetSetting, own: Mapping[str, NetSetting]
) -> dict[str, Variant]:
    """What is measured on a split, by name.

    Args:
        ml: all ratings.
        split: which rows to train and to test on.
        chosen: the ladder's DLRM.
        own: for "dlrm_linear_top", "dlrm_hidden_top", "dlrm_cat" and "dlrm_wide", what their
            searches chose.
    """
    task = click_task(ml, split)
    kept = [name for name in task.dense_names if name not in MEANS]
    changed = partial(replace, chosen)
    return {
        "dlrm": Variant(task, chosen),
        "linear top, own search": Variant(task, own["dlrm_linear_top"]),
        "hidden top, own search": Variant(task, own["dlrm_hidden_top"]),
        "cat": Variant(task, changed(interaction="cat")),
        "cat, own search": Variant(task, own["dlrm_cat"]),
        "linear weights": Variant(task, chosen, WideDLRM),
        "linear weights, own search": Variant(task, own["dlrm_wide"], WideDLRM),
        "no dense features": Variant(with_dense(task, ()), chosen),
        "no means": Variant(with_dense(task, kept), chosen),
        "pairs only": Variant(task, chosen, PairsOnly),
        "pairs only, no dense features": Variant(with_dense(task, ()), chosen, PairsOnly),
        "user and item only": Variant(with_tables(task, ("user", "item")), chosen),
        "leaking means": Variant(with_leaking_means(task, ml, split), chosen),
        "plain Adagrad": Variant(task, changed(accumulator=0.0)),
        "no penalty": Variant(task, changed(l2=0.0)),
        **{f"dim {dim}": Variant(task, changed(dim=dim)) for dim in DIMS},
    }


def ablations(progress: bool = True) -> Path:
    """Measure every variant on both splits and record `clicks_ablations`; minutes."""
    started = time.process_time()
    ml = movielens.load()
    searches = measurements.read("clicks_search")["results"]["searches"]
    results: dict[str, Any] = {
        "metric": "of the test rows; spread: standard deviation over the seeds",
        "seeds": list(SEEDS),
        "dims": list(DIMS),
        "splits": {},
    }
    for name in SPLITS:
        own = {
            model: _setting(one["best"]) for model, one in searches[name].items() if "_" in model
        }
        parts = variants(ml, click_split(ml, name), CHOSEN[name]["dlrm"], own)
        measured = results["splits"][name] = {}
        losses: dict[str, Tensor] = {}  # of each test row, (N,)
        total = len(parts)
        for variant, part in bar(
            parts.items(), total=total, desc=name, unit="variant", disable=not progress
        ):
            fitter: Callable[..., Any] = partial(fit_dlrm, kind=part.kind)
            measured[variant], losses[variant] = measure(fitter, part.task, part.setting)
            measured[variant]["setting"] = asdict(part.setting)
            measured[variant]["minus_dlrm"] = paired(losses[variant], losses["dlrm"])
    results["seconds"] = round(time.process_time() - started, 1)
    return measurements.write(
        "clicks_ablations", results, "python -m dlrm_mini measure clicks-ablations"
    )


def _setting(recorded: dict[str, Any]) -> NetSetting:
    """A recorded setting, its lists tuples again."""
    lists = {name: tuple(value) for name, value in recorded.items() if isinstance(value, list)}
    return NetSetting(**(recorded | lists))
