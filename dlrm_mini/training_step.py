"""One training step, as every loop of the course makes it: forward, loss, backward, update."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from dlrm_mini.datasets.batches import Batch
from dlrm_mini.dense_part import DensePart, faster
from dlrm_mini.embeddings import FusedEmbeddingTables
from dlrm_mini.errors import UserError

__all__ = ["DensePart", "Objective", "Precision", "TrainingStep", "logistic_loss"]

Objective = Callable[[nn.Module, Batch], Tensor]
Precision = Literal["float32", "bfloat16", "float16"]


def logistic_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean logloss of the model's logits: the objective for clicks."""
    return nn.functional.binary_cross_entropy_with_logits(model(batch), batch.labels)


class TrainingStep:
    """Called with a batch, it moves the model's weights once and returns the loss.

    Below float32, only the products are computed in fewer bits (`torch.autocast`): weights, tables,
    the optimizer's state and the loss stay in float32, and so do the gradients of the weights. The
    smallest gradients of float16 would be lost, so the loss is scaled up before backward
    (Micikevicius et al. 2018, "Mixed Precision Training", 3.2), and the gradients down after it.
    Where one overflows, its step is skipped and the scale halved; fused tables, which move before
    all gradients are there, look at their own. To see that, the host waits for the device in every
    step of float16; bfloat16 has float32's range and needs none of it.

    All of this holds during a step only: outside, the model computes as it always does.

    Args:
        model: maps a `Batch` to predictions (B,).
        optimizer: over the model's parameters.
        objective: maps model and batch to the scalar that is minimised.
        precision: of the products.
        dense_part: how a DLRM's MLPs and interaction run, see `dlrm_mini.dense_part`.
        scaler: of the loss in float16, where a run goes on; None: a new one.

    Raises:
        UserError: a choice that does not exist, or not for this model or device.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        objective: Objective = logistic_loss,
        *,
        precision: Precision = "float32",
        dense_part: DensePart = "eager",
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        for name, value, kinds in (
            ("precision", precision, Precision), ("dense_part", dense_part, DensePart),
        ):  # fmt: skip
            if value not in get_args(kinds):
                choice = ", ".join(map(repr, get_args(kinds)))
                raise UserError(f"{name} is {value!r}; expected one of {choice}.")
        self.model, self.optimizer, self.objective = model, optimizer, objective
        self.precision, self.dense_part = precision, dense_part
        self.device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self.scaler = (scaler or make_scaler(self.device)) if precision == "float16" else None
        self.label: Callable[[str], contextlib.AbstractContextManager[object]] = lambda name: (
            contextlib.nullcontext()
        )
        self._faster = faster(model, dense_part)
        self._fused = [m for m in model.modules() if isinstance(m, FusedEmbeddingTables)]
        self._overflows: list[Tensor] = []  # of this step, one for each gradient of fused tables

    def __call__(self, batch: Batch) -> Tensor:
        """The loss before the update, a scalar on the model's device that nobody waited for."""
        loss = self.forward(batch)
        self.backward(loss)
        return loss.detach()

    def forward(self, batch: Batch) -> Tensor:
        """The loss, with what `backward` needs; no weight moves."""
        self.optimizer.zero_grad(set_to_none=True)
        with self.label("input"):
            batch = batch.to(self.device, non_blocking=True)
        with self.label("loss"), self._options():
            return self.objective(self.model, batch)

    def backward(self, loss: Tensor) -> None:
        """Gradients of the loss that `forward` gave, and the update: fused tables move first."""
        with self.label("backward"):
            scaled = loss if self.scaler is None else self.scaler.scale(loss)
            scaled.backward()  # type: ignore[no-untyped-call]
        self.update()

    def update(self) -> None:
        """Let the optimizer move every parameter that has a gradient."""
        if self.scaler is None:
            self.optimizer.step()
            return
        self._report_overflows()
        self.scaler.step(self.optimizer)
        self.scaler.update()

    @contextlib.contextmanager
    def _options(self) -> Iterator[None]:
        """The model as it computes within a step."""
        with contextlib.ExitStack() as undo:
            if self.precision != "float32":
                # Without its cache of weights: each is used once, and graphs cannot have it.
                kind = getattr(torch, self.precision)
                undo.enter_context(torch.autocast(self.device.type, kind, cache_enabled=False))
                undo.enter_context(self.model.register_forward_hook(_in_float32))
            if self.scaler is not None:
                for tables in self._fused:
                    undo.enter_context(tables.register_forward_hook(self._unscale))
            if self._faster is not None:
                self.model.faster = self._faster  # type: ignore[assignment]
                undo.callback(setattr, self.model, "faster", None)
            yield

    def _unscale(self, tables: nn.Module, inputs: object, pooled: Tensor) -> None:
        """Let the scaled gradient of pooled vectors be made right before fused tables use it."""
        if pooled.requires_grad:
            pooled.register_hook(self._unscaled)  # type: ignore[no-untyped-call]

    def _unscaled(self, gradient: Tensor) -> Tensor:
        """The gradient without the scale; zeros, which move nothing, where any overflowed."""
        assert self.scaler is not None
        scale = self.scaler.scale(torch.ones((), device=gradient.device))  # stays on the device
        finite = gradient.isfinite().all()
        self._overflows.append(~finite)
        return torch.where(finite, gradient / scale, 0.0)

    def _report_overflows(self) -> None:
        """Make the scaler see what overflowed on its way to fused tables, whose `grad` is None."""
        overflows, self._overflows = self._overflows, []
        parameters = (p for group in self.optimizer.param_groups for p in group["params"])
        gradients = (p.grad for p in parameters if p.grad is not None and not p.grad.is_sparse)
        if overflows and (seen := next(gradients, None)) is not None:
            seen.add_(torch.where(torch.stack(overflows).any(), torch.inf, 0.0))


def make_scaler(device: torch.device) -> torch.amp.GradScaler:
    """A scaler of losses for float16; its state belongs in a run's checkpoints."""
    return torch.amp.GradScaler(device.type)


def _in_float32(model: nn.Module, inputs: object, predictions: Tensor) -> Tensor:
    return predictions.float()
