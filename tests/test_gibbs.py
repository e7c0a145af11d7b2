"""The sampler: each draw is a Bayesian linear regression, and all of them find the posterior."""

import pytest
import torch

from dlrm_mini import gibbs
from dlrm_mini.datasets.batches import Batch, SparseFeatures
from dlrm_mini.errors import UserError
from dlrm_mini.gibbs import Group, Sampler, conditional
from dlrm_mini.models.factorization_machine import FactorizationMachine
from dlrm_mini.training import predict, set_seed

N = 300
SIZES = {"user": 12, "item": 9, "genres": 5}
DIM = 3


def make(n: int = N, seed: int = 0) -> Batch:
    """Rows with a user, an item of weight 1 or 2, up to three genres, and a dense column."""
    g = torch.Generator().manual_seed(seed)
    chosen = torch.rand(n, 5, generator=g) < 0.3
    ends = chosen.sum(1).cumsum(0)
    genres = (
        chosen.nonzero()[:, 1],
        torch.cat([ends.new_zeros(1), ends]),
        torch.rand(int(ends[-1]), generator=g),
    )
    item = torch.randint(0, 9, (n,), generator=g)
    weights = torch.randint(1, 3, (n,), generator=g).float()
    columns = {
        "user": torch.randint(0, 11, (n,), generator=g),  # user 11 has no row
        "item": (item, torch.arange(n + 1), weights),
        "genres": genres,
    }
    labels = 3 + torch.randn(n, generator=g)
    dense = torch.randn(n, 1, generator=g)
    return Batch(dense, SparseFeatures.from_columns(columns), labels)


def machine(seed: int = 0, dim: int = DIM) -> FactorizationMachine:
    set_seed(seed)
    model = FactorizationMachine(SIZES, dim, n_dense=1, bias=3.0, init_std=0.5)
    for table in model.linear.parameters():
        torch.nn.init.normal_(table)
    torch.nn.init.normal_(model.dense_linear)
    return model


@pytest.fixture
def sampler():
    return Sampler(machine(), make())


def test_the_regression_is_the_dense_one_in_float64():
    """Three ids of 4, 0 and 6 rows, each against the textbook formula."""
    g = torch.Generator().manual_seed(0)
    inputs = torch.randn(10, DIM + 1, generator=g, dtype=torch.float64)
    residual = torch.randn(10, generator=g, dtype=torch.float64)
    old = torch.randn(3, DIM + 1, generator=g, dtype=torch.float64)
    prior_mean = torch.randn(DIM + 1, generator=g, dtype=torch.float64)
    prior_precision = torch.rand(DIM + 1, generator=g, dtype=torch.float64) + 0.5
    got = conditional(inputs, residual, old, [4, 0, 6], 1.7, prior_mean, prior_precision)
    for j, rows in enumerate([slice(0, 4), slice(4, 4), slice(4, 10)]):
        x, targets = inputs[rows], residual[rows] + inputs[rows] @ old[j]
        precision = torch.diag(prior_precision) + 1.7 * x.T @ x
        right = prior_precision * prior_mean + 1.7 * x.T @ targets
        torch.testing.assert_close(got.factor[j] @ got.factor[j].T, precision)
        torch.testing.assert_close(got.mean[j], torch.linalg.solve(precision, right))
    torch.testing.assert_close(got.mean[1], prior_mean)  # nothing seen, nothing learned


def test_draws_have_the_mean_and_the_covariance_they_should():
    torch.manual_seed(0)
    a = torch.randn(3, 3, dtype=torch.float64)
    precision = a @ a.T + torch.eye(3)
    factor = torch.linalg.cholesky(precision)
    mean = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    many = gibbs.Conditional(mean.expand(200_000, 3), factor.expand(200_000, 3, 3)).draw()
    torch.testing.assert_close(many.mean(0), mean, atol=0.01, rtol=0)
    torch.testing.assert_close(many.T.cov(), torch.linalg.inv(precision), atol=0.01, rtol=0)


