"""P ranks in processes of their own: `SimulatedCluster.run`, for real.

    SimulatedCluster(2).run(work)  # in this process, rank after rank
    RealCluster(2).run(work)       # in two processes that torchrun starts

`work` is called with a `Communicator` both times. A process cannot be handed a function of a
notebook, only the name of one in a module, and what pickle can write: so `work` is such a function,
or `functools.partial` of one.
"""

from __future__ import annotations

import pickle
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dlrm_mini.errors import UserError
from dlrm_mini.parallel.communicator import Communicator
from dlrm_mini.parallel.launch import run
from dlrm_mini.parallel.process_group import connect, leave

Work = Callable[[Communicator], Any]
MODULE = "dlrm_mini.parallel.real_cluster"


class RealCluster:
    """As many processes as ranks, on this machine, one thread each.

    Args:
        size: P.
        timeout: seconds any collective may take.

    Attributes:
        seconds: what the last run took, from asking for it to having the answers.
    """

    def __init__(self, size: int, timeout: float = 60.0) -> None:
        self.size, self.timeout, self.seconds = size, timeout, 0.0

    def run(self, work: Work) -> list[Any]:
        """Call `work` in every process; what it returns, rank by rank.

        Raises:
            UserError: it cannot be handed to a process, or the run has failed: which rank, and how
                far each had come.
        """
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="dlrm_mini_work_") as name:
            folder = Path(name)
            write(work, folder)
            try:
                run(MODULE, self.size, [name, str(self.timeout)])
                found = [
                    torch.load(_answer(folder, r), weights_only=False) for r in range(self.size)
                ]
            finally:
                self.seconds = time.perf_counter() - begun
        return found


def write(work: Work, folder: Path) -> None:
    """Leave work in a folder for the processes to find.

    Raises:
        UserError: pickle cannot write it.
    """
    try:
        torch.save(work, folder / "work.pt")
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UserError(
            f"This work cannot be handed to another process ({error}). Take a function of a "
            "module, or functools.partial of one, with arguments that pickle can write."
        ) from error


def main(folder: Path, timeout: float) -> None:
    """What each process does."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", FutureWarning)  # torch's, of names that are to change
    with connect(timeout) as communicator:
        work: Work = torch.load(folder / "work.pt", weights_only=False)  # written by our parent
        torch.save(work(communicator), _answer(folder, communicator.rank))
    leave()


def _answer(folder: Path, rank: int) -> Path:
    return folder / f"answer-{rank}.pt"


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
