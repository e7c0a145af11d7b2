"""How far a model without pairs can get on chapter 07's log: the ceiling of logistic regression.

It is a little above the planted first order. Where an id's pairs are strong, the logits of its rows
spread around their mean; as long as clicks are rarer than other rows, a spread logit means more
clicks on average, and that a weight for the id by itself can learn.
"""

import torch
from torch import Tensor
from torch.nn import functional

from dlrm_mini.datasets.batches import Batch
from dlrm_mini.datasets.synthetic import ClickLog

CHUNK = 250_000  # rows at a time
ITERATIONS = 40  # of L-BFGS
RIDGE = 1e-7  # keeps what rows leave undecided, such as a constant between two fields, near zero


def best_additive(log: ClickLog, rows: int, test: Batch) -> Tensor:
    """The test logits of an additive model that was told more than any model can know.

    It is fitted to the true chances instead of clicks, by L-BFGS until nothing moves; and it is
    told which ids the teacher knows. All others of a field share a weight.

    Args:
        log: the log, one id a field.
        rows: it is fitted to the log's first rows.
        test: T rows.

    Returns:
        (T,) float64 logits.
    """
    known = log.config.teacher_ids
    parts = [log.batch(start, min(start + CHUNK, rows)) for start in range(0, rows, CHUNK)]
    inputs = [(_places(log, batch, known), batch.dense, chance) for batch, chance in parts]
    dense = torch.cat([one for _, one, _ in inputs])
    mean, spread = dense.mean(0), dense.std(0)
    weights = torch.zeros(len(log.names) * (known + 2), requires_grad=True)
    columns = torch.zeros(dense.shape[1], requires_grad=True)
    bias = torch.zeros((), requires_grad=True)

    def logits(places: Tensor, dense: Tensor) -> Tensor:
        found: Tensor = weights[places].sum(1) + ((dense - mean) / spread) @ columns + bias
        return found

    optimizer = torch.optim.LBFGS(
        [weights, columns, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        total = RIDGE * weights.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        for places, dense, chance in inputs:
            part = functional.binary_cross_entropy_with_logits(
                logits(places, dense), chance.float(), reduction="sum"
            )
            (part / rows).backward()  # type: ignore[no-untyped-call]
            total = total.detach() + part.detach() / rows
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return logits(_places(log, test, known), test.dense).double()


def _places(log: ClickLog, batch: Batch, known: int) -> Tensor:
    """(B, F) places in the weights: a field's known ids, then all others, then missing."""
    places = []
    for field, name in enumerate(log.names):
        ids, missing = batch.sparse.ids(name), log.config.cardinalities[name] - 1
        place = torch.where(ids == missing, known + 1, ids.clamp(max=known))
        places.append(field * (known + 2) + place)
    return torch.stack(places, 1)
