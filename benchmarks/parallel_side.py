"""One process of one engine, for the benchmark parallel-step; torchrun starts P of them.

Rank 0 reads questions from standard input, passes them on to the others, who wait for it, and
answers with a line of JSON:

- `about`: versions, and threads of each process;
- `check RULE`: trains a small model beside a single device, over batches that do not divide; says
  the length of the difference over the length of the way moved, of the worst tensor and step;
- `steps N`: trains on N batches; says ms, the mean time of a step.
"""

import itertools
import json
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, Literal, NamedTuple, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor

from dlrm_mini.datasets.batches import Batch
from dlrm_mini.models import dlrm_presets
from dlrm_mini.models.dlrm import DLRM, random_batch
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.optimizers import SGD, RowWiseAdagrad
from dlrm_mini.parallel.communicator import Communicator
from dlrm_mini.parallel.process_group import connect, leave
from dlrm_mini.parallel.sharded_model import ShardedDLRM, share
from dlrm_mini.parallel.sharded_rules import make_optimizer
from dlrm_mini.parallel.sharded_step import ShardedStep
from dlrm_mini.parallel.sharding import Placement, Plan
from dlrm_mini.training_step import TrainingStep

Rule = Literal["sgd", "rowwise_adagrad"]
BATCH, BATCHES, RULE, LR = 2048, 8, "rowwise_adagrad", 0.01
LARGE = 5  # tables that are cut by rows: they hold 98 % of all
CHECK_ROWS, CHECK_BATCH, CHECK_STEPS = 2000, 67, 5
CHECK_LR = {"sgd": 0.5, "rowwise_adagrad": 0.001}
WAIT = 900.0  # seconds for which the others may have their turns


class Side(NamedTuple):
    """An engine with its model, on one rank.

    Attributes:
        step: trains on this rank's rows.
        load: takes this rank's part of a DLRM's weights.
        whole: those weights again, on rank 0.
    """

    step: Callable[[Batch], float | None]
    load: Callable[[Mapping[str, Tensor]], None]
    whole: Callable[[], dict[str, Tensor] | None]


def plan_of(config: DLRMConfig, size: int) -> Plan:
    """The same for both engines: the largest tables by rows over all ranks, the others whole.

    Each of these goes to the rank that has the fewest rows of them so far.
    """
    tables = sorted(config.cardinalities.items(), key=lambda table: -table[1])
    placements = {}
    held = [0] * size
    for place, (name, rows) in enumerate(tables):
        if place < LARGE and size > 1:
            placements[name] = Placement("row-wise", tuple(range(size)))
            continue
        rank = held.index(min(held))
        held[rank] += rows
        placements[name] = Placement("table-wise", (rank,))
    return Plan(size, config.cardinalities, config.dim, placements)


def small(config: DLRMConfig) -> DLRMConfig:
    """The same model with few rows."""
    tables = {name: min(rows, CHECK_ROWS) for name, rows in config.cardinalities.items()}
    return DLRMConfig(config.n_dense, tables, config.dim, config.bottom, config.top)


def ours(config: DLRMConfig, communicator: Communicator, rule: Rule, lr: float) -> Side:
    plan = plan_of(config, communicator.size)
    model = ShardedDLRM(config, plan, communicator, check=False, fused=True)
    step = ShardedStep(model, make_optimizer(model, rule, lr))
    return Side(step.step, model.load_full, model.full_state_dict)


def torchrec(config: DLRMConfig, communicator: Communicator, rule: Rule, lr: float) -> Side:
    from dlrm_mini.parallel.torchrec_engine import TorchRecDLRM

    plan = plan_of(config, communicator.size)
    model = TorchRecDLRM(config, plan, rule, lr, check=False)
    return Side(model.step, model.from_weights, model.to_weights)


Build = Callable[[DLRMConfig, Communicator, Rule, float], Side]
SIDES: dict[str, Build] = {"ours": ours, "torchrec": torchrec}


def check(build: Build, config: DLRMConfig, communicator: Communicator, rule: Rule) -> float:
    """The worst difference to a single device; see above."""
    config, lr = small(config), CHECK_LR[rule]
    torch.manual_seed(1)
    single = DLRM(config, sparse_gradient=True)
    start = {name: weight.clone() for name, weight in single.state_dict().items()}
    kind = {"sgd": SGD, "rowwise_adagrad": RowWiseAdagrad}[rule]
    train = TrainingStep(single, kind(single.parameters(), lr))
    side = build(config, communicator, rule, lr)
    side.load(start)
    worst = 0.0
    for seed in range(CHECK_STEPS):
        batch = random_batch(config, CHECK_BATCH, seed)
        side.step(share(batch, communicator))
        train(batch)
        if (whole := side.whole()) is not None:
            for name, weight in single.state_dict().items():
                moved = (weight - start[name]).norm()
                worst = max(worst, float((whole[name] - weight).norm() / moved))
    return worst


def timed(side: Side, turn: "itertools.cycle[Batch]", steps: int) -> float:
    """Milliseconds of a step: all ranks begin together, and the last has ended."""
    dist.barrier()
    started = time.perf_counter()
    for _ in range(steps):
        side.step(next(turn))
    dist.barrier()
    return 1e3 * (time.perf_counter() - started) / steps


def next_question(rank: int) -> str:
    """What rank 0 is asked; "" when there are no more questions."""
    line = [sys.stdin.readline().strip() if rank == 0 else ""]
    dist.broadcast_object_list(line)
    return line[0]


def about(engine: str) -> dict[str, Any]:
    packages = ["dlrm-mini", "torch", "numba", "numpy"]
    packages += ["torchrec", "fbgemm-gpu-cpu"] if engine == "torchrec" else []
    found = {"python": platform.python_version(), **{name: version(name) for name in packages}}
    return {"threads": torch.get_num_threads(), "versions": found}


def serve(engine: str, config: DLRMConfig, communicator: Communicator) -> None:
    """Answer until there are no more questions; see above."""
    build, big = SIDES[engine], None
    while question := next_question(communicator.rank):
        if question == "about":
            answer = about(engine)
        elif question.startswith("check"):
            answer = {"worst": check(build, config, communicator, question.split()[1])}
        else:
            if big is None:
                big = build(config, communicator, RULE, LR)
                batches = (random_batch(config, BATCH, seed) for seed in range(BATCHES))
                turn = itertools.cycle([share(batch, communicator) for batch in batches])
            answer = {"ms": timed(big, turn, int(question.split()[1]))}
        if communicator.rank == 0:
            print(json.dumps(answer), flush=True)


def main(engine: str, scale: str) -> NoReturn:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    warnings.simplefilter("ignore", FutureWarning)  # torch's, of names that are to change
    with connect(timeout=WAIT) as communicator:
        serve(engine, dlrm_presets.kaggle(float(scale)), communicator)
    leave()


if __name__ == "__main__":
    main(*sys.argv[1:])
