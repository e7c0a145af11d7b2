"""Chapter 13's pictures and widget: blocks to scale, what travels, loads, and plans by hand."""

import time

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgba

from dlrm_mini import style
from dlrm_mini.course.figures import problems
from dlrm_mini.ladders.sharding_puzzles import BATCH, EIGHT, columns, copies, rows, whole
from dlrm_mini.parallel.sharding import FORMS, Plan
from dlrm_mini.pictures import sharding_costs as costs
from dlrm_mini.pictures import sharding_plans as pictures
from dlrm_mini.widgets import png
from dlrm_mini.widgets.sharding_plans import ByHand

FOUR = (whole(1), rows(0, 1, 2, 3), columns(0, 1, 2, 3), copies())


def words(axes) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_text()]


def boxes(axes) -> list:
    return [patch for patch in axes.patches if hasattr(patch, "get_width")]


def test_blocks_and_rooms_are_to_one_scale():
    tables = {"small": 1_000, "large": 50_000_000, "middle": 10_000_000}
    figure = pictures.rooms(tables, 100, 4, 16e9, title="which?")
    (axes,) = figure.axes
    solid = [box for box in boxes(axes) if box.get_fill()]
    assert [box.get_height() for box in solid] == pytest.approx([20, 4, 0.0004])  # GB, by size
    empty = [box for box in boxes(axes) if not box.get_fill()]
    assert [box.get_height() for box in empty] == [16] * 4
    assert {round(box.get_width(), 6) for box in boxes(axes)} == {0.86}
    assert words(axes)[:3] == ["large", "middle", "1\nothers"]
    assert "4 ranks, 16 GB each" in words(axes) and not problems(figure)


def test_a_filled_room_holds_its_ranks_pieces_and_no_other():
    tables = {"a": 40_000_000, "b": 20_000_000}
    plan = Plan(2, tables, 100, {"a": columns(0, 1), "b": whole(1)})
    figure = pictures.rooms(tables, 100, 2, 20e9, title="so", plan=plan)
    (axes,) = figure.axes
    empty = pictures.rooms(tables, 100, 2, 20e9, title="so").axes[0]
    lefts = [box.get_x() for box in boxes(empty) if not box.get_fill()]
    inside = {
        left: sorted(
            box.get_height() for box in boxes(axes) if box.get_fill() and box.get_x() == left
        )
        for left in lefts
    }
    assert list(inside.values()) == [pytest.approx([8]), pytest.approx([8, 8])]
    assert words(axes).count("a\ncols") == 2 and words(axes).count("b") == 2  # block and piece


def test_four_forms_colour_each_cell_by_its_rank():
    plans = [Plan(4, {"t": 8}, 4, {"t": placement}) for placement in FOUR]
    figure = pictures.four_forms(plans, [0, 3, 6, 7])
    assert [axes.get_title() for axes in figure.axes] == list(FORMS)
    for axes, plan in zip(figure.axes[:3], plans[:3], strict=True):
        cells = {
            (round(box.get_y()), round(box.get_x()) - 2): to_hex(box.get_facecolor())
            for box in boxes(axes)
            if box.get_fill() and box.get_width() == 1 and 0 <= box.get_y() < 8
        }
        assert len(cells) == 32
        for shard in plan.shards("t"):
            for row in range(*shard.rows):
                for column in range(*shard.columns):
                    assert cells[row, column] == pictures.RANKS[shard.rank].lower()
    table_wise, row_wise, column_wise, copied = (words(axes) for axes in figure.axes)
    ids = [text for text in row_wise if text.replace(" ", "").isdigit() and text != "ids"]
    assert ids[8:] == ["0", "3", "6 7"] and "none" in row_wise and "added" in row_wise
    assert column_wise.count("0 3 6 7") == 4 and "joined" in column_wise
    assert table_wise.count("⇄") == 1 and row_wise.count("⇄") == 3 and copied.count("⇄") == 0
    assert not problems(figure)


def test_what_comes_back_is_as_wide_as_the_piece():
    plans = [Plan(4, {"t": 8}, 4, {"t": placement}) for placement in FOUR]
    figure = pictures.four_forms(plans, [0, 3, 6, 7])
    coloured = []
    for axes in figure.axes:
        below = [box for box in boxes(axes) if box.get_y() > 8]
        coloured.append(sum(to_rgba(box.get_facecolor())[3] > 0 for box in below))
        pale = [box for box in below if box.get_alpha() == 0.45]
        assert all(to_hex(box.get_facecolor()) == pictures.RANKS[0].lower() for box in pale)
    assert coloured == [4, 16, 4, 4]


