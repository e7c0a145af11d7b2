"""Batches that are on the GPU when their step begins.

A copy from ordinary memory makes the host wait, and on one stream the GPU's arithmetic waits for
the copy as well. Here a batch goes through pinned memory, which the GPU reads by itself, and on a
second stream: while the step before is still at work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from dlrm_mini.datasets.batches import Batch


class Prefetched:
    """The batches of a loader or a list, in its order, on a device.

    A step on a GPU has only been *asked for* when the next batch is: the loader works, and the
    batch is copied, while the GPU is busy with that step. So no batch is taken before its turn, and
    epochs, saved states and errors are those of the loader itself. A loop that waits for each step,
    for example by looking at its loss, has nothing to overlap.

    On other devices the batches pass unchanged.

    Args:
        batches: a loader (`Batches`), or a list.
        device: where the model is.
    """

    def __init__(self, batches: Any, device: torch.device | str) -> None:
        self.batches, self.device = batches, torch.device(device)

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        if self.device.type == "cuda":
            return self._copied(self.batches)
        return iter(self.batches)

    def _copied(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]

        def copy(tensor: Tensor) -> Tensor:
            # A tensor that is pinned already is not copied again, nor one that is on the GPU.
            pinned = tensor.pin_memory() if tensor.device.type == "cpu" else tensor
            return pinned.to(self.device, non_blocking=True)

        for batch in batches:
            compute = torch.cuda.current_stream(self.device)
            with torch.cuda.stream(stream):
                here = batch.moved(copy)
            compute.wait_stream(stream)  # the step's kernels wait, the host does not

            def use(tensor: Tensor, compute: torch.cuda.Stream = compute) -> Tensor:
                # Its memory belongs to the second stream, which must not reuse it too soon.
                tensor.record_stream(compute)
                return tensor

            here.moved(use)
            yield here

    @property
    def epoch(self) -> int:
        """How many passes have ended."""
        return int(self.batches.epoch)

    def state_dict(self) -> dict[str, int]:
        """What has to be saved to go on with the next epoch."""
        state: dict[str, int] = self.batches.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where the run that gave `state` ended."""
        self.batches.load_state_dict(state)
