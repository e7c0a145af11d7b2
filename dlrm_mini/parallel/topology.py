"""Where ranks are and what lies between them: links inside a node, and links across nodes.

A message of n bytes over a link takes alpha + n / beta seconds (Hockney 1994): a latency that every
message pays, and a bandwidth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dlrm_mini.errors import UserError
from dlrm_mini.parallel.traffic import OPERATIONS, Operation


@dataclass(frozen=True)
class Link:
    """A kind of connection, one direction of it; the other works at the same time.

    Attributes:
        name: such as "NVLink".
        alpha: seconds a message takes to begin.
        beta: bytes a second.
        source: who says so, figure by figure; "assumption" where nobody does.
    """

    name: str
    alpha: float
    beta: float
    source: str

    def seconds(self, nbytes: float, messages: int = 1) -> float:
        """What messages of so many bytes together take, one after the other."""
        return messages * self.alpha + nbytes / self.beta


@dataclass(frozen=True)
class Topology:
    """P ranks on nodes.

    Attributes:
        ranks: P.
        per_node: ranks on one node; rank r is on node r // per_node.
        inside: the link between ranks of one node.
        across: the link between nodes, one for each rank.
        memory: bytes a rank may hold of parameters, optimizer state and buffers; None: no limit.
    """

    ranks: int
    per_node: int
    inside: Link
    across: Link
    memory: float | None = None

    def __post_init__(self) -> None:
        if self.ranks < 1 or self.per_node < 1:
            raise UserError(
                f"The topology has {self.ranks} ranks, {self.per_node} on a node; expected at "
                f"least 1 of each."
            )

    @property
    def nodes(self) -> int:
        """How many nodes there are; the last may be partly filled."""
        return -(-self.ranks // self.per_node)

    def node_of(self, rank: int) -> int:
        """The node that a rank is on."""
        return rank // self.per_node

    def link(self, sender: int, receiver: int) -> Link:
        """What lies between two different ranks."""
        return self.inside if self.node_of(sender) == self.node_of(receiver) else self.across

    def seconds(self, operation: Operation, nbytes: ArrayLike = 0) -> float:
        """How long a collective takes, from when the last rank has entered it.

        With a = alpha and b = beta of the slowest link on the way:

        - all_gather and reduce_scatter of n bytes: (P - 1) (a + n / P / b), a ring (Thakur,
          Rabenseifner and Gropp 2005, "Optimization of collective communication operations in
          MPICH");
        - all_reduce: the one and then the other, 2 (P - 1) (a + n / P / b);
        - all_to_all: every rank has one port inside its node and one across, full duplex, all at
          the same time. A port takes m a + n / b for m messages of n bytes together, and the
          slowest port of all decides;
        - broadcast: an all_to_all in which only rank 0 sends;
        - barrier: ceil(log2 P) a, each round with a rank twice as far away (Hensgen, Finkel and
          Manber 1988).

        Args:
            operation: which one.
            nbytes: for all_to_all the (P, P) bytes from each rank (row) to each rank (column), of
                which the diagonal moves over no link; else the bytes of the whole: the tensor that
                is reduced, gathered, scattered or broadcast.

        Raises:
            UserError: an unknown operation, or bytes of another shape.
        """
        if operation not in OPERATIONS:
            raise UserError(f"There is no operation {operation!r}; expected one of {OPERATIONS}.")
        given = np.asarray(nbytes, dtype=np.float64)
        expected = (self.ranks, self.ranks) if operation == "all_to_all" else ()
        if given.shape != expected:
            raise UserError(
                f"The bytes of {operation} have the shape {given.shape}; expected {expected} for "
                f"{self.ranks} ranks."
            )
        if self.ranks == 1:
            return 0.0
        if operation == "all_to_all":
            return self._ports(given)
        number = float(given)
        if operation == "broadcast":
            everything = np.zeros((self.ranks, self.ranks))
            everything[0] = number
            return self._ports(everything)
        if operation == "barrier":
            return math.ceil(math.log2(self.ranks)) * max(link.alpha for link in self._links())
        steps = (2 if operation == "all_reduce" else 1) * (self.ranks - 1)
        return steps * max(link.seconds(number / self.ranks) for link in self._links())

    def _links(self) -> list[Link]:
        """The links that a ring over all ranks uses."""
        inside = [self.inside] if self.per_node > 1 else []
        return inside + ([self.across] if self.nodes > 1 else [])

    def _ports(self, nbytes: NDArray[np.float64]) -> float:
        """The slowest port."""
        nodes = np.arange(self.ranks) // self.per_node
        together = nodes[:, None] == nodes
        others = ~np.eye(self.ranks, dtype=bool)
        slowest = 0.0
        for link, over in ((self.inside, together & others), (self.across, ~together)):
            sent = np.where(over, nbytes, 0.0)
            for axis in (0, 1):
                seconds: NDArray[Any] = (sent > 0).sum(axis) * link.alpha + sent.sum(
                    axis
                ) / link.beta
                slowest = max(slowest, float(seconds.max()))
        return slowest


_NCCL = (
    "alpha: the time of a step of a ring in NCCL's own model (hwLat, Simple protocol, "
    "github.com/NVIDIA/nccl, src/graph/tuning.cc, commit 01afd20)"
)
LINKS = {
    link.name: link
    for link in (
        Link("NVLink", 3.4e-6, 300e9,
             f"{_NCCL}; beta: half of the 600 GB/s in TorchRec's planner, taken to count both "
             f"directions: an assumption"),
        Link("PCIe", 5.7e-6, 16 * 8e9 * 128 / 130 / 8,
             f"{_NCCL}; beta: PCIe 3.0 with 16 lanes of 8 GT/s, 128 of 130 bits data, by "
             f"definition"),
        Link("100 Gbit/s", 9.6e-6, 100e9 / 8, f"{_NCCL}; beta: by definition, no headers"),
        Link("10 Gbit/s", 10e-6, 10e9 / 8,
             "alpha: one way, at best, Linux and TCP over 10 Gbit/s Ethernet (Larsen et al. 2009, "
             "doi.org/10.1007/s10766-009-0109-6, abstract); beta: by definition, no headers"),
    )
}  # fmt: skip
NODE = 8  # ranks on a node where two links are named
OF_A_NODE = ("NVLink", "PCIe")  # links that by themselves join the ranks of one node


def topology(
    name: str, ranks: int, *, per_node: int | None = None, memory: float | None = None
) -> Topology:
    """A topology of known links.

    Args:
        name: one of `LINKS`, which then is everywhere, or two of them, the one inside a node first:
            "NVLink + 100 Gbit/s".
        ranks: P.
        per_node: ranks on a node. None: `NODE` with two links; with one, all of them for a link of
            a node, and one for a network.
        memory: bytes a rank may hold.

    Raises:
        UserError: a link that nobody knows.
    """
    names = name.split(" + ")
    unknown = [one for one in names if one not in LINKS]
    if unknown or len(names) > 2:
        raise UserError(
            f"There is no topology '{name}'; expected one of {', '.join(LINKS)}, or two joined by "
            f"' + ', the one inside a node first."
        )
    if per_node is None:
        alone = ranks if name in OF_A_NODE else 1
        per_node = NODE if len(names) == 2 else max(alone, 1)
    return Topology(ranks, per_node, LINKS[names[0]], LINKS[names[-1]], memory)
