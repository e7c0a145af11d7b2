"""Optimizers whose work is in the rows touched: SGD, Adagrad and row-wise Adagrad.

A batch looks up few rows of a large table. The rules here leave a row without a gradient alone, its
state included: a step costs what the batch costs, and is equal to the dense one, as a gradient of
zero moves nothing. Under momentum, weight decay and Adam it does, and `check_sparse` says so.

Each works on a whole model: parameters with a dense gradient (the MLPs) take the ordinary dense
step, those with a sparse one (`EmbeddingTables` with `sparse_gradient=True`) the sparse one, and
fused tables (`FusedEmbeddingTables`) call `update_fused` from inside backward.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Protocol, cast

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.optim.optimizer import Optimizer, ParamsT

from dlrm_mini.errors import UserError
from dlrm_mini.kernels.rules import Lookups, Rule
from dlrm_mini.sparse_rules import WHY, check_positive, check_sparse, state_bytes

__all__ = [
    "SGD", "Adagrad", "RowOptimizer", "RowWiseAdagrad", "check_sparse", "coalesce", "state_bytes",
]  # fmt: skip


class Kernel(Protocol):
    """A module of `dlrm_mini.kernels`: its `update` changes a table and its state in place."""

    @property
    def update(
        self,
    ) -> Callable[[Tensor, Tensor | None, Lookups, Tensor, Rule, float, float], None]:
        """Of table, state, lookups, gradient (B, F, D), rule, learning rate and epsilon."""


def coalesce(ids: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """The rows that were looked up, each once, and for each the sum of its gradients.

    A rule that squares a gradient must see this sum: (a + b)^2 is not a^2 + b^2. Segments of sorted
    ids are summed, each in the order of the batch: the same bits on every run.

    Args:
        ids: (V,) int64, the row of each lookup, in any order, with duplicates.
        gradients: (V, D) float, the gradient of each lookup.

    Returns:
        The rows (R,) int64, rising, and their summed gradients (R, D), newly made.

    Example:
        >>> rows, summed = coalesce(torch.tensor([7, 2, 7]), torch.tensor([[1.0], [2.0], [3.0]]))
        >>> rows, summed.flatten()
        (tensor([2, 7]), tensor([2., 4.]))
    """
    if not len(ids):
        return ids, gradients.clone()
    ids, order = ids.sort(stable=True)
    rows, counts = torch.unique_consecutive(ids, return_counts=True)
    # Summing segments is itself a pooled lookup: of `gradients`, in this order, a bag a segment.
    return rows, F.embedding_bag(order, gradients, counts.cumsum(0) - counts, mode="sum")


class RowOptimizer(Optimizer):
    """What the three rules share: options checked, state made, each gradient given its step."""

    rule: ClassVar[Rule]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with their own `lr` (and `eps`), as `torch.optim.Optimizer` does.

        Raises:
            UserError: `lr` or `eps` is not finite or not above 0, or there is momentum or decay.
        """
        for name in self.defaults:
            check_positive(type(self).__name__, name, param_group.get(name, self.defaults[name]))
        for name in ("momentum", "weight_decay"):
            if param_group.get(name):
                raise UserError(
                    f"A parameter group asks {type(self).__name__} for {name}="
                    f"{param_group[name]}, which it does not have: {WHY[name]}. Leave it out, or "
                    "give these parameters to an optimizer of torch's, with dense gradients."
                )
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(  # type: ignore[override]  # torch's two overloads, said at once
        self, closure: Callable[[], float] | None = None
    ) -> float | None:
        """Update every parameter that has a gradient; those without, fused tables too, stay.

        Args:
            closure: computes the loss and its gradients anew; its value is returned.

        Raises:
            UserError: a gradient is sparse (or dense) where the state is of the other kind, or
                sparse in other axes than the rows. Nothing is changed.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        found = [[p for p in group["params"] if p.grad is not None] for group in self.param_groups]
        for parameter in (p for parameters in found for p in parameters):
            self._state(parameter, by_row=_of_rows(parameter.grad))  # all states, before any step
        for group, parameters in zip(self.param_groups, found, strict=True):
            lr, eps = group["lr"], group.get("eps", 0.0)
            for parameter in parameters:
                if parameter.grad.is_sparse:
                    self._sparse_step(parameter, parameter.grad, lr, eps)
            if dense := [p for p in parameters if not p.grad.is_sparse]:
                self._dense_step(dense, [p.grad for p in dense], lr, eps)
        return loss

    @torch.no_grad()
    def update_fused(
        self, parameter: Tensor, lookups: Lookups, gradient: Tensor, kernel: Kernel
    ) -> None:
        """Apply the rule to the rows of one batch at once, without making their gradient.

        Args:
            parameter: (N, D), all tables of a model one above the other.
            lookups: the ids that were looked up, and where their bags and tables begin.
            gradient: (B, F, D), of the pooled vectors.
            kernel: the module that does the work.

        Raises:
            UserError: this optimizer was not given the parameter.
        """
        for group in self.param_groups:
            if any(parameter is mine for mine in group["params"]):
                state = self._state(parameter, by_row=True)
                lr, eps = group["lr"], group.get("eps", 0.0)
                kernel.update(parameter.data, state, lookups, gradient, self.rule, lr, eps)
                return
        raise UserError(
            f"A fused table of shape {tuple(parameter.shape)} is to be updated by "
            f"{type(self).__name__}, which was not given this parameter. Make the optimizer from "
            "the parameters of the model that the table is part of: SGD(model.parameters(), lr)."
        )

    def _state_shape(self, parameter: Tensor, by_row: bool) -> tuple[int, ...] | None:
        """The shape of a parameter's state, None for a rule that has none."""
        return None

    def _state(self, parameter: Tensor, by_row: bool) -> Tensor | None:
        """The sum of squares of a parameter, made of zeros when it is first asked for.

        Each parameter's is made on its own first gradient: one flag for the whole optimizer would
        leave a table without state whose first gradient comes in a later step.
        """
        shape = self._state_shape(parameter, by_row)
        if shape is None:
            return None
        state = self.state[parameter]
        if "sum" not in state:
            state["sum"] = torch.zeros(shape, dtype=parameter.dtype, device=parameter.device)
        if tuple(state["sum"].shape) != shape:
            raise UserError(
                f"{type(self).__name__} has a state of shape {tuple(state['sum'].shape)} for a "
                f"parameter of shape {tuple(parameter.shape)} whose gradient is now "
                f"{'of rows' if by_row else 'dense'}, which needs {shape}. Keep each table's "
                "gradients of one kind throughout a training, or begin with a new optimizer."
            )
        return cast(Tensor, state["sum"])

    def _dense_step(self, dense: list[Tensor], grads: list[Tensor], lr: float, eps: float) -> None:
        raise NotImplementedError

    def _sparse_step(self, parameter: Tensor, gradient: Tensor, lr: float, eps: float) -> None:
        raise NotImplementedError


