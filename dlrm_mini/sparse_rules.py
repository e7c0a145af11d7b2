"""Which optimizers may update a table row by row, and how many bytes each keeps for it."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from dlrm_mini.errors import UserError

# Why a zero gradient would still change something, so that no step over the touched rows is equal.
_MOVES_ON = "its averages go on moving a row in the steps that do not touch it"
_SHRINKS = "its average of squares shrinks in every step for every row, touched or not"
WHY = {
    "momentum": "momentum goes on moving a row in the steps that do not touch it",
    "weight_decay": "weight decay shrinks every row in every step, touched or not",
    **dict.fromkeys(("Adam", "AdamW", "Adamax", "NAdam", "RAdam"), _MOVES_ON),
    **dict.fromkeys(("RMSprop", "Adadelta"), _SHRINKS),
}


def check_sparse(optimizer: Optimizer, tables: Iterable[Tensor] | None = None) -> None:
    """Raise a UserError when an optimizer of torch's has no sparse step that equals its dense one.

    Plain SGD, Adagrad and SparseAdam (a rule of its own, not Adam's) pass, and so does whatever
    torch did not write.

    Args:
        optimizer: what is to update tables with gradients of rows.
        tables: the parameters that have such gradients; groups with none of them are not looked at.
            None: all groups.

    Raises:
        UserError: momentum, weight decay, or an optimizer that changes untouched rows; the message
            says why and what to use.
    """
    kind, name = type(optimizer), type(optimizer).__name__
    if not kind.__module__.startswith("torch.optim") or kind is torch.optim.SparseAdam:
        return
    wanted = None if tables is None else {id(table) for table in tables}
    groups = [
        group
        for group in optimizer.param_groups
        if wanted is None or any(id(parameter) in wanted for parameter in group["params"])
    ]
    if not groups:
        return
    if kind in (torch.optim.SGD, torch.optim.Adagrad):
        asked = [
            (option, group[option])
            for group in groups
            for option in ("momentum", "weight_decay")
            if group.get(option)
        ]
        if not asked:
            return
        option, value = asked[0]
        found, why = f"{name} with {option}={value:g}", WHY[option]
    else:
        found, why = name, WHY.get(name, "it has no step for gradients of rows")
    raise UserError(
        f"{found} cannot update tables with sparse gradients: {why}. Use SGD, Adagrad or "
        "RowWiseAdagrad of dlrm_mini.optimizers, or tables with dense gradients."
    )


def state_bytes(rule: str, n_rows: int, dim: int, bytes_per_number: int = 4) -> int:
    """Bytes that an optimizer keeps for one table, beside the table's own N * D numbers.

    Args:
        rule: "sgd", "adagrad" or "rowwise_adagrad"; for comparison also "momentum" (SGD with it)
            and "adam", whose step counter, a float32, is counted.
        n_rows: N, rows of the table.
        dim: D, width of a row.
        bytes_per_number: of the table's dtype, 4 in float32.

    Raises:
        UserError: another rule.

    Example:
        >>> state_bytes("adam", 1_000_000, 64), state_bytes("rowwise_adagrad", 1_000_000, 64)
        (512000004, 4000000)
    """
    entries = n_rows * dim
    numbers = {
        "sgd": 0, "momentum": entries, "adagrad": entries, "rowwise_adagrad": n_rows,
        "adam": 2 * entries,
    }  # fmt: skip
    if rule not in numbers:
        raise UserError(f"There is no rule {rule!r}; expected one of {', '.join(numbers)}.")
    return numbers[rule] * bytes_per_number + (4 if rule == "adam" else 0)


def check_positive(optimizer: str, name: str, value: float) -> None:
    """Raise a UserError unless `lr` or `eps` of an optimizer is a finite number above 0."""
    if not (math.isfinite(value) and value > 0):
        meaning = {"lr": "learning rate", "eps": "epsilon"}[name]
        raise UserError(
            f"The {meaning} ({name}) of {optimizer} is {value}; expected a finite number above 0, "
            f"{'such as 0.01' if name == 'lr' else 'such as 1e-8'}."
        )
