"""What each rank does in chapter 15. All of it runs on simulated ranks and on real processes alike.

Everything takes a `Communicator` last and is a module's own, so that `functools.partial` of it can
be handed to a process.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dlrm_mini.datasets.batches import Batch, Loader
from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm import random_batch
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.parallel.communicator import Communicator
from dlrm_mini.parallel.events import Event
from dlrm_mini.parallel.fit import MEASURED, Sample
from dlrm_mini.parallel.fit_worker import collective
from dlrm_mini.parallel.fit_worker import timed as timed_call
from dlrm_mini.parallel.recorded import Recorded, waiting_apart
from dlrm_mini.parallel.sharded_model import ShardedDLRM, share
from dlrm_mini.parallel.sharded_rules import RuleName, make_optimizer
from dlrm_mini.parallel.sharded_step import ShardedStep
from dlrm_mini.parallel.sharding import Plan
from dlrm_mini.parallel.trainer import Trainer
from dlrm_mini.parallel.wire import loopback_bytes


@dataclass(frozen=True)
class Job:
    """A training that every rank takes its part of.

    Attributes:
        config: of the model.
        plan: where its tables lie.
        start: the weights of a whole DLRM to begin with.
        rule: of the optimizer.
        lr: learning rate.
        dtype: of the weights.
    """

    config: DLRMConfig
    plan: Plan
    start: Mapping[str, Tensor]
    rule: RuleName = "sgd"
    lr: float = 0.5
    dtype: torch.dtype = torch.float64

    def build(self, communicator: Communicator) -> ShardedStep:
        """This rank's part, ready to step."""
        model = ShardedDLRM(self.config, self.plan, communicator, dtype=self.dtype)
        model.load_full(self.start)
        return ShardedStep(model, make_optimizer(model, self.rule, self.lr))


class Trained(NamedTuple):
    """What a rank has to say after a training.

    Attributes:
        losses: of the steps, of all ranks' rows.
        sent: operation -> bytes to other ranks, those for `weights` included.
        weights: of the whole model, on rank 0.
    """

    losses: list[float | None]
    sent: dict[Any, int]
    weights: dict[str, Tensor] | None


def train(job: Job, batches: Sequence[Batch], communicator: Communicator) -> Trained:
    """A step on each batch, of which every rank takes its rows."""
    step = job.build(communicator)
    before = communicator.traffic.by_operation()
    losses = [step.step(share(batch, communicator)) for batch in batches]
    weights = step.model.full_state_dict()
    after = communicator.traffic.by_operation()
    sent = {name: number - before.get(name, 0) for name, number in after.items()}
    return Trained(losses, sent, weights)


def several(
    works: Sequence[Callable[[Communicator], Any]], communicator: Communicator
) -> list[Any]:
    """One work after another: to start processes takes longer than most of them."""
    return [work(communicator) for work in works]


def watched(work: Callable[[Communicator], Any], communicator: Communicator) -> tuple[Any, int]:
    """What work returns, and the bytes that crossed the loopback interface; -1: not known here."""
    crossed = [0, 0]
    found = None
    for place in (0, 1):
        communicator.barrier()
        try:
            crossed[place] = loopback_bytes()
        except UserError:
            crossed = [1, 0]
        communicator.barrier()
        if place == 0:
            found = work(communicator)
    return found, crossed[1] - crossed[0]


def sampled(sizes: Sequence[int], repeats: int, communicator: Communicator) -> list[Sample]:
    """What `fit.measure_collectives` measures, in processes that are there already."""
    turns = [(name, nbytes) for nbytes in sizes for name in MEASURED]
    calls = {turn: collective(communicator, *turn) for turn in turns}
    with torch.no_grad():
        taken = [[timed_call(communicator, calls[turn][0]) for turn in turns]
                 for _ in range(1 + repeats)]  # fmt: skip
        mine = torch.tensor(taken[1:], dtype=torch.float64)  # the first only warms up
        slowest = communicator.all_gather(mine).view(communicator.size, *mine.shape).amax(0)
    return [
        Sample(name, communicator.size, calls[name, nbytes][1], seconds)
        for (name, nbytes), seconds in zip(turns, slowest.median(0).values.tolist(), strict=True)
    ]


def unequal(job: Job, batches: Sequence[Batch], communicator: Communicator) -> str:
    """The last rank runs out of batches one step before the others: what each of them says."""
    step = job.build(communicator)
    short = communicator.rank == communicator.size - 1
    for place, batch in enumerate(batches, 1):
        ended = short and place == len(batches)
        try:
            step.step(None if ended else share(batch, communicator))
        except UserError as error:
            return str(error)
    return ""


