"""Chapter 06's pictures and widgets: what is drawn is what was measured."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from dlrm_mini import style
from dlrm_mini.course.figures import problems
from dlrm_mini.ladders.crossing_settings import ARMS, PARAMETERS, SHARES, World
from dlrm_mini.pictures import crossings as pictures
from dlrm_mini.widgets import crossings as widgets


def share(*values: float) -> dict:
    return {"mean": float(np.mean(values)), "spread": float(np.std(values, ddof=1)),
            "per_seed": list(values)}  # fmt: skip


@pytest.mark.parametrize("n, different, twice, once", [(3, 6, 18, 1), (5, 60, 60, 10)])
def test_the_cube_counts_triples(n, different, twice, once):
    figure = pictures.cube(n)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    wanted = [f"three different: {different}", f"two equal: {twice}", f"all equal: {n}"]
    assert legend == wanted and not problems(figure)
    drawn = [len(axes.collections) for axes in figure.axes]
    assert drawn[0] == n**3 - (n - 2) ** 3  # what lies inside is not drawn
    assert drawn[2] == once == int(figure.axes[2].get_title().split()[-1])


def test_slices_share_one_scale():
    values = {"one": np.full((5, 5), 2.0), "two": -np.full((5, 5), 4.0)}
    values["one"][0, 0] = 99.0  # one loud cell does not pale the others
    figure = pictures.slices(values, ("C1", "C2"))
    limits = {axes.images[0].get_clim() for axes in figure.axes if axes.images}
    assert limits == {(-4.0, 4.0)} and not problems(figure)


def test_costs_stand_where_they_were_counted():
    arms = {
        "dot": {"parameters": 100, "flops": 40, "share": share(0.4, 0.5)},
        "cross + MLP": {"parameters": 101, "flops": 900, "share": share(0.7, 0.9)},
    }
    double = {arm: of | {"flops": 2 * of["flops"]} for arm, of in arms.items()}
    equal = {"parameters": arms, "flops": arms}
    budgets = {"parameters": 100, "flops": 400}
    figure = pictures.costs(equal, double, budgets, {"dot": 0.6}, 0.85)
    assert not problems(figure)
    for axes, cost in zip(figure.axes, ("flops", "parameters"), strict=True):
        large = {
            line.get_marker(): (line.get_xdata()[0], line.get_ydata()[0])
            for line in axes.lines
            if line.get_markersize() == 9
        }
        assert large["o"] == (arms["dot"][cost], pytest.approx(0.45))
        assert large["s"] == (arms["cross + MLP"][cost], pytest.approx(0.8))
    star = [line for line in figure.axes[0].lines if line.get_marker() == "*"]
    assert (star[0].get_xdata()[0], star[0].get_ydata()[0]) == (40, 0.6)
    dotted = [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    assert dotted == [0.85]
    bars = figure.axes[0].collections
    assert [path.vertices[:, 1].tolist() for bar in bars for path in bar.get_paths()] == [
        [0.4, 0.5],
        [0.7, 0.9],
    ]


@pytest.fixture(scope="module")
def winners():
    """Second order for dot, third for cross; third + MLP is as good as cross, within the spread."""

    def arms(third: float) -> dict:
        of = dict.fromkeys(ARMS, share(0.1, 0.12))
        of |= {"dot": share(0.9 - third, 0.91 - third), "cross": share(third, third + 0.02)}
        of["third + MLP"] = share(third - 0.01, third)
        return {"arms": {arm: {PARAMETERS.name: {"share": of[arm]}} for arm in of}}

    return widgets.Winners({World(one).name: arms(one) for one in SHARES})


def test_the_leader_is_named_with_those_as_good(winners):
    assert winners.leaders(0.0) == ["dot"]
    assert winners.leaders(1.0) == ["cross", "third + MLP"]
    assert winners.leaders(1.0, "without an MLP") == ["cross"]
    title = winners.draw(1.0, "both").get_suptitle()
    assert title == f"100% third order: cross is ahead; third + MLP {widgets.TIE}"


def test_the_bars_are_the_arms_of_the_chosen_world(winners):
    figure = winners.draw(0.25, "without an MLP")
    left, right = figure.axes
    wanted = ["dot", "cross", "third"]
    assert [label.get_text() for label in left.get_yticklabels()] == wanted
    widths = [bar.get_width() for bar in left.patches]
    assert widths == pytest.approx([0.655, 0.26, 0.11])
    curves = [line for line in right.lines if len(line.get_xdata()) == len(SHARES)]
    assert len(curves) == len(wanted) and not problems(figure)
    assert len(winners.draw(0.25, "both").axes[0].patches) == len(ARMS) - 1


@pytest.fixture(scope="module")
def findings():
    world = World(0.5)
    names, matrix = world.planted()
    triple = " ".join(world.log.triples[0])
    found = {"pairs": (0.5 * matrix).tolist(), "triples": {triple: 0.3, "C1 C2 C3": 0.01}}
    blocks = np.arange(len(names) ** 2).reshape(len(names), -1).tolist()
    arms = {arm: dict(found) for arm in ARMS}
    arms["cross"]["block_norms"] = blocks
    return widgets.Findings(arms, world), world, blocks


def framed(axes) -> dict:
    return {
        (round(box.get_y() + 0.46), round(box.get_x() + 0.46)): box.get_linestyle()
        for box in axes.patches
        if isinstance(box, Rectangle) and not box.get_fill()
    }


def test_frames_are_what_was_planted(findings):
    shown, world, _ = findings
    figure = shown.draw("dot + MLP")
    names = list(shown.names)
    wanted = {}
    for pair in world.log.pairs:
        row, column = sorted(
            (names.index("dense" if n in world.log.dense_names else n) for n in pair), reverse=True
        )
        wanted[row, column] = "-"
    for triple in world.log.triples:
        for cell in combinations(sorted((names.index(n) for n in triple), reverse=True), 2):
            wanted[cell] = ":"
    matrices = [axes for axes in figure.axes if axes.images]
    assert len(matrices) == 2 and not problems(figure)
    for axes in matrices:
        assert framed(axes) == wanted


def test_everybody_is_drawn_beside_what_was_planted(findings):
    shown, world, _ = findings
    figure = shown.everybody()
    panels = [axes for axes in figure.axes if axes.images]
    titles = [axes.get_title(loc="left") or axes.get_title() for axes in panels]
    assert titles == [
        "planted",
        *(arm for arm in ARMS if arm != "cat"),
    ]
    assert len({axes.images[0].get_clim() for axes in panels}) == 1 and not problems(figure)
    matrix, lower = world.planted()[1].numpy(), np.tri(len(shown.names), k=-1, dtype=bool)
    for axes, times in zip(panels, (1, *[0.5] * 7), strict=True):
        drawn = axes.images[0].get_array()
        np.testing.assert_allclose(drawn[lower], times * matrix[lower])


def test_planted_and_found_are_drawn_in_one_scale(findings):
    shown, world, _ = findings
    planted, found = (axes.images[0] for axes in shown.draw("third").axes if axes.images)
    assert planted.get_clim() == found.get_clim()
    matrix = world.planted()[1].numpy()
    lower = np.tri(len(matrix), k=-1, dtype=bool)
    np.testing.assert_allclose(planted.get_array()[lower], matrix[lower])
    np.testing.assert_allclose(found.get_array()[lower], 0.5 * matrix[lower])
    assert np.ma.getmaskarray(planted.get_array())[~lower].all()


def test_what_a_model_missed_asks(findings):
    shown, world, _ = findings
    column, row = sorted(map(list(shown.names).index, world.log.triples[0][:2]))
    shown.learned["third"]["pairs"] = [list(line) for line in shown.learned["third"]["pairs"]]
    shown.learned["third"]["pairs"][row][column] = 0.0
    planted, found = (
        {text.get_position() for text in axes.texts if text.get_text() == "?"}
        for axes in shown.draw("third").axes
    )
    assert not planted and found == {(column, row)}


def test_blocks_of_both_ways_are_one_cell(findings):
    shown, _, blocks = findings
    figure = shown.blocks()
    drawn = figure.axes[0].images[0].get_array()
    assert drawn[3, 1] == pytest.approx((blocks[3][1] ** 2 + blocks[1][3] ** 2) ** 0.5)
    assert not problems(figure)


def test_clicks_are_drawn_at_every_budget_they_have():
    one, two = {"auc": share(0.78, 0.79), "logloss": share(0.55, 0.56)}, {
        "auc": share(0.7, 0.71), "logloss": share(0.6, 0.61)}  # fmt: skip
    found = {"linear": {"small": one}, "dot": {"small": one, "large": two}}
    figure = pictures.clicks(found, {"small": "equal parameters", "large": "equal FLOP"})
    means = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_markersize() == 8]
    assert means == pytest.approx([0.785, 0.785, 0.705]) and not problems(figure)


def test_published_models_are_sorted_and_filled_when_they_have_an_mlp():
    made = {"LR": ("no pairs", False), "DLRM": ("pairs", True), "FM": ("pairs", False)}
    figure = pictures.published({"data": {"DLRM": 0.81, "LR": 0.78, "FM": 0.8}}, made)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["LR", "FM", "DLRM"]
    assert [line.get_xdata()[0] for line in axes.lines] == [0.78, 0.8, 0.81]
    faces = [line.get_markerfacecolor() for line in axes.lines]
    assert faces == ["white", "white", style.BLUE] and not problems(figure)
