"""One training step of a DLRM on several ranks, each collective in sight.

The loss of a batch is the mean over its B rows, wherever they are. So a rank's part of it is the
*sum* over its b rows, divided by B, and gradients are *summed*: those of replicated weights by an
all-reduce, those of tables by the backward of the all-to-all, which gives a shard the gradients of
all ranks' rows. Ranks may then have different numbers of rows, or none.

Where a rank takes the mean over its own b rows instead, both sums are P times too large. Replicated
gradients are then usually averaged, which repairs them where all b are equal; but nobody averages
what an all-to-all has brought: tables train at P times the learning rate (facebookresearch/dlrm,
issue 377, looks like a case). That is `mistake=True`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from dlrm_mini.datasets.batches import Batch, check_dense
from dlrm_mini.errors import UserError
from dlrm_mini.parallel.baton import named
from dlrm_mini.parallel.sharded_model import ShardedDLRM
from dlrm_mini.parallel.sharded_rules import ShardedRowWiseAdagrad, of_rows


class ShardedStep:
    """Called with each rank's rows, it moves the model's weights once.

    Args:
        model: this rank's.
        optimizer: what `make_optimizer` gave for it.
        l2: weight of a penalty: to the loss comes l2 / B times the sum of squares of all vectors
            (B, F, D) that the examples look up, as the recipes of one device have it.
        mistake: whether to train tables with P times their gradient, as real systems have done.
    """

    def __init__(
        self,
        model: ShardedDLRM,
        optimizer: torch.optim.Optimizer,
        *,
        l2: float = 0.0,
        mistake: bool = False,
    ) -> None:
        self.model, self.optimizer, self.l2, self.mistake = model, optimizer, l2, mistake
        self.communicator, self.steps = model.communicator, 0

    def step(self, batch: Batch | None) -> float | None:
        """The loss before the update, of the whole batch, the same on every rank.

        Args:
            batch: this rank's b rows on the model's device, maybe no row; None: no batch is left.

        Returns:
            The mean over the B rows of all ranks. None: all ranks' batches have ended, and no
            weight has moved.

        Raises:
            UserError: some ranks' batches have ended and others' have not, or no rank has a row;
                on every rank, and no weight has moved.
        """
        model, part = self.model, self.communicator.part
        self.steps += 1
        self.communicator.reached(self.steps)
        announced = model.tables.announce(None if batch is None else batch.sparse)
        _check_together(announced.rows)
        if batch is None:
            return None
        total = sum(announced.rows)
        if model.tables.check:
            check_dense(batch.dense, model.config.n_dense)
        self.optimizer.zero_grad(set_to_none=True)

        # Forward. Each `_detached` is a cut, so that backward can be made piece by piece.
        received = model.tables.exchange(batch.sparse, announced)
        pooled = model.tables.pool(received)  # (B, W), of all ranks' rows
        sent = _detached(pooled)
        vectors = model.tables.bring_home(sent, batch.sparse, announced)  # (b, F, D)
        home = _detached(vectors)
        with part("dense part"):
            logits = model.dense_part(batch.dense, home)  # (b,)
            loss = binary_cross_entropy_with_logits(
                logits, batch.labels.to(logits.dtype), reduction="sum"
            )
            if self.l2:
                loss = loss + self.l2 * home.square().sum()
            loss = loss / (max(len(batch), 1) if self.mistake else total)

        # Backward: the dense part, the all-to-all of gradients, the tables.
        with part("dense part backward"):
            loss.backward()  # type: ignore[no-untyped-call]
        vectors.backward(home.grad)  # type: ignore[no-untyped-call]
        bucket = self._take_replicated(loss)
        with part("table update"):
            if pooled.requires_grad:  # fused tables move here, the others get their gradients
                pooled.backward(sent.grad)  # type: ignore[no-untyped-call]
            if isinstance(self.optimizer, ShardedRowWiseAdagrad):
                self.optimizer.sum_squares()
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

        # One all-reduce for all that is replicated, and for the loss.
        with torch.no_grad():
            bucket = self.communicator.all_reduce(bucket)
        if self.mistake:
            bucket = bucket / self.communicator.size
        with part("dense update"):
            self._give_replicated(bucket[1:])
            self.optimizer.step()
        return float(bucket[0])

    def _take_replicated(self, loss: Tensor) -> Tensor:
        """Loss and gradients of all that is replicated end to end; the parameters keep none."""
        bucket = [loss.detach().view(1)]
        for parameter in self.model.replicated():
            assert parameter.grad is not None
            bucket.append(parameter.grad.flatten())
            parameter.grad = None
        return torch.cat(bucket)

    def _give_replicated(self, summed: Tensor) -> None:
        """Set the gradients; those of tables as gradients of rows, so that tables' rules apply."""
        parameters = self.model.replicated()
        gradients = torch.split(summed, [parameter.numel() for parameter in parameters])
        for parameter, flat in zip(parameters, gradients, strict=True):
            parameter.grad = flat.view_as(parameter)
        for held in self.model.tables.copied():
            gradient = held.parameter.grad
            assert gradient is not None
            rows = gradient.any(dim=1).nonzero()[:, 0]  # looked up by any rank
            held.parameter.grad = of_rows(rows, gradient[rows], gradient.shape)


def _detached(tensor: Tensor) -> Tensor:
    """The same numbers, with a gradient of their own: where a backward pass ends."""
    return tensor.detach().requires_grad_()


def _check_together(rows: tuple[int, ...]) -> None:
    """Raise a UserError unless all ranks have a batch, or none has."""
    ended = [rank for rank, number in enumerate(rows) if number < 0]
    going = [rank for rank, number in enumerate(rows) if number >= 0]
    if ended and going:
        raise UserError(
            f"The batches of {named(ended)} have ended, and {named(going)} "
            f"{'has' if len(going) == 1 else 'have'} one more. Give every rank the same number of "
            "batches: cut each batch of all rows with share(batch, communicator), which may leave "
            "a rank without rows."
        )
    if going and not sum(rows):
        raise UserError(
            "No rank has a row in this batch; expected at least one row over all ranks."
        )
