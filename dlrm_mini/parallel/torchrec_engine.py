"""The same DLRM on an existing engine: TorchRec's sharded tables around our dense part.

TorchRec (Ivchenko et al. 2022, "TorchRec: a PyTorch domain library for recommendation systems")
takes a model whose tables are an `EmbeddingBagCollection`, and a plan; `DistributedModelParallel`
then splits the tables and replicates the rest. MLPs and interaction stay ours, so that weights
carry over, both ways, number for number.

Importing this needs TorchRec: `python -m dlrm_mini torchrec`. Run it in processes that torchrun
has started, each inside `process_group.connect()`, and `leave` at the end. On CPUs, over gloo, it
is tested; on GPUs, over NCCL, it is written after TorchRec's documentation and untried.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dlrm_mini import optimizers
from dlrm_mini.datasets.batches import Batch
from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm import DLRM
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.parallel import torchrec_plans  # says what to do where TorchRec is missing
from dlrm_mini.parallel.sharding import Plan
from dlrm_mini.parallel.torchrec_tables import Tables, our_key, padded, pieces, quiet

# isort: split
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torch.distributed.optim.apply_optimizer_in_backward import _apply_optimizer_in_backward
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.types import ShardingEnv
from torchrec.optim import RowWiseAdagrad

Rule = Literal["sgd", "rowwise_adagrad"]


class TorchRecDLRM:
    """One rank's part of a DLRM that TorchRec trains.

    The loss is the mean over the rows of all ranks, as on one device: each rank's is its own sum,
    divided by B, and what TorchRec divides by P (the replicated gradients, and those that come back
    to the tables) is multiplied by P before.

    Args:
        config: the sizes, the same on every rank.
        plan: where each table lies; None: as TorchRec's planner chooses.
        rule: "sgd" or "rowwise_adagrad", which as on one device leaves the MLPs to Adagrad.
        lr: learning rate of everything.
        eps: what Adagrad adds to the root.
        batch_size: b, the rows of a rank that the planner counts with.
        seed: of the starting weights; the tables' differ from those of other engines.
        check: whether a step looks at ids and dense features first.
        device: "cpu", or this process' GPU, such as "cuda:0".

    Attributes:
        plan: where each table lies.
        model: the `DistributedModelParallel`.

    Raises:
        UserError: no process group, another rule, or a plan that is not this model's or has a form
            that TorchRec has not.

    Example:
        >>> with connect():  # in each of P processes
        ...     engine = TorchRecDLRM(config, plan, "sgd", lr=0.1)
        ...     engine.from_weights(model.state_dict())
        ...     loss = engine.step(batch)  # this rank's rows
        ...     weights = engine.to_weights()  # on rank 0: for DLRM(config).load_state_dict
    """

    def __init__(
        self,
        config: DLRMConfig,
        plan: Plan | None,
        rule: Rule,
        lr: float,
        *,
        eps: float = 1e-8,
        batch_size: int = 2048,
        seed: int = 0,
        check: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        if not dist.is_initialized():
            raise UserError(
                "There is no process group. Start the processes with torchrun, and make the "
                "engine inside `with dlrm_mini.parallel.process_group.connect():`."
            )
        if rule not in ("sgd", "rowwise_adagrad"):
            raise UserError(f"rule is {rule!r}; expected 'sgd' or 'rowwise_adagrad'.")
        self.config, self.device = config, torch.device(device)
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        with torch.random.fork_rng(devices=[]), quiet():
            torch.manual_seed(seed)
            model = DLRM(config, tables=Tables(config, check))
            if plan is None:
                kind = self.device.type
                theirs = torchrec_plans.planned(model, config, batch_size, kind)
                plan = torchrec_plans.from_torchrec(theirs, config)
            else:
                torchrec_plans.check_plan(plan, config, self.size, rule)
                collection = model.tables.collection
                theirs = torchrec_plans.to_torchrec(plan, collection, self.device.type)
            self.plan = plan
            self._fuse(model.tables.collection, rule, {"lr": lr, "eps": eps})
            self.model = DistributedModelParallel(
                module=model,
                env=ShardingEnv.from_process_group(dist.group.WORLD),
                device=self.device,
                plan=theirs,
                sharders=[torchrec_plans.Sharder()],
            )
        self._make_optimizer(rule, lr, eps)

    def _fuse(self, collection: Any, rule: Rule, options: dict[str, float]) -> None:
        """Let TorchRec update the tables that are split inside backward, the others not."""
        for name, placement in self.plan.placements.items():
            if placement.form != "data-parallel":
                table = collection.embedding_bags[torchrec_plans.PREFIX + name].weight
                if rule == "sgd":
                    _apply_optimizer_in_backward(torch.optim.SGD, [table], {"lr": options["lr"]})
                else:
                    _apply_optimizer_in_backward(RowWiseAdagrad, [table], options)

    def _make_optimizer(self, rule: Rule, lr: float, eps: float) -> None:
        """Ours, for all that is replicated."""
        found = {our_key(key): tensor for key, tensor in self.model.named_parameters()}
        mine = [tensor for key, tensor in found.items() if not key.startswith("tables.")]
        # A copied table has a dense gradient, and the row-wise rule wants one of rows: a second
        # parameter in the same memory gets it.
        self._copies = [
            (found[f"tables.tables.{name}"], nn.Parameter(found[f"tables.tables.{name}"].data))
            for name, placement in self.plan.placements.items()
            if placement.form == "data-parallel"
        ]
        mine += [ours for _, ours in self._copies]
        self.optimizer: torch.optim.Optimizer = (
            optimizers.SGD(mine, lr)
            if rule == "sgd"
            else optimizers.RowWiseAdagrad(mine, lr, eps=eps)
        )

    @quiet()
    def step(self, batch: Batch | None) -> float | None:
        """Train on the batch that the ranks hold together.

        Args:
            batch: this rank's rows, as many as it has, perhaps none; None: it has no more batches.

        Returns:
            The loss before the update, the mean over all ranks' rows; None where no rank has a
            batch, which is the end of an epoch.

        Raises:
            UserError: some ranks have a batch and others none, or together no row.
        """
        rows = self._rows(batch)
        if batch is None or not rows:
            return None
        self.optimizer.zero_grad()
        mine = len(batch)
        batch = padded(batch, max(rows)).to(self.device)
        logits = self.model(batch)[:mine]
        loss = F.binary_cross_entropy_with_logits(logits, batch.labels[:mine], reduction="sum")
        loss = loss / sum(rows)
        (self.size * loss).backward()  # type: ignore[no-untyped-call]
        for theirs, ours in self._copies:
            ours.grad = theirs.grad.to_sparse(1)
            theirs.grad.zero_()
        self.optimizer.step()
        total = loss.detach()
        dist.all_reduce(total)
        return float(total)

    def _rows(self, batch: Batch | None) -> list[int]:
        """The rows of each rank's batch; none where every rank has come to its end."""
        mine = torch.tensor([-1 if batch is None else len(batch)], device=self.device)
        every = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(every, mine)
        rows = [int(number) for number in every]
        ended = [rank for rank, number in enumerate(rows) if number < 0]
        if len(ended) == self.size:
            return []
        if ended:
            going = [rank for rank, number in enumerate(rows) if number >= 0]
            raise UserError(
                f"The ranks {ended} have no batch left, and the ranks {going} have one; all must "
                "take the same number of steps. Give each rank a share of every batch."
            )
        if not any(rows):
            raise UserError("No rank has a row in this batch; give at least one of them a row.")
        return rows

    @quiet()
    @torch.no_grad()
    def from_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take this rank's part of a whole DLRM's `state_dict`; every rank must call it.

        Raises:
            UserError: a name or a shape is not the config's; nothing is changed.
        """
        mine: dict[str, Any] = self.model.state_dict()
        shapes = {our_key(key): tuple(tensor.size()) for key, tensor in mine.items()}
        found = {key: tuple(tensor.shape) for key, tensor in weights.items()}
        for key in sorted(shapes.keys() | found.keys()):
            if shapes.get(key) != found.get(key):
                raise UserError(
                    f"The weights are another model's: for '{key}' they hold "
                    f"{found.get(key, 'nothing')}, the config expects "
                    f"{shapes.get(key, 'no such tensor')}."
                )
        for key, tensor in mine.items():
            whole = weights[our_key(key)]
            for shard, cut in pieces(tensor):
                shard.copy_(whole[cut])

    @quiet()
    @torch.no_grad()
    def to_weights(self) -> dict[str, Tensor] | None:
        """The whole `state_dict` of a DLRM, on rank 0's CPU; None elsewhere. Every rank must call.

        The weights are copies. Rank 0 must have room for all.
        """
        weights: dict[str, Any] = {}
        for key, tensor in self.model.state_dict().items():
            if isinstance(tensor, ShardedTensor):
                whole = torch.empty(tensor.size()) if self.rank == 0 else None
                tensor.gather(0, whole)
            else:
                whole = tensor.detach().cpu().clone()
            weights[our_key(key)] = whole
        return None if self.rank else weights
