"""What one rank can say to the others: a few collectives, each with its mirror in backward.

A model that is split over P ranks is written once, for one of them, against this class. Two worlds
implement it: `SimulatedCluster` (P ranks in one process, `parallel.simulated`) and
`ProcessGroup` (a process each, over `torch.distributed`, `parallel.process_group`).

All collectives are entered by every rank, in the same order. The gradient that a rank gets back is
that of the *sum* of all ranks' losses, which decides what each mirror is:

| forward        | backward                                   |
|----------------|--------------------------------------------|
| all_to_all     | all_to_all, the splits exchanged           |
| all_reduce     | all_reduce                                 |
| all_gather     | reduce_scatter                             |
| reduce_scatter | all_gather                                 |
| broadcast      | the sum at the root, zeros elsewhere       |

A mirror is a collective too, so backward has to be the same on every rank. Therefore a result of
floating point always carries a gradient, even on a rank whose own tensor needs none; only under
`torch.no_grad()`, which is then everybody's, there is no mirror. Ask for gradients with
`backward()`: `torch.autograd.grad` leaves out what its inputs do not need, on one rank and not on
another.
"""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from dlrm_mini.errors import UserError
from dlrm_mini.parallel.traffic import (
    Operation,
    Traffic,
    all_to_all_sends,
    broadcast_sends,
    ring_sends,
)

Collective = Callable[[Tensor], Tensor]


