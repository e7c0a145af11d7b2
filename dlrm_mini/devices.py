"""The device that a model is trained on: a GPU where there is one, else the processor."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Literal, get_args

import torch

from dlrm_mini.errors import UserError

Name = Literal["auto", "cpu", "cuda", "mps"]


def choose(name: str = "auto") -> torch.device:
    """The device of this name.

    Args:
        name: "auto": CUDA if torch finds such a GPU, else the CPU. "mps", an Apple GPU, is never
            chosen by itself: the same program has given other results there than elsewhere
            (rasbt/LLMs-from-scratch, issues 791 and 1020), and it warns of that.

    Raises:
        UserError: there is no such device, by name or in this machine.
    """
    if name not in get_args(Name):
        raise UserError(
            f"There is no device {name!r}; expected one of {', '.join(get_args(Name))}."
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    missing = {
        "cuda": not torch.cuda.is_available(),
        "mps": not torch.backends.mps.is_available(),
    }
    if missing.get(name):
        kind = {"cuda": "GPU", "mps": "Apple GPU"}[name]
        raise UserError(
            f"The device is {name}, but torch finds no {kind} here. Choose auto, which takes what "
            f"there is, or install a torch build for this {kind}."
        )
    if name == "mps":
        warnings.warn(
            "On mps, results may differ from the course's by more than rounding; choose cpu to "
            "compare.",
            stacklevel=2,
        )
    return torch.device(name)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was given. On a CPU it has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def waiter(device: torch.device) -> Callable[[], None]:
    """A function that waits for what the device was given before now, not for what comes after.

    Without CUDA it waits for everything.
    """
    if device.type != "cuda":
        return lambda: synchronize(device)
    event: torch.Event = torch.cuda.current_stream(device).record_event()
    return event.synchronize
