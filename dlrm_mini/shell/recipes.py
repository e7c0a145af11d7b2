"""What decides a run, what it measures, and how a checkpoint says so."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dlrm_mini import metrics
from dlrm_mini.datasets.movielens import MovieLens
from dlrm_mini.errors import UserError
from dlrm_mini.shell import arguments
from dlrm_mini.shell.models import usual
from dlrm_mini.shell.rows import Rows
from dlrm_mini.training import Metric
from dlrm_mini.training_step import Precision

METRICS: dict[str, dict[str, Metric]] = {
    "clicks": {
        "auc": metrics.auc,
        "logloss": metrics.logloss,
        "ne": metrics.normalised_entropy,
    },
    "ratings": {"rmse": metrics.rmse, "mae": metrics.mae},
}
USUAL: dict[str, dict[str, Any]] = {
    "movielens": {
        "task": "clicks",
        "split": "random",
        "seed": 0,
        "validate": False,
        "precision": "float32",
    },
    "criteo": {
        "model": "dlrm",
        "task": "clicks",
        "split": "as prepared",
        "seed": 0,
        "validate": False,
        "precision": "float32",
    },
}
# Why a click log leaves no choice, and what to do.
NO_CHOICE = {
    "model": "only dlrm is trained on click logs. Leave --model out, or leave --data out.",
    "task": "a click log has clicks and no ratings. Leave --task out, or leave --data out.",
    "split": "its rows were split when they were prepared. Leave --split out; `criteo prepare "
    "--random-split SEED` splits them at random.",
    "validate": "a prepared click log has validation rows already. Leave --validate out.",
}
# The names that a flag's number has in the ladders' settings.
FLAGS = {
    "--epochs": ("epochs",),
    "--batch-size": ("batch_size",),
    "--dim": ("dim",),
    "--lr": ("learning_rate", "rate", "table_rate"),
    "--mlp-lr": ("mlp_rate",),
    "--l2": ("l2",),
}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a run computes; a checkpoint carries it.

    Attributes:
        model, data, task, split: words of `arguments`.
        seed: of the first weights and of the order of the examples.
        validate: whether a part of the training rows is set aside.
        precision: of the products in training.
        setting: sizes and hyper-parameters, as `models.usual` gives them.
    """

    model: str
    data: str
    task: str
    split: str
    seed: int
    validate: bool
    precision: Precision
    setting: dict[str, Any]

    @property
    def title(self) -> str:
        """What is trained on what."""
        aside = ", a tenth of the training rows set aside" if self.validate else ""
        below = "" if self.precision == "float32" else f", in {self.precision}"
        return (
            f"{self.model} on {self.data} {self.task}, split {self.split}, seed {self.seed}"
            f"{aside}{below}"
        )

    @property
    def numbers(self) -> str:
        """The setting in one line."""
        return ", ".join(f"{name} {value}" for name, value in self.setting.items())

    def rows(self, ml: MovieLens) -> Rows:
        """The rows to learn from and to be judged on."""
        return Rows(ml, self.model, self.task, self.split, validate=self.validate)


def usual_name(options: Namespace) -> str:
    """The name of the checkpoint when none is said."""
    if options.data == "criteo":
        return f"{options.model or 'dlrm'}-criteo.pt"
    return f"{options.model or 'model'}-{options.task or 'clicks'}.pt"


def from_options(options: Namespace, old: Recipe | None) -> Recipe:
    """The recipe that the command line asks for.

    Args:
        options: what `arguments.for_train` parsed; None for what was not said.
        old: the recipe of the run that is to go on. It answers for what was not said, and what was
            said must not differ from it: the learning rate falls over all epochs together.

    Raises:
        UserError: a number out of range, a flag that the model has no use for, or another run.
    """
    said = {
        name: getattr(options, name)
        for name in ("model", "data", "task", "split", "seed", "validate", "precision")
        if getattr(options, name) is not None
    }
    data = old.data if old else options.data or "movielens"
    known = asdict(old) if old else {"data": data, **USUAL[data]}
    for name in said if old else ():
        _same(f"--{name}", said[name], known[name])
    _check_folder(data, options.folder)
    if "model" not in known and "model" not in said:
        raise UserError(
            f"no model was named; expected --model and one of {', '.join(arguments.MODELS)}."
        )
    words = {name: value for name, value in known.items() if name != "setting"} | said
    for name in NO_CHOICE if data == "criteo" else ():
        if words[name] != USUAL[data][name]:
            found = "given" if words[name] is True else words[name]
            raise UserError(f"--{name} is {found}, but with --data criteo {NO_CHOICE[name]}")
    setting = dict(old.setting) if old else _usual_setting(words, options.folder)
    for flag, names in FLAGS.items():
        value = getattr(options, flag.removeprefix("--").replace("-", "_"))
        if value is None:
            continue
        here = [name for name in names if name in setting]
        if not here:
            raise UserError(f"{words['model']} has no use for {flag} here: leave it out.")
        if old:
            _same(flag, value, setting[here[0]])
        _check(flag, value)
        setting[here[0]] = value
    if words["seed"] < 0:
        raise UserError(f"--seed is {words['seed']}; expected 0 or more.")
    return Recipe(**words, setting=setting)


