"""Chapter 05's pictures and widgets: orders that are the code's, sizes, and what pairs do."""

import itertools
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dlrm_mini.course.figures import problems
from dlrm_mini.datasets import clicks, movielens, splits
from dlrm_mini.interactions import dot_interaction, output_width
from dlrm_mini.models.dlrm import DLRM, random_batch
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.models.dlrm_presets import kaggle
from dlrm_mini.pictures import dlrm as pictures
from dlrm_mini.widgets import dlrm as widgets

PRIMES = (2.0, 3.0, 5.0, 7.0, 11.0)


def words(axes) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_text()]


def test_the_order_drawn_is_the_order_computed():
    figure = pictures.pair_order(["dense", "a", "b", "c", "d"], 3)
    numbers, output = figure.axes
    vectors = torch.tensor(PRIMES)[:, None] * torch.tensor([[1.0, 0.0, 0.0]])  # (n, D)
    computed = dot_interaction(vectors[None, 0], vectors[None, 1:])[0]
    drawn = words(output)
    assert drawn[:3] == ["z0", "z1", "z2"] and len(drawn) == len(computed)
    for text, value in zip(drawn[3:], computed[3:], strict=True):
        row, column = map(int, text.split("·"))
        assert PRIMES[row] * PRIMES[column] == value  # primes: the product names the pair
    places = {text.get_text(): text.get_position() for text in numbers.texts}
    for number, text in enumerate(drawn[3:]):
        row, column = map(int, text.split("·"))
        assert places[str(number)] == (column, row)


@pytest.mark.parametrize("panel, crossed", [(0, True), (1, False)])
def test_only_the_wide_slots_keep_the_weights_apart(panel, crossed):
    axes = pictures.fm_slots(["a", "b", "c"], dim=2).axes[panel]
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    width = 1 + int(max(x for x, _ in cells))
    drawn = [[cells[x, y] for x in range(width)] for y in range(4)]
    for field, row in enumerate(drawn[1:], start=1):
        picked = [value for one, value in zip(drawn[0], row, strict=True) if one == "1"]
        assert [v for v in picked if v != "0"] == [f"$w_{field}$"]
        assert [v for v in row if v.startswith("$v")] == [f"$v_{{{field},{c}}}$" for c in (1, 2)]
    for one, other in itertools.combinations(drawn[1:], 2):
        meet = [(a, b) for a, b in zip(one, other, strict=True) if "0" not in (a, b)]
        assert (any("w" in a for a, _ in meet)) is crossed


def test_the_bars_are_the_tables():
    config = kaggle()
    figure = pictures.table_sizes(config.cardinalities, config.dim, 475_985)
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == sorted((16 * rows for rows in config.cardinalities.values()), reverse=True)
    assert "98.3%" in figure.axes[0].get_title(loc="left") + figure.axes[0].get_title()


@pytest.mark.parametrize(
    "value, text", [(7, "7"), (1500, "1.5 k"), (540_201_232, "540 M"), (4.3e9, "4.3 G")]
)
def test_counts_are_readable(value, text):
    assert pictures.count(value) == text


@given(n=st.integers(2, 60), dim=st.integers(1, 300))
def test_dot_is_narrower_exactly_beyond_half_the_vectors(n, dim):
    dot, cat = output_width("dot", n, dim), output_width("cat", n, dim)
    assert (dot < cat) is (2 * dim > n)
    assert (dot == cat) is (2 * dim == n)


def test_dimensionality_draws_the_widths_and_the_parameters():
    left, right = pictures.dimensionality(27, 512).axes
    curves = {line.get_label(): line for line in right.lines}
    widths = {line.get_label(): line for line in left.lines}
    place = {16: 12, 128: 124}  # the widths drawn begin at 4
    for dim, dot, cat in ((16, 367, 432), (128, 479, 3456)):
        assert widths["dot"].get_ydata()[place[dim]] == dot
        assert widths["cat"].get_ydata()[place[dim]] == cat
        first = nn.Linear(cat, 512)
        size = sum(p.numel() for p in first.parameters())
        assert curves["cat"].get_ydata()[place[dim]] == size
        assert curves["DCN-v2, 1 layer"].get_ydata()[place[dim]] == size + cat**2 + cat
        assert curves["DCN-v1, 6 layers"].get_ydata()[place[dim]] == size + 6 * 2 * cat


