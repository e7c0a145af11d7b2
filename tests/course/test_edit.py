"""A chapter as text and back: what did not change keeps its id and outputs."""

import shutil
import subprocess
import sys

import pytest

from dlrm_mini.course import edit, notebook
from dlrm_mini.errors import UserError
from tests.course.making import code, commit, markdown, stream


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(edit, "build_dir", lambda: tmp_path / "build")
    cells = [
        markdown("# Start\n\nSome *words*."),
        code("a = 1\nprint(a)", stream("1\n")),
        code("%matplotlib inline\nprint(2);", stream("2\n"), tags=["timing"]),
        code("b = 3\n\n\ndef f():\n    return b"),
    ]
    path = commit(tmp_path, "00_start", cells)
    nb = notebook.read(path)
    for cell in nb.cells[1:5]:
        cell["id"] = "mine-" + cell.id  # what no numbering by position would give
    notebook.save(path, nb)
    return path


def test_there_and_back_changes_nothing(path):
    before = path.read_bytes()
    text = edit.to_text(path)
    assert text.name == "00_start.py"
    source = text.read_text(encoding="utf-8")
    assert '# %% tags=["timing"]' in source and "# %% [markdown]" in source
    assert "google.colab" not in source and "kernelspec" not in source
    edit.from_text(text, path)
    assert path.read_bytes() == before


def test_a_changed_cell_loses_its_outputs_and_the_others_keep_them(path):
    old = {cell.id: cell for cell in notebook.read(path).cells}
    text = edit.to_text(path)
    source = text.read_text(encoding="utf-8")
    source = source.replace("print(a)", "print(a + 1)")
    source = source.replace("# %%\nb = 3", "# %% [markdown]\n# New.\n\n# %%\nb = 3")
    text.write_text(source, encoding="utf-8")
    edit.from_text(text, path)
    cells = notebook.read(path).cells
    changed = next(c for c in cells if "a + 1" in c.source)
    assert changed.outputs == [] and changed.execution_count is None
    assert old[changed.id].source == "a = 1\nprint(a)"
    timed = next(c for c in cells if "timing" in notebook.tags(c))
    assert timed == old[timed.id]
    assert len({c.id for c in cells}) == len(cells) == len(old) + 1


def test_a_text_without_a_notebook_makes_one(path, tmp_path):
    new = path.with_name("01_data.ipynb")
    text = tmp_path / "01_data.py"
    text.write_text('# %% [markdown]\n# # Data\n\n# %% tags=["thumbnail"]\nx = 1\n', "utf-8")
    edit.from_text(text, new)
    tags = [sorted(notebook.tags(cell)) for cell in notebook.read(new).cells]
    assert tags == [["nav-top"], [], ["colab"], ["thumbnail"], ["nav-bottom"]]
    assert "Previous: [00 Start]" in notebook.read(new).cells[0].source


@pytest.fixture
def session(path, monkeypatch):
    """`edit("00")` with an editor of one Python line, and the chapters it re-executed."""
    rewritten = []
    monkeypatch.setattr(edit, "rewrite_course", lambda only: rewritten.append(only) or 0)
    monkeypatch.setattr(edit.chapters, "course_file", lambda _: path.parent)

    def run(line):
        script = path.parent.parent / "editor.py"
        script.write_text(f"import sys, pathlib\np = pathlib.Path(sys.argv[1])\n{line}\n", "utf-8")
        monkeypatch.delenv("VISUAL", raising=False)
        monkeypatch.setenv("EDITOR", f'"{sys.executable}" "{script}"')
        return edit.edit("00"), rewritten

    return run


@pytest.mark.skipif(sys.platform == "win32", reason="Windows splits an editor's command otherwise")
def test_edit_opens_the_editor_and_runs_what_changed(session, path, capsys):
    line = "p.write_text(p.read_text('utf-8').replace('print(a)', 'print(a, a)'), 'utf-8')"
    assert session(line) == (0, [["00"]])
    assert "print(a, a)" in path.read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows splits an editor's command otherwise")
def test_an_edit_that_changes_nothing_runs_nothing(session, path, capsys):
    before = path.read_bytes()
    assert session("pass") == (0, [])
    assert "Nothing was changed" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"failed; 00_start\.ipynb is as it was"):
        session("sys.exit(3)")
    assert path.read_bytes() == before


def test_without_an_editor_it_says_what_to_set(monkeypatch):
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.delenv("EDITOR", raising=False)
    monkeypatch.setattr(edit.os, "name", "nt")
    assert edit._editor() == ["notepad"]
    monkeypatch.setattr(edit.os, "name", "posix")
    with pytest.raises(UserError, match="Set one"):
        edit._editor()
    monkeypatch.setenv("EDITOR", "code --wait")
    assert edit._editor() == ["code", "--wait"]


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_nbdime_shows_a_notebooks_diff_once_enabled(path, tmp_path, monkeypatch):
    monkeypatch.setattr(edit, "checkout", lambda: tmp_path)
    assert edit.enable_nbdime() is False

    def git(*words):
        done = subprocess.run(["git", *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    git("init", "-q")
    assert edit.enable_nbdime() is True
    (tmp_path / ".gitattributes").write_text("*.ipynb diff=jupyternotebook\n", encoding="utf-8")
    git("add", ".")
    path.write_text(path.read_text(encoding="utf-8").replace("*words*", "*other*"), "utf-8")
    shown = git("diff", "notebooks/00_start.ipynb")
    assert "nbdiff" in shown and "*other*" in shown and '"source"' not in shown
    assert "mergedriver merge %O" in git("config", "--local", "merge.jupyternotebook.driver")
