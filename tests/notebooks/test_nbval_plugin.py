"""Each hole in nbval that the plugin closes, with a notebook that falls into it."""

import json
import textwrap
import types
from pathlib import Path

import pytest

from tests.course.making import code, commit, markdown, png, shown, stream
from tests.notebooks import nbval_plugin

PICTURE_BYTES = "\n".join(textwrap.wrap(png(20), 80))  # a cell has narrow lines
PICTURE = f"""
import base64
from IPython.display import Image, display
display(Image(base64.b64decode('''
{PICTURE_BYTES}
''')))
"""
FIGURE = """
import matplotlib.pyplot as plt
plt.plot([0, 1])
plt.show()
"""
WIDGETS = """
import sys, types
fake = types.ModuleType("dlrm_mini.widgets")
fake.probe = lambda: '''[
    {"name": "alive", "problem": null, "seconds": 0.19},
    {"name": "slow", "problem": null, "seconds": 0.21},
    {"name": "ranks", "problem": %s, "seconds": null}
]'''.replace("\\n", "")
sys.modules["dlrm_mini.widgets"] = fake
"""
RECORD = """
from dlrm_mini import claims
claims.record("a.kept", 0.5, chapter="00")
claims.record("a.%s", 0.7, chapter="00")
"""


@pytest.fixture
def outcomes(pytester, monkeypatch):
    """Runs the notebooks of a folder under nbval as the repository does; outcomes by item."""
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", str(root))
    pytester.makeconftest('pytest_plugins = ["tests.notebooks.nbval_plugin"]')

    def run(held=None):
        (pytester.path / "tests" / "notebooks").mkdir(parents=True, exist_ok=True)
        file = pytester.path / "tests" / "notebooks" / "results.json"
        file.write_text(json.dumps(held or {}), encoding="utf-8")
        words = "--nbval --nbval-current-env --nbval-cell-timeout=60 -p no:cacheprovider -rA -n0"
        result = pytester.runpytest_subprocess(*words.split(), "notebooks")
        found = {}
        for line in result.outlines:
            word, _, rest = line.partition(" ")
            if word in ("PASSED", "FAILED", "XFAIL", "SKIPPED"):
                found[rest.partition(" - ")[0].rpartition("::")[2]] = word
        return found, "\n".join(result.outlines)

    return run


def figure_output():
    return shown(text_plain="<Figure>", image_png=png())


def test_a_sound_notebook_passes_and_its_checks_are_items(outcomes, pytester):
    labels = "plt.title('T'); plt.xlabel('x'); plt.ylabel('y'); plt.show()"
    cells = [
        markdown("# Start"),
        code("import sys\nprint('rmse 0.51239')", stream("rmse 0.51234\n")),
        code(PICTURE, shown(image_png=png(21), text_plain="<IPython.core.display.Image object>")),
        code(FIGURE.replace("plt.show()", labels), figure_output(), tags=["timing"]),
        code("1 + 1;"),
        code(RECORD % "other"),
    ]
    (pytester.path / "notebooks" / "exercises").mkdir(parents=True)
    (pytester.path / "notebooks" / "exercises" / "00_start.ipynb").write_text("to be filled in")
    commit(pytester.path, "00_start", cells)
    held = {
        "a.kept": {"value": 0.49, "tolerance": 0.02, "chapter": "00"},
        "a.other": {"value": 0.7, "tolerance": 0.0, "chapter": "00"},
        "b.of_another_chapter": {"value": 1.0, "tolerance": 0.0, "chapter": "01"},
    }
    found, text = outcomes(held)
    assert set(found.values()) == {"PASSED"}, text
    checks = ["time", "figures", "widgets", "results", "ledger", "lint"]
    assert [name for name in found if not name.startswith("Cell")] == checks
    assert len(found) == 6 + 6


def test_a_notebook_with_every_fault_fails_at_each(outcomes, pytester):
    cells = [
        markdown("# Start\n\n[gone](exercises/gone.ipynb)"),
        code("print('rmse 0.5')", stream("rmse 0.6\n")),
        code(PICTURE, shown(image_png=png(40), text_plain="<IPython.core.display.Image object>")),
        code(FIGURE, figure_output(), tags=["timing"]),
        code(WIDGETS % '"moving it changes nothing"'),
        code(RECORD % "new"),
    ]
    commit(pytester.path, "00_start", cells)
    held = {
        "a.kept": {"value": 0.4, "tolerance": 0.05, "chapter": "00"},
        "a.lost": {"value": 0.7, "tolerance": 0.0, "chapter": "00"},
    }
    found, text = outcomes(held)
    assert [name for name, outcome in found.items() if outcome == "FAILED"] == [
        "Cell 1", "Cell 2", "figures", "widgets", "results", "lint"
    ]  # fmt: skip
    assert "rmse 0.6" in text and "the picture differs" in text
    assert "no title on the figure" in text and "has no x label" in text
    assert "widget ranks: moving it changes nothing" in text and "widget alive" not in text
    assert "widget slow: half of its redraws take more than 0.21 s, at most 0.2 s" in text
    assert "a.kept is 0.5, expected 0.4 within 0.05" in text
    assert "a.lost is in tests/notebooks/results.json, but was not recorded" in text
    assert "a.new was recorded, but is not in tests/notebooks/results.json" in text
    assert "exercises/gone.ipynb, which does not exist" in text


def test_a_widget_that_cannot_be_probed_fails(outcomes, pytester):
    slider = shown(text_plain="IntSlider(value=0)")
    cells = [markdown("# Start"), code("import ipywidgets\nipywidgets.IntSlider()", slider)]
    commit(pytester.path, "00_start", cells)
    found, text = outcomes()
    assert found["widgets"] == "FAILED"
    assert "1 widgets are shown, 0 of them made by dlrm_mini.widgets.explore" in text


def test_a_kernel_that_dies_fails_at_once(outcomes, pytester):
    commit(pytester.path, "00_start", [markdown("# Start"), code("import os; os._exit(1)")])
    found, text = outcomes()
    assert found["Cell 1"] == "FAILED" and "the kernel died" in text
    assert found["lint"] == "PASSED"


def test_the_time_is_the_clocks_or_the_processors_whichever_is_less(tmp_path):
    def book(wall, cpu):
        path = tmp_path / "notebooks" / "00_start.ipynb"
        return types.SimpleNamespace(path=path, wall=wall, cpu=cpu)

    assert nbval_plugin.check_time(book(90.0, 50.0)) == []
    assert nbval_plugin.check_time(book(50.0, 90.0)) == []
    assert "at most 60 s" in nbval_plugin.check_time(book(61.0, 70.0))[0]


def test_a_result_that_is_no_number_is_outside_every_tolerance():
    wanted = {"a.b": {"value": 1.0, "tolerance": 10.0}}
    assert [*nbval_plugin._compare_results(wanted, {"a.b": {"value": float("nan")}}, "00")]


def test_the_results_held_belong_to_chapters_that_are_there():
    root = Path(__file__).parents[2]
    held = json.loads((root / "tests" / "notebooks" / "results.json").read_text(encoding="utf-8"))
    there = {path.name[:2] for path in (root / "notebooks").glob("*.ipynb")}
    assert {entry["chapter"] for entry in held.values()} <= there
    assert all(set(entry) == {"value", "tolerance", "chapter"} for entry in held.values())
