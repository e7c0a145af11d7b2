"""Run one notebook from top to bottom in a fresh kernel."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from dlrm_mini.course import notebook
from dlrm_mini.errors import UserError

CELL_SECONDS = 600  # a cell that takes longer hangs
QUIET = {"DLRM_MINI_PROGRESS": "off"}  # a progress bar is nothing to store


class CellFailed(UserError):  # noqa: N818  what happened, as UserError says whose it is
    """A cell raised, hung, or took the kernel with it.

    Attributes:
        chapter: the notebook's label.
        source: the cell's code.
        error: what happened, as plain text.
    """

    def __init__(self, chapter: str, source: str, error: str) -> None:
        self.chapter, self.source, self.error = chapter, source, error
        code = "\n".join("    " + line for line in source.splitlines())
        super().__init__(f"{chapter}: this cell failed\n\n{code}\n\n{error}")


class ThisPython(KernelSpecManager):
    """Knows one kernel, the interpreter that runs now, whatever kernels the user has installed."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """The specification that starts ipykernel under `sys.executable`."""
        return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())


def plain(text: str) -> str:
    """Text without a terminal's colour codes."""
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)


def execute(
    nb: NotebookNode,
    folder: Path,
    *,
    label: str,
    env: Mapping[str, str] | None = None,
    on_cell: Callable[[int, int], None] | None = None,
) -> None:
    """Run every code cell in place: outputs and execution counts are replaced.

    Args:
        nb: the notebook; changed in place.
        folder: the kernel's working folder, where the notebook lives.
        label: how to call the notebook in an error.
        env: environment variables on top of this process's.
        on_cell: called as `(cells done, cells in all)` after each code cell.

    Raises:
        CellFailed: at the first cell that does not come to its end.
    """
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    cells = list(notebook.code_cells(nb))
    client = NotebookClient(
        nb,
        km=AsyncKernelManager(kernel_name="python3", kernel_spec_manager=ThisPython()),
        timeout=CELL_SECONDS,
        extra_arguments=["--log-level=ERROR"],  # ipykernel warns about TCP on this very machine
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    with client.setup_kernel(env={**os.environ, **QUIET, **(env or {})}, cleanup_kc=True):
        for done, (position, cell) in enumerate(cells, start=1):
            try:
                client.execute_cell(cell, position, execution_count=done)
            except CellExecutionError as error:
                traces = [o.traceback for o in cell.outputs if o.output_type == "error"]
                shown = plain("\n".join(traces[-1])) if traces else str(error)
                raise CellFailed(label, cell.source, shown) from None
            except CellTimeoutError:
                message = f"It did not end within {CELL_SECONDS} s."
                raise CellFailed(label, cell.source, message) from None
            except DeadKernelError:
                message = "The kernel died; most often the machine ran out of memory."
                raise CellFailed(label, cell.source, message) from None
            if on_cell:
                on_cell(done, len(cells))
