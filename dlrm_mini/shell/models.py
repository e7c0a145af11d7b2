"""How each model is built for each task: what the ladders' fitters do, before they call `fit`.

Tests hold both to the same weights.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from dlrm_mini.datasets.batches import Batch
from dlrm_mini.errors import UserError
from dlrm_mini.ladders import click_models, rating_models
from dlrm_mini.ladders.click_models import FMSetting, NetSetting
from dlrm_mini.models.dlrm import DLRM
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.models.factorization_machine import FactorizationMachine, regularised_loss
from dlrm_mini.models.matrix_factorization import MatrixFactorization, regularised_squared_error
from dlrm_mini.models.mlp import INIT_STD, EmbeddingMLP
from dlrm_mini.shell.rows import Rows
from dlrm_mini.training import Objective, logistic_loss, squared_error

# Where no ladder has chosen: ratings with the click task's features.
SETTINGS: dict[str, FMSetting | NetSetting] = {
    "fm": FMSetting(dim=32, l2=0.003, l2_linear=0.001, rate=0.03, accumulator=0.0,
                    batch_size=1024, epochs=5),
    "mlp": NetSetting(dim=16, bottom=(), top=(64,), dropout=0.2, l2=0.003, table_rate=0.05,
                      mlp_rate=0.01, accumulator=0.0, batch_size=1024, epochs=5),
    "dlrm": NetSetting(dim=16, bottom=(64,), top=(64,), dropout=0.2, l2=0.003, table_rate=0.05,
                       mlp_rate=0.01, accumulator=0.0, batch_size=1024, epochs=4),
}  # fmt: skip


class Built(NamedTuple):
    """What the loop needs beside the rows."""

    model: nn.Module
    objective: Objective
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler | None


def usual(name: str, task: str, split: str) -> dict[str, Any]:
    """The setting that a model is trained with when nothing else is said."""
    if (name, task) == ("mf", "ratings"):
        return asdict(rating_models.CHOSEN)
    if task == "clicks":
        chosen = click_models.CHOSEN["temporal" if split == "temporal" else "random"]
        return asdict(chosen[name])
    return asdict(SETTINGS[name])


def prepare(device: str) -> torch.device:
    """The device of this name; and one thread, since the steps are too small to share.

    Raises:
        UserError: this machine has no such device.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "--device is cuda, but torch finds no GPU here. Leave --device out, or install a torch "
            "build for this GPU."
        )
    torch.set_num_threads(1)
    return torch.device(device)


def build(name: str, task: str, setting: dict[str, Any], rows: Rows, device: torch.device) -> Built:
    """An untrained model on a device, with its objective, optimizer and schedule.

    Args:
        name: one of the four models.
        task: "clicks" or "ratings".
        setting: as `usual` gives it, numbers changed.
        rows: whose mean label is where the model starts, and whose features it looks at.
        device: where the model is put.
    """
    clicks = task == "clicks"
    mean = rows.train.labels.double().mean()
    start = float(mean.logit() if clicks else mean)
    model: nn.Module
    if name == "mf" and not clicks:
        model, objective = _matrix_factorization(setting, rows)
        optimizer = torch.optim.Adagrad(model.to(device).parameters(), lr=setting["learning_rate"])
        return Built(model, objective, optimizer, None)
    if name in ("mf", "fm"):
        model = FactorizationMachine(
            rows.cardinalities, setting["dim"], n_dense=rows.n_dense, bias=start, init_std=INIT_STD
        )
        kind: Literal["logistic", "squared"] = "logistic" if clicks else "squared"
        objective = regularised_loss(kind, setting["l2"], setting["l2_linear"])
    else:
        model = _network(name, setting, rows, start)
        objective = penalised(logistic_loss if clicks else squared_error, setting["l2"])
    optimizer = torch.optim.Adagrad(
        _groups(model.to(device), setting), initial_accumulator_value=setting["accumulator"]
    )
    steps = setting["epochs"] * math.ceil(len(rows.train) / setting["batch_size"])
    return Built(model, objective, optimizer, LambdaLR(optimizer, lambda step: 1 - step / steps))


def _matrix_factorization(
    setting: dict[str, Any], rows: Rows
) -> tuple[MatrixFactorization, Objective]:
    """The ratings ladder's own rung, with its own objective and a constant rate."""
    sizes, mean = rows.cardinalities, rows.train.labels.mean().item()
    model = MatrixFactorization(
        sizes["user"], sizes["item"], setting["dim"], mean, init_std=setting["init_std"]
    )
    return model, regularised_squared_error(setting["l2"], setting["l2_bias"])


def _network(name: str, setting: dict[str, Any], rows: Rows, start: float) -> EmbeddingMLP | DLRM:
    """An MLP or a DLRM that starts with small vectors, at the mean label."""
    sizes, dim, dropout = rows.cardinalities, setting["dim"], setting["dropout"]
    if name == "mlp":
        return EmbeddingMLP(
            sizes, dim, setting["top"], n_dense=rows.n_dense, dropout=dropout, bias=start
        )
    bottom, top = (*setting["bottom"], dim), (*setting["top"], 1)
    kind = setting["interaction"]
    model = DLRM(
        DLRMConfig(
            rows.n_dense, sizes, dim, bottom=bottom, top=top, interaction=kind, dropout=dropout
        )
    )
    for table in model.tables.parameters():
        nn.init.normal_(table, std=INIT_STD)
    output = model.top[-1]
    assert isinstance(output, nn.Linear)
    nn.init.constant_(output.bias, start)
    return model


def _groups(model: nn.Module, setting: dict[str, Any]) -> list[dict[str, Any]]:
    """The parameters with their first learning rates: one for all, or the tables' and the MLPs'."""
    if "rate" in setting:
        return [{"params": list(model.parameters()), "lr": setting["rate"]}]
    assert isinstance(model, EmbeddingMLP | DLRM)
    tables = list(model.tables.parameters())
    known = {id(table) for table in tables}
    others = [parameter for parameter in model.parameters() if id(parameter) not in known]
    return [
        {"params": tables, "lr": setting["table_rate"]},
        {"params": others, "lr": setting["mlp_rate"]},
    ]


def penalised(loss: Objective, l2: float) -> Objective:
    """The loss plus the squared length of the vectors that each example looks up.

    mean over the batch of loss + l2 * sum_f |e_f|^2, with e_f the pooled vector of feature f.
    """

    def objective(model: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(model, EmbeddingMLP | DLRM)
        caught: list[Tensor] = []  # the vectors (B, F, D), on their way into the model
        hook = model.tables.register_forward_hook(lambda tables, given, out: caught.append(out))
        value = loss(model, batch)
        hook.remove()
        return value + l2 * caught[0].square().sum((1, 2)).mean()

    return objective
