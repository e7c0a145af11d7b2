"""One notebook in a fresh kernel of this very Python."""

import json
import sys

import pytest

from dlrm_mini.course import notebook
from dlrm_mini.course.execute import CellFailed, execute, plain
from tests.course.making import code, markdown, stream


def book(*sources):
    return notebook.node({"cells": [code(source) for source in sources], "metadata": {}})


@pytest.fixture
def _another_python3(tmp_path, monkeypatch):
    """An installed kernel that has the usual name and does not work."""
    kernel = tmp_path / "share" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    spec = {"argv": ["no-such-python"], "display_name": "Other", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))


@pytest.mark.usefixtures("_another_python3")
def test_this_python_runs_the_cells_in_the_folder_with_the_variables(tmp_path):
    nb = book("", "import json, os, sys", "print(json.dumps([sys.executable, os.getcwd(),"
              " os.environ['A_NAME'], os.environ['DLRM_MINI_PROGRESS']]))")  # fmt: skip
    nb.cells[1].outputs = [stream("from another day")]
    nb.cells.insert(0, markdown("# Text"))
    seen = []
    execute(nb, tmp_path, label="x", env={"A_NAME": "a"}, on_cell=lambda *n: seen.append(n))
    found = json.loads(nb.cells[3].outputs[0].text)
    assert found == [sys.executable, str(tmp_path.resolve()), "a", "off"]
    assert [cell.get("execution_count") for cell in nb.cells] == [None, None, 1, 2]
    assert nb.cells[2].outputs == []
    assert seen == [(1, 2), (2, 2)]


def test_the_first_cell_that_raises_ends_it(tmp_path):
    nb = book("a = 1", "b = a / 0", "c = 2")
    with pytest.raises(CellFailed) as caught:
        execute(nb, tmp_path, label="07 Traps")
    failure = caught.value
    assert (failure.chapter, failure.source) == ("07 Traps", "b = a / 0")
    assert failure.error.rstrip().endswith("ZeroDivisionError: division by zero")
    assert "\x1b" not in failure.error
    assert "07 Traps" in str(failure) and "    b = a / 0\n" in str(failure)
    assert nb.cells[2].execution_count is None


def test_a_kernel_that_dies_is_noticed(tmp_path):
    with pytest.raises(CellFailed, match="kernel died"):
        execute(book("import os", "os._exit(3)"), tmp_path, label="x")


def test_plain_text_has_no_colour_codes():
    assert plain("\x1b[0;31mred\x1b[0m") == "red"
