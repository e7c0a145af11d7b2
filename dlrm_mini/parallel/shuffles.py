"""The time of an all-to-all in which rank s sends a_s c_t bytes to rank t, for many plans at once.

All exchanges of a step are of this kind, with a_s the rows of a rank and c_t what its pieces of
tables get for a row, or the other way round. So sums over nodes say all that the matrix would, and
the time is that of `Topology.seconds` for the matrix: each rank has a port inside its node and one
across, both work at once and both ways, and a port takes alpha a message and 1 / beta a byte.
"""

from __future__ import annotations

import numpy as np

from dlrm_mini.parallel.skew import Floats
from dlrm_mini.parallel.topology import Topology


def seconds(topology: Topology, give: Floats, get: Floats) -> Floats:
    """The time of the exchange of give[s] * get[t] bytes from each s to each t other than s.

    Args:
        topology: of P ranks.
        give: (..., P), at least 0.
        get: (..., P), at least 0.

    Returns:
        (...), seconds.
    """
    slowest = np.zeros(np.broadcast_shapes(give.shape, get.shape)[:-1])
    starts = np.arange(0, topology.ranks, topology.per_node)
    sizes = np.diff(np.append(starts, topology.ranks))
    for mine, others in ((give, get), (get, give)):
        both = np.stack([others, others > 0])  # bytes, and whether there is a message
        all_ranks = both.sum(-1, keepdims=True)
        node = all_ranks
        if len(starts) > 1:
            node = np.repeat(np.add.reduceat(both, starts, axis=-1), sizes, axis=-1)
        links = ((topology.inside, node - both), (topology.across, all_ranks - node))
        for link, (number, messages) in links[: 1 + (len(starts) > 1)]:
            port = (mine > 0) * messages * link.alpha + mine * number / link.beta
            slowest = np.maximum(slowest, port.max(-1))
    return slowest
