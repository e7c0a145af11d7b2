"""What a rank does to try every collective: the same on simulated ranks and as a process.

As a process: `torchrun ... -m tests.parallel.every_collective FOLDER`. Each rank leaves its results
in FOLDER/RANK.pt.
"""

import sys
import warnings
from collections import Counter
from pathlib import Path

import torch
import torch.distributed as dist

from dlrm_mini.errors import UserError
from dlrm_mini.parallel import process_group, wire

DTYPES = (torch.int64, torch.float32, torch.float64)
LARGE = 1_000_000  # float32 numbers
TRIES = 6


def made(seed, dtype, *shape):
    """Whole numbers, so that sums are exact in any order."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-99, 99, shape, generator=generator).to(dtype)


def splits(size, empty=False):
    """Rows from each rank to each; rank 0 sends none to rank 1, and rank 2 none at all."""
    rows = [[0 if empty else (3 * p + 2 * q) % 5 for q in range(size)] for p in range(size)]
    rows[0][1] = 0
    if size > 2:
        rows[2] = [0] * size
    return rows


def operations(comm):
    """Name -> the collective, on a tensor of that many rows."""
    found = {}
    for empty in (False, True):
        sends = splits(comm.size, empty)
        send, receive = sends[comm.rank], [row[comm.rank] for row in sends]
        found[f"all_to_all{'-empty' * empty}"] = (
            sum(send), lambda x, send=send, receive=receive: comm.all_to_all(x, send, receive)
        )  # fmt: skip
        rows = 0 if empty else 5
        found[f"all_reduce{'-empty' * empty}"] = rows, comm.all_reduce
        found[f"all_gather{'-empty' * empty}"] = rows, comm.all_gather
        found[f"reduce_scatter{'-empty' * empty}"] = rows * comm.size, comm.reduce_scatter
        found[f"broadcast{'-empty' * empty}"] = rows, lambda x: comm.broadcast(x, comm.size - 1)
    return found


def try_all(comm):
    """Every collective, its mirror, and what was sent in them."""
    results = {}
    for dtype in DTYPES:
        for place, (name, (rows, operation)) in enumerate(operations(comm).items()):
            for shape in ((rows,), (rows, 3), (rows, 0)):
                x = made(100 * place + comm.rank, dtype, *shape)
                before = x.clone()
                if dtype.is_floating_point:
                    x.requires_grad_()
                y = operation(x)
                assert torch.equal(x, before)  # none works in place
                key = f"{name} {dtype} {len(shape)} {shape[-1]}"
                results[key] = y.detach().clone()
                if dtype.is_floating_point:
                    weights = made(1000 + comm.rank, dtype, *y.shape)
                    (y * weights).sum().backward()
                    results[f"{key} mirror"] = x.grad
    results["scalar"] = comm.all_reduce(torch.tensor(float(comm.rank)))
    x = made(comm.rank, torch.float32, 3, 5)
    results["transposed"] = comm.all_gather(x.T)
    comm.barrier()
    return results


class Handed:
    """Counts what torch.distributed is really handed, by operation, in its own words."""

    def __init__(self, comm):
        self.sent, self.comm = Counter(), comm
        counts = {
            "all_to_all_single": self.all_to_all_single, "all_reduce": self.all_reduce,
            process_group.GATHER: self.all_gather, "broadcast": self.broadcast,
        }  # fmt: skip
        for name, count in counts.items():
            setattr(dist, name, self.counting(getattr(dist, name), count))

    def counting(self, function, count):
        def counted(*arguments):
            count(*arguments)
            return function(*arguments)

        return counted

    def all_to_all_single(self, output, rows, receive=None, send=None):
        """Without splits, it is how a reduce_scatter is done."""
        operation = "reduce_scatter" if send is None else "all_to_all"
        even = [len(rows) // self.comm.size] * self.comm.size
        for q, piece in enumerate(rows.split(send or even)):
            self.sent[operation] += piece.nbytes if q != self.comm.rank else 0

    def all_reduce(self, tensor):  # of all ranks together: a share of the ring's 2 (P - 1) n
        self.sent["all_reduce"] += 2 * (self.comm.size - 1) * tensor.nbytes / self.comm.size

    def all_gather(self, output, tensor):
        assert output.nbytes == self.comm.size * tensor.nbytes
        self.sent["all_gather"] += output.nbytes - tensor.nbytes

    def broadcast(self, tensor, root):
        others = self.comm.size - 1 if self.comm.rank == root else 0
        self.sent["broadcast"] += others * tensor.nbytes


def on_the_wire(comm):
    """Operation -> (bytes that all ranks counted, fewest bytes on the loopback interface)."""
    n = LARGE - LARGE % comm.size
    x = torch.ones(n)
    share = [n // comm.size] * comm.size
    large = {
        "all_to_all": lambda: comm.all_to_all(x, share, share),
        "all_reduce": lambda: comm.all_reduce(x),
        "all_gather": lambda: comm.all_gather(x[: n // comm.size]),
        "reduce_scatter": lambda: comm.reduce_scatter(x),
        "broadcast": lambda: comm.broadcast(x),
    }
    found = {}
    for name, operation in large.items():
        counted, passed = comm.traffic.by_operation().get(name, 0), []
        for _ in range(TRIES):  # others may talk on this interface meanwhile: the fewest counts
            comm.barrier()
            before = wire.loopback_bytes()
            comm.barrier()
            operation()
            comm.barrier()
            passed.append(wire.loopback_bytes() - before)
            comm.barrier()
        counted = (comm.traffic.by_operation().get(name, 0) - counted) / TRIES
        found[name] = added_up(counted), min(passed)
    return found


def added_up(number):
    total = torch.tensor(float(number), dtype=torch.float64)
    dist.all_reduce(total)
    return total.item()


def main(folder):
    with process_group.connect(timeout=60) as comm:
        handed = Handed(comm)
        with warnings.catch_warnings(record=True) as warned:
            outcome = {"results": try_all(comm), "traffic": comm.traffic.by_operation()}
        outcome["warned"] = [str(warning.message) for warning in warned]
        outcome["messages"] = dict(comm.traffic.messages)
        outcome["handed"] = dict(handed.sent)
        try:
            outcome["wire"] = on_the_wire(comm)
        except UserError:
            outcome["wire"] = None
        with comm.part("outer"):
            comm.all_reduce(torch.ones(1))
            with comm.part("inner"):
                sum(range(10**6))
        outcome["seconds"] = dict(comm.seconds)
        torch.save(outcome, Path(folder) / f"{comm.rank}.pt")
        print(f"{comm.size} ranks have tried every collective")
    process_group.leave()


if __name__ == "__main__":
    main(sys.argv[1])
