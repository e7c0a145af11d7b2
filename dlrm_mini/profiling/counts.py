"""What each part of a training step has to do: FLOP, bytes, rows, operations. Nothing is timed.

The conventions are those of `DLRMConfig` where it counts: a multiply-add is 2 FLOP, an addition of
pooling 1; elementwise work is no FLOP, only bytes. Three things are more exact here:

- The first bottom layer's input gradient is not counted, since nobody computes it: the dense
  features need none. (`DLRMConfig` says "twice the forward pass" of both MLPs.)
- The dot interaction in torch is a full matrix product, both triangles and the diagonal, and is
  counted as one; only the fused one computes the pairs that are kept.
- Backward of the interaction, and the update, are counted too.

An operation reads each of its inputs once and writes its output once, whatever a cache might save.
Views are no operations. What is counted is this package's code as it is, by kind of tables.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from dlrm_mini.profiling.counts_tables import count_tables, dense_update, distinct
from dlrm_mini.profiling.parts import in_order
from dlrm_mini.profiling.work import ID, NUMBER, Work, total
from dlrm_mini.profiling.workload import Workload

__all__ = ["Work", "count", "distinct", "total"]


def count(workload: Workload, device: str = "cpu") -> dict[str, Work]:
    """Part -> its work in one step, in the order of `parts.PARTS`.

    Args:
        workload: what is trained; its ids are uniform.
        device: "cpu" or "cuda": some parts are other code there.
    """
    found = {"input": _input(workload, device), **_mlps(workload), **_interaction(workload, device)}
    found |= _loss(workload) | count_tables(workload, device)
    found["dense update"] = _dense_update(workload, device)
    if workload.dense_part != "eager":
        _merge(found, workload.dense_part)
    return in_order(found)  # type: ignore[arg-type, return-value]


def _input(workload: Workload, device: str) -> Work:
    """Columns, ids, offsets and labels are moved, then offsets and dense columns looked through."""
    config, rows = workload.config, workload.batch_size
    bags = rows * len(config.cardinalities)
    offsets, dense = ID * (bags + 1), NUMBER * rows * config.n_dense
    moved = dense + offsets + ID * _lookups(workload) + NUMBER * rows
    gpu = device == "cuda"
    # Offsets: two compared, the result reduced, three read back. Dense: summed, looked at.
    checks = Work(streamed=2 * offsets + 2 * bags + dense, operations=5 + 4)
    return checks + Work(operations=4 * gpu, transferred=moved * gpu)


def _mlps(workload: Workload) -> dict[str, Work]:
    """Both MLPs, forward and backward."""
    config = workload.config
    found: dict[str, Work] = {}
    for name, sizes in (("bottom", config.bottom_sizes), ("top", config.top_sizes)):
        forward, backward = Work(), Work()
        for place, (n_in, n_out) in enumerate(pairwise(sizes)):
            relu = name == "bottom" or place < len(sizes) - 2
            forward += _layer(workload, n_in, n_out, relu)
            needed = name == "top" or place > 0  # the gradient of what came in
            backward += _layer_backward(workload, n_in, n_out, relu, needed)
        found |= {f"{name} MLP": forward, f"{name} MLP backward": backward}
    return found


def _layer(workload: Workload, n_in: int, n_out: int, relu: bool) -> Work:
    """The product, its bias, and ReLU in place; below float32, weights are rounded first."""
    rows, number = workload.batch_size, _number(workload)
    return Work(
        flops=2 * rows * n_in * n_out,
        streamed=number * n_out + 2 * relu * number * rows * n_out,
        operations=1 + relu,
        products=((rows, n_in, n_out),),
        number=number,
    ) + _rounding(workload, n_in, n_out)


def _layer_backward(workload: Workload, n_in: int, n_out: int, relu: bool, needed: bool) -> Work:
    """Through ReLU (two read, one written); gradients of weight, bias and maybe input."""
    rows, number = workload.batch_size, _number(workload)
    products = [(n_out, rows, n_in)] + [(rows, n_out, n_in)] * needed
    return Work(
        flops=2 * rows * n_in * n_out * len(products),
        streamed=number * (3 * relu * rows * n_out + rows * n_out + n_out),
        operations=len(products) + 1 + relu,
        products=tuple(products),
        number=number,
    ) + _rounding(workload, n_in, n_out)


def _rounding(workload: Workload, n_in: int, n_out: int) -> Work:
    """float32 weights and biases to a smaller type, or their gradients back."""
    if workload.precision == "float32":
        return Work()
    return Work(streamed=(NUMBER + _number(workload)) * (n_in + 1) * n_out, operations=2)


def _interaction(workload: Workload, device: str) -> dict[str, Work]:
    config, rows = workload.config, workload.batch_size
    n, dim, width = config.n_vectors, config.dim, config.top_input
    number = _number(workload) if config.interaction == "cat" else NUMBER
    vectors, result = number * rows * n * dim, NUMBER * rows * width
    if config.interaction == "cat":
        # Copied side by side; backward gives views, and one is added to nothing.
        forward, backward = Work(streamed=2 * vectors, operations=1), Work()
    elif workload.tables == "fused" and device == "cpu":
        # One pass: vectors in, dense vector and pairs out; back the same with gradients.
        flops = 2 * rows * (width - dim) * dim
        small = ((flops, n, dim),)
        forward = Work(flops, vectors + result, operations=1, batched=small)
        backward = Work(2 * flops, 2 * vectors + result, operations=1, batched=small + small)
    else:
        forward, backward = _gram(workload)
    rounding = Work()
    if workload.precision != "float32":  # the tables' vectors, and their gradients back
        rounding = Work(streamed=(NUMBER + _number(workload)) * rows * n * dim, operations=1)
    return {"interaction": forward + rounding, "interaction backward": backward + rounding}


def _gram(workload: Workload) -> tuple[Work, Work]:
    """Concatenation, X X^T, the pairs picked out, concatenation; and all that backward."""
    config, rows = workload.config, workload.batch_size
    n, dim, width = config.n_vectors, config.dim, config.top_input
    number = _number(workload)
    vectors, square = number * rows * n * dim, number * rows * n * n
    pairs, result = number * rows * (width - dim), number * rows * width
    flops = 2 * rows * n * n * dim
    product = (flops, n, dim)
    index = ID * (width - dim)
    forward = Work(
        flops=flops,
        # cat; X and X^T read, their product written; pairs read and written; cat
        streamed=2 * vectors + 2 * vectors + square + 2 * pairs + 2 * result + index,
        operations=4,
        batched=(product,),
    )
    backward = Work(
        flops=2 * flops,
        # zeros; pairs added into them; two products of a square and X; their sum; parts added up
        streamed=square + 2 * pairs + pairs + 2 * (square + 2 * vectors) + 3 * vectors + index,
        operations=6,
        batched=(product, product),
    )
    return forward, backward


def _loss(workload: Workload) -> dict[str, Work]:
    """B logits and labels, a few operations that stream them."""
    column = NUMBER * workload.batch_size
    return {
        "loss": Work(streamed=2 * column, operations=1),
        "loss backward": Work(streamed=9 * column, operations=5),
    }


def _dense_update(workload: Workload, device: str) -> Work:
    """Of the MLPs: on a GPU one kernel takes all tensors, on a CPU they come one by one."""
    parameters = workload.config.parameters()
    work = dense_update(
        parameters["bottom MLP"] + parameters["top MLP"], workload.rule == "rowwise_adagrad"
    )
    tensors = 2 * (len(workload.config.bottom) + len(workload.config.top))
    work = work if device == "cuda" else replace(work, operations=work.operations * tensors)
    if workload.precision == "float16":  # gradients are looked through and scaled down first
        numbers = parameters["bottom MLP"] + parameters["top MLP"]
        work += Work(streamed=2 * NUMBER * numbers, operations=6)
    return work


def _merge(found: dict[str, Work], how: str) -> None:
    """One dense part forward, one backward; compiled or replayed, fewer operations begin."""
    for end in ("", " backward"):
        names = [f"{name}{end}" for name in ("bottom MLP", "interaction", "top MLP")]
        merged = total(found.pop(name) for name in names)
        kept = 1 if how == "graphed" else len(merged.products) + len(merged.batched)
        found[f"dense part{end}"] = replace(merged, operations=kept)


def _lookups(workload: Workload) -> int:
    """V, the ids of a batch."""
    return workload.batch_size * sum(workload.config.lookups_by_table.values())


def _number(workload: Workload) -> int:
    """Bytes of a number in the MLPs."""
    return NUMBER if workload.precision == "float32" else 2
