"""Faster ways through all of a DLRM but its tables: compiled, or replayed as CUDA graphs.

The dense part is a few dozen small operations of fixed shapes. On a GPU each has to be launched by
the host, forward and backward, and with small batches the GPU waits for that. `torch.compile` makes
fewer, larger operations of them. A CUDA graph records the launches once and replays them in one
call; what is recorded are addresses, so that the inputs are copied to where the first ones were.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, cast

import torch
from torch import Tensor, nn

from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm import DLRM

DensePart = Literal["eager", "compiled", "graphed"]
Function = Callable[[Tensor, Tensor], Tensor]


def faster(model: nn.Module, how: DensePart) -> Function | None:
    """What takes the place of `model.dense_part` in training steps; None for "eager".

    Nothing is compiled or recorded before the first batch. Where a model has dropout, other units
    are left out than in an eager run.

    Args:
        model: a DLRM, on its device.
        how: see the module; "graphed" needs CUDA.

    Raises:
        UserError: the model is no DLRM, or there is no CUDA for its graph.
    """
    if how == "eager":
        return None
    if not isinstance(model, DLRM):
        raise UserError(
            f"dense_part is {how!r}, but a {type(model).__name__} has no dense part that could be "
            "replaced; expected a DLRM. Leave dense_part at 'eager'."
        )
    if how == "compiled":
        return cast(Function, torch.compile(model.dense_part))
    device = next(model.parameters()).device
    if device.type != "cuda":
        raise UserError(
            f"dense_part is 'graphed', but the model is on {device}, and graphs are CUDA's. Move "
            "the model to a GPU first, or choose 'eager' or 'compiled'."
        )
    return _Graphed(model)


class _Graphed:
    """Replays graphs of forward and backward for batches shaped as the first; others run eagerly.

    Gradients live in memory that the next replay overwrites: they must be dropped before
    (`zero_grad(set_to_none=True)`, as `TrainingStep` does), and gradients of batches cannot add up.
    """

    def __init__(self, model: DLRM) -> None:
        self.model = model
        self.graph: Function | None = None
        self.shapes: tuple[torch.Size, torch.Size] | None = None

    def __call__(self, dense: Tensor, vectors: Tensor) -> Tensor:
        shapes = dense.shape, vectors.shape
        if self.graph is None:
            self.graph, self.shapes = self._record(dense, vectors), shapes
        if shapes != self.shapes:  # the last batch of an epoch
            return self.model.dense_part(dense, vectors)
        return self.graph(dense, vectors)

    def _record(self, dense: Tensor, vectors: Tensor) -> Function:
        """Record on copies, which stay the graph's inputs; no weight moves, no gradient is kept."""
        samples = (
            dense.detach().clone(),
            vectors.detach().clone().requires_grad_(vectors.requires_grad),
        )
        graphed = torch.cuda.make_graphed_callables(_AsModule(self.model), samples)
        return cast(Function, graphed)


class _AsModule(nn.Module):
    """The dense part with its own parameters: those of a bare function would get no gradient."""

    def __init__(self, model: DLRM) -> None:
        super().__init__()
        self.bottom, self.top = model.bottom, model.top
        self.dense_part = model.dense_part

    def forward(self, dense: Tensor, vectors: Tensor) -> Tensor:
        return self.dense_part(dense, vectors)
