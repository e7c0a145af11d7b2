import numpy as np
import pytest
import torch
from torch import nn

from dlrm_mini.datasets.batches import Batch, SparseFeatures, check_dense
from dlrm_mini.errors import UserError
from dlrm_mini.models.factorization_machine import pairwise_naive
from dlrm_mini.models.mlp import EmbeddingMLP, fully_connected

SIZES = {"user": 5, "genres": 4}


def a_batch(n_dense=0, seed=0):
    torch.manual_seed(seed)
    genres = torch.tensor([3, 0, 3, 1]), torch.tensor([0, 2, 2, 4])  # row 1 has none
    sparse = SparseFeatures.from_columns({"genres": genres, "user": torch.tensor([4, 0, 4])})
    return Batch(torch.randn(3, n_dense), sparse, torch.zeros(3))


def test_layers_and_their_names():
    network = fully_connected([3, 5, 2], last="relu")
    assert [type(layer) for layer in network] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU]
    assert list(network.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert isinstance(fully_connected([3, 5, 2], last="none")[-1], nn.Linear)
    assert (network(torch.randn(50, 3)) >= 0).all()


def test_the_start_is_the_public_dlrms():
    torch.manual_seed(0)
    layer = fully_connected([400, 600], last="none")[0]
    assert layer.weight.std().item() == pytest.approx((2 / 1000) ** 0.5, rel=0.02)
    assert layer.bias.std().item() == pytest.approx((1 / 600) ** 0.5, rel=0.1)
    assert abs(layer.weight.mean().item()) < 1e-3


def test_dropout_follows_the_hidden_layers_only():
    network = fully_connected([3, 5, 4, 2], last="relu", dropout=0.5)
    kinds = [type(layer) for layer in network]
    hidden = [nn.Linear, nn.ReLU, nn.Dropout]
    assert kinds == [*hidden, *hidden, nn.Linear, nn.ReLU]
    torch.manual_seed(0)
    network, x = fully_connected([3, 32, 2], last="none", dropout=0.5), torch.randn(8, 3)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


@pytest.mark.parametrize(
    ("sizes", "options", "found"),
    [
        ([3], {}, "at least one layer"),
        ([3, 0, 1], {}, r"\(3, 0, 1\)"),
        ([3, 1], {"last": "sigmoid"}, "'sigmoid'; change it to 'relu' or 'none'"),
        ([3, 1], {"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_a_network_that_cannot_be_built_is_explained(sizes, options, found):
    with pytest.raises(UserError, match=found):
        fully_connected(sizes, **{"last": "none"} | options)


@pytest.mark.parametrize("dot_path", [False, True])
@pytest.mark.parametrize("hidden", [(), (6, 4)])
@pytest.mark.parametrize("n_dense", [0, 2])
def test_the_model_is_what_it_says(dot_path, hidden, n_dense):
    """By hand in float64: pooled vectors and dense columns end to end, layers, and the dots."""
    model = EmbeddingMLP(SIZES, 3, hidden, n_dense=n_dense, dot_path=dot_path).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    batch = a_batch(n_dense)

    def vectors(tables):
        user, genres = (tables.tables[name].detach().numpy() for name in ("user", "genres"))
        pooled = [genres[3] + genres[0], np.zeros(3), genres[3] + genres[1]]
        return np.stack([user[[4, 0, 4]], pooled], axis=1)  # (3, F, D)

    x = np.concatenate([batch.dense.numpy(), vectors(model.tables).reshape(3, -1)], axis=1)
    linear = [layer for layer in model.mlp if isinstance(layer, nn.Linear)]
    for layer in linear:
        x = x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        x = x if layer is linear[-1] else np.maximum(x, 0)
    expected = x[:, 0]
    if dot_path:
        expected = expected + pairwise_naive(torch.from_numpy(vectors(model.dot_tables))).numpy()
    np.testing.assert_allclose(model(batch).detach().numpy(), expected, rtol=1e-12)


def test_the_dot_path_has_vectors_of_its_own():
    torch.manual_seed(0)
    model = EmbeddingMLP(SIZES, 3, (16,), dot_path=True)
    names = dict(model.named_parameters())
    assert names["dot_tables.tables.user"] is not names["tables.tables.user"]
    model(a_batch()).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_a_new_model_answers_near_its_bias():
    torch.manual_seed(0)
    model = EmbeddingMLP(SIZES, 8, (), bias=3.5)
    assert (model(a_batch()) - 3.5).abs().max() < 0.5
    assert model.output.bias.item() == 3.5


def test_it_learns():
    torch.manual_seed(0)
    model, batch = EmbeddingMLP(SIZES, 4, (8,)), a_batch()
    target = torch.tensor([1.0, -1.0, 1.0])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    losses = []
    for _ in range(60):
        loss = nn.functional.mse_loss(model(batch), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.01 * losses[0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_dense_value_that_is_not_finite_is_found(value):
    dense = torch.randn(4, 3)
    dense[2, 1] = value
    with pytest.raises(UserError, match=rf"Dense column 1 holds {value} in row 2 .*\(1 such"):
        check_dense(dense, 3)


def test_infinities_that_cancel_are_found_and_large_numbers_are_not():
    dense = torch.tensor([[float("inf")], [-float("inf")]])
    with pytest.raises(UserError, match="column 0 holds inf in row 0"):
        check_dense(dense, 1)
    check_dense(torch.full((4, 1), 3e38), 1)  # whose sum is infinite
    check_dense(torch.empty(0, 2), 2)


def test_the_number_of_dense_columns_is_checked():
    with pytest.raises(UserError, match="has 2 dense columns, but the model was built for 3"):
        EmbeddingMLP(SIZES, 3, (4,), n_dense=3)(a_batch(2))
    with pytest.raises(UserError, match="n_dense is -1"):
        EmbeddingMLP(SIZES, 3, (4,), n_dense=-1)


def test_the_checks_can_be_switched_off():
    model, batch = EmbeddingMLP(SIZES, 3, (4,), n_dense=1), a_batch(1)
    batch.dense[1, 0] = torch.nan
    with pytest.raises(UserError, match="Dense column 0"):
        model(batch)
    model.tables.check = False
    assert model(batch).isnan().tolist() == [False, True, False]


def test_a_missing_feature_and_an_id_without_a_row_are_named():
    with pytest.raises(UserError, match="no feature 'city'; there are genres, user"):
        EmbeddingMLP(SIZES | {"city": 3}, 3, ())(a_batch())
    with pytest.raises(UserError, match=r"'user' has the id 4, .* has 4 rows"):
        EmbeddingMLP(SIZES | {"user": 4}, 3, ())(a_batch())
