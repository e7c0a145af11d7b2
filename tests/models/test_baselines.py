import numpy as np
import pytest
import torch

from dlrm_mini.datasets.batches import Batch, SparseFeatures
from dlrm_mini.errors import UserError
from dlrm_mini.models.baselines import fit_biases, fit_constant, fit_popularity
from dlrm_mini.training import predict

N_USERS, N_ITEMS = 6, 8


def ratings(n=60, seed=0):
    """Ratings of all users but the last, all items but the last."""
    g = torch.Generator().manual_seed(seed)
    user = torch.randint(0, N_USERS - 1, (n,), generator=g)
    item = torch.randint(0, N_ITEMS - 1, (n,), generator=g)
    labels = torch.randint(1, 6, (n,), generator=g).float()
    sparse = SparseFeatures.from_columns({"user": user, "item": item})
    return Batch(torch.empty(n, 0), sparse, labels)


def columns(batch):
    return (
        batch.sparse.ids("user").numpy(),
        batch.sparse.ids("item").numpy(),
        batch.labels.double().numpy(),
    )


def test_constant_is_the_mean():
    train = ratings()
    prediction = predict(fit_constant(train, N_USERS, N_ITEMS), train)
    np.testing.assert_allclose(prediction, np.full(60, columns(train)[2].mean()), rtol=1e-6)


def test_popularity_is_the_mean_with_ratings_at_the_mean_added():
    train, shrink = ratings(), 4
    _, item, label = columns(train)
    mean = label.mean()
    expected = [
        (label[item == i].sum() + shrink * mean) / ((item == i).sum() + shrink)
        for i in range(N_ITEMS)
    ]
    model = fit_popularity(train, N_USERS, N_ITEMS, shrink=shrink)
    np.testing.assert_allclose(model.mean + model.item_bias, expected, rtol=1e-6)
    assert model.item_bias[-1] == 0  # never rated: the global mean


def test_biases_solve_the_least_squares_problem():
    """Against the normal equations of both sides at once, in float64."""
    train, shrink_user, shrink_item = ratings(), 2.0, 3.0
    user, item, label = columns(train)
    design = np.zeros((len(label), N_USERS + N_ITEMS))
    design[np.arange(len(label)), user] = 1
    design[np.arange(len(label)), N_USERS + item] = 1
    penalty = np.diag([shrink_user] * N_USERS + [shrink_item] * N_ITEMS)
    exact = np.linalg.solve(design.T @ design + penalty, design.T @ (label - label.mean()))
    model = fit_biases(
        train, N_USERS, N_ITEMS, shrink_user=shrink_user, shrink_item=shrink_item, sweeps=50
    )
    np.testing.assert_allclose(model.user_bias, exact[:N_USERS], atol=1e-6)
    np.testing.assert_allclose(model.item_bias, exact[N_USERS:], atol=1e-6)


def test_without_shrinking_an_unrated_item_still_gets_the_mean():
    model = fit_popularity(ratings(), N_USERS, N_ITEMS, shrink=0)
    assert model.item_bias.isfinite().all() and model.item_bias[-1] == 0


def test_an_id_without_a_bias_is_named():
    model = fit_constant(ratings(), N_USERS, N_ITEMS)
    sparse = SparseFeatures.from_columns({"user": torch.tensor([0]), "item": torch.tensor([8])})
    with pytest.raises(UserError, match=r"'item' has the id 8.*8 rows"):
        model(Batch(torch.empty(1, 0), sparse, torch.ones(1)))