def _check_folder(data: str, folder: Path | None) -> None:
    """Raise a UserError unless there is a prepared folder just where one is needed."""
    if data == "criteo" and folder is None:
        raise UserError(
            "no click log was named; expected --from DIR with the folder that `python -m dlrm_mini "
            "criteo prepare FILE --out DIR` made."
        )
    if data != "criteo" and folder is not None:
        raise UserError(
            f"--from is {folder}, a folder for --data criteo, but --data is {data}. Say --data "
            "criteo, or leave --from out."
        )


def _usual_setting(words: Mapping[str, Any], folder: Path | None = None) -> dict[str, Any]:
    """The setting that is trained with when nothing else is said."""
    if words["data"] != "criteo":
        return usual(words["model"], words["task"], words["split"])
    from dlrm_mini.datasets.criteo import Prepared  # numba takes a while to import
    from dlrm_mini.ladders.click_log_training import CHOSEN, part_setting

    setting = asdict(part_setting(Prepared.open(folder).splits["train"]) if folder else CHOSEN)
    del setting["threshold"]  # it was chosen when the log was prepared
    return setting


def _same(flag: str, said: Any, known: Any) -> None:
    if said != known:
        raise UserError(
            f"the run to go on with has {flag} {known}, not {said}. Leave {flag} out to go on with "
            "that run, or train another one with another --out."
        )


def _check(flag: str, value: float) -> None:
    """Raise a UserError for a number that no run can use."""
    if flag in ("--epochs", "--batch-size", "--dim") and value < 1:
        raise UserError(f"{flag} is {value}; expected at least 1.")
    if flag in ("--lr", "--mlp-lr") and not 0 < value < math.inf:
        raise UserError(f"{flag} is {value:g}; expected a number above 0.")
    if flag == "--l2" and not 0 <= value < math.inf:
        raise UserError(f"{flag} is {value:g}; expected 0 or a number above.")


def from_checkpoint(content: Mapping[str, Any], path: Path) -> Recipe:
    """The recipe in a checkpoint's content.

    Raises:
        UserError: the checkpoint was written by something else than `train`, or by another version.
    """
    extra = content.get("extra")
    found = extra.get("recipe") if isinstance(extra, Mapping) else None
    names = {field.name for field in fields(Recipe)}
    if isinstance(found, Mapping):  # before there were others, there was only this one
        found = {"precision": "float32", **found}
    if not isinstance(found, Mapping) or found.keys() != names:
        raise UserError(
            f"{path} does not say what was trained: expected a checkpoint that "
            "`python -m dlrm_mini train` of this version wrote. Train again."
        )
    recipe = Recipe(**found)
    splits = (USUAL["criteo"]["split"],) if recipe.data == "criteo" else arguments.SPLITS
    known = (
        recipe.model in arguments.MODELS
        and recipe.data in arguments.DATA
        and recipe.task in arguments.TASKS
        and recipe.split in splits
        and recipe.precision in arguments.PRECISIONS
        and _usual_setting(asdict(recipe)).keys() == recipe.setting.keys()
    )
    if not known:
        raise UserError(
            f"{path} says it holds {recipe.title} ({recipe.numbers}), which this version cannot "
            "build. Train again."
        )
    return recipe


def report(what: str, measured: Mapping[str, float]) -> str:
    """One line: metrics with their names, and of which rows they are."""
    values = "  ".join(f"{name} {value:.4f}" for name, value in measured.items())
    return f"{values}  ({what})"
