"""`train` and `evaluate` on a click log that `criteo prepare` made, generated or Criteo's own."""

from __future__ import annotations

import zlib
from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dlrm_mini import checkpoints
from dlrm_mini.datasets.batches import Batch
from dlrm_mini.datasets.criteo import Prepared
from dlrm_mini.datasets.criteo_loader import PreparedLoader
from dlrm_mini.errors import UserError
from dlrm_mini.ladders.click_log_training import (
    SCORES,
    Setting,
    build_net,
    plan_prepared,
    score_prepared,
)
from dlrm_mini.progress import bar
from dlrm_mini.shell import recipes
from dlrm_mini.shell.jobs import Job, Measured
from dlrm_mini.shell.models import prepare, put
from dlrm_mini.training import set_seed

LABELS = "checksum of label.bin"
JUDGED = {"valid": "validation", "test": "test"}  # split -> its name for the reader


class _Shown(PreparedLoader):
    """Shows how far the epoch is, and the time left: one may take an hour."""

    def __iter__(self) -> Iterator[Batch]:
        name = f"epoch {self.epoch + 1}"
        with bar(total=self.rows, desc=name, unit=" rows", unit_scale=True) as shown:
            for batch in super().__iter__():
                yield batch
                shown.update(len(batch))


def click_log_job(
    recipe: recipes.Recipe,
    folder: Path,
    device: torch.device,
    out: Path,
    old: Mapping[str, Any] | None,
) -> Job:
    """The run that a recipe for a prepared click log describes.

    Args:
        recipe: what to train.
        folder: the prepared click log.
        device: where the model is put.
        out: the checkpoint, for messages.
        old: `extra` of the checkpoint to go on from.

    Raises:
        UserError: the folder is none, has a split without rows, or is another than that of `old`.
    """
    prepared = _opened(folder, "train", *JUDGED)
    log = _marks(prepared)
    if old is not None and (different := _difference(old.get("log"), log)):
        raise UserError(
            f"the run in {out} is on another click log than {folder}: {different}. Go on with the "
            "folder that it began with, or train another model with another --out."
        )
    setting = Setting(**recipe.setting)
    set_seed(recipe.seed)
    plan = put(plan_prepared(prepared, setting), device)
    loader = _Shown(prepared, "train", setting.batch_size, seed=recipe.seed)

    def final(model: nn.Module) -> Iterator[tuple[str, Measured]]:
        for split in JUDGED:
            yield _rows(prepared, split), score_prepared(model, prepared, split)

    return Job(
        plan,
        loader,
        tuple(SCORES),
        loader.rows,
        _rows(prepared, "valid"),
        lambda model: score_prepared(model, prepared, "valid"),
        final,
        log,
    )


def evaluate(options: Namespace, recipe: recipes.Recipe, content: Mapping[str, Any]) -> int:
    """Print the metrics of a checkpoint on the test rows of a prepared click log.

    Args:
        options: what `arguments.for_evaluate` parsed.
        recipe: what the checkpoint says was trained.
        content: all that is in it.

    Raises:
        UserError: no folder was named, or one whose ids mean something else to the model.
    """
    path, folder = options.checkpoint, options.folder
    if folder is None:
        raise UserError(
            f"{path} was trained on a click log; expected --from DIR with the prepared folder "
            "whose test rows are to be scored."
        )
    if options.split is not None:
        raise UserError(
            f"--split is {options.split}, but the rows of {folder} were split when they were "
            "prepared: leave --split out."
        )
    device, prepared = prepare(options.device), _opened(folder, "test")
    known, marks = content["extra"].get("log"), _marks(prepared)
    if different := _difference(known, _ids(prepared)):
        raise UserError(
            f"the ids in {folder} are not those that {path} has learnt: {different}. Name the "
            "folder it was trained on, or train a model on this one."
        )
    same_rows = any(known.get(name) == marks[name] for name in ("source", LABELS))
    if same_rows and (different := _difference(known, _split(prepared))):
        raise UserError(
            f"{folder} holds the rows of the log that {path} was trained on, split in another way: "
            f"{different}. Some of its test rows are those it has learnt from. Name the folder it "
            "was trained on, or one of another log."
        )
    model = build_net(prepared.cardinalities, Setting(**recipe.setting))
    checkpoints.load_weights(model, content["model"], path)
    print(recipe.title)
    scores = score_prepared(model.to(device), prepared, "test")
    print(recipes.report(_rows(prepared, "test"), scores))
    return 0


def _opened(folder: Path, *splits: str) -> Prepared:
    """A prepared click log that has rows in these splits."""
    prepared = Prepared.open(folder)
    for split in splits:
        if not prepared.splits[split]:
            raise UserError(
                f"{folder} has no {JUDGED.get(split, 'training')} rows among its "
                f"{len(prepared):,}; expected some. Prepare a longer click log."
            )
    return prepared


def _rows(prepared: Prepared, split: str) -> str:
    return f"{prepared.splits[split]:,} {JUDGED[split]} rows"


def _ids(prepared: Prepared) -> dict[str, int | str]:
    """What the ids in a folder mean: their number, how they are made, and of which words."""
    how: dict[str, int | str] = {f"ids of {c}": n for c, n in prepared.cardinalities.items()}
    how |= {f"rule of {c}": text for c, text in prepared.meta["job"]["columns"].items()}
    for column in prepared.columns:
        words = prepared.folder / f"{column}.words"
        if words.is_file():
            how[f"checksum of {words.name}"] = zlib.crc32(words.read_bytes())
    return how


def _marks(prepared: Prepared) -> dict[str, int | str]:
    """What tells a prepared click log from others, wherever it lies."""
    source = prepared.meta["job"]["source"]
    what: dict[str, int | str] = {
        "source": f"{source['name']} of {source['bytes']:,} bytes",
        LABELS: zlib.crc32(prepared.labels.data),
    }
    return {**_split(prepared), **what, **_ids(prepared)}


def _split(prepared: Prepared) -> dict[str, int | str]:
    """How the rows of a prepared click log were split, and how many each part has."""
    rows = {f"{split} rows": n for split, n in prepared.splits.items()}
    return {"split": prepared.meta["job"]["split"], **rows}


def _difference(known: Mapping[str, int | str] | None, found: Mapping[str, int | str]) -> str:
    """The first thing that is not as the checkpoint knows it, in words; "" when all is."""
    for name, value in found.items():
        if known is None or known.get(name) != value:
            return f"{name} {value}, expected {known.get(name) if known else 'nothing'}"
    return ""
