"""The fused embedding path on a GPU, in Triton: one program a bag, then one program a row touched.

No vector of a lookup and no gradient of one is ever written to memory. Both functions compute in
float32 and sum in a fixed order, so that they give the same bits on every run; neither makes the
host wait for the GPU. Ids are not checked here: one without a row reads and writes somewhere else.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from dlrm_mini.kernels.rules import Lookups, Rule

CHECKS_IDS = False  # whether `forward` raises for an id without a row
_TILE = 2048  # numbers that one program adds up at a time: enough loads under way for popular rows
_BAG_TILE = 512  # the same for bags, which are many and short


def forward(table: Tensor, lookups: Lookups) -> Tensor:
    """The weighted sum of each bag's rows, (B, F, D) float32; an empty bag gives zeros.

    Args:
        table: (N, D) float32, contiguous, on the GPU: all tables stacked.
        lookups: a batch's ids, each within its table, on the same GPU.
    """
    size, features, dim = lookups.batch_size, lookups.n_features, table.shape[1]
    pooled = table.new_empty(size, features, dim)
    if pooled.numel():
        width = triton.next_power_of_2(dim)
        ids_a_bag = triton.next_power_of_2(-(-len(lookups.ids) // (size * features)))
        height = max(1, min(_BAG_TILE // width, ids_a_bag))
        with torch.cuda.device(table.get_device()):  # Triton launches on the current device
            _pool[(size * features,)](
                table, *lookups, pooled, size, features, dim, width, height, num_warps=1
            )
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

    The lookups are sorted by row; a row is then read and written once, by the program of its first
    lookup, which sums the gradients of all its bags; the programs of the others have nothing to do.
    (To launch one for each row touched, the host would have to wait for their number. A row that
    most of the batch looks up keeps its program busy long after the others are done.)

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
    rows = ids + first[places % features]  # (V,)
    if len(table) <= torch.iinfo(torch.int32).max:
        rows = rows.int()  # half the digits to sort by
    rows, order = torch.sort(rows, stable=True)
    lengths = torch.searchsorted(rows, rows, right=True)  # (V,) behind the last of the same row
    lengths -= torch.arange(len(rows), device=rows.device)  # lookups of that row from here on
    places = places[order]
    weights = None if weights is None else weights[order]
    width = triton.next_power_of_2(dim)
    with torch.cuda.device(table.get_device()):
        _update_rows[(len(rows),)](
            table, state, gradient.contiguous(), rows, lengths, places, weights, lr, eps, dim,
            rule, width, max(1, _TILE // width), num_warps=2,
        )  # fmt: skip


@triton.jit  # type: ignore[untyped-decorator]
def _pool(
    table: tl.tensor, ids: tl.tensor, offsets: tl.tensor, first: tl.tensor, weights: tl.tensor,
    pooled: tl.tensor, size: tl.tensor, features: tl.tensor, dim: tl.tensor, width: tl.constexpr,
    height: tl.constexpr,
) -> None:  # fmt: skip
    """Sum the rows of one bag, `height` at a time.

    `width` is `dim` rounded up to a power of two, as Triton wants.
    """
    bag = tl.program_id(0)
    feature, example = bag // size, bag % size
    columns = tl.arange(0, width)
    inside = columns < dim
    above = tl.load(first + feature)  # int64, and so is every address made from it
    end = tl.load(offsets + bag + 1)
    sums = tl.zeros([height, width], tl.float32)
    for start in range(tl.load(offsets + bag), end, height):
        lookup = start + tl.arange(0, height)
        mine = lookup < end
        row = above + tl.load(ids + lookup, mask=mine, other=0)
        vectors = tl.load(
            table + row[:, None] * dim + columns[None, :],
            mask=mine[:, None] & inside[None, :],
            other=0.0,
        )
        if weights is not None:
            vectors *= tl.load(weights + lookup, mask=mine, other=0.0)[:, None]
        sums += vectors
    place = example.to(tl.int64) * features + feature
    tl.store(pooled + place * dim + columns, tl.sum(sums, axis=0), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _update_rows(
    table: tl.tensor, state: tl.tensor, gradient: tl.tensor, rows: tl.tensor, lengths: tl.tensor,
    places: tl.tensor, weights: tl.tensor, lr: tl.tensor, eps: tl.tensor, dim: tl.tensor,
    rule: tl.constexpr, width: tl.constexpr, height: tl.constexpr,
) -> None:  # fmt: skip
    """Sum the gradients of one row's lookups, then apply the rule."""
    head = tl.program_id(0)
    row = tl.load(rows + head)
    if tl.load(rows + head - 1, mask=head > 0, other=-1) != row:
        columns = tl.arange(0, width)
        inside = columns < dim
        # The first lookup alone: of a large table's rows, most are looked up once.
        step = tl.load(gradient + tl.load(places + head) * dim + columns, mask=inside, other=0.0)
        if weights is not None:
            step *= tl.load(weights + head)
        length = tl.load(lengths + head)
        if length > 1:
            sums = tl.zeros([height, width], tl.float32)
            for done in range(1, length, height):
                others = done + tl.arange(0, height)
                lookup, mine = head + others, others < length
                place = tl.load(places + lookup, mask=mine, other=0)
                slopes = tl.load(
                    gradient + place[:, None] * dim + columns[None, :],
                    mask=mine[:, None] & inside[None, :],
                    other=0.0,
                )
                if weights is not None:
                    slopes *= tl.load(weights + lookup, mask=mine, other=0.0)[:, None]
                sums += slopes
            step += tl.sum(sums, axis=0)
        here = row.to(tl.int64) * dim + columns
        if rule == "adagrad":
            square = tl.load(state + here, mask=inside, other=1.0) + step * step
            tl.store(state + here, square, mask=inside)
            step /= tl.sqrt_rn(square) + eps
        elif rule == "rowwise_adagrad":
            mean = tl.load(state + row) + tl.sum(step * step, axis=0) / dim
            tl.debug_barrier()  # every warp has read the old sum before one writes the new one
            tl.store(state + row, mean)
            step /= tl.sqrt_rn(mean) + eps
        vector = tl.load(table + here, mask=inside, other=0.0)
        tl.store(table + here, vector - lr * step, mask=inside)
