"""Writing twice changes nothing; writing what changed changes just that."""

import base64
import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dlrm_mini import claims
from dlrm_mini.course import lint, notebook, outputs, writer
from dlrm_mini.course.compare import same_picture
from dlrm_mini.course.execute import CellFailed
from dlrm_mini.errors import UserError
from tests.course.making import code, markdown, png, shown, stream, write

FIGURE = """
%matplotlib inline
import matplotlib.pyplot as plt
from dlrm_mini import style
style.use()
plt.figure(figsize=(12, 4), dpi=100)
plt.plot([0, 1])
plt.show()
"""


@pytest.fixture
def executed(monkeypatch):
    """Stands in for the kernel: the outputs of each cell, found by its source."""
    results = {}

    def fake(nb, folder, *, label, env, on_cell=None):
        kept = claims.results_file().parent
        assert not Path(env["DLRM_MINI_RESULTS"]).is_relative_to(kept), "an earlier run's ledger"
        for count, (_, cell) in enumerate(notebook.code_cells(nb), start=1):
            cell.outputs, cell.execution_count = results.get(cell.source, []), count

    monkeypatch.setattr(writer, "execute", fake)
    return results


def stored(path):
    """The author's cells of a file, without the generated ones."""
    nb = notebook.read(path)
    return [c for c in nb.cells if not notebook.tags(c) & {"nav-top", "nav-bottom", "colab"}]


def same_pixels(output, data):
    old, new = (outputs.decode(d).convert("RGB") for d in (output.data["image/png"], data))
    return old.tobytes() == new.tobytes()


def test_a_second_run_gives_the_same_bytes(tmp_path):
    cells = [
        markdown("# Start"),
        code("import sys, time\nprint('a')\nprint('w', file=sys.stderr)\nprint('b')\nobject()"),
        code("time.perf_counter()", tags=["timing"]),
        code("import ipywidgets\nipywidgets.IntSlider(description='n')"),
        code(FIGURE, tags=["thumbnail"]),
    ]
    path = write(tmp_path, "00_start", cells)
    nb = notebook.read(path)
    nb.metadata["language_info"]["version"] = sys.version
    nb.cells[1].metadata["execution"] = {"iopub.execute_input": "2026-01-01"}
    notebook.save(path, nb)

    assert writer.rewrite(path) is True
    first, text = path.read_bytes(), path.read_text(encoding="utf-8")
    thumbnail = (tmp_path / "images" / "00_start.png").read_bytes()
    assert writer.rewrite(path) is False
    assert path.read_bytes() == first
    assert (tmp_path / "images" / "00_start.png").read_bytes() == thumbnail

    _, printed, timed, widget, figure = stored(path)
    assert [o.get("text") for o in printed.outputs] == ["a\nb\n", "w\n", None]
    assert printed.outputs[2].data["text/plain"] == "<object at 0x...>"
    assert timed.metadata.made_from == lint.source_digest(timed.source)
    assert [*widget.outputs[0].data] == ["text/plain"]
    assert figure.outputs[0].metadata == {"image/png": {"alt": "Lines; x axis (0.0 to 1.0); "
                                                        "y axis (0.0 to 1.0)."}}  # fmt: skip
    assert "Software" not in outputs.decode(figure.outputs[0].data["image/png"]).info
    assert sys.version.split()[0] not in text
    assert "iopub" not in text and "widget-view" not in text
    assert notebook.read(path).metadata == notebook.METADATA
    with Image.open(tmp_path / "images" / "00_start.png") as picture:
        assert picture.width == writer.THUMBNAIL_WIDTH
    small = [line for line in lint.problems(path) if not line.endswith(("65", "expected 1"))]
    assert small == []


def test_outputs_that_still_hold_are_kept_and_others_replaced(tmp_path, executed):
    old = [stream("rmse 0.9134\n"), shown(image_png=png(20), text_plain="<Figure>")]
    path = write(tmp_path, "00_start", [markdown("# Start"), code("x", *old)])
    executed["x"] = [
        stream("rmse 0.9135\n"),
        shown(image_png=png(21), text_plain="<Figure>"),
    ]
    writer.rewrite(path)
    text, picture = stored(path)[1].outputs
    assert text.text == "rmse 0.9134\n"
    assert same_pixels(picture, png(20))

    executed["x"][1] = shown(image_png=png(40), text_plain="<Figure>")
    assert writer.rewrite(path)
    text, picture = stored(path)[1].outputs
    assert text.text == "rmse 0.9134\n"
    assert same_pixels(picture, png(40))

    executed["x"] = [stream("rmse 0.8\n")]
    writer.rewrite(path)
    assert stored(path)[1].outputs == [stream("rmse 0.8\n")]


def test_a_timing_is_kept_until_its_source_changes(tmp_path, executed):
    path = write(tmp_path, "00_start", [markdown("# S"), code("t", stream("1 s"), tags=["timing"])])
    executed["t"], executed["t + 0"] = [stream("2 s")], [stream("3 s")]
    writer.rewrite(path)
    assert stored(path)[1].outputs[0].text == "1 s"

    nb = notebook.read(path)
    next(cell for cell in nb.cells if cell.source == "t").source = "t + 0"
    notebook.save(path, nb)
    writer.rewrite(path)
    assert stored(path)[1].outputs[0].text == "3 s"
    assert not [line for line in lint.problems(path) if "edited" in line]


