"""The bars of a step's parts: what is drawn is what was given, measured apart from predicted."""

import pytest
from matplotlib.colors import to_rgb

from dlrm_mini import plots, style
from dlrm_mini.course.figures import problems
from dlrm_mini.profiling.parts import FORWARD, GROUPS, PARTS

FUSED = {"input": 2.0, "embedding forward": 20.0, "top MLP": 30.0, "interaction": 4.0,
         "top MLP backward": 60.0, "embedding update": 40.0, "remainder": 1.0}  # fmt: skip
PLAIN = {**FUSED, "embedding backward": 100.0, "embedding update": 250.0}


def half(parts):
    return {part: ms / 2 for part, ms in parts.items()}


def bars(figure, hatched):
    """The pieces drawn, bar by bar, each from left to right."""
    (axes,) = figure.axes
    return [bar for bar in axes.patches if bool(bar.get_hatch()) == hatched]


def words(figure):
    (axes,) = figure.axes
    return [text.get_text() for text in axes.texts]


def test_measured_is_solid_and_predicted_hatched_under_it():
    measured = {"plain": PLAIN, "fused": FUSED}
    predicted = {name: half(parts) for name, parts in measured.items()}
    figure = plots.breakdown_bars(measured, predicted, title="A step", hardware="made-up card")
    for hatched, given in ((False, measured), (True, predicted)):
        drawn = bars(figure, hatched)
        widths = [bar.get_width() for bar in drawn]
        expected = [
            parts[part]
            for parts in given.values()
            for names in GROUPS.values()
            for part in names
            if part in parts
        ]
        assert widths == expected
    solid, hatches = bars(figure, False)[0], bars(figure, True)[0]
    assert solid.get_y() < hatches.get_y() < solid.get_y() + 1
    assert hatches.get_hatch() == style.MODELLED["hatch"]
    (axes,) = figure.axes
    assert "solid: measured on made-up card; hatched: predicted" in axes.get_xlabel()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["plain", "fused"]
    assert axes.get_title(loc="left") == "A step" or axes.get_title() == "A step"
    assert not problems(figure)


def test_parts_are_stacked_without_gaps_and_end_at_the_total():
    figure = plots.breakdown_bars({"fused": FUSED}, {}, title="t", hardware="h")
    end = 0.0
    for bar in bars(figure, False):
        assert bar.get_x() == pytest.approx(end)
        end += bar.get_width()
    assert end == pytest.approx(sum(FUSED.values()))
    assert "157 ms" in words(figure)


def test_shares_are_of_the_measured_step_and_keep_their_milliseconds():
    figure = plots.breakdown_bars(
        {"plain": PLAIN},
        {"plain": half(PLAIN), "fused": FUSED},
        title="t",
        hardware="h",
        unit="share",
    )
    solid, hatched = ([bar.get_width() for bar in bars(figure, kind)] for kind in (False, True))
    assert sum(solid) == pytest.approx(1) and solid[0] == pytest.approx(20 / 467)
    assert sum(hatched[: len(PLAIN)]) == pytest.approx(0.5)
    assert sum(hatched[len(PLAIN) :]) == pytest.approx(1)  # of itself: nothing was measured
    assert {"467 ms", "234 ms", "157 ms"} <= set(words(figure))
    assert not problems(figure)


def test_a_part_has_its_groups_colour_and_the_lighter_the_later():
    colours = plots.part_colours()
    assert set(colours) == set(PARTS) and set(plots.GROUP_COLOURS) == set(GROUPS)
    for group, parts in GROUPS.items():
        full = to_rgb(plots.GROUP_COLOURS[group])
        assert all(colours[part] == pytest.approx(full) for part in parts if part in FORWARD)
    for name, later in (("embedding", "embedding update"), ("top MLP", "dense update")):
        forward = colours["embedding forward" if name == "embedding" else name]
        assert sum(forward) < sum(colours[f"{name} backward"]) < sum(colours[later])


def test_large_parts_are_named_and_small_ones_never():
    both = plots.breakdown_bars({"f": FUSED}, {"f": half(FUSED)}, title="t", hardware="h")
    assert words(both).count("top MLP backward") == 2
    assert "input" not in words(both) and "remainder" not in words(both)
    # Beside a bar ten times as long, its parts are too short for words.
    short = plots.breakdown_bars(
        {"f": FUSED, "long": {"embedding update": 3000.0}}, {}, title="t", hardware="h"
    )
    assert words(short) == ["157 ms", "embedding update", "3,000 ms"]


def test_what_was_not_measured_is_said_and_not_drawn():
    figure = plots.breakdown_bars(
        {"plain": PLAIN}, {"plain": PLAIN, "fused": FUSED}, title="t", hardware="h"
    )
    assert words(figure).count("not yet measured") == 1
    assert len(bars(figure, False)) == len(PLAIN)
    figure = plots.breakdown_bars({}, {"fused": FUSED}, title="t", hardware="a card to come")
    assert not bars(figure, False)
    assert figure.axes[0].get_xlabel().endswith("\nhardware: a card to come; hatched: predicted")


def test_the_legend_names_the_groups_that_are_there():
    figure = plots.breakdown_bars({"f": {"top MLP": 1.0, "idle": 2.0}}, {}, title="t", hardware="h")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "fully connected",
        "everything else",
    ]
