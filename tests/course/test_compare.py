"""What counts as the same output, and what does not."""

import base64
import io

import pytest
from matplotlib.figure import Figure

from dlrm_mini.course.compare import compare_notebooks, compare_outputs, same_picture, same_text
from dlrm_mini.course.outputs import WIDGET
from tests.course.making import code, notebook, png, shown, stream


@pytest.mark.parametrize(
    ("stored", "fresh"),
    [
        ("rmse 0.9134", "rmse 0.9137"),
        ("rmse 0.9134", "rmse 0.9135"),
        ("gap 0.0012", "gap 0.0013"),
        ("[ 0.5000 -1.25]", "[ 0.5001  -1.2501]"),
        ("[-0.0 1.0]", "[ 0.0 1.0]"),
        ("off by 1.2e-08", "off by 3.4e-08"),
        ("nan and inf", "nan and inf"),
        ("a\n  b", "a b"),
        ("9e6135b0 is hexadecimal", "9e6135b0 is hexadecimal"),
    ],
)
def test_texts_that_say_the_same(stored, fresh):
    assert same_text(stored, fresh)


@pytest.mark.parametrize(
    ("stored", "fresh"),
    [
        ("rmse 0.9134", "rmse 0.9334"),
        ("rmse 0.9134", "mae 0.9134"),
        ("100000 ratings", "100001 ratings"),
        ("loss 1.5", "loss 1.6"),
        ("loss 0.5", "loss nan"),
        ("1.0 2.0", "1.0"),
        ("1.5", "-1.5"),
        ("9e6135b0", "9e6136b0"),
        ("took 3 epochs", "took 3.0 epochs of 4"),
    ],
)
def test_texts_that_do_not(stored, fresh):
    assert not same_text(stored, fresh)


def test_a_number_of_outputs_or_kinds_that_changed_is_found():
    found = compare_outputs([stream("a")], [], cell=3)
    assert "cell 3: gives other kinds" in str(found[0]) and "nothing" in str(found[0])
    assert compare_outputs([stream("a")], [stream("a", "stderr")])
    assert compare_outputs([shown(text_plain="a")], [shown(text_plain="a", image_png=png())])


def test_streams_are_compared_however_they_were_cut():
    assert not compare_outputs([stream("ab\n")], [stream("a"), stream("b\n")])
    assert not compare_outputs([stream("done\n")], [stream("10%\rdone\n")])
    assert compare_outputs([stream("ab\n")], [stream("a"), stream("c\n")])


def test_addresses_are_the_same_everywhere():
    old, new = "<function f at 0x7f00aa00bb00>", "<function f at 0x7f11cc22dd33>"
    assert not compare_outputs([shown(text_plain=old)], [shown(text_plain=new)])


def test_a_table_is_compared_by_what_it_says():
    table = "<style>#T_{}{{}}</style><table id='T_{}'><td>{}</td></table>"
    stored = shown(text_html=table.format("1a", "1a", "0.51"), text_plain="x")
    assert not compare_outputs(
        [stored], [shown(text_html=table.format("2b", "2b", "0.51"), text_plain="x")]
    )
    found = compare_outputs(
        [stored], [shown(text_html=table.format("1a", "1a", "0.71"), text_plain="x")]
    )
    assert "the table differs" in str(found[0]) and "0.71" in str(found[0])


def drawn(title="Loss 0.38", face="#ffffff", height=0.5):
    figure = Figure(figsize=(4, 3), facecolor=face)
    axes = figure.subplots()
    axes.set_facecolor(face)
    axes.bar(["a", "b"], [1.0, height])
    axes.set_title(title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90, facecolor=face)
    return base64.b64encode(buffer.getvalue()).decode()


def test_small_changes_of_a_real_figure_are_seen():
    """Each of these is caught by one of the two thresholds alone: loosen either and it passes."""
    assert same_picture(drawn(), drawn())
    assert not same_picture(drawn(), drawn(title="Loss 0.98"))  # one digit: a few pixels
    assert not same_picture(drawn(), drawn(height=0.56))
    assert not same_picture(drawn(), drawn(face="#fcfcfc"))  # every pixel, a little


def test_a_picture_is_compared_by_what_it_shows():
    assert same_picture(png(20), png(20))
    assert same_picture(png(20), png(21))  # an edge that snapped to the next pixel
    assert not same_picture(png(20), png(26))
    assert same_picture(png(20), png(20, size=(97, 64)))
    assert not same_picture(png(20), png(20, size=(110, 64)))
    found = compare_outputs([shown(image_png=png(20))], [shown(image_png=png(40))])
    assert "the picture differs" in str(found[0])


def test_a_widget_is_compared_by_its_kind():
    fresh = shown(text_plain="IntSlider(value=7)")
    fresh.data[WIDGET] = {"model_id": "f00"}
    assert not compare_outputs([shown(text_plain="IntSlider(value=3)")], [fresh])
    assert compare_outputs([shown(text_plain="Dropdown(value=3)")], [fresh])


def test_errors_are_compared_without_their_tracebacks():
    def error(name, value):
        trace = {"ename": name, "evalue": value, "traceback": [f"line {id(value)}"]}
        return notebook.node({"output_type": "error", **trace})

    assert not compare_outputs([error("KeyError", "a")], [error("KeyError", "a")])
    assert compare_outputs([error("KeyError", "a")], [error("ValueError", "a")])
    assert compare_outputs([error("KeyError", "a")], [error("KeyError", "b")])


@pytest.mark.parametrize("tag", ["timing", "machine"])
def test_a_volatile_cell_is_held_to_its_kinds_only(tag):
    tags = frozenset({tag})
    assert not compare_outputs([stream("1.5 s")], [stream("9.0 s")], tags)
    assert compare_outputs([stream("1.5 s")], [shown(text_plain="9.0 s")], tags)


def test_notebooks_are_compared_cell_by_cell():
    def book(*texts):
        return notebook.node({"cells": [code("x", stream(text)) for text in texts]})

    found = compare_notebooks(book("a", "b", "c"), book("a", "B", "c"))
    assert [difference.cell for difference in found] == [1]


def test_the_message_shows_the_line_that_differs():
    long = "same line\n" * 50
    (found,) = compare_outputs([stream(long + "rmse 0.9\n")], [stream(long + "rmse 0.8\n")])
    assert (found.stored, found.fresh) == ("rmse 0.9", "rmse 0.8")
