"""Each thing that a committed notebook must not be, and the sentence that says so."""

import pytest

from dlrm_mini.course import links, lint, notebook
from dlrm_mini.course.outputs import WIDGET
from tests.course.making import code, commit, markdown, png, shown, stream, write


@pytest.fixture
def problems(tmp_path):
    """Commits a chapter 00 of these cells, after a change to the file's notebook, and lints it."""

    def of(*cells, change=lambda nb: None):
        path = commit(tmp_path, "00_start", [markdown("# Start\n\n## The idea"), *cells])
        nb = notebook.read(path)
        change(nb)
        notebook.save(path, nb)
        return lint.problems(path)

    return of


def test_a_good_notebook_has_none(problems):
    assert problems(code("print(1)", stream("1\n"))) == []


def test_cells_not_run_in_order(problems):
    def skip(nb):
        nb.cells[-3].execution_count = 7

    def never(nb):
        nb.cells[-3].execution_count = None

    last = [code("1"), *[markdown("x")] * 6, code("2")]
    assert "not run from top to bottom" in problems(*last, change=skip)[0]
    assert "[1, 2, None]" in problems(*last, change=never)[0]


def test_an_error_output(problems):
    error = {"output_type": "error", "ename": "E", "evalue": "e", "traceback": []}
    assert problems(code("1", notebook.node(error))) == ["cell 3 ends in an error"]


@pytest.mark.parametrize("tag", sorted(lint.FORBIDDEN))
def test_a_tag_around_the_comparison(problems, tag):
    assert "escapes its check" in problems(code("1", tags=[tag]))[0]


def test_a_comment_around_the_comparison(problems):
    assert "escapes its check" in problems(code("# NBVAL_IGNORE_OUTPUT\n1"))[0]
    assert "escapes its check" in problems(code("  ##NBVAL_IGNORE_OUTPUT\n1"))[0]


def test_a_timing_cell_edited_afterwards(problems):
    def edit(nb):
        next(c for c in nb.cells if c.source == "time()").source = "time() + 1"

    assert problems(code("time()", stream("3 s"), tags=["timing"])) == []
    found = problems(code("time()", stream("3 s"), tags=["timing"]), change=edit)
    assert "edited after its outputs were made" in found[0]


def test_long_cells(problems):
    assert problems(code("x = 1\n" * 25)) == []
    assert "26 lines of code, at most 25" in problems(code("x = 1\n" * 26))[0]
    body = "class A:\n" + "    x = 1\n" * 44
    assert problems(code(body)) == []
    assert "46 lines of code, at most 45" in problems(code(body + "    y = 2"))[0]
    assert "at most 25" in problems(code(body + "\nA()"))[0]


def test_code_wider_than_a_projector(problems):
    assert problems(code("x = 1  # " + "y" * 79)) == []
    assert "89 columns wide, at most 88" in problems(code("x = 1  # " + "y" * 80))[0]


def test_too_many_words_or_bytes(problems):
    assert "words of markdown, at most 2500" in problems(markdown("word " * 2501))[0]
    assert "bytes, expected under 500,000" in problems(code("1", stream("x" * 500_000)))[0]


def test_too_few_and_too_many_cells(tmp_path):
    few = commit(tmp_path, "01_data", [markdown("# Data")])
    assert "12 cells, expected 35 to 65" in lint.problems(few)
    many = commit(tmp_path, "01_data", [markdown("# Data")] * 63)
    assert "67 cells, expected 35 to 65" in lint.problems(many)
    assert lint.budget(tmp_path / "notebooks" / "00_x.ipynb").cells == (12, 65)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[a](02_gone.ipynb)", "02_gone.ipynb, which does not exist"),
        ("![a](../images/gone.png)", "gone.png, which does not exist"),
        ('<img alt="a" src="gone.png">', "gone.png, which does not exist"),
        ("[![a](gone.svg)](https://x.org)", "gone.svg, which does not exist"),
        ("[a][b]\n\n[b]: gone.md", "gone.md, which does not exist"),
        ("[a](#no-such)", "#no-such, which has no such heading"),
        ("[a](notes.ipynb#no-such)", "which has no such heading"),
        ("[a](/etc/hosts)", "is an absolute path"),
        ("[a](exercises/00_start.ipynb)", "does not exist"),
    ],
)
def test_links_that_lead_nowhere(problems, tmp_path, text, complaint):
    write(tmp_path, "notes", [markdown("# Some notes")])
    (found,) = problems(markdown(text))
    assert complaint in found


