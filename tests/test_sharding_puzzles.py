"""Chapter 13's puzzles: starts are allowed but poor, solutions meet targets, words say what."""

import numpy as np
import pytest

from dlrm_mini.errors import UserError
from dlrm_mini.ladders import sharding_puzzles as puzzles
from dlrm_mini.ladders.sharding_puzzles import columns, copies, rows, whole

ALL = (puzzles.SILENCE, puzzles.DOOR, puzzles.BAGS, puzzles.KAGGLE)


@pytest.mark.parametrize("puzzle", ALL, ids=lambda puzzle: puzzle.name)
def test_solutions_meet_every_target(puzzle):
    answer = puzzle.answer(puzzle.solution)
    assert answer.met and answer.fits and answer.word == "solved"
    assert "NOT YET" not in str(answer)
    assert answer.plan.placements == puzzle.solution


@pytest.mark.parametrize(
    ("puzzle", "placements"),
    [
        (puzzles.SILENCE, dict.fromkeys(puzzles.SILENCE.config.cardinalities, whole(0))),
        (puzzles.DOOR, {"large": rows(0, 1, 2, 3), "small": whole(0)}),
        (puzzles.DOOR, {"large": columns(0, 1, 2, 3), "small": whole(0)}),  # one piece too many
        (puzzles.BAGS, {"large": columns(0, 1, 2), "small": whole(3)}),
        (
            puzzles.KAGGLE,
            dict.fromkeys(puzzles.KAGGLE.config.cardinalities, rows(0, 1, 2, 3)) | {"C9": whole(0)},
        ),
    ],
)
def test_poor_plans_fit_and_miss_a_target(puzzle, placements):
    answer = puzzle.answer(placements)
    assert answer.fits and not answer.met and answer.word == "not yet"
    assert "NOT YET" in str(answer)


@pytest.mark.parametrize("placement", [whole(0), copies(), rows(0, 1), columns(0, 1)])
def test_the_large_table_goes_through_no_door_but_in_three(placement):
    answer = puzzles.DOOR.answer({"large": placement, "small": whole(3)})
    assert not answer.fits and str(answer).startswith("NOT YET  memory: rank ")


def test_kaggles_largest_does_not_fit_whole_though_its_weights_do():
    config, limit = puzzles.KAGGLE.config, puzzles.KAGGLE.topology.memory
    assert 4 * config.dim * config.cardinalities["C3"] < limit
    others = dict.fromkeys(config.cardinalities, rows(1, 2, 3))
    answer = puzzles.KAGGLE.answer(others | {"C3": whole(0)})
    assert answer.cost.memory[0] > limit > answer.cost.memory[1]


def test_bytes_for_the_tables_are_counted_by_hand():
    """An id 8 bytes, numbers 4, there and back."""
    away, dim = puzzles.BATCH * 3 / 4, 64  # bags that are not on the holder's own rank
    door = puzzles.DOOR.answer({"large": columns(0, 1, 2), "small": whole(3)})
    one, three = 16 + 8 * dim, 3 * 16 + 8 * dim
    assert door.mb == pytest.approx(away * (one + three) / 1e6)
    bags = puzzles.BAGS.answer({"large": rows(0, 1, 2), "small": whole(3)})
    one, three = 1608 + 8 * dim, 1600 + 3 * 8 + 3 * 8 * dim
    assert bags.mb == pytest.approx(away * (one + three) / 1e6)
    assert bags.forward_mb == pytest.approx(away * (1608 + 1624 + 4 * 4 * dim) / 1e6)
    silence = puzzles.SILENCE
    silent = silence.answer(silence.solution)
    ring = 2 * 3 * 4 * 16 * sum(silence.config.cardinalities.values())
    assert silent.forward_mb == 0 and silent.mb == pytest.approx(ring / 1e6)


def test_cutting_rows_or_columns_breaks_even_where_ids_are_as_many_as_numbers():
    def sent(placement, lookups):
        config = puzzles._tables({"t": 1000, "u": 10}, 16, lookups)
        puzzle = puzzles.Puzzle("p", config, puzzles.DOOR.topology, "sgd")
        return puzzle.answer({"t": placement, "u": copies()}).mb

    for lookups, sign in ((15, 1), (16, 0), (17, -1)):
        gap = sent(rows(0, 1, 2), lookups) - sent(columns(0, 1, 2), lookups)
        assert np.sign(round(gap, 9)) == sign


def test_a_wrong_placement_is_refused_in_words():
    with pytest.raises(UserError, match="no placement for 'small'"):
        puzzles.DOOR.answer({"large": whole(0)})


def test_the_timeline_is_hatched_and_has_all_ranks():
    answer = puzzles.KAGGLE.answer(puzzles.KAGGLE.solution)
    figure = answer.draw()
    (axes,) = figure.axes
    assert all(patch.get_hatch() for patch in axes.patches)
    assert len(axes.get_yticks()) == 4
    assert f"{answer.ms:.3f} ms" in (axes.get_title(loc="left") or axes.get_title())


def test_skew_reaches_cost_and_planner():
    puzzle = puzzles.eight(("watched", "hour"), ranks=2)
    plan = puzzle.plan({"watched": rows(0, 1), "hour": copies()})
    hot = {"watched": np.array([9.0, 1.0])}
    assert puzzle.cost(plan, skew=hot).seconds > puzzle.cost(plan).seconds
    assert puzzle.cost(plan).seconds == puzzle.answer(plan.placements).cost.seconds
    assert puzzle.planned(skew=hot).cost.seconds >= puzzle.planned().cost.seconds