@pytest.mark.parametrize("field", [0, 1, 2, 3], ids=["user", "weighted item", "genres", "dense"])
def test_a_group_sees_the_inputs_that_the_machine_is_linear_in(sampler, field, monkeypatch):
    """The inputs that reach the regression are the derivatives of the machine's output."""
    seen = []

    def spy(*arguments):
        seen.append(arguments[0])
        return conditional(*arguments)

    monkeypatch.setattr(gibbs, "conditional", spy)
    train, place = make(), sampler.fields[field]
    for group in place.groups:
        theta = place.theta[group.ids]
        ids = group.ids.repeat_interleave(torch.tensor(group.counts))
        before = predict(sampler.write(), train)
        base = []
        for column in range(DIM + 1):  # the output is linear: a step of 1 is the derivative
            place.theta[group.ids] = theta + torch.eye(DIM + 1, dtype=torch.float64)[column]
            base.append(predict(sampler.write(), train)[group.rows] - before[group.rows])
        place.theta[group.ids] = theta
        sampler.write()
        sampler.draw(place, group)
        torch.testing.assert_close(seen.pop(), torch.stack(base, 1), atol=2e-5, rtol=1e-4)
        assert len(ids) == len(group.rows)


def test_residuals_and_sums_stay_true(sampler):
    """After many draws they are what the machine with the drawn weights gives."""
    for _ in range(30):
        sampler.step()
    train, model = make(), sampler.write()
    torch.testing.assert_close(
        sampler.residual, train.labels - predict(model, train), atol=1e-3, rtol=0
    )
    vectors = model.look_up(train).vectors.sum(1).detach()
    torch.testing.assert_close(sampler.sums[:, 1:], vectors, atol=1e-3, rtol=0)
    assert torch.equal(sampler.sums[:, 0], torch.ones(N))


def test_the_chain_finds_the_posterior_of_a_conjugate_problem(monkeypatch):
    """One field, prior and noise held still: Bayesian linear regression in closed form.

    With a single field the vectors never act, and the weights of 6 ids with their bias are jointly
    normal; the bias's prior is a unit normal around 0.
    """
    g = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 6, (40,), generator=g)
    labels = torch.randn(6, generator=g)[ids] + 0.5 * torch.randn(40, generator=g)
    train = Batch(torch.empty(40, 0), SparseFeatures.from_columns({"id": ids}), labels)
    set_seed(0)
    sampler = Sampler(FactorizationMachine({"id": 6}, 1), train)
    field = sampler.fields[0]
    monkeypatch.setattr(field, "draw_prior", lambda: None)  # mean 0 and precision 1 stay
    precision = 4.0

    class Still:  # in place of the gamma that the noise's precision is drawn from
        def __init__(self, *_): ...

        def sample(self):
            return torch.tensor(precision)

    monkeypatch.setattr(gibbs, "Gamma", Still)
    draws = []
    for _ in range(6000):
        sampler.step()
        draws.append([sampler.bias, *field.theta[:, 0].tolist()])
    chain = torch.tensor(draws, dtype=torch.float64)[500:]
    x = torch.cat([torch.ones(40, 1), torch.nn.functional.one_hot(ids, 6)], 1).double()
    covariance = torch.linalg.inv(precision * x.T @ x + torch.eye(7))
    mean = precision * covariance @ x.T @ labels.double()
    torch.testing.assert_close(chain.mean(0), mean, atol=0.04, rtol=0)
    torch.testing.assert_close(chain.T.cov().diag(), covariance.diag(), atol=0.02, rtol=0.15)


def test_priors_are_normal_gamma():
    """Drawn many times for one field, mean and precision have the moments of the closed form."""
    torch.manual_seed(0)
    n, copies = 6, 40_000
    column = torch.randn(n, 1).double() + 2
    theta = column.expand(n, copies)  # each column is a chain of its own
    field = gibbs.Field(torch.zeros(n, copies), [])
    field.theta = theta
    for _ in range(20):
        field.draw_prior()
    centre = float(column.sum()) / (n + 1)
    squares = float((column - centre).square().sum()) + centre**2
    assert float(field.prior_mean.mean()) == pytest.approx(centre, abs=0.02)
    # Gamma((n + 1) / 2, (1 + squares) / 2) once the mean is integrated out.
    assert float(field.prior_precision.mean()) == pytest.approx((n + 1) / (squares + 1), rel=0.03)