def test_where_lines_cross_is_marked():
    many = np.arange(1, 11)
    lines = {"table-wise": many * 1.0, "row-wise": many + 6.0, "column-wise": many * 2.0}
    figure = costs.price_of_a_bag(many, lines, 2)
    (axes,) = figure.axes
    assert words(axes) == ["6 ids"]
    (guess,) = (line for line in axes.lines if line.get_marker() == "*")
    assert guess.get_xdata() == [2] and guess.get_ydata() == [8.0]
    assert not problems(figure)


def test_loads_are_shares_and_the_busiest_is_named():
    ways = {"one": {"even": np.full(4, 5.0), "skewed": np.array([1.0, 7, 1, 1])}}
    figure = costs.loads(ways, ranks=4)
    (axes,) = figure.axes
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([25] * 4 + [10, 70, 10, 10])
    assert words(axes) == ["25 %", "70 %"]
    assert to_hex(axes.patches[5].get_facecolor()) == pictures.RANKS[1].lower()
    assert not problems(figure)


def test_clouds_are_hatched_and_hold_every_plan():
    cloud = costs.Cloud("some", np.array([1.0, 2, 2, 30]), "plans", {"planner": 0.9, "you": 5})
    figure = costs.clouds([cloud])
    (axes,) = figure.axes
    assert sum(bar.get_height() for bar in axes.patches) == 4
    assert all(bar.get_hatch() for bar in axes.patches)
    assert [line.get_xdata()[0] for line in axes.lines] == [0.9, 5]
    assert words(axes) == ["planner 0.9 ms", "you 5 ms"]
    assert not problems(figure)


@pytest.fixture(scope="module")
def by_hand() -> ByHand:
    return ByHand()


def test_reads_are_those_of_the_rectangles(by_hand):
    name, lookups = "watched", EIGHT["watched"][1]
    others = {other: "copies" for other in EIGHT if other != name}
    base = by_hand.read(by_hand.plan(**others, watched="copies"))
    assert base == pytest.approx(np.full(4, base[0]))
    all_of_it = BATCH * lookups * 32 * 4
    for choice, expected in (
        ("rank 2", [0, 0, 1, 0]),
        ("rows", [0.25] * 4),
        ("columns", [0.25] * 4),
        ("copies", [0.25] * 4),
    ):
        found = by_hand.read(by_hand.plan(**others, watched=choice)) - base + all_of_it / 4
        assert found == pytest.approx(all_of_it * np.array(expected)), choice


def test_what_is_drawn_is_the_cost_of_the_choices(by_hand):
    choices = dict.fromkeys(EIGHT, "rows")
    figure = by_hand.draw(**choices)
    plan = by_hand.plan(**choices)
    cost = by_hand.puzzle.answer(plan.placements).cost
    memory, lookups, sent = figure.axes
    assert [bar.get_height() for bar in memory.patches] == pytest.approx(
        np.array(cost.memory) / 1e6
    )
    assert [bar.get_height() for bar in sent.patches] == pytest.approx(np.array(cost.bytes()) / 1e6)
    assert [bar.get_height() for bar in lookups.patches] == pytest.approx(by_hand.read(plan) / 1e6)
    assert f"{1e3 * cost.seconds:.2f} ms" in figure.get_suptitle()
    assert "over its limit" not in figure.get_suptitle()
    planner = by_hand.asks(by_hand.planned)
    (marks,) = sent.collections
    heights = [segment[0][1] for segment in marks.get_segments()]
    assert heights == pytest.approx(planner.sent / 1e6)
    assert by_hand.puzzle.answer(by_hand.planned.placements).fits
    assert not problems(figure)


def test_a_rank_over_its_limit_is_crossed_out_and_named(by_hand):
    figure = by_hand.draw()
    bars = figure.axes[0].patches
    assert bars[0].get_hatch() and not any(bar.get_hatch() for bar in bars[1:])
    assert "rank 0 is" in figure.get_suptitle()
    (limit,) = figure.axes[0].lines
    assert limit.get_ydata()[0] == 350 and limit.get_color() == style.RED


def test_every_dropdown_moves_the_picture_soon(by_hand):
    explorer = by_hand.widget()
    assert list(explorer.controls) == list(EIGHT)
    seen = {explorer.image.value}
    for control in explorer.controls.values():
        control.value = "rank 1"
        assert not explorer.message.value
        seen.add(explorer.image.value)
    assert len(seen) == 1 + len(EIGHT)
    start = time.process_time()
    png(by_hand.draw())
    assert time.process_time() - start < 2  # ten times what it takes