class SGD(RowOptimizer):
    """Stochastic gradient descent: w -= lr * g.

    No state. The rule is linear, so duplicates may be summed before it or by it.

    Args:
        params: parameters or groups of them, as every torch optimizer takes.
        lr: the learning rate, finite and above 0 (a schedule may lower it to 0).

    Raises:
        UserError: `lr` is not finite or not above 0.
    """

    rule: ClassVar[Rule] = "sgd"

    def __init__(self, params: ParamsT, lr: float) -> None:
        super().__init__(params, {"lr": lr})

    def _dense_step(self, dense: list[Tensor], grads: list[Tensor], lr: float, eps: float) -> None:
        torch._foreach_add_(dense, grads, alpha=-lr)

    def _sparse_step(self, parameter: Tensor, gradient: Tensor, lr: float, eps: float) -> None:
        parameter.add_(gradient, alpha=-lr)


class Adagrad(RowOptimizer):
    """Adagrad (Duchi, Hazan and Singer 2011, diagonal): s += g^2, w -= lr * g / (sqrt(s) + eps).

    Every entry has a rate of its own, which falls with the gradients it has seen: rows of rare ids
    keep large steps. The state `state[p]["sum"]` is s, one number an entry.

    Args:
        params: parameters or groups of them, as every torch optimizer takes.
        lr: the learning rate, finite and above 0 (a schedule may lower it to 0).
        eps: keeps the first division finite, above 0; the default is torch's.

    Raises:
        UserError: `lr` or `eps` is not finite or not above 0.
    """

    rule: ClassVar[Rule] = "adagrad"

    def __init__(self, params: ParamsT, lr: float, eps: float = 1e-10) -> None:
        super().__init__(params, {"lr": lr, "eps": eps})

    def _state_shape(self, parameter: Tensor, by_row: bool) -> tuple[int, ...]:
        return tuple(parameter.shape)

    def _dense_step(self, dense: list[Tensor], grads: list[Tensor], lr: float, eps: float) -> None:
        sums = [self.state[parameter]["sum"] for parameter in dense]
        torch._foreach_addcmul_(sums, grads, grads)
        scales = torch._foreach_sqrt(sums)
        torch._foreach_add_(scales, eps)
        torch._foreach_addcdiv_(dense, grads, scales, value=-lr)

    def _sparse_step(self, parameter: Tensor, gradient: Tensor, lr: float, eps: float) -> None:
        rows, summed = _coalesced(gradient)
        state = self.state[parameter]["sum"]  # (N, D)
        _add_rows(state, rows, summed.square())
        scale = state.index_select(0, rows).sqrt_().add_(eps)  # (R, D)
        _add_rows(parameter, rows, summed / scale, factor=-lr)