class Communicator(ABC):
    """One rank's end of the line.

    Attributes:
        rank: this rank, 0..P-1.
        size: P.
        traffic: what this rank has sent, by operation and receiver.
        in_backward: whether the collective that it is in is a mirror.
    """

    rank: int
    size: int
    traffic: Traffic
    in_backward: bool = False

    # The public, differentiable operations: written once, here.

    def all_to_all(self, rows: Tensor, send: Sequence[int], receive: Sequence[int]) -> Tensor:
        """Rows for every rank, and those of every rank for this one: the paper's butterfly shuffle.

        Args:
            rows: (sum(send), ...), those for rank 0 first.
            send: P numbers of rows, for each rank; that for itself moves over no link.
            receive: P numbers of rows, from each rank.

        Returns:
            (sum(receive), ...), those from rank 0 first.

        Raises:
            UserError: the splits do not fit the rows, or one rank's do not fit another's.
        """
        outgoing, incoming = self._split("send", send), self._split("receive", receive)
        self._pieces("all_to_all", rows)
        if sum(outgoing) != len(rows):
            raise UserError(
                f"Rank {self.rank} gives all_to_all {len(rows)} rows and says that it sends "
                f"{sum(outgoing)} (send={outgoing}); expected one number of rows for each rank, "
                f"adding up to {len(rows)}."
            )
        row_bytes = math.prod(rows.shape[1:]) * rows.element_size()
        self.traffic.add("all_to_all", all_to_all_sends(self.rank, outgoing, row_bytes))
        return self._mirrored(
            rows,
            lambda tensor: self._all_to_all(tensor, outgoing, incoming),
            lambda gradient: self.all_to_all(gradient, incoming, outgoing),
        )

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The sum of all ranks' tensors, of one shape, on every rank."""
        self._count_ring("all_reduce", tensor, tensor.numel())
        return self._mirrored(tensor, self._all_reduce, self.all_reduce)

    def all_gather(self, tensor: Tensor) -> Tensor:
        """All ranks' tensors (n, ...), of one shape, one after the other: (P * n, ...)."""
        self._pieces("all_gather", tensor)
        self._count_ring("all_gather", tensor, self.size * tensor.numel())
        return self._mirrored(tensor, self._all_gather, self.reduce_scatter)

    def reduce_scatter(self, tensor: Tensor) -> Tensor:
        """This rank's share (n, ...) of the sum of all ranks' tensors (P * n, ...)."""
        self._pieces("reduce_scatter", tensor)
        if len(tensor) % self.size:
            raise UserError(
                f"Rank {self.rank} gives reduce_scatter {len(tensor)} rows, which {self.size} "
                f"ranks cannot share evenly; fill it up to {-(-len(tensor) // self.size)} rows "
                f"for each of them."
            )
        self._count_ring("reduce_scatter", tensor, tensor.numel())
        return self._mirrored(tensor, self._reduce_scatter, self.all_gather)

    def broadcast(self, tensor: Tensor, root: int = 0) -> Tensor:
        """The root's tensor on every rank; the others give one of the same shape."""
        if not 0 <= root < self.size:
            raise UserError(
                f"Rank {self.rank} calls broadcast from rank {root}; expected one of "
                f"0..{self.size - 1}."
            )
        number = tensor.numel() * tensor.element_size()
        self.traffic.add("broadcast", broadcast_sends(self.rank, self.size, root, number))

        def mirror(gradient: Tensor) -> Tensor:
            total = self.all_reduce(gradient)
            return total if self.rank == root else torch.zeros_like(total)

        return self._mirrored(tensor, lambda given: self._broadcast(given, root), mirror)

    def barrier(self) -> None:
        """Return when every rank has come here."""
        self.traffic.add("barrier", {})
        self._barrier()

    # What a world adds for clocks and memory meters; the real one measures, or has no need.

    def part(self, name: str, seconds: float = 0.0) -> AbstractContextManager[None]:
        """Mark what a rank works on between collectives, for clocks and timelines.

        Args:
            name: of the part, such as "bottom MLP".
            seconds: what the part takes on a simulated clock, where they pass as the part begins;
                a real one measures it instead.
        """
        return contextlib.nullcontext()

    def reached(self, step: int) -> None:  # noqa: B027
        """Say which training step, from 1, this rank is in; a real run tells it if it fails."""

    def hold(self, name: str, nbytes: int, rows: int | None = None) -> None:  # noqa: B027
        """Tell a simulated rank's memory meter what is held; a real device knows it.

        Args:
            name: such as "table 'C3'"; held anew, it takes the new size.
            nbytes: what it takes.
            rows: of a table, so that the meter can say how many would fit.

        Raises:
            UserError: it does not fit.
        """

    def release(self, name: str) -> None:  # noqa: B027
        """Give back what is held under a name."""

    # What a world implements: contiguous tensors of any dtype, a new one back, no gradients.

    @abstractmethod
    def _all_to_all(self, rows: Tensor, send: list[int], receive: list[int]) -> Tensor: ...

    @abstractmethod
    def _all_reduce(self, tensor: Tensor) -> Tensor: ...

    @abstractmethod
    def _all_gather(self, tensor: Tensor) -> Tensor: ...

    @abstractmethod
    def _reduce_scatter(self, tensor: Tensor) -> Tensor: ...

    @abstractmethod
    def _broadcast(self, tensor: Tensor, root: int) -> Tensor: ...

    @abstractmethod
    def _barrier(self) -> None: ...

    def _mirrored(self, tensor: Tensor, forward: Collective, backward: Collective) -> Tensor:
        tensor = tensor.contiguous()
        if not (torch.is_grad_enabled() and tensor.is_floating_point()):
            return forward(tensor)
        # Without it, a tensor that needs no gradient would get no mirror, and others would wait.
        anchor = torch.empty(0, requires_grad=True)
        apply: Callable[..., Tensor] = _Mirrored.apply
        return apply(tensor, anchor, forward, lambda gradient: self._mirror(gradient, backward))

    def _mirror(self, gradient: Tensor, backward: Collective) -> Tensor:
        self.in_backward = True
        try:
            return backward(gradient)
        finally:
            self.in_backward = False

    def _count_ring(self, operation: Operation, tensor: Tensor, numbers: int) -> None:
        sends = ring_sends(operation, self.rank, self.size, numbers, tensor.element_size())
        self.traffic.add(operation, sends)

    def _split(self, name: str, numbers: Sequence[int]) -> list[int]:
        found = [int(number) for number in numbers]
        if len(found) != self.size or min(found) < 0:
            raise UserError(
                f"Rank {self.rank} gives all_to_all {name}={found}; expected {self.size} numbers "
                f"of rows, one for each rank, none below 0."
            )
        return found

    def _pieces(self, operation: Operation, tensor: Tensor) -> None:
        if not tensor.dim():
            raise UserError(
                f"Rank {self.rank} gives {operation} a single number; expected a tensor with rows, "
                f"such as tensor.reshape(1)."
            )


class _Mirrored(torch.autograd.Function):
    """A collective whose backward is another one."""

    @staticmethod
    def forward(
        ctx: Any, tensor: Tensor, anchor: Tensor, forward: Collective, backward: Collective
    ) -> Tensor:
        ctx.mirror = backward
        return forward(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.mirror(gradient), None, None, None
