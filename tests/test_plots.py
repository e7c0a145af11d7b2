"""The bars of a step's parts: what is drawn is what was given, measured apart from predicted."""

import pytest
from matplotlib.colors import to_rgb

from dlrm_mini import plots, style
from dlrm_mini.course.figures import problems
from dlrm_mini.profiling.parts import GROUPS, PARTS

FUSED = {"input": 2.0, "embedding forward": 20.0, "top MLP": 30.0, "interaction": 4.0,
         "top MLP backward": 60.0, "embedding update": 40.0, "remainder": 1.0}  # fmt: skip
PLAIN = {**FUSED, "embedding backward": 100.0, "embedding update": 250.0}


def half(parts):
    return {part: ms / 2 for part, ms in parts.items()}


def bars(figure, hatched):
    """Those drawn, bar by bar, each from the bottom up."""
    (axes,) = figure.axes
    return [bar for bar in axes.patches if bool(bar.get_hatch()) == hatched]


def words(figure):
    (axes,) = figure.axes
    return [text.get_text() for text in axes.texts]


def test_measured_is_solid_and_predicted_hatched_beside_it():
    measured = {"plain": PLAIN, "fused": FUSED}
    predicted = {name: half(parts) for name, parts in measured.items()}
    figure = plots.breakdown_bars(measured, predicted, title="A step", hardware="made-up card")
    for hatched, given in ((False, measured), (True, predicted)):
        drawn = bars(figure, hatched)
        heights = [bar.get_height() for bar in drawn]
        expected = [
            parts[part]
            for parts in given.values()
            for names in GROUPS.values()
            for part in names
            if part in parts
        ]
        assert heights == expected
    solid, hatches = bars(figure, False)[0], bars(figure, True)[0]
    assert solid.get_x() < hatches.get_x() < solid.get_x() + 1
    assert hatches.get_hatch() == style.MODELLED["hatch"]
    (axes,) = figure.axes
    assert "solid: measured on made-up card; hatched: predicted" in axes.get_xlabel()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["plain", "fused"]
    assert axes.get_title(loc="left") == "A step" or axes.get_title() == "A step"
    assert not problems(figure)


def test_parts_are_stacked_without_gaps_and_end_at_the_total():
    figure = plots.breakdown_bars({"fused": FUSED}, {}, title="t", hardware="h")
    height = 0.0
    for bar in bars(figure, False):
        assert bar.get_y() == pytest.approx(height)
        height += bar.get_height()
    assert height == pytest.approx(sum(FUSED.values()))
    assert "157 ms" in words(figure)


def test_shares_fill_the_bar_and_keep_their_milliseconds():
    figure = plots.breakdown_bars(
        {"plain": PLAIN}, {"plain": half(PLAIN)}, title="t", hardware="h", unit="share"
    )
    for hatched in (False, True):
        heights = [bar.get_height() for bar in bars(figure, hatched)]
        assert sum(heights) == pytest.approx(1)
        assert heights[0] == pytest.approx(20 / 467)
    assert {"467 ms", "234 ms"} <= set(words(figure))
    assert not problems(figure)


def test_every_part_has_a_shade_of_its_group():
    colours = plots.part_colours()
    assert set(colours) == set(PARTS) and set(plots.GROUP_COLOURS) == set(GROUPS)
    assert len(set(colours.values())) == len(PARTS)
    for group, parts in GROUPS.items():
        assert colours[parts[0]] == pytest.approx(to_rgb(plots.GROUP_COLOURS[group]))
        brightness = [sum(colours[part]) for part in parts]
        assert brightness == sorted(brightness)


def test_large_parts_are_named_once_and_small_ones_never():
    both = plots.breakdown_bars({"f": FUSED}, {"f": half(FUSED)}, title="t", hardware="h")
    assert words(both).count("top MLP backward") == 1
    assert "input" not in words(both) and "remainder" not in words(both)
    alone = plots.breakdown_bars({}, {"f": FUSED}, title="t", hardware="h")
    assert words(alone).count("top MLP backward") == 1
    # Beside a bar ten times as high, its parts are too low for words.
    low = plots.breakdown_bars(
        {"f": FUSED, "high": {"embedding update": 3000.0}}, {}, title="t", hardware="h"
    )
    assert words(low) == ["157 ms", "embedding update", "3,000 ms"]


def test_what_was_not_measured_is_said_and_not_drawn():
    figure = plots.breakdown_bars(
        {"plain": PLAIN}, {"plain": PLAIN, "fused": FUSED}, title="t", hardware="h"
    )
    assert words(figure).count("not yet\nmeasured") == 1
    assert len(bars(figure, False)) == len(PLAIN)
    figure = plots.breakdown_bars({}, {"fused": FUSED}, title="t", hardware="a card to come")
    assert not bars(figure, False)
    assert figure.axes[0].get_xlabel() == "hardware: a card to come; hatched: predicted"


def test_the_legend_names_the_groups_that_are_there():
    figure = plots.breakdown_bars({"f": {"top MLP": 1.0, "idle": 2.0}}, {}, title="t", hardware="h")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "fully connected",
        "everything else",
    ]
