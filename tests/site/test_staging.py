"""What becomes of notebooks, texts and docstrings on their way to pages; and who taught what."""

import ast
import base64
import io
import re

import pytest
from PIL import Image

from dlrm_mini.course import chapters, notebook, taught
from dlrm_mini.errors import UserError
from dlrm_mini.paths import PACKAGE
from dlrm_mini.site import docstrings, index
from dlrm_mini.site.cells import Staged
from dlrm_mini.site.pages import Pages

ADDRESS = "https://github.com/somebody/dlrm-mini"


@pytest.fixture
def course(tmp_path):
    """A repository of two chapters, with one exercise, a glossary and a module."""
    for name in ("notebooks/solutions", "images", "dlrm_mini/models", "benchmarks"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "GLOSSARY.md").write_text('# Glossary\n\n- <a id="claim"></a>**claim**: x\n')
    (tmp_path / "images/05.png").write_bytes(b"")
    (tmp_path / "dlrm_mini/models/dlrm.py").write_text("")
    (tmp_path / "benchmarks/__main__.py").write_text("")
    for name in ("04_a.ipynb", "05_b.ipynb", "solutions/05_b.ipynb"):
        nb = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        notebook.save(tmp_path / "notebooks" / name, notebook.node(nb))
    return tmp_path


def rewritten(root, text, address="", source="notebooks/05_b.ipynb"):
    paths = sorted((root / "notebooks").glob("*.ipynb"))
    return Pages(root, paths, address).rewrite(text, root / source)


@pytest.mark.parametrize(
    "link, leads_to",
    [
        ("04_a.ipynb", "../chapters/04_a.ipynb"),
        ("04_a.ipynb#Does-it-learn?", "../chapters/04_a.ipynb#does-it-learn"),
        ("exercises/05_b.ipynb", "../exercises/05_b.ipynb"),
        ("solutions/05_b.ipynb", "../exercises/05_b.ipynb"),
        ("../GLOSSARY.md", "../glossary.md"),
        ("../GLOSSARY.md#claim", "page:../glossary.html#claim"),
        ("../dlrm_mini/models/dlrm.py", "#dlrm_mini.models.dlrm"),
        ("../images/05.png", "../_static/images/05.png"),
        ("https://arxiv.org/abs/1906.00091", "https://arxiv.org/abs/1906.00091"),
    ],
)
def test_links_lead_to_pages(course, link, leads_to):
    assert rewritten(course, f"see [it]({link}).") == f"see [it]({leads_to})."


def test_links_in_markup_lead_to_html(course):
    text = '<a href="04_a.ipynb">x</a> <a href="../dlrm_mini/models/dlrm.py">y</a>'
    assert rewritten(course, text) == (
        '<a href="../chapters/04_a.html">x</a> '
        '<a href="../reference/05.html#module-dlrm_mini.models.dlrm">y</a>'
    )


def test_what_is_no_page_is_plain_text_or_at_the_address(course):
    text = "run [`benchmarks`](../benchmarks/__main__.py) now"
    assert rewritten(course, text) == "run `benchmarks` now"
    there = f"{ADDRESS}/blob/main/benchmarks/__main__.py"
    assert rewritten(course, text, ADDRESS) == f"run [`benchmarks`]({there}) now"


def cell(kind, source, tags=(), outputs=()):
    made = {"cell_type": kind, "source": source, "metadata": {"tags": list(tags)}}
    code = {"outputs": list(outputs), "execution_count": 1}
    return made | (code if kind == "code" else {})


def shown(**data):
    mimes = {key.replace("_", "/"): value for key, value in data.items()}
    return {"output_type": "display_data", "metadata": {}, "data": mimes}


