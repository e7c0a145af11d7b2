"""Chapter 04: the experiment, the network written by hand, the pictures and the widgets."""

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm_mini import measurements, widgets
from dlrm_mini.course import figures
from dlrm_mini.datasets.movielens import GENRES, MovieLens
from dlrm_mini.ladders import dot_product, folded_product
from dlrm_mini.ladders.dot_product import Cell
from dlrm_mini.models.mlp import EmbeddingMLP, fully_connected
from dlrm_mini.pictures import hidden_units
from dlrm_mini.pictures import the_mlp as pictures
from dlrm_mini.widgets import the_mlp

# --- the experiment -------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 5, 64])
def test_the_product_has_variance_one_and_is_what_it_says(dim):
    vectors, product = dot_product.make(20_000, dim, torch.Generator().manual_seed(1))
    x, y = vectors[:, :dim], vectors[:, dim:]
    torch.testing.assert_close(product, torch.einsum("nd,nd->n", x, y) / dim**0.5)
    assert float(product.mean()) == pytest.approx(0, abs=0.05)
    assert float(product.var()) == pytest.approx(1, abs=0.08)


def test_missed_is_none_for_the_product_and_all_for_nothing():
    def half(x):
        return 0.5 * (x[:, :3] * x[:, 3:]).sum(1) / 3**0.5

    assert dot_product.missed(lambda x: 2 * half(x), 3) == pytest.approx(0, abs=1e-6)
    assert dot_product.missed(half, 3) == pytest.approx(0.25, rel=1e-5)
    assert dot_product.missed(lambda x: torch.zeros(len(x)), 3) == pytest.approx(1)


def test_noise_lies_on_the_labels_and_not_on_the_validation_rows():
    quiet, loud = (dot_product.sample(Cell(2, 5000, noise=noise), seed=3) for noise in (0.0, 9.0))
    assert torch.equal(quiet.vectors, loud.vectors)
    assert float((loud.labels - quiet.labels).var()) == pytest.approx(9, rel=0.1)
    for data in (quiet, loud):
        x, y = data.valid.chunk(2, dim=1)
        torch.testing.assert_close(data.valid_product, (x * y).sum(1) / 2**0.5)


def test_training_finds_a_short_product_and_repeats_itself():
    cell = Cell(1, 512, hidden=(16,), rate=0.03)
    once, again = (dot_product.train(cell, 0, steps=300) for _ in range(2))
    assert once.missed < 0.05
    assert all(
        torch.equal(a, b)
        for a, b in zip(once.network.parameters(), again.network.parameters(), strict=True)
    )
    assert dot_product.train(cell, 1, steps=300).missed != once.missed


def test_the_weights_kept_are_the_best_ones_on_validation_rows(monkeypatch):
    cell = Cell(2, 32, hidden=(64,), noise=9.0, rate=0.01)  # learns its 32 rows by heart
    short = dot_product.train(cell, 0, steps=1000).missed
    monkeypatch.setattr(dot_product, "LOOKS", 1)  # one look at the end: the last weights
    assert short < 0.8 * dot_product.train(cell, 0, steps=1000).missed


def test_batches_visit_each_row_once_before_any_twice():
    batches = dot_product._batches(600)
    first = torch.cat([next(batches) for _ in range(2)])
    assert len(first.unique()) == len(first) == 2 * dot_product.BATCH


