"""The fused embedding path on a GPU, in Triton: one program a bag, then one program a row touched.

No vector of a lookup and no gradient of one is ever written to memory. Both functions compute in
float32 and sum in a fixed order, so that they give the same bits on every run. Ids are not checked
here: one without a row reads and writes somewhere else.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from dlrm_mini.kernels.rules import Lookups, Rule

CHECKS_IDS = False  # whether `forward` raises for an id without a row
_TILE = 2048  # numbers that one program adds up at a time: enough loads under way for popular rows


def forward(table: Tensor, lookups: Lookups) -> Tensor:
    """The weighted sum of each bag's rows, (B, F, D) float32; an empty bag gives zeros.

    Args:
        table: (N, D) float32, contiguous, on the GPU: all tables stacked.
        lookups: a batch's ids, each within its table, on the same GPU.
    """
    size, features, dim = lookups.batch_size, lookups.n_features, table.shape[1]
    pooled = table.new_empty(size, features, dim)
    if pooled.numel():
        with torch.cuda.device(table.get_device()):  # Triton launches on the current device
            _pool[(size * features,)](
                table, *lookups, pooled, size, features, dim, triton.next_power_of_2(dim),
                num_warps=1,
            )  # fmt: skip
    return pooled


def update(
    table: Tensor,
    state: Tensor | None,
    lookups: Lookups,
    gradient: Tensor,
    rule: Rule,
    lr: float,
    eps: float,
) -> None:
    """Change the rows that were looked up, and their state, in place.

    The lookups are sorted by row; a row is then read and written once, by one program that sums the
    gradients of all its bags. (A row that most of the batch looks up keeps its program busy long
    after the others are done.)

    Args:
        table: (N, D) float32, contiguous, on the GPU: all tables stacked.
        state: sums of squares, contiguous: None for "sgd", (N, D) for "adagrad", (N,) for
            "rowwise_adagrad".
        lookups: the batch's ids, each within its table.
        gradient: (B, F, D) float32, of the loss with respect to what `forward` returned.
        rule: see `Rule`.
        lr: learning rate.
        eps: what is added to the root.
    """
    ids, offsets, first, weights = lookups
    if not len(ids):
        return
    size, features, dim = gradient.shape
    # Bag f * B + b finds its gradient at b * F + f: `gradient` is row-major, bags feature-major.
    places = torch.arange(size * features, device=ids.device).view(size, features).T.reshape(-1)
    places = places.repeat_interleave(offsets.diff(), output_size=len(ids))  # (V,)
    rows, order = torch.sort(ids + first[places % features], stable=True)
    rows, counts = torch.unique_consecutive(rows, return_counts=True)  # (R,) rows touched
    places = places[order]
    weights = None if weights is None else weights[order]
    width = triton.next_power_of_2(dim)
    with torch.cuda.device(table.get_device()):
        _update_rows[(len(rows),)](
            table, state, gradient.contiguous(), rows, counts, counts.cumsum(0), places, weights,
            lr, eps, dim, rule, width, max(1, _TILE // width), num_warps=2,
        )  # fmt: skip


@triton.jit  # type: ignore[untyped-decorator]
def _pool(
    table: tl.tensor, ids: tl.tensor, offsets: tl.tensor, first: tl.tensor, weights: tl.tensor,
    pooled: tl.tensor, size: tl.tensor, features: tl.tensor, dim: tl.tensor, width: tl.constexpr,
) -> None:  # fmt: skip
    """Sum the rows of one bag; `width` is `dim` rounded up to a power of two, as Triton wants."""
    bag = tl.program_id(0)
    feature, example = bag // size, bag % size
    columns = tl.arange(0, width)
    inside = columns < dim
    above = tl.load(first + feature)  # int64, and so is every address made from it
    total = tl.zeros([width], tl.float32)
    for lookup in range(tl.load(offsets + bag), tl.load(offsets + bag + 1)):
        row = above + tl.load(ids + lookup)
        vector = tl.load(table + row * dim + columns, mask=inside, other=0.0)
        if weights is not None:
            vector *= tl.load(weights + lookup)
        total += vector
    place = example.to(tl.int64) * features + feature
    tl.store(pooled + place * dim + columns, total, mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _update_rows(
    table: tl.tensor, state: tl.tensor, gradient: tl.tensor, rows: tl.tensor, counts: tl.tensor,
    ends: tl.tensor, places: tl.tensor, weights: tl.tensor, lr: tl.tensor, eps: tl.tensor,
    dim: tl.tensor, rule: tl.constexpr, width: tl.constexpr, height: tl.constexpr,
) -> None:  # fmt: skip
    """Sum the gradients of one row's lookups, `height` at a time, then apply the rule."""
    segment = tl.program_id(0)
    row = tl.load(rows + segment)  # int64, and so is every address made from it
    end = tl.load(ends + segment)
    columns = tl.arange(0, width)
    inside = columns < dim
    sums = tl.zeros([height, width], tl.float32)
    for start in range(end - tl.load(counts + segment), end, height):
        lookup = start + tl.arange(0, height)
        mine = lookup < end
        place = tl.load(places + lookup, mask=mine, other=0)
        slopes = tl.load(
            gradient + place[:, None] * dim + columns[None, :],
            mask=mine[:, None] & inside[None, :],
            other=0.0,
        )
        if weights is not None:
            slopes *= tl.load(weights + lookup, mask=mine, other=0.0)[:, None]
        sums += slopes
    step = tl.sum(sums, axis=0)
    here = row * dim + columns
    if rule == "adagrad":
        square = tl.load(state + here, mask=inside, other=1.0) + step * step
        tl.store(state + here, square, mask=inside)
        step /= tl.sqrt_rn(square) + eps
    elif rule == "rowwise_adagrad":
        mean = tl.load(state + row) + tl.sum(step * step) / dim
        tl.debug_barrier()  # every warp has read the old sum before one of them writes the new one
        tl.store(state + row, mean)
        step /= tl.sqrt_rn(mean) + eps
    vector = tl.load(table + here, mask=inside, other=0.0)
    tl.store(table + here, vector - lr * step, mask=inside)
