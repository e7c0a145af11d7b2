"""What each rank does with TorchRec in chapter 15; only calling it needs TorchRec."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dlrm_mini.datasets.batches import Batch
from dlrm_mini.errors import UserError
from dlrm_mini.parallel.communicator import Communicator
from dlrm_mini.parallel.real_steps import Job
from dlrm_mini.parallel.sharded_model import share
from dlrm_mini.parallel.sharding import Plan


class ByTorchRec(NamedTuple):
    """What a rank has to say.

    Attributes:
        losses: of the steps, of all ranks' rows.
        weights: of the whole model after every step, on rank 0.
        theirs: the plan that TorchRec's own planner makes.
    """

    losses: list[float | None]
    weights: list[dict[str, Tensor] | None]
    theirs: Plan


def train(job: Job, batches: Sequence[Batch], communicator: Communicator) -> ByTorchRec | str:
    """As `real_steps.train`, by TorchRec, under the same plan; float32 only.

    Returns:
        What it did, or a sentence where there is no TorchRec that can be imported.

    Raises:
        UserError: TorchRec cannot do what the job asks for.
    """
    if job.rule == "adagrad" or job.dtype is not torch.float32:
        raise UserError(
            f"The job is {job.rule} in {job.dtype}; TorchRec is tried with 'sgd' or "
            "'rowwise_adagrad' in torch.float32."
        )
    try:
        from dlrm_mini.parallel.torchrec_engine import TorchRecDLRM
    except UserError as error:
        return str(error)
    engine = TorchRecDLRM(job.config, job.plan, job.rule, job.lr)
    engine.from_weights(job.start)
    losses, weights = [], []
    for batch in batches:
        losses.append(engine.step(share(batch, communicator)))
        weights.append(engine.to_weights())
    theirs = TorchRecDLRM(job.config, None, job.rule, job.lr, batch_size=len(batches[0]))
    return ByTorchRec(losses, weights, theirs.plan)
