"""Adagrad as the recipes of `train` have it: sums above zero at first, decay of all rows."""

from __future__ import annotations

from collections.abc import Callable

import torch


class DenseAdagrad(torch.optim.Adagrad):
    """torch's Adagrad, for parameters whose gradients are of rows: every row moves.

    Weight decay moves rows that nobody looked up, so that a step costs what the tables cost, as on
    one device. Entries are updated one by one: any rectangle of a table may be alone.
    """

    rule = "Adagrad"  # torch's name, which checkpoints of one device have

    @torch.no_grad()
    def step(  # type: ignore[override]  # torch's two overloads, said at once
        self, closure: Callable[[], float] | None = None
    ) -> float | None:
        """As torch's, after each gradient of rows was made one of the whole parameter."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    parameter.grad = parameter.grad.to_dense()
        found: float | None = super().step(closure)
        return found
