"""Can an MLP learn a dot product? Chapter 04's experiment on vectors made for it.

An example is two vectors x and y of length d with independent standard normal entries, side by side
as in `EmbeddingMLP`; what is to be learned is <x, y> / sqrt(d), which has mean 0 and variance 1. So
an error of 0.1 means that a tenth of the product's variance is missed, at every d. The question is
that of Rendle, Krichene, Zhang and Anderson 2020 (arXiv 2005.09683); the experiment is our own.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dlrm_mini import measurements
from dlrm_mini.models.mlp import fully_connected
from dlrm_mini.progress import bar
from dlrm_mini.training import set_seed

BATCH, STEPS, LOOKS = 256, 3000, 25  # examples in a step, steps, how often validation rows are read
VALID_ROWS, TEST_ROWS, TEST_SEED = 4096, 8192, 10_000

PENALTIES = tuple(10.0**power for power in range(-3, 6))  # of the regressions

SEEDS = (0, 1, 2)
DIMS = (4, 8, 16, 32, 64)
EXAMPLES = (256, 1024, 4096, 16_384, 65_536)
WIDTHS, WIDTH_DIMS = (16, 32, 64, 128, 256, 512), (4, 16, 64)
NOISE_DIM, NOISES, NOISE_EXAMPLES = 16, (1.0, 16.0), (*EXAMPLES, 262_144)
SHORT_DIMS = (1, 2, 4, 8)  # with the strongest noise as well


@dataclass(frozen=True)
class Cell:
    """One cell of the experiment.

    Attributes:
        dim: d, the length of each of the two vectors.
        examples: how many there are to learn from.
        hidden: the widths of the hidden layers.
        noise: variance of what is added to the labels learned from (the product's own is 1).
        rate: learning rate of Adam at the first step; it falls to zero along a line.
    """

    dim: int
    examples: int
    hidden: tuple[int, ...] = (256,)
    noise: float = 0.0
    rate: float = 3e-3


@dataclass(frozen=True)
class Trained:
    """A trained network, and the share of the product's variance that it misses on new vectors."""

    network: nn.Sequential
    missed: float


def make(n: int, dim: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pairs of vectors side by side, (n, 2 dim) float32, and their scaled products, (n,)."""
    vectors = torch.randn(n, 2 * dim, generator=generator)
    product = (vectors[:, :dim] * vectors[:, dim:]).sum(1) / dim**0.5
    return vectors, product


def missed(predict: Callable[[Tensor], Tensor], dim: int) -> float:
    """The share of the product's variance that a function (n, 2 dim) -> (n,) misses.

    Measured on the same new vectors for every model of this `dim`.
    """
    vectors, product = make(TEST_ROWS, dim, torch.Generator().manual_seed(TEST_SEED))
    with torch.no_grad():
        error = (predict(vectors) - product).square().mean() / product.square().mean()
    return float(error)


@dataclass(frozen=True)
class Sample:
    """What a cell learns from, and the rows that choose when to stop; see `train`."""

    vectors: Tensor  # (n, 2 d)
    labels: Tensor  # (n,), product and noise
    valid: Tensor  # (VALID_ROWS, 2 d)
    valid_product: Tensor  # (VALID_ROWS,)


def sample(cell: Cell, seed: int) -> Sample:
    """The examples of a cell."""
    generator = torch.Generator().manual_seed(seed)
    vectors, product = make(cell.examples, cell.dim, generator)
    labels = product + cell.noise**0.5 * torch.randn(cell.examples, generator=generator)
    return Sample(vectors, labels, *make(VALID_ROWS, cell.dim, generator))


def train(cell: Cell, seed: int, steps: int = STEPS) -> Trained:
    """Train an MLP on one cell with Adam; runs on the threads torch has.

    The network is given two gifts: the weights kept are those with the lowest error on validation
    vectors beyond the `examples`, and their labels have no noise.

    Args:
        cell: the sizes of the problem and of the network.
        seed: of the examples, of the first weights and of the order of the batches.
        steps: gradient steps.
    """
    data = sample(cell, seed)
    set_seed(seed)
    network = fully_connected([2 * cell.dim, *cell.hidden, 1], last="none")
    optimizer = torch.optim.Adam(network.parameters(), lr=cell.rate, fused=True)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    best, kept = float("inf"), network.state_dict()
    for step, rows in zip(range(1, steps + 1), _batches(cell.examples), strict=False):
        loss = (network(data.vectors[rows]).squeeze(1) - data.labels[rows]).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        falling.step()
        if step % max(steps // LOOKS, 1) == 0:
            with torch.no_grad():
                error = network(data.valid).squeeze(1) - data.valid_product
                now = float(error.square().mean())
            if now < best:
                best = now
                kept = {name: weight.clone() for name, weight in network.state_dict().items()}
    network.load_state_dict(kept)
    return Trained(network, missed(lambda x: network(x).squeeze(1), cell.dim))


def _batches(n: int) -> Iterator[Tensor]:
    """Row numbers for one step after the other, each row once before any comes twice."""
    size = min(BATCH, n)
    while True:
        order = torch.randperm(n)
        for first in range(0, n - n % size, size):
            yield order[first : first + size]


# --- models that are told more ------------------------------------------------------------------


def products(vectors: Tensor) -> Tensor:
    """The d products x_1 y_1 ... x_d y_d, (n, d): for a model that knows which ones matter."""
    x, y = vectors.chunk(2, dim=1)
    return x * y


def quadratic(vectors: Tensor) -> Tensor:
    """1, all inputs and all their products: for a model that knows that products matter.

    Args:
        vectors: (n, 2 d).

    Returns:
        (n, (2 d + 1) (2 d + 2) / 2).
    """
    ones = torch.ones(len(vectors), 1, dtype=vectors.dtype)
    inputs = torch.cat([ones, vectors], dim=1)  # (n, 2 d + 1)
    rows, columns = torch.triu_indices(inputs.shape[1], inputs.shape[1])
    return inputs[:, rows] * inputs[:, columns]


def regress(columns: Callable[[Tensor], Tensor], cell: Cell, seed: int) -> float:
    """The share of variance that ridge regression on some columns misses.

    The penalty is the best of `PENALTIES` on the validation rows of `train`: the same two gifts.

    Args:
        columns: `products` or `quadratic`.
        cell: the sizes of the problem; `hidden` and `rate` change nothing.
        seed: of the examples, the same ones that `train` gets.
    """
    data = sample(cell, seed)
    wide = columns(data.valid)  # (VALID_ROWS, k)
    gram = torch.zeros(wide.shape[1], wide.shape[1], dtype=torch.float64)
    right = gram.new_zeros(wide.shape[1])
    for first in range(0, cell.examples, 8192):  # all columns at once would fill the memory
        rows = slice(first, first + 8192)
        part = columns(data.vectors[rows])
        gram += part.T @ part
        right += part.T @ data.labels[rows]
    values, axes = torch.linalg.eigh(gram)
    turned = axes.T @ right
    tried = [axes @ (turned / (values.clamp(min=0) + penalty)) for penalty in PENALTIES]
    errors = [(wide @ weights.float() - data.valid_product).square().mean() for weights in tried]
    weights = tried[int(torch.stack(errors).argmin())].float()
    return missed(lambda x: columns(x) @ weights, cell.dim)


# --- the record -----------------------------------------------------------------------------------


def measure(progress: bool = True) -> Path:
    """Measure the whole grid and record `dot_product`; about six minutes on one core.

    Error against examples for several d; against width for several d; with noise on the labels
    beside two regressions that are told more; and a few other settings on one noisy cell.
    """
    started, threads = time.process_time(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        results = _measure(progress)
    finally:
        torch.set_num_threads(threads)
    results["cpu_seconds"] = round(time.process_time() - started, 1)
    return measurements.write("dot_product", results, "python -m dlrm_mini measure dot-product")


def _measure(progress: bool) -> dict[str, Any]:
    by_examples = [Cell(d, n) for d in DIMS for n in EXAMPLES]
    by_width = [Cell(d, max(EXAMPLES), (w,)) for d in WIDTH_DIMS for w in WIDTHS]
    noisy = [Cell(NOISE_DIM, n, noise=noise, rate=1e-3) for noise in NOISES for n in NOISE_EXAMPLES]
    hard = Cell(NOISE_DIM, max(EXAMPLES), noise=max(NOISES))
    short = [replace(hard, dim=dim, rate=1e-3) for dim in SHORT_DIMS]
    others = [
        replace(hard, hidden=hidden, rate=rate)
        for hidden in ((256,), (1024,), (128, 64))
        for rate in (3e-4, 1e-3, 3e-3)
    ]

    def grid(cells: list[Cell], name: str, seeds: tuple[int, ...] = SEEDS) -> list[dict[str, Any]]:
        shown = bar(cells, total=len(cells), desc=name, unit="cell", disable=not progress)
        return [_entry(cell, [train(cell, seed, STEPS).missed for seed in seeds]) for cell in shown]

    def told(columns: Callable[[Tensor], Tensor]) -> list[dict[str, Any]]:
        cells = [cell for cell in noisy if cell.noise == max(NOISES)]
        return [_entry(cell, [regress(columns, cell, seed) for seed in SEEDS]) for cell in cells]

    return {
        "metric": "share of the product's variance missed on new vectors",
        "seeds": list(SEEDS),
        "steps": STEPS,
        "batch_size": BATCH,
        "by_examples": grid(by_examples, "examples"),
        "by_width": grid(by_width, "width"),
        "noisy": grid(noisy, "noise"),
        "noisy_short": grid(short, "short vectors"),
        "knows_which_products": told(products),
        "knows_all_products": told(quadratic),
        "other_settings": grid(others, "other settings", SEEDS[:1]),
    }


def _entry(cell: Cell, errors: list[float]) -> dict[str, Any]:
    return {
        "dim": cell.dim,
        "examples": cell.examples,
        "hidden": list(cell.hidden),
        "noise": cell.noise,
        "rate": cell.rate,
        "missed": round(statistics.mean(errors), 5),
        "per_seed": [round(error, 5) for error in errors],
    }
