"""A figure in words: what is drawn, over what, with which names, and never a failure."""

import base64
import io

import matplotlib as mpl
import numpy as np
import pytest
from IPython.core.formatters import PNGFormatter
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.pylabtools import print_figure, select_figure_formats
from matplotlib.figure import Figure

from dlrm_mini import alternative_text, plots
from dlrm_mini.alternative_text import LONGEST, describe
from dlrm_mini.course import chapters, links, outputs, pages, writer
from dlrm_mini.course.compare import compare_outputs, same_picture
from dlrm_mini.widgets.start_here import waffle
from tests.course.making import code, commit, markdown, notebook, png, shown


def drawn(figure: Figure) -> str:
    """Described as in a notebook: after it was drawn."""
    figure.savefig(io.BytesIO(), format="png")
    return describe(figure)


def empty(**keywords):
    figure = Figure(layout="constrained", **keywords)
    return figure, figure.subplots()


def test_lines_with_axes_series_and_a_logarithm():
    figure, axes = empty()
    for name in ("MF", "FM"):
        axes.loglog([1, 10, 1000], [2, 3, 4], label=name)
    axes.set(title="What grows", xlabel="rank, most\nactive first", ylabel="$n^2$ of ratings")
    axes.legend()
    words = drawn(figure)
    assert words.startswith("What grows. Lines; x axis: rank, most active first (1 to 1,000, log")
    assert "y axis: n^2 of ratings" in words and words.endswith("series MF and FM.")


def test_bars_with_few_and_with_many_names():
    figure, axes = empty()
    axes.bar(["a row", "a table"], [3, 4])
    axes.set(title="T", xlabel="what", ylabel="GB")
    assert "Bars; x axis: what (a row and a table); y axis: GB (0.0 to 4.0)" in drawn(figure)
    figure, axes = empty()
    axes.barh([f"table {'abcdefgh'[n]}" for n in range(8)], range(8))
    axes.set(title="T", xlabel="GB", ylabel="table")
    assert "8 names from table a to table h" in drawn(figure)


def test_panels_share_what_they_share():
    figure = Figure(layout="constrained")
    for name, axes in zip("ab", figure.subplots(1, 2, sharey=True), strict=True):
        axes.plot([0, 1], [0, 2], "o")
        axes.set(title=f"{name} side", xlabel="time", ylabel="NE" if name == "a" else "")
    words = drawn(figure)
    assert "2 panels: a side and b side" in words
    assert words.count("NE") == words.count("time") == 1 and "Points; the same axes" in words


def test_a_map_of_colours_names_its_colours():
    figure = plots.heat_map(np.eye(2), ["one", "two"], ["left", "right"], title="T", xlabel="x",
                            ylabel="y", unit="share of rows")  # fmt: skip
    words = drawn(figure)
    assert "A map of colours" in words and "Colours: share of rows" in words


def test_twins_are_one_panel():
    figure, axes = empty()
    axes.plot([0, 1], [0, 1])
    axes.set(title="T", xlabel="step", ylabel="loss")
    axes.twinx().set(ylabel="rate")
    words = drawn(figure)
    assert "panels" not in words and "loss" in words and "rate" in words


def test_a_diagram_gives_its_words_and_no_measured_value():
    figure, axes = empty()
    axes.set_axis_off()
    for place, word in enumerate(["bottom MLP", "31.4 ms", "80 %", "rank 0", "bottom MLP"]):
        axes.text(0, place, word)
    axes.set_title("Who waits")
    assert drawn(figure) == "Who waits. A diagram with the words bottom MLP; rank 0."


def test_shapes_without_words_are_named():
    words = drawn(waffle(30))
    assert "Your guess: 30 %" in words and "Boxes" in words


def test_a_spread_is_no_line():
    figure, axes = empty()
    axes.errorbar([0, 1], [0, 1], yerr=0.1, fmt="o", capsize=3)
    axes.set(title="T", xlabel="x", ylabel="y")
    words = drawn(figure)
    assert "Points with their spread" in words and "ines" not in words


def test_it_is_never_too_long_and_never_fails():
    figure = Figure()
    for place, axes in enumerate(figure.subplots(4, 4).flat):
        axes.set(title=f"a title of some length {place}", xlabel=f"label {place}", ylabel="why")
    words = drawn(figure)
    assert LONGEST - 60 < len(words) <= LONGEST and words.endswith("…")
    assert describe(Figure()) == describe(None) == "A figure without words."