@pytest.mark.parametrize(
    "text",
    [
        "[a](https://x.org/gone) and [b](mailto:a@b.c)",
        "[a](#The-idea) [b](#the-idea) [c](notes.ipynb#some-notes) [d](notes.ipynb)",
        "[a](../notebooks/00_start.ipynb 'A title')",
        "`[a](gone.md)` and $f[x](y)$ and\n\n```\n[a](gone.md)\n```",
    ],
)
def test_links_that_lead_somewhere_or_are_none(problems, tmp_path, text):
    write(tmp_path, "notes", [markdown("# Some notes")])
    assert problems(markdown(text)) == []


def test_links_are_rewritten_where_they_are_links():
    text = "[a](b.ipynb#c) `[a](b.ipynb)` [![x](p.png)](q.md) [w](https://b.ipynb)"
    assert links.rewrite(text, str.upper) == (
        "[a](B.IPYNB#C) `[a](b.ipynb)` [![x](P.PNG)](Q.MD) [w](https://b.ipynb)"
    )


@pytest.mark.parametrize(
    "path",
    ["/home/ann/x.py", "/Users/ann/x.py", r"C:\Users\ann\x.py", "/tmp/abc", "file:///home/ann/x"],
)
def test_a_path_of_some_machine(problems, path):
    assert "shows the path" in problems(code("1", stream(f"from {path} line 3")))[0]
    assert "shows the path" in problems(markdown(f"see {path}"))[0]
    assert problems(markdown("https://x.org/home/ann and ../data and ~/data")) == []


def test_a_memory_address(problems):
    found = problems(code("1", shown(text_plain="<f at 0x7f00aa00bb00>")))
    assert found == ["cell 3 shows the memory address 0x7f00aa00bb00"]
    assert problems(code("hash", stream("0xdeadbeef\n"))) == []


def test_stored_widgets(problems):
    view = shown(text_plain="w")
    view.data[WIDGET] = {"model_id": "f00"}
    assert "stores a widget by its random id" in problems(code("1", view))[0]

    def add_state(nb):
        nb.metadata["widgets"] = {"x": 1}

    assert "widget state is stored" in problems(change=add_state)[0]


def test_generated_cells_missing_twice_moved_or_stale(problems):
    def drop(nb):
        nb.cells = nb.cells[1:]

    def twice(nb):
        nb.cells.append(notebook.node({**nb.cells[-1], "id": "again"}))

    def move(nb):
        nb.cells.append(nb.cells.pop(0))

    def stale(nb):
        nb.cells[0].source = "Next: [07](00_start.ipynb)"

    def late(nb):
        nb.cells.insert(1, notebook.node({**code(""), "id": "new"}))

    assert "0 cells are tagged nav-top" in problems(change=drop)[-1]
    assert "2 cells are tagged nav-bottom" in problems(change=twice)[-1]
    assert "not at its end" in problems(change=move)[0]
    assert "cell 0 (nav-top) is out of date" in problems(change=stale)[-1]
    assert "not the first code cell" in problems(change=late)[-1]


def test_a_picture_that_is_not_described(problems):
    picture = shown(image_png=png())
    about = ("description", "alternative text")

    def unseen(*cells):
        return [line for line in problems(*cells) if any(word in line for word in about)]

    assert unseen(markdown("![A map](https://x.org/map.png)"), code("1", picture)) == []
    picture.metadata = notebook.node({})
    prose, drawn = unseen(markdown("![](https://x.org/map.png)"), code("1", picture))
    assert prose == "cell 2 has no alternative text for https://x.org/map.png"
    assert drawn.startswith("cell 4 has a picture without a description")
