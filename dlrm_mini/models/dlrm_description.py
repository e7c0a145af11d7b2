"""A DLRM as an aligned table of text: what comes out of each step, and what it holds."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from dlrm_mini.datasets.batches import Batch
    from dlrm_mini.models.dlrm import DLRM
    from dlrm_mini.models.dlrm_config import DLRMConfig

ALL, LARGEST = 8, 5  # up to ALL tables are listed, of more the LARGEST
WIDTHS = (36, 18, 16, 12)  # columns: step, output shape, parameters, bytes


def human(number: float, unit: str) -> str:
    """A number of bytes or FLOP with three digits: 419 MB, 10.2 GFLOP."""
    prefixes = ["", "k", "M", "G", "T"]
    while number >= 999.5 and len(prefixes) > 1:
        number /= 1000
        prefixes.pop(0)
    digits = 0 if number >= 99.95 or number == int(number) else 1 if number >= 9.995 else 2
    return f"{number:.{digits}f} {prefixes[0]}{unit}"


def describe(config: DLRMConfig, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The architecture, one step a line, at most 88 columns.

    Args:
        config: the sizes.
        shapes: step -> shape of what comes out of it, with the keys of `DLRMConfig.shapes`.
    """
    counts, n = config.parameters(), config.n_vectors
    tables = f"{n - 1} table{'s' if n > 2 else ''}, {config.pooling} pooling"
    meet = f"concatenation of {n} vectors"
    if config.interaction == "dot":
        meet = f"dense vector, {config.top_input - config.dim:,} dot products"
    lines = [
        _line("step", "output shape", "parameters", "bytes"),
        "-" * sum(WIDTHS),
        _step("dense features", shapes["dense"]),
        _step("bottom MLP", None, counts["bottom MLP"]),
        *_layers("bottom", config.bottom_sizes, shapes, ", ReLU"),
        _step(tables, shapes["tables"], counts["embeddings"]),
        *_tables(config),
        _step(meet, shapes["interaction"]),
        _step("top MLP", None, counts["top MLP"]),
        *_layers("top", config.top_sizes, shapes, ""),
        _step("logits", shapes["logits"]),
        "-" * sum(WIDTHS),
        _step("total", None, sum(counts.values())),
    ]
    rows = shapes["dense"][0]
    gathered = human(config.bytes(rows)["embeddings"], "B")
    work = human(sum(config.flops(rows).values()), "FLOP")
    lines += [f"A forward pass of {rows:,} rows looks up {gathered} of vectors and takes {work}."]
    return "\n".join(lines)


@torch.no_grad()
def live_shapes(model: DLRM, batch: Batch) -> dict[str, tuple[int, ...]]:
    """Step -> shape of what came out of it in a forward pass of `batch`, as `DLRMConfig.shapes`."""
    shapes: dict[str, tuple[int, ...]] = {"dense": tuple(batch.dense.shape)}
    hooks = []

    def watch(step: str, module: nn.Module) -> None:
        def note(_: nn.Module, inputs: Any, out: torch.Tensor) -> None:
            shapes[step] = tuple(out.shape)

        hooks.append(module.register_forward_hook(note))

    watch("tables", model.tables)
    for name, mlp in (("bottom", model.bottom), ("top", model.top)):
        for place, layer in enumerate(part for part in mlp if isinstance(part, nn.Linear)):
            watch(f"{name}.{place}", layer)
    hooks.append(
        model.top.register_forward_pre_hook(
            lambda _, inputs: shapes.update(interaction=tuple(inputs[0].shape))
        )
    )
    was_training = model.training
    try:
        shapes["logits"] = tuple(model.eval()(batch).shape)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return shapes


def _line(step: str, shape: str, parameters: str, size: str) -> str:
    a, b, c, d = WIDTHS
    return f"{step:<{a}}{shape:<{b}}{parameters:>{c}}{size:>{d}}".rstrip()


def _step(name: str, shape: tuple[int, ...] | None, count: int | None = None) -> str:
    numbers = ("", "") if count is None else (f"{count:,}", human(4 * count, "B"))
    return _line(name, "" if shape is None else str(shape), *numbers)


def _layers(
    mlp: str, sizes: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]], last: str
) -> list[str]:
    lines = []
    for place, (n_in, n_out) in enumerate(pairwise(sizes)):
        after = ", ReLU" if place < len(sizes) - 2 else last
        shape = shapes[f"{mlp}.{place}"]
        lines.append(_step(f"  {n_in} -> {n_out}{after}", shape, n_in * n_out + n_out))
    return lines


def _tables(config: DLRMConfig) -> list[str]:
    """A line a table; of many, the largest in their own order, and one line for the rest."""
    rows, ids = config.cardinalities, config.lookups_by_table
    listed = set(rows)
    if len(rows) > ALL:
        listed = set(sorted(rows, key=lambda name: -rows[name])[:LARGEST])
    lines = []
    for name in (name for name in rows if name in listed):
        short = name if len(name) <= 12 else f"{name[:11]}…"
        times = f", {ids[name]} ids" if ids[name] > 1 else ""
        lines.append(_step(f"  {short}: {rows[name]:,} rows{times}", None, rows[name] * config.dim))
    if rest := [name for name in rows if name not in listed]:
        total = sum(rows[name] for name in rest)
        lines.append(_step(f"  {len(rest)} others: {total:,} rows", None, total * config.dim))
    return lines
