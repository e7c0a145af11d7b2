"""The fused embedding path: look up and pool all tables at once, update only the rows touched.

The same two functions three times: `reference` in plain torch, `cpu` in numba, `gpu` in Triton. The
tables are stacked in one matrix, so that a step is one call however many tables there are.
"""

import functools
import importlib.util
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from dlrm_mini.errors import UserError

Name = Literal["auto", "reference", "cpu", "gpu"]


def choose(name: Name, table: Tensor) -> Any:
    """The module that works on this table, with `forward`, `update` and `CHECKS_IDS`.

    Args:
        name: "auto": "cpu" for float32 on a CPU where numba is installed, "gpu" for float32 on a
            CUDA device where Triton is, else "reference".
        table: (N, D).

    Raises:
        UserError: there is no such kernel, or it is none for this table.
    """
    if name not in get_args(Name):
        raise UserError(
            f"There is no kernel {name!r}; expected one of {', '.join(get_args(Name))}."
        )
    fitting, needed = {"cpu": ("cpu", "numba"), "cuda": ("gpu", "triton")}.get(
        table.device.type, ("reference", "torch")
    )
    if table.dtype != torch.float32 or not has(needed):
        fitting = "reference"
    if name not in ("auto", "reference", fitting):
        lacking = [package for package in ("numba", "triton") if not has(package)]
        raise UserError(
            f"The kernel '{name}' is not for a table of {table.dtype} on {table.device}"
            f"{' without ' + ' and '.join(lacking) if lacking else ''}; expected '{fitting}', "
            "'reference' or 'auto'."
        )
    return importlib.import_module(f"dlrm_mini.kernels.{fitting if name == 'auto' else name}")


@functools.cache
def has(package: str) -> bool:
    """Whether a package is installed: numba and Triton need not be."""
    return importlib.util.find_spec(package) is not None
