"""Labels around the parts of a training step, put there from outside and taken away again.

The code of the models knows nothing of profiling: hooks open and close the labels of forward, and
the optimizer takes its step in two halves. What happens to the labels says `profiling.trace`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.profiler import record_function

from dlrm_mini.embeddings import FusedEmbeddingTables
from dlrm_mini.optimizers import RowOptimizer
from dlrm_mini.training_step import TrainingStep

# Each parameter is moved by its own gradient and state alone: a step may be taken in two halves.
SEPARABLE = (
    RowOptimizer, torch.optim.SGD, torch.optim.Adagrad, torch.optim.Adam, torch.optim.AdamW,
)  # fmt: skip


def has_fused_tables(step: TrainingStep) -> bool:
    """Whether backward of the lookups is the update of the tables."""
    return isinstance(step.model.tables, FusedEmbeddingTables)


@contextlib.contextmanager
def labelled(step: TrainingStep) -> Iterator[None]:
    """Label the parts of a step for torch.profiler, for as long as the context lasts."""
    with contextlib.ExitStack() as undo:
        _replace(undo, step, "label", record_function)
        _label_forward(undo, step)
        _label_update(undo, step)
        yield


def _replace(undo: contextlib.ExitStack, owner: Any, name: str, value: Any) -> None:
    """Set an attribute of an object until `undo`."""
    before = vars(owner).get(name)
    setattr(owner, name, value)
    if before is None:
        undo.callback(delattr, owner, name)
    else:
        undo.callback(setattr, owner, name, before)


def _label_forward(undo: contextlib.ExitStack, step: TrainingStep) -> None:
    """Labels that end where the next begins; what comes before and after the model is the loss."""
    model: Any = step.model
    opened = contextlib.ExitStack()
    undo.callback(opened.close)  # after an error in the model

    def begin(name: str | None) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            opened.close()
            if name:
                opened.enter_context(record_function(name))

        return hook

    def hooked(module: nn.Module, before: str, after: str | None) -> None:
        undo.callback(module.register_forward_pre_hook(begin(before)).remove)
        undo.callback(module.register_forward_hook(begin(after)).remove)

    eager = step.dense_part == "eager"
    hooked(model, "input", None)
    hooked(model.tables, "embedding forward", "input" if eager else "dense part")
    if eager:  # else hooks would be compiled, or missing from the graph
        hooked(model.bottom, "bottom MLP", "interaction")
        hooked(model.top, "top MLP", None)


def _label_update(undo: contextlib.ExitStack, step: TrainingStep) -> None:
    """Let the optimizer work on the tables, then on the rest, each with its label."""
    model: Any = step.model
    optimizer, update = step.optimizer, step.update
    move, clear = optimizer.step, optimizer.zero_grad
    held = [p for group in optimizer.param_groups for p in group["params"]]
    own = set() if has_fused_tables(step) else {id(p) for p in model.tables.parameters()}
    tables = [p for p in held if id(p) in own]
    others = [p for p in held if id(p) not in own]

    def in_turn(work: Callable[[], Any]) -> None:
        if tables:
            with record_function("embedding update"), _hidden(others):
                work()
        with record_function("dense update"), _hidden(tables):
            work()

    def labelled_update() -> None:
        with record_function("dense update"):  # what else there is, as unscaling gradients
            update()

    # Not `step.update` in halves: a scaler looks at all gradients, and then calls `step` once.
    _replace(undo, optimizer, "step", lambda: in_turn(move))
    _replace(undo, optimizer, "zero_grad", lambda **options: in_turn(lambda: clear(**options)))
    _replace(undo, step, "update", labelled_update)


@contextlib.contextmanager
def _hidden(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Parameters without a gradient are left alone by an optimizer."""
    kept = [(parameter, parameter.grad) for parameter in parameters]
    for parameter, _ in kept:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, gradient in kept:
            parameter.grad = gradient
