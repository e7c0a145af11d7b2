import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from dlrm_mini.datasets.batches import Batch, SparseFeatures
from dlrm_mini.errors import UserError
from dlrm_mini.models.matrix_factorization import MatrixFactorization, regularised_squared_error

N_USERS, N_ITEMS, DIM = 5, 7, 3


def a_model(dim=DIM, dtype=torch.float64):
    torch.manual_seed(0)
    model = MatrixFactorization(N_USERS, N_ITEMS, dim, global_mean=3.5).to(dtype)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


def a_batch(user, item, labels=None):
    sparse = SparseFeatures.from_columns({"user": torch.tensor(user), "item": torch.tensor(item)})
    labels = torch.linspace(1, 5, len(user)) if labels is None else torch.tensor(labels)
    return Batch(torch.empty(len(user), 0), sparse, labels.float())


def weights(model):
    return {name: value.detach().numpy() for name, value in model.named_parameters()}


def test_the_gradient_by_hand_is_autograds():
    """Users and items come several times in the batch: their rows' gradients must add up."""
    l2, l2_bias = 0.3, 0.07
    model, batch = a_model(), a_batch([0, 1, 0, 4], [6, 6, 2, 6])
    regularised_squared_error(l2, l2_bias)(model, batch).backward()
    w = weights(model)
    by_hand = {name: np.zeros_like(value) for name, value in w.items()}
    for u, i, y in zip([0, 1, 0, 4], [6, 6, 2, 6], batch.labels.tolist(), strict=True):
        p, q = w["user_vectors.weight"][u], w["item_vectors.weight"][i]
        b_u, b_i = w["user_bias.weight"][u], w["item_bias.weight"][i]
        error = 3.5 + b_u + b_i + p @ q - y
        by_hand["user_bias.weight"][u] += 2 * (error + l2_bias * b_u) / 4
        by_hand["item_bias.weight"][i] += 2 * (error + l2_bias * b_i) / 4
        by_hand["user_vectors.weight"][u] += 2 * (error * q + l2 * p) / 4
        by_hand["item_vectors.weight"][i] += 2 * (error * p + l2 * q) / 4
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(parameter.grad.numpy(), by_hand[name], rtol=1e-10, atol=1e-12)


def test_rows_that_no_example_touches_have_no_gradient():
    model = a_model()
    regularised_squared_error(0.1, 0.1)(model, a_batch([0, 1], [6, 2])).backward()
    touched = model.item_vectors.weight.grad.abs().sum(1) > 0
    assert touched.nonzero().flatten().tolist() == [2, 6]


def test_a_lookup_is_a_one_hot_product():
    model = a_model()
    user = torch.tensor([4, 0, 4])
    one_hot = functional.one_hot(user, N_USERS).double()  # (B, n_users)
    rows = model.look_up(user, torch.tensor([0, 1, 2]))
    assert torch.equal(rows.user_vector, one_hot @ model.user_vectors.weight)
    assert torch.equal(rows.user_bias, (one_hot @ model.user_bias.weight).squeeze(1))


@settings(max_examples=40)
@given(
    pairs=st.lists(
        st.tuples(st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1)), min_size=1, max_size=20
    ),
    dim=st.integers(1, 9),
)
def test_score_is_the_formula_for_any_pairs(pairs, dim):
    model = a_model(dim)
    user, item = map(list, zip(*pairs, strict=True))
    w = weights(model)
    expected = [
        3.5
        + w["user_bias.weight"][u, 0]
        + w["item_bias.weight"][i, 0]
        + sum(w["user_vectors.weight"][u] * w["item_vectors.weight"][i])
        for u, i in pairs
    ]
    scored = model.score(torch.tensor(user), torch.tensor(item))
    np.testing.assert_allclose(scored.detach().numpy(), expected, rtol=1e-10)
    assert torch.equal(model(a_batch(user, item)), scored)


def test_without_l2_the_objective_is_the_squared_error():
    model, batch = a_model(dtype=torch.float32), a_batch([0, 1, 2], [3, 3, 0])
    plain = functional.mse_loss(model(batch), batch.labels)
    assert regularised_squared_error(0, 0)(model, batch).item() == pytest.approx(plain.item())


def test_a_new_model_predicts_nearly_the_mean_and_can_learn():
    torch.manual_seed(0)
    model, batch = MatrixFactorization(N_USERS, N_ITEMS, 4, 3.5), a_batch([0, 1, 2], [3, 3, 0])
    assert (model(batch) - 3.5).abs().max() < 0.05
    regularised_squared_error(0, 0)(model, batch).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


@pytest.mark.parametrize(
    ("user", "item", "found", "expected"),
    [
        ([0, N_USERS], [0, 0], "'user' has the id 5", "0..4"),
        ([0, 0], [N_ITEMS + 2, 0], "'item' has the id 9", "0..6"),
        ([-1, 0], [0, 0], "'user' has the id -1", "5 rows"),
    ],
)
def test_an_id_without_a_row_is_named(user, item, found, expected):
    with pytest.raises(UserError) as caught:
        a_model()(a_batch(user, item))
    assert found in str(caught.value) and expected in str(caught.value)


def test_no_examples_give_no_ratings():
    nothing = torch.empty(0, dtype=torch.int64)
    assert a_model().score(nothing, nothing).shape == (0,)


def test_the_global_mean_is_saved_but_not_trained():
    model = a_model()
    assert "global_mean" in model.state_dict()
    assert "global_mean" not in dict(model.named_parameters())
