"""Embedding tables: pooling over bags, and what bad input is told."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dlrm_mini.datasets.batches import SparseFeatures
from dlrm_mini.embeddings import EmbeddingTables, check_features, check_ids
from dlrm_mini.errors import UserError

ROWS = {"item": 7, "genres": 4}


def bag(lengths, rows, generator, weighted):
    ids = torch.randint(rows, (sum(lengths),), generator=generator)
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    weights = torch.randn(len(ids), generator=generator)
    return (ids, offsets, weights) if weighted else (ids, offsets)


def features(item=(0, 6), genres=((0, 3), ())):
    offsets = torch.tensor([0, *(len(one) for one in genres)]).cumsum(0)
    ids = torch.tensor([one for row in genres for one in row], dtype=torch.int64)
    return SparseFeatures.from_columns({"item": torch.tensor(item), "genres": (ids, offsets)})


def by_hand(table, sparse, name, pooling):
    ids, offsets, weights = sparse.bag(name)
    rows = []
    for first, last in itertools.pairwise(offsets.tolist()):
        row = torch.zeros(table.shape[1], dtype=table.dtype)
        for place in range(first, last):
            row += table[ids[place]] * (1 if weights is None else weights[place].double())
        rows.append(row / max(1, last - first) if pooling == "mean" else row)
    return torch.stack(rows)


@settings(max_examples=60)
@given(
    lengths=st.lists(st.integers(0, 4), min_size=1, max_size=5),
    seed=st.integers(0, 1000),
    pooling=st.sampled_from(["sum", "mean"]),
    weighted=st.booleans(),
)
def test_equal_to_a_loop_in_float64(lengths, seed, pooling, weighted):
    generator = torch.Generator().manual_seed(seed)
    sparse = SparseFeatures.from_columns(
        {
            "item": torch.randint(7, (len(lengths),), generator=generator),
            "genres": bag(lengths, 4, generator, weighted),
        }
    )
    tables = EmbeddingTables(ROWS, 3, pooling=pooling).double()
    vectors = tables(sparse)
    assert vectors.shape == (len(lengths), 2, 3)
    for place, name in enumerate(ROWS):
        expected = by_hand(tables.tables[name].detach(), sparse, name, pooling)
        torch.testing.assert_close(vectors[:, place], expected)
    plain = EmbeddingTables(ROWS, 3).double()
    torch.testing.assert_close(
        plain.squares(sparse, ["genres"])[0],
        by_hand(plain.tables["genres"].detach().square(), _squared(sparse), "genres", "sum"),
    )


def _squared(sparse):
    weights = None if sparse.weights is None else sparse.weights.square()
    return SparseFeatures(sparse.names, sparse.values, sparse.offsets, weights)


def test_an_empty_bag_gives_zeros_and_no_gradient():
    for pooling in ("sum", "mean"):
        tables = EmbeddingTables(ROWS, 2, pooling=pooling)
        vectors = tables(features(genres=((), ())))
        assert (vectors[:, 1] == 0).all()
        vectors.sum().backward()
        assert (tables.tables["genres"].grad == 0).all()


def test_vectors_come_in_the_order_of_the_tables_and_extra_features_are_ignored():
    sparse = features()
    tables = EmbeddingTables({"genres": 4}, 2)
    assert tables(sparse).shape == (2, 1, 2)
    turned = EmbeddingTables({"genres": 4, "item": 7}, 2)
    with torch.no_grad():
        torch.testing.assert_close(turned(sparse)[:, 1], turned.tables["item"][[0, 6]])


def test_sparse_gradients_hold_the_touched_rows_only():
    tables = EmbeddingTables(ROWS, 2, sparse_gradient=True)
    dense = EmbeddingTables(ROWS, 2)
    dense.load_state_dict(tables.state_dict())
    for one in (tables, dense):
        one(features()).square().sum().backward()
    for name in ROWS:
        gradient = tables.tables[name].grad
        assert gradient.is_sparse
        torch.testing.assert_close(gradient.to_dense(), dense.tables[name].grad)
    assert tables.tables["item"].grad.coalesce().indices().tolist() == [[0, 6]]


@pytest.mark.parametrize("wrong", [7, -1, 10**12])
def test_an_id_without_a_row_names_feature_id_and_rows(wrong):
    tables = EmbeddingTables(ROWS, 2)
    with pytest.raises(UserError, match=rf"'item' has the id {wrong}, .* has 7 rows"):
        tables(features(item=(0, wrong)))
    with pytest.raises(UserError, match=rf"'genres' has the id {wrong}, .* has 4 rows"):
        tables(features(genres=((), (0, wrong))))


def test_the_check_can_be_turned_off():
    tables = EmbeddingTables(ROWS, 2, check=False)
    with pytest.raises((IndexError, RuntimeError)) as error:
        tables(features(item=(0, 7)))
    assert not isinstance(error.value, UserError)


def test_ids_of_features_without_a_table_are_not_checked():
    check_features(features(item=(0, 10**9)), {"genres": 4})


def test_a_missing_feature_is_named():
    with pytest.raises(UserError, match=r"no feature 'user'; there are item, genres"):
        EmbeddingTables({"user": 3}, 2)(features())


def test_a_feature_whose_bags_are_all_empty_is_legal():
    sparse = features(genres=((), ()))
    check_features(sparse, ROWS)
    check_features(sparse, {"genres": 4})


def test_no_rows_are_legal():
    empty = features().select(torch.tensor([], dtype=torch.int64))
    assert EmbeddingTables(ROWS, 3)(empty).shape == (0, 2, 3)
    check_ids("item", torch.tensor([], dtype=torch.int64), 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (({}, 2), "no sparse feature"),
        (({"item": 0}, 2), "'item' has 0 rows"),
        (({"item": 3}, 0), "dimension is 0"),
        (({"a.b": 3}, 2), "cannot be called 'a.b'"),
        (({"keys": 3}, 2), "cannot be called 'keys'"),
    ],
)
def test_tables_that_cannot_be(arguments, words):
    with pytest.raises(UserError, match=words):
        EmbeddingTables(*arguments)
    with pytest.raises(UserError, match="pooling is 'max'"):
        EmbeddingTables(ROWS, 2, pooling="max")


def test_the_first_entries():
    torch.manual_seed(0)
    table = EmbeddingTables({"item": 100}, 64).tables["item"]
    assert 0.099 < table.abs().max() <= 0.1
    table = EmbeddingTables({"item": 100}, 64, init_std=0.03).tables["item"]
    assert 0.028 < table.std() < 0.032


def test_gradients_against_finite_differences():
    tables = EmbeddingTables(ROWS, 2, pooling="mean").double()
    parameters = list(tables.tables.values())

    def lookup(*values):
        return torch.func.functional_call(
            tables, dict(zip([f"tables.{n}" for n in ROWS], values, strict=True)), (features(),)
        )

    assert torch.autograd.gradcheck(lookup, parameters)
    assert isinstance(tables, nn.Module)