def planted(n: int, seed: int) -> tuple[Batch, torch.Tensor]:
    """Ratings of a rank-1 machine with noise 0.5, and the truth without noise."""
    g = torch.Generator().manual_seed(99)
    user_vector, item_vector = torch.randn(40, generator=g), torch.randn(30, generator=g)
    g = torch.Generator().manual_seed(seed)
    user = torch.randint(0, 40, (n,), generator=g)
    item = torch.randint(0, 30, (n,), generator=g)
    truth = 3 + 0.8 * user_vector[user] * item_vector[item]
    labels = truth + 0.5 * torch.randn(n, generator=g)
    sparse = SparseFeatures.from_columns({"user": user, "item": item})
    return Batch(torch.empty(n, 0), sparse, labels), truth


@pytest.fixture(scope="module")
def posterior():
    train, (test, truth) = planted(800, 0)[0], planted(400, 1)
    set_seed(0)
    model = FactorizationMachine({"user": 40, "item": 30}, 2, bias=3.0, init_std=0.1)
    start = {"samples": 60, "burn_in": 20, "seed": 0, "progress": False}
    return gibbs.sample(model, train, test, **start), test, truth


def test_the_average_beats_single_samples_and_finds_noise_and_truth(posterior):
    result, test, truth = posterior
    assert len(result.rmse_single) == len(result.noise) == 80 and len(result.rmse_average) == 60
    assert result.rmse_average[0] == pytest.approx(result.rmse_single[20])
    assert result.rmse_average[-1] < min(result.rmse_single)
    assert result.rmse_average[-1] == pytest.approx(
        float((result.mean - test.labels).square().mean().sqrt()), abs=1e-5
    )
    assert sum(result.noise[20:]) / 60 == pytest.approx(0.5, abs=0.05)
    wrong = (result.mean - truth).abs()
    assert float(wrong.square().mean().sqrt()) < 0.3


def test_the_spread_says_how_wrong_a_prediction_may_be(posterior):
    result, _, truth = posterior
    scaled = (result.mean - truth) / result.std
    assert 0.7 < float(scaled.square().mean().sqrt()) < 1.4


def test_a_seed_fixes_the_chain_and_another_changes_it():
    def run(seed):
        start = {"samples": 3, "burn_in": 1, "progress": False}
        return gibbs.sample(machine(), make(), make(50, 1), seed=seed, **start).mean

    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))


def test_labels_of_the_test_rows_change_the_traces_alone():
    test = make(50, 1)
    hidden = Batch(test.dense, test.sparse, torch.zeros(50))
    start = {"samples": 3, "burn_in": 1, "seed": 0, "progress": False}
    one, other = (gibbs.sample(machine(), make(), rows, **start) for rows in (test, hidden))
    assert torch.equal(one.mean, other.mean)
    assert one.rmse_average != other.rmse_average


def test_ids_that_share_a_row_are_drawn_one_by_one(sampler):
    user, item, genres, _ = sampler.fields
    assert [len(field.groups) for field in sampler.fields] == [1, 1, 5, 1]
    for group in genres.groups:
        assert len(group.rows.unique()) == len(group.rows) == sum(group.counts)
    assert user.groups[0].values is None and item.groups[0].values.shape == (N, 1)


def test_per_row_repeats_and_weighs():
    values = torch.tensor([[2.0], [1.0], [3.0]])
    group = Group(torch.tensor([0, 1]), [1, 2], torch.arange(3), values)
    rows = group.per_row(torch.tensor([[1.0], [10.0]]))
    assert rows.tolist() == [[2.0], [10.0], [30.0]]


def test_wrong_input_is_named():
    batch = make()
    with pytest.raises(UserError, match="0 samples after 3; expected at least 1"):
        gibbs.sample(machine(), batch, batch, samples=0, burn_in=3, seed=0)
    twice = torch.tensor([0, 1, 1]), torch.tensor([0, 1, 3])
    sparse = SparseFeatures.from_columns({"tags": twice})
    rows = Batch(torch.empty(2, 0), sparse, torch.zeros(2))
    model = FactorizationMachine({"tags": 2}, 2)
    with pytest.raises(UserError, match="Row 1 of feature 'tags' has the id 1 twice"):
        Sampler(model, rows)