@pytest.fixture
def formatter(monkeypatch):
    """IPython's PNG formatter of a shell that has said `%matplotlib inline`."""
    shell = InteractiveShell.instance()
    before = mpl.get_backend()
    select_figure_formats(shell, {"png"})
    yield shell.display_formatter.formatters["image/png"]
    shell.display_formatter.formatters["image/png"].pop(Figure, None)
    mpl.use(before)
    InteractiveShell.clear_instance()


def test_ipython_stores_the_words_beside_the_same_bytes(formatter: PNGFormatter):
    figure, axes = empty()
    axes.plot([0, 1])
    axes.set(title="T", xlabel="x", ylabel="y")
    before = formatter(figure)
    assert alternative_text.install() and alternative_text.install()  # twice changes nothing
    data, about = formatter(figure)
    assert data == before == base64.b64encode(print_figure(figure)).decode()
    assert about == {"alt": describe(figure)}
    assert formatter(Figure()) is None  # nothing to show, nothing to describe


def test_outside_ipython_nothing_is_changed():
    InteractiveShell.clear_instance()
    assert not alternative_text.install()


def picture(words, level=20, **more):
    output = shown(image_png=png(level))
    output.metadata = notebook.node({"image/png": {"alt": words, **more}, "other": 1})
    return output


def settled(before, now, *, tags=()):
    old, new = code("x", before, tags=tags), code("x", now, tags=tags)
    writer._settle(new, old, "here")
    return new.outputs[0]


def test_a_stored_picture_keeps_its_words_and_nothing_else():
    (clean,) = outputs.clean([picture("A bar at 0x7f00aa55bb00.", width=3)])
    assert clean.metadata == {"image/png": {"alt": clean.metadata["image/png"]["alt"]}}
    assert outputs.alternative(picture("A bar.")) == "A bar."
    assert outputs.clean([shown(text_plain="1")])[0].metadata == {}
    assert compare_outputs([picture("A bar.")], [picture("Another text.")]) == []


@pytest.mark.parametrize(("tags", "level"), [((), 20), (("timing",), 40)])
def test_a_picture_that_is_kept_gets_words_if_it_has_none(tags, level):
    kept = settled(picture(""), picture("A bar (0 to 8 ms).", level), tags=tags)
    assert same_picture(kept.data["image/png"], png(20))
    assert outputs.alternative(kept) == "A bar (0 to 8 ms)."
    kept = settled(
        picture("A bar (0 to 10 ms)."), picture("A bar (0 to 8.5 ms).", level), tags=tags
    )
    assert outputs.alternative(kept) == "A bar (0 to 10 ms)."


def test_other_words_for_the_same_picture_are_taken_but_not_from_another_machine():
    one, other = picture("A bar of this machine."), picture("A bar of that machine.")
    assert outputs.alternative(settled(one, other)) == "A bar of that machine."
    assert outputs.alternative(settled(one, other, tags=["timing"])) == "A bar of this machine."


@pytest.mark.parametrize(
    "markdown",
    ["![](a.png)", "text ![ ](a.png)", '<img src="a.png">', "<img src='a.png' alt=''>",
     '![words](b.png) and <img width="3"\nsrc="a.png">'],
)  # fmt: skip
def test_a_picture_in_prose_without_words_is_seen(markdown):
    assert "a.png" in links.unseen(markdown)


@pytest.mark.parametrize(
    "markdown",
    ["![words](a.png)", '<img alt="words" src="a.png">', "`![](a.png)`", "[](a.png)", "$x![](y)$"],
)
def test_a_picture_in_prose_with_words_or_none_at_all(markdown):
    assert links.unseen(markdown) == ""


def test_the_page_of_a_chapter_says_it_too(tmp_path):
    cells = [markdown("# Start"), code("1", picture("A bar < 3."))]
    path = commit(tmp_path, "00_start", cells)
    chapter = chapters.find("00", path.parent)
    page = pages.write_page(notebook.read(path), chapter, [chapter], tmp_path / "html")
    text = page.read_text(encoding="utf-8")
    assert 'alt="A bar &lt; 3."' in text and "No description" not in text
