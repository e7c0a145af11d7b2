"""`run`: every chapter in order, its pages, its results; the first failing cell ends it."""

import json
import sys

import pytest

from dlrm_mini.course import pages, run
from dlrm_mini.course.chapters import Chapter
from dlrm_mini.course.progress import Progress, say
from dlrm_mini.errors import UserError
from tests.course.making import code, markdown, png, write

RECORD = "from dlrm_mini import claims\nclaims.record('a.{0}', 0.5, chapter='{0}', split='u1')"


@pytest.fixture
def build(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "build_dir", lambda: tmp_path / "build")
    return tmp_path / "build"


def test_a_run_writes_pages_an_index_and_the_results(tmp_path, build, capsys):
    (tmp_path / "picture.png").write_bytes(pages.base64.b64decode(png()))
    links = "[back](00_start.ipynb#top) [code](../code.py) ![p](../picture.png) $a[b](c)$"
    (tmp_path / "code.py").touch()
    write(tmp_path, "00_start", [markdown("# Start\n\nWhat is <it>?"), code(RECORD.format("00"))])
    folder = write(
        tmp_path, "01_data", [markdown(f"# Data\n\n{links}"), code(RECORD.format("01"))]
    ).parent
    build.mkdir()
    (build / "results.json").write_text('{"old.one": {"value": 1}}', encoding="utf-8")
    assert run.run_course(folder=folder) == 0

    results = json.loads((build / "results.json").read_text(encoding="utf-8"))
    assert sorted(results) == ["a.00", "a.01"]
    printed = capsys.readouterr().out
    progress = [line for line in printed.splitlines() if " cells " in line]
    assert [line.split()[0] for line in progress] == ["00", "01"]
    assert "1/1 cells" in progress[0] and progress[0].endswith("s  ok")
    assert "result  value" in printed and "a.01    0.5" in printed

    index = (build / "html" / "index.html").read_text(encoding="utf-8")
    assert '<a href="01_data.html">01 Data</a>' in index and "What is &lt;it&gt;?" in index
    page = (build / "html" / "01_data.html").read_text(encoding="utf-8")
    assert 'href="00_start.html#top"' in page and 'href="../../code.py"' in page
    assert 'src="data:image/png;base64,' in page
    assert "claims" in page

    assert run.run_course(["01"], folder) == 0  # adds to the results, leaves the index
    again = json.loads((build / "results.json").read_text(encoding="utf-8"))
    assert sorted(again) == ["a.00", "a.01"]
    assert (build / "html" / "index.html").read_text(encoding="utf-8") == index


def test_the_first_failing_cell_ends_it_with_its_source(tmp_path, build, capsys):
    write(tmp_path, "00_start", [markdown("# Start"), code("a = 1"), code("nonsense(a)")])
    folder = write(tmp_path, "01_data", [markdown("# Data"), code("1")]).parent
    assert run.run_course(folder=folder) == 1
    printed = capsys.readouterr().out
    assert "00 Start" in printed and "    nonsense(a)\n" in printed
    assert "NameError: name 'nonsense' is not defined" in printed
    assert "\x1b" not in printed and "01 Data" not in printed
    assert not (build / "html").exists()


def test_no_chapters_is_said(tmp_path, build):
    (tmp_path / "notebooks").mkdir()
    with pytest.raises(UserError, match="no chapters to run"):
        run.run_course(folder=tmp_path / "notebooks")


def test_the_table_of_results(tmp_path):
    path = tmp_path / "results.json"
    assert "no results" in run.results_table(path)
    entry = {"value": 0.91342, "unit": "stars", "spread": None, "seeds": 3, "split": "u1..u5"}
    path.write_text(json.dumps({"ratings.mf.rmse": entry}), encoding="utf-8")
    assert run.results_table(path).splitlines()[-1].split() == [
        "ratings.mf.rmse", "0.9134", "stars", "3", "u1..u5"
    ]  # fmt: skip


def test_the_index_shows_the_thumbnail(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "00_start.png").write_bytes(pages.base64.b64decode(png()))
    chapter = Chapter("00", tmp_path / "notebooks" / "00_start.ipynb", "Start", "")
    path = pages.write_index([(chapter, 90.0)], tmp_path)
    text = path.read_text(encoding="utf-8")
    assert '<img alt="" src="data:image/png;base64,' in text and "1.5 minutes" in text


def test_a_terminal_sees_one_line_in_place_and_a_log_one_line(monkeypatch, capsys):
    progress = Progress("00 Start")
    progress.update(1, 2)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    progress = Progress("00 Start")
    progress.update(1, 2)
    progress.update(2, 2)
    progress.finish("ok")
    printed = capsys.readouterr().out
    assert printed.count("\r") == 3 and printed.count("\n") == 1
    assert "1/2 cells" in printed and printed.endswith("ok\n")


def test_what_an_output_cannot_encode_is_replaced(monkeypatch):
    import io

    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    say("naïve ü")
    assert raw.getvalue().strip() == b"na?ve ?"
