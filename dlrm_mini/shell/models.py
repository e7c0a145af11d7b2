"""What the shell trains: for each model and task the features, setting and plan of its ladder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn

from dlrm_mini import devices
from dlrm_mini.datasets.clicks import ClickTask, click_task
from dlrm_mini.datasets.movielens import MovieLens
from dlrm_mini.datasets.rating_features import RatingTask, rating_features
from dlrm_mini.datasets.splits import Split
from dlrm_mini.ladders import click_models, rating_models, rating_nets
from dlrm_mini.ladders.plans import Plan

Task = ClickTask | RatingTask
M = TypeVar("M", bound=nn.Module)


class Kind(NamedTuple):
    """A model for a task.

    Attributes:
        features: data set and split -> what the model sees.
        plan: that and a setting -> the untrained model and how to train it.
        chosen: name of a split -> the setting that the search chose.
    """

    features: Callable[[MovieLens, Split], Task]
    plan: Callable[[Any, Any], Plan[Any]]
    chosen: Callable[[str], Any]


def _ids_of_clicks(ml: MovieLens, split: Split) -> ClickTask:
    return click_models.only_ids(click_task(ml, split))


def _mf(task: RatingTask, setting: rating_models.Setting) -> Plan[Any]:
    sizes = task.cardinalities
    return rating_models.plan_mf(task.train, sizes["user"], sizes["item"], setting)


def _of_clicks(model: str, split: str) -> Any:
    """What was chosen for a split by time, or for the others, which are random."""
    return click_models.CHOSEN["temporal" if split == "temporal" else "random"][model]


# MF on clicks is the factorization machine of user and item.
KINDS: dict[tuple[str, str], Kind] = {
    ("mf", "clicks"): Kind(_ids_of_clicks, click_models.plan_fm, partial(_of_clicks, "mf")),
    ("fm", "clicks"): Kind(click_task, click_models.plan_fm, partial(_of_clicks, "fm")),
    ("mlp", "clicks"): Kind(click_task, click_models.plan_mlp, partial(_of_clicks, "mlp")),
    ("dlrm", "clicks"): Kind(click_task, click_models.plan_dlrm, partial(_of_clicks, "dlrm")),
    ("mf", "ratings"): Kind(rating_features, _mf, lambda split: rating_models.CHOSEN),
    ("fm", "ratings"): Kind(
        partial(rating_features, groups=rating_models.FM_GROUPS),
        rating_models.plan_fm,
        lambda split: rating_models.CHOSEN_FM,
    ),
    ("mlp", "ratings"): Kind(
        rating_features, rating_nets.plan_mlp, lambda split: rating_nets.CHOSEN_MLP
    ),
    ("dlrm", "ratings"): Kind(
        rating_nets.dlrm_task, rating_nets.plan_dlrm, lambda split: rating_nets.CHOSEN_DLRM
    ),
}


def usual(name: str, task: str, split: str) -> dict[str, Any]:
    """The setting that a model is trained with when nothing else is said."""
    return asdict(KINDS[name, task].chosen(split))


def prepare(device: str) -> torch.device:
    """The device of this name; and one thread, since the steps are too small to share.

    Raises:
        UserError: this machine has no such device.
    """
    chosen = devices.choose(device)
    torch.set_num_threads(1)
    return chosen


def build(
    name: str, task: str, setting: dict[str, Any], rows: Task, device: torch.device
) -> Plan[nn.Module]:
    """An untrained model on a device, and how it is trained.

    Args:
        name: one of the four models.
        task: "clicks" or "ratings".
        setting: as `usual` gives it, numbers changed.
        rows: what `Kind.features` made; the model starts at the mean of its training labels.
        device: where the model is put.
    """
    kind = KINDS[name, task]
    return put(kind.plan(rows, type(kind.chosen("random"))(**setting)), device)


def put(plan: Plan[M], device: torch.device) -> Plan[M]:
    """Move a plan's model to a device, and what its optimizer has of it."""
    plan.model.to(device)
    # Adagrad's sums were made where the model was. Loading them takes them to where it is now.
    plan.optimizer.load_state_dict(plan.optimizer.state_dict())
    return plan