class Stepped(NamedTuple):
    """One step, measured.

    Attributes:
        seconds: from when the first rank begins until the last is done.
        events: of this rank.
    """

    seconds: float
    events: list[Event]


def timed(
    config: DLRMConfig, plan: Plan, sizes: Sequence[int], repeats: int, communicator: Communicator
) -> dict[int, list[Stepped]]:
    """Batch size -> steps with fused tables; sizes take turns, and the first round warms up."""
    diary = Recorded(communicator)
    model = ShardedDLRM(config, plan, diary, check=False, fused=True)
    step = ShardedStep(model, make_optimizer(model, "rowwise_adagrad", 0.01))
    mine = {size: share(random_batch(config, size), communicator) for size in sizes}
    found: dict[int, list[Stepped]] = {size: [] for size in sizes}
    for _ in range(1 + repeats):
        for size in sizes:
            communicator.barrier()
            diary.events, begun = [], time.monotonic()
            step.step(mine[size])
            span = torch.tensor([[begun, time.monotonic()]], dtype=torch.float64)
            with torch.no_grad():
                spans = communicator.all_gather(span)  # (P, 2)
            seconds = float(spans[:, 1].max() - spans[:, 0].min())
            found[size].append(Stepped(seconds, diary.events))
    return {size: steps[1:] for size, steps in found.items()}


def typical(ranks: Sequence[Sequence[Stepped]]) -> Stepped:
    """The median step of a size, with the events of all ranks, from zero, waiting apart."""
    seconds = [step.seconds for step in ranks[0]]
    nearest = min(range(len(seconds)), key=lambda n: abs(seconds[n] - median(seconds)))
    events = [event for steps in ranks for event in steps[nearest].events]
    return Stepped(seconds[nearest], waiting_apart(events))


def breakdown(step: Stepped) -> dict[str, float]:
    """Part, "communication" or "waiting" -> seconds, a mean over ranks.

    What is left of a step is between the parts.
    """
    ranks = len({event.rank for event in step.events})
    found: dict[str, float] = {}
    for event in step.events:
        name = event.kind if event.kind == "communication" else event.name
        found[name] = found.get(name, 0.0) + (event.end - event.start) / ranks
    return found


@dataclass(frozen=True)
class Death:
    """When one rank is to be killed.

    Attributes:
        rank: whose.
        step: before which of its steps, from 1.
    """

    rank: int
    step: int


def trained_on(
    job: Job,
    rows: Batch,
    batch_size: int,
    epochs: int,
    folder: Path,
    death: Death | None,
    communicator: Communicator,
) -> dict[str, Tensor] | None:
    """Training with sharded checkpoints, each half epoch, from the last one if there is one.

    What a rank did when goes to `folder`/diary-RANK.pt, even where the run fails.

    Returns:
        The whole model's weights, on rank 0.
    """
    if death:  # or torchrun may end survivors before they have written anything down
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    diary = Recorded(communicator)
    step = job.build(diary)
    loader = Loader(rows, batch_size, shuffle=True)
    every = max(1, -(-len(rows) // batch_size) // 2)
    trainer = Trainer(_Mortal(step, diary, folder, death), loader, diary, folder=folder / "kept",
                      every=every)  # fmt: skip
    trainer.resume()
    try:
        trainer.train(epochs)
    finally:
        keep(diary, folder)
    return step.model.full_state_dict()


class _Mortal:
    """A step that says where it is, and that one rank does not live to make."""

    def __init__(
        self, step: ShardedStep, diary: Recorded, folder: Path, death: Death | None
    ) -> None:
        self.step_of, self.diary, self.folder, self.death = step, diary, folder, death
        self.model, self.optimizer, self.done = step.model, step.optimizer, 0

    def step(self, batch: Batch | None) -> float | None:
        self.done += 1
        if self.death == Death(self.diary.rank, self.done):
            keep(self.diary, self.folder)  # in time: nobody writes after this
            os.kill(os.getpid(), signal.SIGKILL)
        return self.step_of.step(batch)


def keep(diary: Recorded, folder: Path) -> None:
    """Write a rank's diary down, with the time at which that was."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save((diary.events, time.monotonic()), folder / f"diary-{diary.rank}.pt")


def steps_of(events: Sequence[Event]) -> int:
    """How many steps a diary tells of."""
    return sum(event.name == "dense update" for event in events)