class RowWiseAdagrad(Adagrad):
    """Adagrad with one number a row: s += mean(g^2), w -= lr * g / (sqrt(s) + eps).

    The mean is over the D entries of a row's summed gradient. This is the rule of the DLRM
    reference implementation (`optim/rwsadagrad.py` in facebookresearch/dlrm), which MLPerf's DLRM
    uses, and of FBGEMM (`EXACT_ROWWISE_ADAGRAD`): the state of a table is D times smaller than
    Adagrad's. Parameters with a dense gradient take the ordinary Adagrad step, as there.

    The state `state[p]["sum"]` is s: (N,) for tables (sparse gradients, or fused), else like p.

    Args:
        params: parameters or groups of them, as every torch optimizer takes.
        lr: the learning rate, finite and above 0 (a schedule may lower it to 0).
        eps: keeps the first division finite, above 0; the default is FBGEMM's.

    Raises:
        UserError: `lr` or `eps` is not finite or not above 0.
    """

    rule: ClassVar[Rule] = "rowwise_adagrad"

    def __init__(self, params: ParamsT, lr: float, eps: float = 1e-8) -> None:
        super().__init__(params, lr, eps)

    def _state_shape(self, parameter: Tensor, by_row: bool) -> tuple[int, ...]:
        return (len(parameter),) if by_row else tuple(parameter.shape)

    def _sparse_step(self, parameter: Tensor, gradient: Tensor, lr: float, eps: float) -> None:
        rows, summed = _coalesced(gradient)
        state = self.state[parameter]["sum"]  # (N,)
        _add_rows(state, rows, self._mean_square(parameter, summed))
        scale = state.index_select(0, rows).sqrt_().add_(eps)  # (R,)
        _add_rows(parameter, rows, summed / scale[:, None], factor=-lr)

    def _mean_square(self, parameter: Tensor, summed: Tensor) -> Tensor:
        """Of each row's summed gradient, (R,): its D entries, which `parallel` may have split."""
        return summed.square().mean(1)


def _of_rows(gradient: Tensor) -> bool:
    """Whether a gradient is one of rows, after a look at whether its other axis is dense."""
    if gradient.is_sparse and (gradient.sparse_dim(), gradient.dense_dim()) != (1, 1):
        raise UserError(
            f"A gradient of shape {tuple(gradient.shape)} is sparse in {gradient.sparse_dim()} "
            f"dimension(s) and dense in {gradient.dense_dim()}; expected rows of a table, 1 and "
            "1, as an embedding with sparse gradients gives."
        )
    return gradient.is_sparse


def _coalesced(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The touched rows (R,) of a table and their summed gradients (R, D)."""
    if gradient.is_coalesced():
        return gradient.indices()[0], gradient.values()
    return coalesce(gradient._indices()[0], gradient._values())


def _add_rows(table: Tensor, rows: Tensor, values: Tensor, factor: float = 1.0) -> None:
    """table[rows] += factor * values, for distinct rows; faster than `index_add_`."""
    added = torch.sparse_coo_tensor(
        rows[None], values, table.shape, is_coalesced=True, check_invariants=False
    )
    table.add_(added, alpha=factor)