def staged(root, *cells):
    path = root / "notebooks" / "05_b.ipynb"
    nb = {"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    notebook.save(path, notebook.node(nb))
    pages = Pages(root, [path])
    return Staged(path, pages, root / "figures").notebook("BELOW", "LAST").cells


def test_generated_cells_go_and_the_ways_stand_under_the_title(course):
    cells = staged(course, cell("markdown", "nav", ["nav-top"]), cell("markdown", "# T\n\ntext"))
    assert [c.source for c in cells] == ["# T\n\nBELOW\n\ntext", "LAST"]


def test_a_picture_is_a_file_with_its_words(course):
    png = io.BytesIO()
    Image.new("RGB", (30, 20)).save(png, "PNG")
    output = shown(image_png=base64.b64encode(png.getvalue()).decode())
    output["metadata"] = {"image/png": {"alt": 'a "black" card'}}
    _, code, _ = staged(course, cell("markdown", "# T"), cell("code", "draw()", (), [output]))
    markup = code.outputs[0].data["text/html"]
    assert 'alt="a &quot;black&quot; card"' in markup and 'width="30" height="20"' in markup
    (file,) = (course / "figures").iterdir()
    assert file.name in markup and file.read_bytes() == png.getvalue()


def test_a_widget_is_a_note_and_a_table_scrolls_by_itself(course):
    widget = shown(text_plain="[widget: guess <it>. Run this cell to move it; below]")
    table = shown(text_html='<div><style scoped>x</style><table border="1"></table></div>')
    cells = staged(course, cell("markdown", "# T"), cell("code", "x", (), [widget, table]))
    note, frame = (output.data["text/html"] for output in cells[1].outputs)
    assert "widget-note" in note and "guess &lt;it&gt;" in note
    assert frame == '<div class="wide" tabindex="0"><div><table></table></div></div>'


def test_a_solution_is_folded_behind_its_stub(course):
    source = "def f(x):\n    ### BEGIN SOLUTION\n    return x\n    ### END SOLUTION"
    _, stub, code, check, _ = staged(
        course,
        cell("markdown", "# T"),
        cell("code", source, ["solution"]),
        cell("code", "ch05.check_f(f)", ["check"]),
    )
    assert stub.source == "```python\ndef f(x):\n    ...  # your code here\n```"
    assert code.source == "def f(x):\n    return x" and code.metadata.tags == ["hide-cell"]
    assert check.metadata.tags == ["hide-output"]


def test_what_moved_leads_to_the_reference(course):
    text = "## What moved into `dlrm_mini/`\n\n`models.dlrm`, `metrics.rmse`, `make run`"
    cells = staged(course, cell("markdown", "# T\n\n`models.dlrm`"), cell("markdown", text))
    assert "[`models.dlrm`](#dlrm_mini.models.dlrm), [`metrics.rmse`]" in cells[1].source
    assert "`make run`" in cells[1].source and "[" not in cells[0].source


def test_docstrings_with_code_tables_and_bars():
    text = docstrings.as_rst("So:\n\n    a | b\n\n|x| of `c | d`.\n\n```\ne\n```")
    assert text == "So::\n\n    a | b\n\n\\|x\\| of `c | d`.\n\n::\n\n    e\n"
    table = docstrings.as_rst("| a | b |\n|---|---|\n| 1 | 2 |\n")
    assert table.startswith(".. list-table::") and "* - a" in table and "  - 2" in table


def test_every_chapter_is_in_a_part():
    course = chapters.read_order()
    assert [c.number for _, _, part in index.parts(course) for c in part] == [
        c.number for c in course
    ]


def test_every_module_is_taught_once_or_of_the_workshop():
    assert len(taught.modules()) > 150
    for module in taught.modules():
        taught.taught_in(module)
    with pytest.raises(UserError, match="nowhere; expected exactly one chapter"):
        taught.taught_in("models.unheard_of")


def test_nothing_is_named_that_is_not_there():
    names = [name for of in (*taught.TAUGHT.values(), taught.WORKSHOP) for name in of]
    exact = {name for name in names if "*" not in name}
    assert exact <= set(taught.modules())
    assert len(names) == len(set(names))


def test_what_a_chapter_says_that_moved_is_taught_by_then():
    late = []
    for chapter in chapters.read_order():
        cells = notebook.read(chapter.path).cells
        text = "\n\n".join(c.source for c in cells if c.cell_type == "markdown")
        moved = re.search(r"^## What moved into.*?(?=^## |\Z)", text, re.M | re.S)
        named = set(re.findall(r"`([\w.]+)`", moved[0])) if moved else set()
        there = {name for n in named for name in (n, n.rpartition(".")[0])} & set(taught.modules())
        assert taught.of_chapter(chapter.number) or not there
        late += [
            f"{chapter.number}: {module}"
            for module in there
            if (taught.taught_in(module) or "") > chapter.number
        ]
    assert not late


def test_every_public_name_has_a_docstring():
    bare = []
    for module in taught.modules():
        path = PACKAGE.joinpath(*module.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_name(f"{path.name}.py")
        tree = ast.parse(file.read_text(encoding="utf-8"))
        bare += [module] if not ast.get_docstring(tree) else []
        for node in tree.body:
            kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
            if isinstance(node, kinds) and not node.name.startswith("_"):
                bare += [] if ast.get_docstring(node) else [f"{module}.{node.name}"]
    assert not bare


def test_a_summary_has_its_code_and_formulas_as_markup(course):
    text = "# T\n\n<details><summary>`x` modulo $k$?</summary>\n\n$k$\n</details>"
    cells = staged(course, cell("markdown", text))
    assert "<code>x</code> modulo" in cells[0].source
    assert r'<span class="math notranslate nohighlight">\(k\)</span>?' in cells[0].source
    assert "\n$k$\n" in cells[0].source
