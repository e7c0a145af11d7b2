"""Batches against the slowest way to say the same: lists of lists."""

from itertools import chain, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dlrm_mini.datasets.batches import Batch, Loader, SparseFeatures
from dlrm_mini.errors import UserError


def as_column(bags: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.tensor([i for bag in bags for i in bag], dtype=torch.int64)
    ends = torch.tensor([0, *(len(bag) for bag in bags)]).cumsum(0)
    return ids, ends


def as_bags(sparse: SparseFeatures, name: str) -> list[list[int]]:
    values, offsets = sparse[name]
    return [values[a:b].tolist() for a, b in pairwise(offsets)]


def make(n: int = 10) -> Batch:
    """Row r has item r, genres r, r+1, .. (r % 3 of them), dense r / 2 and r, label r."""
    rows = torch.arange(n)
    bags = [[r + i for i in range(r % 3)] for r in range(n)]
    sparse = SparseFeatures.from_columns({"item": rows, "genres": as_column(bags)})
    return Batch(torch.stack([rows / 2, rows], dim=1), sparse, rows.float())


@st.composite
def columns_and_rows(draw):
    n = draw(st.integers(1, 6))
    bag = st.lists(st.integers(0, 9), max_size=4)
    one = st.lists(st.integers(0, 9), min_size=1, max_size=1)
    kinds = draw(st.lists(st.sampled_from([bag, one]), min_size=1, max_size=3))
    columns = [draw(st.lists(kind, min_size=n, max_size=n)) for kind in kinds]
    return columns, draw(st.lists(st.integers(0, n - 1), max_size=8))


@given(columns_and_rows())
def test_select_is_the_choice_of_bags(example):
    columns, rows = example
    names = [f"f{i}" for i in range(len(columns))]
    sparse = SparseFeatures.from_columns(
        {name: as_column(bags) for name, bags in zip(names, columns, strict=True)}
    )
    chosen = sparse.select(torch.tensor(rows, dtype=torch.int64))
    assert chosen.names == sparse.names and chosen.batch_size == len(rows)
    for name, bags in zip(names, columns, strict=True):
        assert as_bags(sparse, name) == bags
        assert as_bags(chosen, name) == [bags[row] for row in rows]
    assert chosen.lengths().tolist() == [[len(bags[row]) for row in rows] for bags in columns]


def test_embedding_bag_takes_a_feature_as_it_is():
    values, offsets = make().sparse["genres"]
    table = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    pooled = torch.nn.functional.embedding_bag(
        values, table, offsets, mode="sum", include_last_offset=True
    )
    expected = torch.stack([table[r : r + r % 3].sum(dim=0) for r in range(10)])
    torch.testing.assert_close(pooled, expected)


def test_the_layout_is_feature_major():
    sparse = SparseFeatures.from_columns({"a": torch.tensor([7, 3]), "b": as_column([[0, 4], [5]])})
    assert sparse.values.tolist() == [7, 3, 0, 4, 5]
    assert sparse.offsets.tolist() == [0, 1, 2, 4, 5]
    assert sparse.ids("a").tolist() == [7, 3]


def test_all_parts_of_a_batch_are_cut_alike_and_moved_in_one_call():
    batch = make().select(torch.tensor([4, 1, 4]))
    assert len(batch) == 3 and batch.labels.tolist() == [4, 1, 4]
    assert batch.dense.tolist() == [[2, 4], [0.5, 1], [2, 4]]
    assert batch.sparse.ids("item").tolist() == [4, 1, 4]
    moved = batch.to("meta")
    parts = (moved.dense, moved.labels, moved.sparse.values, moved.sparse.offsets)
    assert {part.device.type for part in parts} == {"meta"}


def refused(function, *arguments, **keywords) -> str:
    with pytest.raises(UserError) as caught:
        function(*arguments, **keywords)
    return str(caught.value)


def test_ids_of_a_jagged_feature_are_refused():
    assert "Row 0 of feature 'genres' has 0 ids" in refused(make().sparse.ids, "genres")
    assert "no feature 'genre'; there are item, genres" in refused(make().sparse.ids, "genre")


def test_bad_sparse_features_are_refused():
    ids = torch.arange(4)
    offsets = torch.arange(5)
    assert "float32" in refused(SparseFeatures, ("a",), ids.float(), offsets)
    assert "2-dimensional" in refused(SparseFeatures, ("a",), ids, offsets[None])
    assert "cannot be shared by 3" in refused(SparseFeatures, ("a", "b", "c"), ids, offsets)
    assert "each once" in refused(SparseFeatures, ("a", "a"), ids, offsets)
    assert "expected one or more" in refused(SparseFeatures, (), ids, offsets)
    assert "from 1 to 5" in refused(SparseFeatures, ("a",), ids, offsets + 1)
    fall = torch.tensor([0, 3, 2, 3, 4])
    assert "never to fall" in refused(SparseFeatures, ("a",), ids, fall)
    columns = SparseFeatures.from_columns
    assert "{'a': 4, 'b': 5}" in refused(columns, {"a": ids, "b": torch.arange(5)})
    assert "feature 'a'" in refused(columns, {"a": ids.int()})
    assert "feature 'b' run from 0 to 4 for 3 ids" in refused(columns, {"b": (ids[:3], offsets)})
    assert "has no offsets" in refused(columns, {"b": (ids, ids[:0])})
    assert "expected" in refused(columns, {})


def test_bad_batches_are_refused():
    good = make()
    assert "dense has 9 rows, sparse 10, labels 10" in refused(
        Batch, good.dense[:9], good.sparse, good.labels
    )
    assert "labels is a 1-dimensional tensor of torch.int64" in refused(
        Batch, good.dense, good.sparse, good.labels.long()
    )
    assert "dense is a 1-dimensional" in refused(Batch, good.labels, good.sparse, good.labels)
    assert "Row 10 was asked for; expected rows in 0..9" in refused(
        good.select, torch.tensor([3, 10])
    )
    assert "Row -1" in refused(good.select, torch.tensor([-1, 3]))
    assert "float32" in refused(good.select, torch.tensor([1.0]))


# Loader


def labels(loader: Loader) -> list[list[float]]:
    return [batch.labels.tolist() for batch in loader]


def epoch(loader: Loader) -> list[float]:
    return list(chain.from_iterable(labels(loader)))


def test_in_order_by_default():
    assert labels(Loader(make(5), 2)) == [[0, 1], [2, 3], [4]]
    assert labels(Loader(make(5), 2, drop_last=True)) == [[0, 1], [2, 3]]


@given(st.integers(1, 12), st.integers(1, 14), st.booleans(), st.integers(0, 3))
def test_an_epoch_is_every_row_once(n, batch_size, shuffle, seed):
    loader = Loader(make(n), batch_size, shuffle=shuffle, seed=seed)
    batches = labels(loader)
    assert sorted(chain.from_iterable(batches)) == list(range(n))
    assert len(loader) == len(batches)
    assert all(len(batch) == batch_size for batch in batches[:-1])


def test_the_order_depends_on_seed_and_epoch_alone():
    data = make(50)
    one, two = Loader(data, 8, shuffle=True, seed=3), Loader(data, 7, shuffle=True, seed=3)
    first, second = epoch(one), epoch(one)
    torch.manual_seed(1)
    assert [epoch(two), epoch(two)] == [first, second]
    others = [epoch(Loader(data, 8, shuffle=True, seed=seed)) for seed in range(5)]
    orders = [first, second, *(order for seed, order in enumerate(others) if seed != 3)]
    assert len({tuple(order) for order in orders}) == 6, "seed + epoch must not be the seed"
    assert others[3] == first


def test_an_epoch_left_early_is_not_counted():
    loader = Loader(make(50), 8, shuffle=True)
    for batch in loader:
        begun = batch.labels.tolist()
        break
    assert loader.epoch == 0
    assert labels(loader)[0] == begun and loader.epoch == 1


def test_a_resumed_loader_goes_on_where_the_other_ended():
    data = make(50)
    whole = Loader(data, 8, shuffle=True, seed=5)
    labels(whole)
    state = whole.state_dict()
    assert state == {"epoch": 1, "seed": 5}
    resumed = Loader(data, 8, shuffle=True)
    resumed.load_state_dict(state)
    assert labels(resumed) == labels(whole)


def test_a_loader_without_a_batch_is_refused():
    assert "3 rows make no batch of 4" in refused(Loader, make(3), 4, drop_last=True)
    assert "0 rows make no batch" in refused(Loader, make(3).select(torch.arange(0)), 4)
    assert "batch_size is 0" in refused(Loader, make(3), 0)
    assert "seed -1" in refused(Loader, make(3), 2, seed=-1)


def weighted():
    genres = torch.tensor([4, 0, 5]), torch.tensor([0, 2, 2, 3]), torch.tensor([0.5, 2.0, 3.0])
    return SparseFeatures.from_columns({"item": torch.tensor([7, 3, 1]), "genres": genres})


def test_weights_travel_with_their_ids():
    sparse = weighted()
    assert sparse.bag("item").weights.tolist() == [1, 1, 1]
    assert sparse.bag("genres").weights.tolist() == [0.5, 2.0, 3.0]
    chosen = sparse.select(torch.tensor([2, 0, 1]))
    assert chosen.bag("genres").ids.tolist() == [5, 4, 0]
    assert chosen.bag("genres").weights.tolist() == [3.0, 0.5, 2.0]
    assert chosen.bag("genres").offsets.tolist() == [0, 1, 3, 3]
    assert chosen.to("cpu").bag("genres").weights.tolist() == [3.0, 0.5, 2.0]
    assert sparse.one_hot == (True, False)


def test_weights_of_one_hot_features_are_selected_too():
    ids, offsets = torch.tensor([7, 3, 1]), torch.arange(4)
    sparse = SparseFeatures.from_columns({"item": (ids, offsets, torch.tensor([1.0, 2.0, 3.0]))})
    assert sparse.select(torch.tensor([2, 1])).bag("item").weights.tolist() == [3.0, 2.0]


def test_without_weights_there_are_none():
    assert SparseFeatures.from_columns({"item": torch.tensor([7])}).bag("item").weights is None


def test_weights_must_fit_the_ids():
    ids, offsets = torch.tensor([7, 3]), torch.tensor([0, 2])
    with pytest.raises(UserError, match="'item' has 1 weights for 2 ids"):
        SparseFeatures.from_columns({"item": (ids, offsets, torch.ones(1))})
    with pytest.raises(UserError, match=r"weights of feature 'item' .* torch.float64"):
        SparseFeatures.from_columns({"item": (ids, offsets, torch.ones(2).double())})
    with pytest.raises(UserError, match="1 weights for 2 ids"):
        SparseFeatures(("item",), ids, offsets, torch.ones(1))
