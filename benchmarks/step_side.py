"""What the scripts of a training step share. Runs in the peers' environments, with torch alone.

A script answers lines on standard input with lines of JSON. The first line is a plan, and what it
says to it are its threads and versions. Then:

- `ARM SECONDS`: train on batch after batch for about so long, after one step that warms up; says
  ms, the mean time of a step;
- `check:ARM RULE`: a few steps of a small model from weights that are the same on every side; says
  the loss of each step and how far each table has moved.
"""

import itertools
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

BATCHES = 8  # in memory, taken by turns: no batch finds its rows still in the caches
CHECK_STEPS, CHECK_ROWS, CHECK_BATCH = 5, 2000, 64
CHECK_LR = {"sgd": 0.5, "rowwise_adagrad": 0.001}


@dataclass(frozen=True)
class Plan:
    """A model and how it is trained.

    Attributes:
        n_dense: dense features.
        rows: of each table.
        lookups: ids a row, for each table.
        dim: D, the width of the tables.
        bottom: the bottom MLP's widths, its input first.
        top: the top MLP's widths, its input first.
        rule: "sgd" or "rowwise_adagrad" (the MLPs then have Adagrad).
        batch_size: B.
        lr: learning rate.
        eps: what Adagrad adds to the root.
    """

    n_dense: int
    rows: tuple[int, ...]
    lookups: tuple[int, ...]
    dim: int
    bottom: tuple[int, ...]
    top: tuple[int, ...]
    rule: str
    batch_size: int = 2048
    lr: float = 0.01
    eps: float = 1e-8

    def text(self) -> str:
        """As a line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> "Plan":
        """The plan that `text` gave."""
        fields = json.loads(text)
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})

    def small(self, rule: str) -> "Plan":
        """The same model with few rows, trained by `rule`, with steps that are easy to see."""
        rows = tuple(min(n, CHECK_ROWS) for n in self.rows)
        return replace(self, rows=rows, rule=rule, batch_size=CHECK_BATCH, lr=CHECK_LR[rule])


class Rows(NamedTuple):
    """One batch.

    Attributes:
        dense: (B, n_dense) float32.
        ids: (V,) int64, all ids of table 0 first.
        offsets: (F * B + 1,) int64, where each bag begins, and V.
        labels: (B,) float32, 0 or 1.
    """

    dense: Tensor
    ids: Tensor
    offsets: Tensor
    labels: Tensor


class Side(NamedTuple):
    """A model that is ready to train.

    Attributes:
        steps: arm -> trains on a batch, everything that belongs to a step; returns the loss.
        tables: (rows, D) each, views of what is trained.
        mlps: the linear layers, bottom first.
        columns: where each input of the top MLP is in our order, for a side that has another.
    """

    steps: Mapping[str, Callable[[Rows], Tensor]]
    tables: list[Tensor]
    mlps: list[nn.Linear]
    columns: Tensor | None = None


def batch(plan: Plan, seed: int) -> Rows:
    """Uniform dense features, ids and labels."""
    generator = torch.Generator().manual_seed(seed)
    pairs = list(zip(plan.rows, plan.lookups, strict=True))
    ids = [torch.randint(n, (plan.batch_size * k,), generator=generator) for n, k in pairs]
    lengths = torch.tensor(plan.lookups).repeat_interleave(plan.batch_size)
    dense = torch.rand(plan.batch_size, plan.n_dense, generator=generator)
    labels = torch.randint(2, (plan.batch_size,), generator=generator).float()
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    return Rows(dense, torch.cat(ids), offsets, labels)


def mlp(widths: tuple[int, ...], *, last_relu: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers if last_relu else layers[:-1])


class Plain(nn.Module):
    """DLRM in plain torch around any tables: a function from ids and offsets to (B, F, D).

    The pairs are picked by one index, whose gradient is cheaper than that of the two that public
    implementations use: what differs between the arms is the tables.
    """

    def __init__(self, plan: Plan, tables: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.bottom, self.top = mlp(plan.bottom, last_relu=True), mlp(plan.top, last_relu=False)
        self.tables = tables
        n = len(plan.rows) + 1
        lower, upper = torch.tril_indices(n, n, offset=-1)
        self.pairs = lower * n + upper

    def forward(self, rows: Rows) -> Tensor:
        """The logits (B,)."""
        dense = self.bottom(rows.dense)  # (B, D)
        vectors = torch.cat([dense[:, None], self.tables(rows.ids, rows.offsets)], dim=1)
        products = torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1)  # (B, n * n)
        together = torch.cat([dense, products.index_select(1, self.pairs)], dim=1)
        return self.top(together).squeeze(1)

    def linear(self) -> list[nn.Linear]:
        """The layers of both MLPs, bottom first."""
        return [m for m in (*self.bottom, *self.top) if isinstance(m, nn.Linear)]


def step_of(
    model: Callable[[Rows], Tensor], optimizers: list[torch.optim.Optimizer]
) -> Callable[[Rows], Tensor]:
    """The step that every torch training loop has."""

    def step(rows: Rows) -> Tensor:
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(model(rows), rows.labels)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        return loss.detach()

    return step


@torch.no_grad()
def fill(side: Side) -> Side:
    """Weights that are the same on every side."""
    generator = torch.Generator().manual_seed(1)
    for layer in side.mlps:
        layer.weight.normal_(0, (2 / sum(layer.weight.shape)) ** 0.5, generator=generator)
        layer.bias.normal_(0, len(layer.bias) ** -0.5, generator=generator)
        if side.columns is not None and layer.weight.shape[1] == len(side.columns):
            layer.weight.copy_(layer.weight[:, side.columns])
    for table in side.tables:
        table.uniform_(-1, 1, generator=generator).mul_(len(table) ** -0.5)
    return side


def trajectory(side: Side, plan: Plan, arm: str) -> dict[str, list[float]]:
    """The loss of each of a few steps, and the length of each table's change."""
    before = [table.detach().clone() for table in side.tables]
    losses = [float(side.steps[arm](batch(plan, seed))) for seed in range(CHECK_STEPS)]
    both = zip(side.tables, before, strict=True)
    moved = [float((new.detach() - old).double().norm()) for new, old in both]
    return {"losses": losses, "moved": moved}


def timed(step: Callable[[], object], seconds: float) -> float:
    """Milliseconds that a call takes, the mean of as many as fit; one before them warms up."""
    step()
    started, steps = time.perf_counter(), 0
    while steps == 0 or time.perf_counter() - started < seconds:
        step()
        steps += 1
    return 1e3 * (time.perf_counter() - started) / steps


def begin(*packages: str) -> tuple[Plan, int]:
    """Read the plan and answer it; the plan, and the number of threads, which torch has now."""
    threads = int(os.environ["OMP_NUM_THREADS"])
    torch.set_num_threads(threads)
    plan = Plan.read(sys.stdin.readline())
    found = {"python": platform.python_version(), **{name: version(name) for name in packages}}
    say({"threads": torch.get_num_threads(), "versions": found})
    return plan, threads


def serve(build: Callable[[Plan], Side], *packages: str) -> None:
    """Answer until there are no more questions; see above."""
    plan, _ = begin(*packages)
    big = None
    for line in sys.stdin:
        arm, word = line.split()
        if arm.startswith("check:"):
            small = plan.small(word)
            say(trajectory(fill(build(small)), small, arm.removeprefix("check:")))
            continue
        if big is None:
            big = fill(build(plan))
            turn = itertools.cycle([batch(plan, seed) for seed in range(BATCHES)])
        step = big.steps[arm]
        say({"ms": timed(lambda step=step, turn=turn: step(next(turn)), float(word))})


def say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)
