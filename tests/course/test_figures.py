"""What a figure may lack, and what it may not."""

import io

import matplotlib.pyplot as plt
import pytest
from matplotlib.backend_bases import FigureCanvasBase

from dlrm_mini.course import figures


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def plot(*shape, title="T", x="x", y="y", **keywords):
    figure, axes = plt.subplots(*shape, squeeze=False, **keywords)
    for one in axes.flat:
        one.plot([0, 1])
        one.set(title=title, xlabel=x, ylabel=y)
    return figure, axes


def test_a_labelled_figure_has_no_problem():
    assert figures.problems(plot(2, 2)[0]) == []


def test_a_missing_title_and_missing_labels_are_named():
    assert "no title" in figures.problems(plot(title="")[0])[0]
    assert figures.problems(plot(x="")[0]) == ["figure 'T': axes 1 of 1 has no x label"]
    assert figures.problems(plot(1, 2, y=" ")[0])[1] == "figure 'T': axes 2 of 2 has no y label"


def test_one_untitled_axes_needs_a_title_on_the_figure():
    figure, axes = plot(1, 2)
    axes[0, 1].set_title("")
    assert "nor on each of its axes" in figures.problems(figure)[0]
    figure.suptitle("Both")
    assert figures.problems(figure) == []


def test_a_shared_axis_and_a_common_label_are_enough():
    figure, axes = plot(2, 1, sharex=True, x="")
    assert len(figures.problems(figure)) == 2
    axes[1, 0].set_xlabel("x")
    assert figures.problems(figure) == []
    figure, _ = plot(2, 2, x="")
    figure.supxlabel("x")
    assert figures.problems(figure) == []


def test_a_twin_needs_its_own_y_label_only():
    figure, axes = plot()
    twin = axes[0, 0].twinx()
    twin.plot([1, 0])
    assert figures.problems(figure) == ["figure 'T': axes 2 of 2 has no y label"]
    twin.set_ylabel("other")
    assert figures.problems(figure) == []


def test_a_picture_needs_labels_unless_its_axis_is_off():
    figure, axes = plt.subplots()
    axes.imshow([[0, 1]])
    axes.set(title="T", xticks=[], yticks=[])
    assert len(figures.problems(figure)) == 2
    axes.set_axis_off()
    assert figures.problems(figure) == []
    axes.set_title("")
    assert "no title" in figures.problems(figure)[0]


def test_a_colour_bar_needs_a_label_but_no_title():
    figure, axes = plot()
    bar = figure.colorbar(axes[0, 0].scatter([0], [0], c=[1]))
    assert figures.problems(figure) == ["figure 'T': a colour bar has no label"]
    bar.set_label("count")
    assert figures.problems(figure) == []


def test_subfigures_and_other_projections():
    figure = plt.figure()
    for part in figure.subfigures(1, 2):
        part.suptitle("Part")
        part.subplots().set(xlabel="x", ylabel="y")
    assert figures.problems(figure) == []
    figure, axes = plt.subplots(subplot_kw={"projection": "3d"})
    axes.set(title="T", xlabel="x", ylabel="y")
    assert figures.problems(figure) == ["figure 'T': axes 1 of 1 has no z label"]
    figure, axes = plt.subplots(subplot_kw={"projection": "polar"})
    axes.set(title="T")
    assert figures.problems(figure) == []


def test_watch_checks_what_is_drawn(monkeypatch):
    monkeypatch.setattr(FigureCanvasBase, "print_figure", FigureCanvasBase.print_figure)
    monkeypatch.setattr(figures, "_found", [])
    figures.watch()
    for _ in range(2):
        plot(x="")[0].savefig(io.BytesIO())
    assert figures.report() == "[\"figure 'T': axes 1 of 1 has no x label\"]"
