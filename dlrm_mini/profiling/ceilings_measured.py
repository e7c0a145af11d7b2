"""Measure the ceilings of this machine.

Everything is timed on random numbers, in short calls that go through their memory in turn, so that
what is larger than a cache is not found there. A ceiling is what a machine can do, and whatever
else runs on it only adds to the time: so each call has several turns, spread over the whole
measurement, of which the fastest counts, by the median of its calls. On a CPU a call is timed by
the clock. On a GPU several calls lie between two events on its own stream, so that neither the host
nor its wait is in the time.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dlrm_mini import hardware, kernels
from dlrm_mini.errors import UserError
from dlrm_mini.kernels.rules import Lookups
from dlrm_mini.profiling.ceilings import Ceilings, Device, Points
from dlrm_mini.training_step import Precision

WIDTHS = {"cpu": (1, 16, 64, 256, 1024), "cuda": (1, 16, 64, 256, 1024, 4096)}
SMALL = (8, 16, 32, 64)  # vectors and their width, in the dot interaction
ROWS = {"cpu": (64, 128, 256), "cuda": (64, 128, 256, 512)}  # bytes
SPANS = {  # bytes: within the second cache, the third, and larger
    "cpu": (1 << 20, 1 << 23, 1 << 25, 1 << 28), "cuda": (1 << 22, 1 << 26, 1 << 30),
}  # fmt: skip
PIECE = 1 << 22  # bytes that a copy moves at a time, read and written
LOOKUPS, BAG = {"cpu": 1 << 15, "cuda": 1 << 20}, 32
TABLES = 8  # that the rows belong to: a thread changes tables of its own
FRESH = 1 << 25  # bytes
LAYERS = 8  # of the network too small to take time itself
TURNS, LEAST = 5, 3  # turns of a call, and calls in each


class Job(NamedTuple):
    """A call that is timed."""

    ceiling: tuple[str | float, ...]  # which one, and at what sizes
    call: Callable[[], object]
    amount: float  # FLOP, bytes, keys, bags or operations of one call
    before: Callable[[], object] | None = None  # called each time, and not timed


def measure(
    device: str = "cpu", seconds: float = 4.0, precisions: Sequence[Precision] | None = None
) -> Ceilings:
    """As `ceilings.measure`."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("There is no CUDA device here; measure the ceilings of 'cpu'.")
    if device not in ("cpu", "cuda"):
        raise UserError(f"The device is {device!r}; ceilings are measured of 'cpu' or 'cuda'.")
    kind: Device = "cuda" if device == "cuda" else "cpu"
    usual: tuple[Precision, ...] = ("float32", "bfloat16", "float16")
    chosen = precisions or (usual[:2] if kind == "cpu" else usual)
    described, threads = hardware.describe(), torch.get_num_threads()
    jobs = _jobs(kind, chosen)
    for job in jobs:
        job.call()
    torch.set_num_threads(threads)  # numba's first parallel loop in a process had set them anew
    rates = _rates(jobs, kind, seconds)
    where = "" if kind == "cuda" else f" with {threads} thread{'s' * (threads > 1)}"

    def points(name: str) -> Points:
        found = [(*sizes, rate) for (ceiling, *sizes), rate in rates.items() if ceiling == name]
        return tuple(tuple(map(float, point)) for point in found)

    return Ceilings(
        name=str(described["gpu" if kind == "cuda" else "cpu"]),
        source=f"measured here{where}, torch {torch.__version__}",
        measured=True,
        device=kind,
        products={precision: points(precision) for precision in chosen},
        batched=points("batched"),
        copies=points("copies"),
        gathers=points("gathers"),
        changes=points("changes"),
        bags=rates.get(("bags",), 0.0),
        sort=rates["sort",],
        fresh=rates.get(("fresh",), 0.0),
        transfer=rates.get(("transfer",), 0.0),
        overhead=1 / rates["operations",],
    )


