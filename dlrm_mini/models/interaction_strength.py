"""How much each pair of features does to each other in a model, whatever the model is made of.

For two features f and g and two rows x and y, take over y's values into x, one, the other, both:

    d = z(x) - z(x with y_f) - z(x with y_g) + z(x with y_f and y_g)

Whatever f and g add to the logit z each on their own cancels out. Where features are independent, a
fourth of the mean of d^2 is the variance of all terms of z that need both f and g: their pair and
the triples and more that contain them (Liu and Owen 2006, "Estimating Mean Dimensionality of
Analysis of Variance Decompositions": superset importance). Its root is in logits, and comparable
between a DLRM, an MLP and the teacher who made up the labels.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dlrm_mini.datasets.batches import Batch
from dlrm_mini.datasets.sparse import SparseFeatures
from dlrm_mini.errors import UserError


@torch.no_grad()
def pair_strengths(
    model: Callable[[Batch], Tensor], batch: Batch, *, seed: int = 0
) -> tuple[tuple[str, ...], Tensor]:
    """The strength of every pair, measured on the rows of a batch and shuffled copies of them.

    It takes 1 + n + n (n - 1) / 2 forward passes for n features. Rows with shuffled values need not
    look like real ones where features depend on each other.

    Args:
        model: maps a batch to logits (B,).
        batch: B rows, at least two; a few thousand give two digits.
        seed: of the shuffling.

    Returns:
        The names "dense", which stands for all dense columns together, and the F sparse features;
        and the standard deviation, in logits, of what each pair adds: (F + 1, F + 1) float64,
        symmetric, with a diagonal of zeros.

    Raises:
        UserError: fewer than two rows, or what `model` raises.
    """
    if len(batch) < 2:
        raise UserError(f"The batch has {len(batch)} rows; expected at least two to compare.")
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(seed))
    partner = torch.empty_like(order)
    partner[order] = order.roll(1)  # never the row itself
    other = batch.select(partner.to(batch.labels.device))
    names = ("dense", *batch.sparse.names)
    training = isinstance(model, nn.Module) and model.training
    if isinstance(model, nn.Module):
        model.eval()
    try:
        plain = model(batch).double()
        single = [model(_mixed(batch, other, {name})).double() for name in names]
        strengths = torch.zeros(len(names), len(names), dtype=torch.float64)
        for f, one in enumerate(names):
            for g, two in enumerate(names[:f]):
                both = model(_mixed(batch, other, {one, two})).double()
                mixed = plain - single[f] - single[g] + both  # (B,)
                strengths[f, g] = strengths[g, f] = mixed.square().mean().sqrt() / 2
    finally:
        if isinstance(model, nn.Module):
            model.train(training)
    return names, strengths


def _mixed(batch: Batch, other: Batch, taken: set[str]) -> Batch:
    """The batch, with the features named in `taken` from the other one."""
    sources = {name: other if name in taken else batch for name in batch.sparse.names}
    columns = {}
    for name, source in sources.items():
        ids, offsets, weights = source.sparse.bag(name)
        columns[name] = (ids, offsets) if weights is None else (ids, offsets, weights)
    dense = other.dense if "dense" in taken else batch.dense
    return Batch(dense, SparseFeatures.from_columns(columns), batch.labels)
