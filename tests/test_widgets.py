"""Widgets: the picture follows the controls, and a dead one is found without a browser."""

import io
import itertools
import json
import time

import ipywidgets
import numpy as np
import pytest
from PIL import Image

from dlrm_mini import plots, style, widgets
from dlrm_mini.widgets.start_here import waffle


@pytest.fixture(autouse=True)
def shown(monkeypatch):
    monkeypatch.setattr(widgets, "_shown", [])


def draw(height: float, words: str):
    figure, axes = plots.figure(3, 2)
    axes.bar(["a"], [height])
    axes.set(title=words, xlabel="x", ylabel="y", ylim=(0, 10))
    return figure


def controls():
    return {
        "height": ipywidgets.IntSlider(3, 0, 9),
        "words": ipywidgets.Dropdown(options=["one", "two"], value="one"),
    }


def test_the_picture_follows_and_comes_back():
    widget = widgets.explore("bars", draw, **controls())
    first = bytes(widget.image.value)
    assert first.startswith(b"\x89PNG")
    widget.controls["height"].value = 8
    assert widget.image.value != first
    widget.controls["height"].value = 3
    assert widget.image.value == first


def test_probe_passes_a_live_widget_and_restores_it():
    widget = widgets.explore("bars", draw, **controls())
    bundle = widget._repr_mimebundle_()
    assert "Run this cell" in bundle["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in bundle
    (found,) = json.loads(widgets.probe())
    assert found == {"name": "bars", "problem": None, "seconds": found["seconds"]}
    assert 0.001 < found["seconds"] < 10  # of a machine, however slow
    assert (widget.controls["height"].value, widget.controls["words"].value) == (3, "one")


def test_probe_finds_a_control_that_does_nothing():
    widgets.explore("dead", lambda height, words: draw(height, "x"), **controls())._repr_mimebundle_()  # noqa: E501  # fmt: skip
    (found,) = json.loads(widgets.probe())
    assert "'words' does not change" in found["problem"]


def test_probe_finds_a_drawing_that_fails():
    def breaks(height, words):
        if height > 5:
            raise ValueError("too high")
        return draw(height, words)

    widgets.explore("breaks", breaks, **controls())._repr_mimebundle_()
    (found,) = json.loads(widgets.probe())
    assert "height=9" in found["problem"] and "too high" in found["problem"]


def test_probe_finds_a_drawing_that_remembers():
    times = itertools.count()

    def remembers(height, words):
        return draw(height + 0.1 * next(times), words)

    widgets.explore("remembers", remembers, **controls())._repr_mimebundle_()
    (found,) = json.loads(widgets.probe())
    assert "after moving 'height' and back the picture is another one" in found["problem"]


def test_probe_tells_the_median_of_clock_or_processor_whichever_is_less(monkeypatch):
    """Redraws that take 1, 2, 3, ... s by the clock and twice that by the processor."""
    clock, processor = itertools.accumulate(half_steps(1)), itertools.accumulate(half_steps(2))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(time, "process_time", lambda: next(processor))
    widgets.explore("bars", draw, **controls())._repr_mimebundle_()
    (found,) = json.loads(widgets.probe())
    assert found["seconds"] == 2.0  # of 1, 2 and 3: two heights and one word


def half_steps(length):
    """No time passes between redraws; the n-th redraw takes n times the length."""
    for n in itertools.count(1):
        yield 0.0
        yield n * length


def test_the_picture_has_the_pixels_of_savefig():
    style.use()
    for figure in (waffle(30, 6.3), draw(3, "one")):
        stored = io.BytesIO()
        figure.savefig(stored, format="png")
        ours, theirs = (Image.open(one) for one in (io.BytesIO(widgets.png(figure)), stored))
        assert np.array_equal(np.asarray(ours), np.asarray(theirs))


def test_the_picture_is_described_and_the_words_follow():
    widget = widgets.explore("bars", draw, **controls())
    assert "one. Bars" in widget.words.value
    widget.controls["words"].value = "two"
    assert "two. Bars" in widget.words.value and 'aria-live="polite"' in widget.words.value


def test_all_controls_have_one_look():
    widget = widgets.explore(
        "many",
        lambda **values: draw(3, str(values)),
        short=ipywidgets.Dropdown(options=["a", "b"], description="a"),
        longer=ipywidgets.SelectionSlider(options=[1, 2], description="a long description"),
        wide=ipywidgets.IntSlider(0, 0, 900, description="of many"),
        box=ipywidgets.Checkbox(False, description="a box"),
        buttons=ipywidgets.ToggleButtons(options=[1, 2], description="pick"),
    )
    short, longer, wide, box, buttons = widget.controls.values()
    widths = {one.style.description_width for one in (short, longer, wide)}
    assert widths == {"138px"}  # 18 letters of the longest
    assert short.layout.width == longer.layout.width == "348px" and wide.layout.width == "468px"
    assert box.indent is False and box.layout.width == buttons.layout.width == "auto"
    assert buttons.style.description_width == "138px"