def _jobs(device: Device, precisions: Sequence[Precision]) -> list[Job]:
    """All that is timed, in one memory."""
    size = max(SPANS[device]) // 4
    memory = (  # as fused tables have it: numpy asks for huge pages
        torch.rand(size, device=device)
        if device == "cuda"
        else torch.from_numpy(np.empty(size, np.float32)).uniform_()
    )
    jobs = [*_small_products(device), *_copies(device, memory), *_rows(device, memory)]
    if device == "cpu":  # on a GPU there are enough under way
        jobs += _one_row_bags(memory)
    for precision in precisions:
        jobs += _products(device, precision)
    keys = torch.randint(1 << 20, (LOOKUPS[device],), device=device)
    jobs.append(Job(("sort",), partial(torch.sort, keys, stable=True), len(keys)))
    # Six operations a layer: product and ReLU; in backward those of ReLU, weight, input and bias.
    tiny = Job(("operations",), _tiny_step(device), 6 * LAYERS)
    jobs.append(tiny if device == "cuda" else tiny._replace(before=_cold(memory)))
    if device == "cpu":  # memory that the system finds, cleans and maps; a GPU's is kept by torch
        jobs.append(Job(("fresh",), lambda: torch.empty(FRESH // 4).fill_(1.0), FRESH))
    else:  # from the host's pageable memory
        source, target = torch.rand(1 << 22), torch.empty(1 << 22, device=device)
        jobs.append(Job(("transfer",), partial(target.copy_, source), 4 * len(source)))
    return jobs


def _rates(
    jobs: Sequence[Job], device: Device, seconds: float
) -> dict[tuple[str | float, ...], float]:
    """Ceiling -> its rate; the highest where several ways lead to it."""
    once = _once_cuda if device == "cuda" else _once
    fastest = [float("inf")] * len(jobs)
    for _ in range(TURNS):
        for place, job in enumerate(jobs):
            job.call()
            times: list[float] = []
            started = time.perf_counter()
            while len(times) < LEAST or (
                time.perf_counter() - started < 0.7 * seconds / TURNS / len(jobs)
            ):
                if job.before is not None:
                    job.before()
                times.append(once(job.call))
            fastest[place] = min(fastest[place], statistics.median(times))
    rates: dict[tuple[str | float, ...], float] = {}
    for job, taken in zip(jobs, fastest, strict=True):
        rates[job.ceiling] = max(rates.get(job.ceiling, 0.0), job.amount / taken)
    return rates


def _once(call: Callable[[], object]) -> float:
    before = time.perf_counter()
    call()
    return time.perf_counter() - before


def _once_cuda(call: Callable[[], object], calls: int = 10) -> float:
    event: Any = torch.cuda.Event
    begin, end = event(enable_timing=True), event(enable_timing=True)
    begin.record()
    for _ in range(calls):
        call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3 / calls


def _products(device: Device, precision: Precision) -> Iterator[Job]:
    """Of all shapes made of some widths, `F.linear` as a layer calls it."""
    most = max(WIDTHS[device]) ** 2
    x, w = torch.randn(2, most, device=device, dtype=getattr(torch, precision))
    for m, k, n in itertools.product(WIDTHS[device], repeat=3):
        call = partial(F.linear, x[: m * k].view(m, k), w[: n * k].view(n, k))
        yield Job((precision, m, k, n), call, 2 * m * k * n)


def _small_products(device: Device) -> Iterator[Job]:
    """Of many small products, by `torch.bmm`."""
    for n, k in itertools.product(SMALL, repeat=2):
        x = torch.randn(512, n, k, device=device)
        yield Job(("batched", n, k), partial(torch.bmm, x, x.mT), 2 * len(x) * n * n * k)


def _copies(device: Device, memory: Tensor) -> Iterator[Job]:
    """Within a span: a piece at a time, from its second half to its first."""
    for span in SPANS[device]:
        piece = min(PIECE, span) // 8
        pieces = torch.split(memory[: span // 4].view(2, -1), piece, dim=1)
        yield Job(("copies", span), partial(_copy, itertools.cycle(pieces)), 8 * piece)


def _copy(pairs: Iterator[Any]) -> None:
    target, source = next(pairs)
    target.copy_(source)


def _rows(device: Device, memory: Tensor) -> Iterator[Job]:
    """Rows at random places within a span: summed by bags of them, and changed."""
    number = LOOKUPS[device]
    offsets = torch.arange(0, number + 1, BAG, device=device)
    kernel = kernels.choose("auto", memory)
    for row, span in itertools.product(ROWS[device], SPANS[device]):
        stacked = memory[: span // 4].view(-1, row // 4)
        rows = len(stacked) // TABLES
        first = torch.arange(TABLES + 1, device=device) * rows
        # Together the batches have as many ids as the tables have rows.
        ids = torch.randint(rows, (max(3, len(stacked) // number), number), device=device)
        turn = itertools.cycle([Lookups(mine, offsets, first, None) for mine in ids])
        slopes = torch.rand(number // BAG // TABLES, TABLES, row // 4, device=device)
        for read in (_bags, kernel.forward):  # torch's, and that of fused tables
            yield Job(("gathers", row, span), partial(_read, read, stacked, turn), row * number)
        change = partial(_change, kernel, stacked, turn, slopes)
        yield Job(("changes", row, span), change, 2 * row * number)


def _one_row_bags(memory: Tensor) -> Iterator[Job]:
    """Bags of a narrow row each, within the caches: what a bag costs beside its rows."""
    number, row = LOOKUPS["cpu"], min(ROWS["cpu"])
    table = memory[: min(SPANS["cpu"]) // 4].view(-1, row // 4)
    ids, offsets = torch.randint(len(table), (number,)), torch.arange(number + 1)
    lookups = Lookups(ids, offsets, torch.tensor([0, len(table)]), None)
    kernel = kernels.choose("auto", table)
    yield Job(("bags",), partial(kernel.forward, table, lookups), number)


def _cold(memory: Tensor) -> Callable[[], object]:
    """Leaves the caches as the lookups of a step do."""
    places = torch.randint(len(memory), (1 << 20,))
    return lambda: memory.index_select(0, places)


def _bags(table: Tensor, lookups: Lookups) -> Tensor:
    ids, offsets, first, _ = lookups
    rows = (ids.view(len(first) - 1, -1) + first[:-1, None]).view(-1)
    return F.embedding_bag(rows, table, offsets, mode="sum", include_last_offset=True)


def _read(
    read: Callable[[Tensor, Lookups], Tensor], table: Tensor, turn: Iterator[Lookups]
) -> Tensor:
    return read(table, next(turn))


def _change(kernel: Any, table: Tensor, turn: Iterator[Lookups], slopes: Tensor) -> None:
    """Plain SGD, as fused tables do it: the kernel chosen is the fastest there is here."""
    kernel.update(table, None, next(turn), slopes, "sgd", 1e-6, 0.0)


def _tiny_step(device: Device) -> Callable[[], None]:
    """Forward and backward of a network whose arithmetic is next to nothing."""
    layers = [nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(LAYERS)]
    net, x = nn.Sequential(*layers).to(device), torch.rand(4, 4, device=device)

    def step() -> None:
        net.zero_grad(set_to_none=True)
        net(x).sum().backward()

    return step