def test_the_ablations_are_drawn_against_the_whole():
    values = {"whole": [0.8, 0.81], "less": [0.79, 0.78]}
    figure = pictures.ablations({"random": values}, full="whole", prediction=("less", -0.01))
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0, -0.02])
    assert "AUC 0.8050" in words(axes) and "-0.0200" in words(axes)
    assert not problems(figure)


def test_the_steps_show_the_shapes_of_a_real_batch():
    config = DLRMConfig(6, {"user": 9, "item": 7}, 4, bottom=(8, 4), top=(5, 1))
    steps = widgets.Steps(config, 32)
    model, batch = DLRM(config), random_batch(config, 32)
    dense, vectors = model.interact(batch)
    assert f"{tuple(batch.dense.shape)}, 2 features" == steps.lines[0][1]
    assert f"{tuple(vectors.shape)}" == steps.lines[1][1]
    assert steps.lines[2][1].endswith(f"{tuple(dense.shape)}")
    assert f"{tuple(model.interaction_matrix(batch).shape[:2])}"[:-1] in steps.lines[3][1]
    assert f"{tuple(dot_interaction(dense, vectors).shape)}" == steps.lines[4][1]
    assert steps.lines[5][1].endswith(f"{tuple(model(batch).shape)}")
    for step in range(1, 8):
        figure = steps.draw(step)
        assert not problems(figure)
        shown = [text.get_text() for text in figure.texts if text.get_text().startswith("#")]
        assert shown == [f"# {shape}" for _, shape in steps.lines[:step]]


@pytest.fixture(scope="module")
def explorer():
    ml = movielens.load()
    split = splits.random_split(len(ml.rating))
    task = clicks.click_task(ml, split)
    torch.manual_seed(0)
    n_dense = task.train.dense.shape[1]
    model = DLRM(DLRMConfig(n_dense, task.cardinalities, 4, bottom=(4,), top=(8, 1)))
    return widgets.Pairs(ml, task, split.test, model), ml, split


def test_an_effect_is_what_the_logit_loses(explorer):
    pairs, *_ = explorer
    torch.manual_seed(1)
    model = DLRM(pairs.model.config).double()
    batch = pairs.sample.select(torch.arange(3))
    width = model.config.top_input
    linear = nn.Linear(width, 1).double()
    model.top = nn.Sequential(linear)
    average = torch.randn(width - 4).double()
    effects = widgets.pair_effects(model, batch, average)  # of a linear top: known exactly
    products = dot_interaction(*model.interact(batch))[:, 4:]
    wanted = linear.weight[0, 4:] * (products - average)
    torch.testing.assert_close(effects, wanted.detach(), rtol=1e-9, atol=1e-12)


def test_an_example_takes_each_feature_from_its_owner(explorer):
    pairs, ml, split = explorer
    user, movie = list(pairs.user_rows)[3], "Star Wars"
    batch = pairs.example(user, movie)
    number = int(re.search(r"user (\d+)", user)[1])
    item = ml.movies["title"].tolist().index(movie)
    assert batch.sparse.ids("user").tolist() == [number]
    assert batch.sparse.ids("item").tolist() == [item]
    genres, _ = batch.sparse["genres"]
    assert genres.tolist() == np.flatnonzero(ml.genres[item]).tolist()
    test = pairs.task.test
    for owner, ids, mine in (("user", ml.user, number), ("item", ml.item, item)):
        row = int((ids[split.test] == mine).nonzero()[0])
        for column, name in enumerate(pairs.task.dense_names):
            if (name == "year" or name.startswith("item_")) == (owner == "item"):
                assert batch.dense[0, column] == test.dense[row, column]


def test_the_pictures_of_pairs_say_whose_they_are(explorer):
    pairs, *_ = explorer
    user = next(iter(pairs.user_rows))
    figure = pairs.draw(user, "Star Wars")
    chance = torch.sigmoid(pairs.model(pairs.example(user, "Star Wars")))[0].item()
    assert figure.get_suptitle().endswith(f"{chance:.2f}") and user in figure.get_suptitle()
    shown = np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)
    products = pairs.model.interaction_matrix(pairs.example(user, "Star Wars"))[0]
    wanted = (products - pairs.mean).detach().numpy()
    lower = np.tri(len(pairs.names), k=-1, dtype=bool)
    np.testing.assert_allclose(shown[lower], wanted[lower], atol=1e-6)
    assert np.isnan(shown[~lower]).all()
    for drawn in (figure, pairs.average()):
        assert not problems(drawn)
