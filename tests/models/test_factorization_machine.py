"""The factorization machine against the naive double sum, and matrix factorization inside it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm_mini.datasets.batches import Batch, SparseFeatures
from dlrm_mini.errors import UserError
from dlrm_mini.models.factorization_machine import (
    FactorizationMachine,
    fm_from_mf,
    pairwise_fast,
    pairwise_naive,
    regularised_loss,
)
from dlrm_mini.models.matrix_factorization import (
    MatrixFactorization,
    regularised_squared_error,
)

ROWS = {"user": 5, "genres": 4, "item": 6}


def random_batch(lengths, n_dense, seed, weighted):
    generator = torch.Generator().manual_seed(seed)
    n, total = len(lengths), sum(lengths)
    ids = torch.randint(4, (total,), generator=generator)
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    weights = torch.randn(total, generator=generator)
    sparse = SparseFeatures.from_columns(
        {
            "item": torch.randint(6, (n,), generator=generator),
            "genres": (ids, offsets, weights) if weighted else (ids, offsets),
            "user": torch.randint(5, (n,), generator=generator),
        }
    )
    dense = torch.randn(n, n_dense, generator=generator)
    return Batch(dense, sparse, torch.randint(2, (n,), generator=generator).float())


def random_model(n_dense, seed):
    torch.manual_seed(seed)
    model = FactorizationMachine(ROWS, 3, n_dense=n_dense, bias=0.3, init_std=1.0).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


def design_row(batch, row):
    """One row of Rendle's design matrix: the value of every id of every table, then the dense."""
    parts = []
    for name, n_rows in ROWS.items():
        ids, offsets, weights = batch.sparse.bag(name)
        x = torch.zeros(n_rows, dtype=torch.float64)
        for place in range(offsets[row], offsets[row + 1]):
            x[ids[place]] += 1 if weights is None else weights[place].double()
        parts.append(x)
    return torch.cat([*parts, batch.dense[row].double()])


def by_definition(model, batch):
    """Rendle 2010, equation (1), entry by entry. A repeated id of a bag is two entries."""
    linear = torch.cat([*(model.linear.tables[n].squeeze(1) for n in ROWS), model.dense_linear])
    vectors = torch.cat([*(model.vectors.tables[n] for n in ROWS), model.dense_vectors])
    answers = []
    for row in range(len(batch)):
        entries, start = [], 0
        for name, n_rows in ROWS.items():
            ids, offsets, weights = batch.sparse.bag(name)
            for place in range(offsets[row], offsets[row + 1]):
                value = 1.0 if weights is None else weights[place].item()
                entries.append((start + int(ids[place]), value))
            start += n_rows
        entries += [(start + c, batch.dense[row, c].item()) for c in range(batch.dense.shape[1])]
        answer = model.bias + sum(linear[j] * x for j, x in entries)
        for a, (i, x) in enumerate(entries):
            for j, z in entries[a + 1 :]:
                answer = answer + (vectors[i] * vectors[j]).sum() * x * z
        answers.append(answer)
    return torch.stack(answers)


cases = given(
    lengths=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    n_dense=st.integers(0, 3),
    seed=st.integers(0, 1000),
    weighted=st.booleans(),
)


@settings(max_examples=60)
@cases
def test_equal_to_the_naive_double_sum(lengths, n_dense, seed, weighted):
    batch = random_batch(lengths, n_dense, seed, weighted)
    model = random_model(n_dense, seed)
    double = Batch(batch.dense, batch.sparse, batch.labels)
    torch.testing.assert_close(model(double), by_definition(model, double), rtol=1e-6, atol=1e-6)


@settings(max_examples=30)
@cases
def test_contributions_add_up(lengths, n_dense, seed, weighted):
    batch, model = random_batch(lengths, n_dense, seed, weighted), random_model(n_dense, seed)
    parts = model.contributions(batch)
    assert parts.pairs.shape[1:] == (len(model.field_names),) * 2
    whole = parts.bias + parts.linear.sum(1) + parts.pairs.triu().sum((1, 2))
    torch.testing.assert_close(whole, model(batch), rtol=1e-6, atol=1e-6)
    one_hot = torch.tensor([0, 2])  # user and item: an id alone in its field meets no other there
    assert parts.pairs[:, one_hot, one_hot].abs().max() < 1e-9


@settings(max_examples=50)
@given(st.integers(1, 3), st.integers(0, 7), st.integers(1, 5), st.integers(0, 1000))
def test_the_identity(rows, n, dim, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, n, dim, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(pairwise_fast(x), pairwise_naive(x), rtol=0, atol=1e-10)


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_matrix_factorization_is_an_fm(seed):
    torch.manual_seed(seed)
    mf = MatrixFactorization(5, 6, dim=4, global_mean=3.5, init_std=1.0)
    for bias in (mf.user_bias, mf.item_bias):
        torch.nn.init.normal_(bias.weight)
    mf = mf.double()
    sparse = SparseFeatures.from_columns(
        {"user": torch.tensor([0, 4, 4]), "item": torch.tensor([5, 0, 3])}
    )
    batch = Batch(torch.zeros(3, 0), sparse, torch.tensor([1.0, 3.0, 5.0]))
    fm = fm_from_mf(mf)
    torch.testing.assert_close(fm(batch), mf(batch), rtol=0, atol=1e-12)
    # The same objective as well: its gradients train it to the same vectors.
    mine = regularised_loss("squared", 0.1, 0.02)(fm, batch)
    torch.testing.assert_close(mine, regularised_squared_error(0.1, 0.02)(mf, batch))


def test_the_logistic_objective_is_the_logloss_and_the_penalty():
    batch, model = random_batch([1, 2], 1, 0, True), random_model(1, 0).float()
    terms = model.look_up(batch)
    logits = model(batch)
    expected = -torch.where(batch.labels > 0, logits.sigmoid(), 1 - logits.sigmoid()).log()
    expected = expected + 0.5 * terms.squares.sum((1, 2)) + 0.25 * terms.linear_squares.sum(1)
    mine = regularised_loss("logistic", 0.5, 0.25)(model, batch)
    torch.testing.assert_close(mine, expected.mean())


def test_an_fm_without_vectors_trained_is_linear_and_begins_at_its_bias():
    model = FactorizationMachine(ROWS, 2, bias=3.5, init_std=0.0)
    assert model(random_batch([1, 0, 3], 0, 0, False)).tolist() == [3.5, 3.5, 3.5]


def test_the_number_of_dense_columns_is_checked():
    with pytest.raises(UserError, match="has 2 dense columns, but the model was built for 1"):
        FactorizationMachine(ROWS, 2, n_dense=1)(random_batch([1], 2, 0, False))


def test_design_row_is_what_the_chapter_draws():
    batch = random_batch([2], 1, 0, True)
    assert design_row(batch, 0).shape == (sum(ROWS.values()) + 1,)