def test_a_picture_gets_a_palette_where_that_hides_nothing():
    def packed(picture):
        file = io.BytesIO()
        picture.save(file, "PNG", compress_level=1)
        return shown(image_png=base64.b64encode(file.getvalue()).decode())

    def cleaned(output):
        return outputs.clean([output])[0].data["image/png"]

    plot = cleaned(packed(outputs.decode(png())))
    assert outputs.decode(plot).mode == "P"
    assert cleaned(shown(image_png=plot)) == plot
    assert same_picture(plot, png())

    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    photograph = cleaned(packed(Image.fromarray(noise)))
    assert np.array_equal(np.asarray(outputs.decode(photograph)), noise)
    assert cleaned(shown(image_png=photograph)) == photograph

    glass = Image.new("RGBA", (8, 8), (255, 0, 0, 100))
    assert outputs.decode(cleaned(packed(glass))).mode == "RGBA"

    # Final already, though this library would pack it smaller: another's bytes are left alone.
    loose = packed(outputs.decode(plot))
    assert cleaned(loose) == loose.data["image/png"] != plot


def test_ids_are_kept_when_unique_and_made_by_position_otherwise(tmp_path, executed):
    path = write(tmp_path, "00_start", [markdown("# Start"), code("1"), code("2"), code("3")])
    nb = notebook.read(path)
    for cell, name in zip(nb.cells, ["mine", "twin", "twin", None], strict=True):
        cell["id"] = name
    del nb.cells[3]["id"]
    path.write_text(notebook.json.dumps(nb), encoding="utf-8")
    writer.rewrite(path)
    found = [cell.id for cell in notebook.read(path).cells]
    assert found == ["nav-top", "mine", "colab", "twin", "cell-04", "cell-05", "nav-bottom"]
    nb = notebook.read(path)
    nb.cells.insert(2, notebook.node({**markdown("New."), "id": "cell-04"}))
    nb.cells.insert(4, code("4"))
    path.write_text(notebook.json.dumps(nb), encoding="utf-8")
    writer.rewrite(path)
    ids = [cell.id for cell in notebook.read(path).cells]
    assert len(set(ids)) == len(ids) == 9
    assert {"mine", "twin", "cell-04", "cell-05"} < set(ids)


def test_a_path_of_this_machine_is_refused(tmp_path, executed):
    path = write(tmp_path, "00_start", [markdown("# Start"), code("where")])
    before = path.read_bytes()
    executed["where"] = [stream(f"read {tmp_path / 'x'}\n")]
    with pytest.raises(UserError, match=r"00_start\.ipynb, cell 3 prints .*path of this machine"):
        writer.rewrite(path)
    assert path.read_bytes() == before
    warned = str(tmp_path / "ipykernel_12" / "345.py") + ":1: UserWarning: careful\n"
    executed["where"] = [stream(warned, "stderr")]
    writer.rewrite(path)
    assert stored(path)[1].outputs[0].text == "<cell>:1: UserWarning: careful\n"


def test_a_thumbnail_needs_one_figure(tmp_path, executed):
    path = write(tmp_path, "00_start", [markdown("# S"), code("x", tags=["thumbnail"])])
    with pytest.raises(UserError, match="1 cells tagged thumbnail, the first with 0 figures"):
        writer.rewrite(path)
    executed["x"] = [shown(image_png=png(size=(96, 64)))]
    writer.rewrite(path)
    target = tmp_path / "images" / "00_start.png"
    with Image.open(target) as picture:  # not blown up
        assert picture.size == (96, 64)
        picture.save(target, "PNG", compress_level=0)  # as another library would pack it
    packed = target.read_bytes()
    writer.rewrite(path)
    assert target.read_bytes() == packed


def test_rewriting_the_course_reports_and_links_the_neighbours(tmp_path, executed, capsys):
    write(tmp_path, "00_start", [markdown("# Start\n\n[gone](gone.md)"), code("1")])
    folder = write(tmp_path, "01_data", [markdown("# Data")]).parent
    assert writer.rewrite_course(folder=folder) == 1
    printed = capsys.readouterr().out
    assert re.search(r"00 Start .* rewritten\n", printed)
    assert "links to gone.md, which does not exist" in printed

    nb = notebook.read(folder / "01_data.ipynb")
    nb.cells[1].source = "# Better data"
    notebook.save(folder / "01_data.ipynb", nb)
    writer.rewrite_course(["01"], folder)
    assert "Next: [01 Better data]" in notebook.read(folder / "00_start.ipynb").cells[0].source


def test_a_failing_cell_leaves_the_file_alone(tmp_path, monkeypatch, capsys):
    path = write(tmp_path, "00_start", [markdown("# Start"), code("1 / 0")])

    def fail(*_, **__):
        raise CellFailed("00_start", "1 / 0", "ZeroDivisionError")

    monkeypatch.setattr(writer, "execute", fail)
    before = path.read_bytes()
    with pytest.raises(CellFailed):
        writer.rewrite_course(folder=path.parent)
    assert path.read_bytes() == before
    assert "FAILED" in capsys.readouterr().out
