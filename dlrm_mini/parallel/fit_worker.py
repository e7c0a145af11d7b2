"""One process of `parallel.fit`: does the collectives and, on rank 0, prints their seconds."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from statistics import median

import torch

from dlrm_mini.parallel.communicator import Communicator
from dlrm_mini.parallel.process_group import connect, leave
from dlrm_mini.parallel.traffic import Operation
from dlrm_mini.profiling.work import NUMBER


def main(wanted: str) -> None:
    """Measure what the JSON asks for: sizes, operations, repeats."""
    asked = json.loads(wanted)
    turns = [(name, nbytes) for nbytes in asked["sizes"] for name in asked["operations"]]
    with connect() as communicator, torch.no_grad():
        calls = {turn: collective(communicator, *turn) for turn in turns}
        seconds = [
            [timed(communicator, calls[turn][0]) for turn in turns]
            for _ in range(1 + asked["repeats"])
        ]
        mine = torch.tensor(seconds[1:], dtype=torch.float64)  # the first only warms up
        # A collective has ended when its last rank is done: (P * repeats, turns).
        everyone = communicator.all_gather(mine).view(communicator.size, *mine.shape)
        slowest = everyone.amax(0).T.tolist()
        if communicator.rank == 0:
            found = [
                (name, calls[name, nbytes][1], median(taken))
                for (name, nbytes), taken in zip(turns, slowest, strict=True)
            ]
            print(json.dumps(found), flush=True)
    leave()


def collective(
    communicator: Communicator, name: Operation, nbytes: int
) -> tuple[Callable[[], object], int]:
    """A call of a collective, and the bytes of its whole: a multiple of 4 P."""
    size = communicator.size
    each = -(-nbytes // (NUMBER * size))  # numbers for a rank
    whole, part = torch.zeros(each * size), torch.zeros(each)
    calls: dict[Operation, Callable[[], object]] = {
        "all_to_all": lambda: communicator.all_to_all(whole, [each] * size, [each] * size),
        "all_reduce": lambda: communicator.all_reduce(whole),
        "all_gather": lambda: communicator.all_gather(part),
    }
    return calls[name], NUMBER * each * size


def timed(communicator: Communicator, call: Callable[[], object]) -> float:
    """Seconds of a call that all ranks begin together."""
    communicator.barrier()
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main(sys.argv[1])
