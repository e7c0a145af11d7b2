"""The cells that nobody writes, with the repository's address set and unset."""

import sys
import types

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from dlrm_mini.course import chapters, generated, notebook
from dlrm_mini.errors import UserError
from tests.course.making import code, markdown, write

ADDRESS = "https://github.com/someone/dlrm-mini"


@pytest.fixture
def course(tmp_path):
    for name in ("00_start", "01_data", "02_factors"):
        write(tmp_path, name, [markdown(f"# {name[3:].capitalize()}"), code("1")])
    return chapters.read_order(tmp_path / "notebooks")


def test_badges_open_this_chapter_in_colab_and_binder(course):
    found = generated.badges(course[1], ADDRESS)
    repository = "someone/dlrm-mini"
    assert f"google.com/github/{repository}/blob/main/notebooks/01_data.ipynb)" in found
    assert f"/gh/{repository}/main?urlpath=lab/tree/notebooks/01_data.ipynb)" in found
    assert generated.badges(course[1], ADDRESS + ".git/") == found
    assert generated.badges(course[1], "") == ""
    with pytest.raises(UserError, match=r"need https://github\.com/OWNER/NAME"):
        generated.badges(course[1], "https://example.org/x")


def run_cell(source, magics):
    shell = types.SimpleNamespace(run_line_magic=lambda *words: magics.append(words))
    python = TransformerManager().transform_cell(source)
    exec(compile(python, "cell", "exec"), {"get_ipython": lambda: shell})


@pytest.mark.parametrize("address", ["", ADDRESS])
def test_the_colab_cell_does_nothing_elsewhere(address):
    magics = []
    run_cell(generated.colab_cell(address), magics)
    assert magics == []


def test_the_colab_cell_installs_on_colab(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    magics = []
    run_cell(generated.colab_cell(ADDRESS), magics)
    assert magics == [("pip", f'install -q "dlrm-mini @ git+{ADDRESS}"')]


def test_the_colab_cell_says_what_is_missing_on_colab(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    with pytest.raises(SystemExit, match=r"no public address.*project\.urls in pyproject\.toml"):
        run_cell(generated.colab_cell(""), [])


def test_the_way_to_the_neighbours(course, tmp_path):
    ways = [generated.navigation(chapter) for chapter in course]
    assert ways[0] == "Next: [01 Data](01_data.ipynb)"
    assert ways[1] == "Previous: [00 Start](00_start.ipynb) · Next: [02 Factors](02_factors.ipynb)"
    assert ways[2] == "Previous: [01 Data](01_data.ipynb)"
    course[1].path.unlink()
    course[2].path.unlink()
    assert generated.navigation(course[0]) == "The only chapter so far."


def test_refresh_puts_the_cells_in_place_once(course):
    nb = notebook.read(course[1].path)
    for _ in range(2):
        generated.refresh(nb, course[1], ADDRESS)
        assert [sorted(notebook.tags(c)) for c in nb.cells] == [
            ["nav-top"], [], ["colab"], [], ["nav-bottom"]
        ]  # fmt: skip
        assert generated.problems(nb, course[1], ADDRESS) == []
    assert "badge" in nb.cells[0].source
    generated.refresh(nb, course[1], "")
    assert "badge" not in nb.cells[0].source
    assert len(generated.problems(nb, course[1], ADDRESS)) == 2


def test_the_address_is_the_one_in_pyproject(tmp_path, monkeypatch):
    monkeypatch.setattr(generated, "checkout", lambda: tmp_path)
    project = tmp_path / "pyproject.toml"
    project.write_text("[project]\n[project.urls]\n", encoding="utf-8")
    assert generated.public_address() == ""
    project.write_text(f'[project.urls]\nRepository = "{ADDRESS}"\n', encoding="utf-8")
    assert generated.public_address() == ADDRESS
    monkeypatch.setattr(generated, "checkout", lambda: None)
    assert generated.public_address() == ""


def test_a_new_address_needs_no_new_run_of_the_other_chapters(tmp_path):
    """The cell's text changes in all chapters when the address is set, its outcome in none."""
    path = write(tmp_path, "00_start", [markdown("# Start"), code("1 + 1")])
    chapter = chapters.find("00", path.parent)
    nb = notebook.read(path)
    generated.refresh(nb, chapter, "")
    for count, (_, cell) in enumerate(notebook.code_cells(nb), start=1):
        cell.execution_count = count
    generated.refresh(nb, chapter, ADDRESS)
    assert [cell.execution_count for _, cell in notebook.code_cells(nb)] == [1, 2]
    assert ADDRESS in next(cell for _, cell in notebook.code_cells(nb)).source
