"""One run of chapter 06's experiment: how an arm is trained, and what it then knows of a world."""

import time
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from dlrm_mini.datasets.batches import Batch, SparseFeatures
from dlrm_mini.ladders.crossing_settings import Setting, World, log_odds
from dlrm_mini.ladders.plans import Plan, falling, penalised
from dlrm_mini.models.interaction_config import InteractionConfig
from dlrm_mini.models.interaction_models import InteractionModel
from dlrm_mini.models.interaction_strength import pair_strengths
from dlrm_mini.training import logistic_loss, predict, set_seed

STRENGTH_ROWS = 4096  # test rows that pairs and triples are measured on
L2_LINEAR = 3e-4  # of the linear weights on MovieLens, per example, as in `click_models`
Triples = dict[tuple[str, ...], float]


def fit(
    config: InteractionConfig, setting: Setting, train: Batch, seed: int
) -> tuple[InteractionModel, float]:
    """Train one model.

    Args:
        config: its sizes.
        setting: the hyper-parameters.
        train: the rows to learn from.
        seed: of the first weights and of the order of the rows.

    Returns:
        The model and the processor seconds that its training took.
    """
    set_seed(seed)
    bias = log_odds(train.labels)
    model = InteractionModel(config, bias=bias, init_std=setting.init_std, check=False)
    weights: dict[str, float] = {}
    optimizer: torch.optim.Optimizer
    if setting.l2:
        weights = {"tables": setting.l2, "linear": L2_LINEAR}
        parts: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
        for name, parameter in model.named_parameters():
            parts["tables." in name].append(parameter)
        groups: list[dict[str, Any]] = [
            {"params": parts[True]},
            {"params": parts[False], "lr": setting.rate / 10},
        ]
        optimizer = torch.optim.Adagrad(groups, lr=setting.rate, initial_accumulator_value=1e-7)
    else:
        optimizer = torch.optim.Adam(model.parameters(), lr=setting.rate, fused=True)
    schedule = falling(optimizer, len(train), setting.batch_size, setting.epochs)
    objective = penalised(logistic_loss, weights)
    plan = Plan(model, objective, optimizer, setting.batch_size, setting.epochs, schedule)
    started = time.process_time()
    plan.run(train, seed)
    return model, time.process_time() - started


def triple_strengths(
    model: InteractionModel, batch: Batch, triples: Sequence[tuple[str, ...]], seed: int = 0
) -> Triples:
    """What needs three fields at once in a model: the triple's term and all that contain it.

    As `pair_strengths`, one feature further: the sum over the subsets of a triple of +-z(x with
    these features of another row), squared, averaged and divided by eight.

    Args:
        model: any; its batches hold one id a feature.
        batch: B rows.
        triples: the names to measure.
        seed: of the pairing of rows.

    Returns:
        Triple -> standard deviation in logits.
    """
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(seed))
    other = batch.select(order.roll(1)[order.argsort()])  # never the row itself
    known: dict[frozenset[str], Tensor] = {}

    def logits(taken: frozenset[str]) -> Tensor:
        if taken not in known:
            columns = {
                name: (other if name in taken else batch).sparse.ids(name)
                for name in batch.sparse.names
            }
            mixed = Batch(batch.dense, SparseFeatures.from_columns(columns), batch.labels)
            known[taken] = predict(model, mixed).double()
        return known[taken]

    found: Triples = {}
    for triple in triples:
        total = torch.zeros(len(batch), dtype=torch.float64)
        for size in range(4):
            for taken in combinations(triple, size):
                total += (-1) ** size * logits(frozenset(taken))
        found[triple] = float((total.square().mean() / 8).sqrt())
    return found


def learned(model: InteractionModel, world: World) -> dict[str, Any]:
    """What a model made of a world's pairs and triples, and the blocks of its first cross layer."""
    batch = world.test()[0].select(torch.arange(STRENGTH_ROWS))
    names, pairs = pair_strengths(model, batch)
    triples = triple_strengths(model, batch, list(combinations(world.log.names, 3)))
    strongest = sorted(triples.items(), key=lambda item: -item[1])
    found: dict[str, Any] = {
        "names": list(names),
        "pairs": [[round(float(value), 4) for value in row] for row in pairs],
        "triples": {" ".join(triple): round(value, 4) for triple, value in strongest[:8]},
    }
    if model.config.kind == "cross":
        n, dim = model.config.n_vectors, model.config.dim
        layer = model.cross.layers[0]
        assert isinstance(layer, torch.nn.Linear)
        weight = layer.weight.detach().view(n, dim, n, dim)
        norms = weight.double().square().sum((1, 3)).sqrt()
        found["block_norms"] = [[round(float(value), 4) for value in row] for row in norms]
    return found
