"""Widgets: the picture follows the controls, and a dead one is found without a browser."""

import json

import ipywidgets
import pytest

from dlrm_mini import plots, widgets


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
    assert json.loads(widgets.probe()) == [{"name": "bars", "problem": None}]
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