def test_a_regression_is_exact_once_it_has_seen_enough():
    columns = dot_product.quadratic(torch.zeros(1, 6)).shape[1]
    assert columns == 7 * 8 // 2
    assert dot_product.regress(dot_product.quadratic, Cell(3, 2 * columns), 0) < 1e-4
    assert dot_product.regress(dot_product.quadratic, Cell(3, columns // 2), 0) > 0.05
    assert dot_product.regress(dot_product.products, Cell(3, 10), 0) < 1e-4


def test_measure_records_every_cell_once(monkeypatch):
    caught = {}

    def write(name, results, command):
        caught.update(name=name, results=results, command=command)

    monkeypatch.setattr(measurements, "write", write)
    small = {"STEPS": 4, "DIMS": (1, 2), "EXAMPLES": (16, 64), "WIDTHS": (4, 8), "SEEDS": (0, 1)}
    small |= {"WIDTH_DIMS": (2,), "NOISE_DIM": 2, "NOISE_EXAMPLES": (16, 64, 128)}
    for name, value in (small | {"SHORT_DIMS": (1,)}).items():
        monkeypatch.setattr(dot_product, name, value)
    dot_product.measure(progress=False)
    results = caught["results"]
    assert [(c["dim"], c["examples"]) for c in results["by_examples"]] == [
        (1, 16), (1, 64), (2, 16), (2, 64)]  # fmt: skip
    assert [c["hidden"] for c in results["by_width"]] == [[4], [8]]
    assert len(results["noisy"]) == 2 * 3 and len(results["knows_all_products"]) == 3
    for name in ("by_examples", "noisy", "knows_which_products"):
        for cell in results[name]:
            assert len(cell["per_seed"]) == 2
            assert cell["missed"] == pytest.approx(np.mean(cell["per_seed"]), abs=1e-5)
    assert caught["command"].endswith("measure dot-product")


def test_the_record_is_of_this_experiment_and_comes_out_again():
    results = measurements.read("dot_product")["results"]
    grid = [(c["dim"], c["examples"]) for c in results["by_examples"]]
    assert grid == [(d, n) for d in dot_product.DIMS for n in dot_product.EXAMPLES]
    assert results["steps"] == dot_product.STEPS
    recorded = results["knows_all_products"][1]
    cell = Cell(recorded["dim"], recorded["examples"], noise=recorded["noise"])
    now = dot_product.regress(dot_product.quadratic, cell, 0)
    assert now == pytest.approx(recorded["per_seed"][0], abs=1e-3)


# --- the network written by hand ------------------------------------------------------------------


@given(dim=st.integers(1, 6), folds=st.integers(1, 4), covered=st.integers(0, 6))
@settings(max_examples=30)
def test_the_network_by_hand_is_a_sum_of_folded_squares(dim, folds, covered):
    pairs = min(covered, dim)
    if not pairs:
        return
    knots, bends, _ = folded_product.folded_parabola(folds)

    def square(z):
        return torch.relu(z.abs()[..., None] - knots) @ bends

    vectors = torch.randn(20, 2 * dim, dtype=torch.float64)
    x, y = vectors[:, :pairs], vectors[:, dim : dim + pairs]
    expected = (square((x + y) / 2**0.5) - square((x - y) / 2**0.5)).sum(1) / 2 / dim**0.5
    network = folded_product.by_hand(dim, folds, pairs)
    torch.testing.assert_close(network(vectors).squeeze(1), expected, rtol=1e-10, atol=1e-10)
    assert network[0].out_features == 4 * folds * pairs


@pytest.mark.parametrize(("dim", "folds", "pairs"), [(1, 1, 1), (1, 3, 1), (8, 1, 8), (8, 2, 5)])
def test_it_misses_what_its_docstring_says(dim, folds, pairs):
    network = folded_product.by_hand(dim, folds, pairs)
    share = dot_product.missed(lambda x: network(x.double()).squeeze(1), dim)
    expected = 1 - pairs / dim * (1 - folded_product.folded_parabola(folds)[2])
    assert share == pytest.approx(expected, rel=0.08, abs=0.001)


def test_no_shift_of_the_knots_makes_the_parabola_better():
    _, _, best = folded_product.folded_parabola(1)
    z = torch.randn(400_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for knot in (0.3, 0.8, 1.3):
        hinge = torch.relu(z.abs() - knot)
        share = 1 - float(torch.corrcoef(torch.stack([hinge, z.square()]))[0, 1] ** 2)
        assert share > best - 0.002


def test_more_units_never_represent_less():
    shares = [folded_product.representable(16, width) for width in range(0, 300, 7)]
    assert shares[0] == 1 and shares[-1] < 0.01
    assert all(later <= earlier for earlier, later in pairwise(shares))


# --- pictures -------------------------------------------------------------------------------------


def complete(figure) -> bool:
    return figures.problems(figure) == []


def test_a_sheet_is_its_network_and_folds_where_units_switch_on():
    torch.manual_seed(0)
    network = fully_connected([2, 9, 1], last="none").double()
    sheet = pictures.Sheet.of(network)
    points = np.random.default_rng(0).normal(size=(50, 2))
    expected = network(torch.from_numpy(points)).squeeze(1).detach().numpy()
    np.testing.assert_allclose(sheet(points), expected, rtol=1e-12)
    assert sheet.folds()
    for ends in sheet.folds():
        assert np.abs(ends).max() <= pictures.REACH * (1 + 1e-9)
        before = ends @ sheet.first[:, :2].T + sheet.first[:, 2]  # (2, k)
        assert np.isclose(before, 0, atol=1e-9).all(0).any()  # both ends on one unit's line


def test_a_unit_that_never_switches_inside_the_picture_has_no_fold():
    sheet = pictures.Sheet(np.array([[1.0, 1.0, 99.0], [0.0, 0.0, 1.0]]), np.ones(2), 0.0)
    assert sheet.folds() == []


def test_the_pictures_of_the_product_are_complete():
    squares = {m: folded_product.folded_parabola(m) for m in (1, 2)}
    numbers = {m: (knots.numpy(), bends.numpy(), e) for m, (knots, bends, e) in squares.items()}
    assert complete(pictures.parabola(numbers))
    sheet = pictures.Sheet.of(folded_product.by_hand(1, 1))
    assert complete(pictures.saddles({"four": sheet}, side=9))


def test_the_costs_hold_the_curves_the_hand_and_the_guesses():
    shares = np.array([[0.5, 0.6], [0.05, 0.06]])
    hand = {16: np.array([0.4, 0.01])}
    figure = pictures.costs({16: ([256, 1024], shares)}, {16: ([16, 64], shares)}, hand, (300, 40))
    left, right = figure.axes
    assert left.lines[0].get_xydata().tolist() == [[256, 0.55], [1024, 0.055]]
    stars = [line for axes in (left, right) for line in axes.lines if line.get_marker() == "*"]
    assert [line.get_xydata().tolist() for line in stars] == [[[300, 0.1]], [[40, 0.1]]]
    assert any(list(line.get_ydata()) == [0.4, 0.01] for line in right.lines)
    assert complete(figure)


def test_under_noise_draws_each_model():
    shares = np.array([[0.5, 0.7], [0.1, 0.3]])
    figure = pictures.under_noise({"a": ([1, 2], shares), "b": ([1, 2], shares / 2)}, mark=2)
    assert figure.axes[0].lines[1].get_ydata().tolist() == [0.3, 0.1]
    assert complete(figure)


@given(n=st.integers(1, 9), m=st.integers(1, 9), seed=st.integers(0, 99))
def test_a_matrix_taken_apart_can_be_put_together(n, m, seed):
    matrix = np.random.default_rng(seed).normal(size=(n, m))
    parts = hidden_units.take_apart(matrix)
    whole = parts.mean + parts.users[:, None] + parts.movies + parts.interaction
    np.testing.assert_allclose(whole, matrix, atol=1e-12)
    np.testing.assert_allclose(parts.interaction.sum(0), 0, atol=1e-12)
    np.testing.assert_allclose(parts.interaction.sum(1), 0, atol=1e-12)
    assert parts.variances().sum() == pytest.approx(matrix.var(), abs=1e-12)


def test_sums_have_no_interaction_and_products_of_centred_factors_nothing_else():
    a, b = np.array([-1.0, 0, 1]), np.array([-2.0, 2])
    assert hidden_units.take_apart(a[:, None] + b).variances()[2] == pytest.approx(0)
    np.testing.assert_allclose(hidden_units.take_apart(a[:, None] * b).variances()[:2], 0)


def test_worth_draws_the_whole_and_the_shadow():
    figure = hidden_units.worth({"one": (0.9, 0.95), "two": (0.8, 0.97)}, {"two": 0.85})
    axes = figure.axes[0]
    assert [line.get_xdata()[0] for line in axes.lines[1::3]] == [0.95, 0.97]
    assert "0.8500" in axes.get_yticklabels()[1].get_text()
    assert complete(figure)


def test_an_anatomy_fills_each_column():
    units = [np.array([1.0, 2, 1]), np.array([3.0, 0, 1])]
    figure = hidden_units.anatomy(units, {"model": np.array([1.0, 1, 2])})
    heights = [patch.get_height() for patch in figure.axes[0].patches]
    assert sum(heights) == pytest.approx(200)
    assert [text.get_text() for text in figure.axes[1].texts] == ["50 %"]
    assert complete(figure)


# --- widgets --------------------------------------------------------------------------------------

N_USERS, N_ITEMS = 30, 90


@pytest.fixture(scope="module")
def ml() -> MovieLens:
    user = torch.arange(N_USERS).repeat_interleave(N_ITEMS)
    item = torch.arange(N_ITEMS).repeat(N_USERS)
    titles = [f"Movie {i // 2}" for i in range(N_ITEMS)]  # each title twice
    return MovieLens(
        user=user,
        item=item,
        rating=(1 + (user + item) % 5).float(),
        timestamp=torch.arange(len(user)),
        users=pd.DataFrame(index=range(N_USERS)),
        movies=pd.DataFrame({"title": titles}),
        genres=np.eye(len(GENRES), dtype=np.uint8)[np.arange(N_ITEMS) % 3],
        source="made up",
    )


@pytest.fixture(scope="module")
def seen(ml) -> the_mlp.Units:
    torch.manual_seed(0)
    model = EmbeddingMLP({"user": N_USERS, "item": N_ITEMS}, 4, [6])
    return the_mlp.Units(ml, model, torch.arange(10, N_ITEMS))


def test_a_unit_is_what_the_models_first_layer_computes(ml, seen):
    torch.manual_seed(0)
    model = EmbeddingMLP({"user": N_USERS, "item": N_ITEMS}, 4, [6])
    vectors = model.tables(ml.examples().sparse).flatten(1)  # (B, 8)
    hidden = torch.relu(model.mlp[0](vectors)).view(N_USERS, N_ITEMS, 6)[:, 10:].detach().numpy()
    ours = np.maximum(seen.users[:, None] + seen.movies, 0)
    np.testing.assert_allclose(ours, hidden, atol=1e-6)
    for k in range(6):
        assert seen.variances[k].sum() == pytest.approx(hidden[..., k].var(), rel=1e-4, abs=1e-9)
    brought = seen.weights**2 * seen.variances[:, 2]
    assert list(seen.order) == sorted(range(6), key=lambda k: -brought[k])


def test_a_unit_names_each_title_once_and_its_genres_by_push(seen):
    one = seen.unit(2)
    assert len(set(one.loudest)) == len(one.loudest) == the_mlp.SHOWN
    pushes = [mean for mean, _ in one.genres.values()]
    assert pushes == sorted(pushes, reverse=True)
    assert set(one.genres) == set(GENRES[:3])
    assert (np.diff(one.users) >= 0).all() and one.activation().min() >= 0


def test_every_unit_can_be_drawn(seen):
    for rank in range(1, 7):
        for show in the_mlp.SHOW:
            assert complete(seen.draw(rank, show))


@pytest.fixture
def imitations(monkeypatch) -> the_mlp.Imitations:
    for name, value in {"WIDTHS": (2, 8), "POINTS": (16, 1024), "STEPS": 150}.items():
        monkeypatch.setattr(the_mlp, name, value)
    return the_mlp.Imitations()


def test_imitations_learn_and_repeat_themselves(imitations):
    # The worst of the four starts misses 0.18 and 0.78.
    assert imitations.missed[8, 1024, "none"] < 0.13 < imitations.missed[2, 1024, "none"] < 0.7
    again = the_mlp.Imitations()
    assert again.missed == imitations.missed
    assert imitations.labels.shape == (len(the_mlp.NOISES), 1024)
    assert complete(imitations.draw(8, 16, "as in ratings"))


def test_imitations_learn_the_noise_they_are_given(imitations):
    output = imitations.sheets[8, 16, "as in ratings"](imitations.points[:16].double().numpy())
    clean, _, noisy = ((output - row[:16].numpy()).var() for row in imitations.labels)
    assert noisy < 0.7 * clean


def test_the_widgets_are_alive(imitations, seen, monkeypatch):
    monkeypatch.setattr(widgets, "_shown", [])
    for widget in (imitations.widget(), seen.widget()):
        widget._repr_mimebundle_()
    assert {found["problem"] for found in json.loads(widgets.probe())} == {None}
