"""Smaller tables: each id's vector, pooling, starting spread, exact bytes, bad input."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import binary_cross_entropy_with_logits

from dlrm_mini.datasets.sparse import SparseFeatures
from dlrm_mini.embeddings import EmbeddingTables
from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm import DLRM, random_batch
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.optimizers import RowWiseAdagrad
from dlrm_mini.smaller_tables import (
    HashedTables,
    MixedDimensionTables,
    QuotientRemainderTables,
    hash_ids,
    mixed_dims,
)

IDS = {"item": 23, "genres": 5}  # only the items get a smaller table
COMBINE = ("sum", "product", "concat")


def makers():
    """One of each kind, by name; called with cardinalities, D and options."""
    return {
        "hashed": lambda ids, dim, **more: HashedTables(ids, dim, {"item": 6}, **more),
        **{
            combine: lambda ids, dim, how=combine, **more: QuotientRemainderTables(
                ids, dim, {"item": 5}, how, **more
            )
            for combine in COMBINE
        },
        "mixed": lambda ids, dim, **more: MixedDimensionTables(ids, dim, {"item": 2}, **more),
    }


ALL = pytest.mark.parametrize("make", makers().values(), ids=makers().keys())


def bag(lengths, n_ids, generator, weighted):
    ids = torch.randint(n_ids, (sum(lengths),), generator=generator)
    column = ids, torch.tensor([0, *lengths]).cumsum(0)
    return (*column, torch.randn(len(ids), generator=generator)) if weighted else column


def features(item=(0, 22), genres=((0, 3), ())):
    offsets = torch.tensor([0, *(len(one) for one in genres)]).cumsum(0)
    ids = torch.tensor([one for row in genres for one in row], dtype=torch.int64)
    return SparseFeatures.from_columns({"item": torch.tensor(item), "genres": (ids, offsets)})


def full(tables):
    """The plain tables that smaller ones stand for, as a module of plain tables in float64."""
    plain = EmbeddingTables(tables.cardinalities, tables.dim, pooling=tables.pooling).double()
    with torch.no_grad():
        for name, n_ids in tables.cardinalities.items():
            plain.tables[name].copy_(tables.vectors(name, torch.arange(n_ids)))
    return plain


@ALL
@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 4), min_size=1, max_size=5),
    seed=st.integers(0, 1000),
    pooling=st.sampled_from(["sum", "mean"]),
    weighted=st.booleans(),
    one_hot=st.booleans(),
)
def test_forward_pools_the_vectors_as_plain_tables_do(
    make, lengths, seed, pooling, weighted, one_hot
):
    generator = torch.Generator().manual_seed(seed)
    lengths = [1] * len(lengths) if one_hot else lengths
    sparse = SparseFeatures.from_columns(
        {
            "genres": bag(lengths, 5, generator, False),
            "item": bag(lengths, 23, generator, weighted),
            "unused": torch.full((len(lengths),), 10**9),
        }
    )
    tables = make(IDS, 4, pooling=pooling).double()
    vectors = tables(sparse)
    assert vectors.shape == (len(lengths), 2, 4)
    torch.testing.assert_close(vectors, full(tables)(sparse))


@settings(max_examples=200)
@given(
    ids=st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=20),
    rows=st.integers(1, 2**40),
    seed=st.integers(0, 2**33),
)
def test_the_hash_is_splitmix64(ids, rows, seed):
    def mixed(number):
        number = (number + (seed + 1) * 0x9E3779B97F4A7C15) % 2**64
        number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        number = (number ^ (number >> 27)) * 0x94D049BB133111EB % 2**64
        number ^= number >> 31
        return (number - 2**64 if number >= 2**63 else number) % rows

    hashed = hash_ids(torch.tensor(ids), rows, seed)
    assert hashed.tolist() == [mixed(one) for one in ids]
    assert ((hashed >= 0) & (hashed < rows)).all()


def test_the_hash_against_a_published_value():
    # The first output of SplitMix64 with the state 0 is 0xE220A8397B1DCDAF.
    assert hash_ids(torch.tensor([0]), 2**62, 0).item() == 0xE220A8397B1DCDAF % 2**62


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(2, 400),
    start=st.integers(0, 2**50),
    stride=st.sampled_from([1, 2, 10, 64, 400, 4096]),
    seed=st.integers(0, 2**32),
)
def test_the_hash_spreads_runs_of_ids_as_a_random_draw_would(rows, start, stride, seed):
    ids = start + stride * torch.arange(50 * rows)
    counts = hash_ids(ids, rows, seed).bincount(minlength=rows).double()
    chi_square = ((counts - 50) ** 2 / 50).sum().item()
    assert abs(chi_square - (rows - 1)) < 8 * (2 * (rows - 1)) ** 0.5 + 12


def test_hashed_features_have_hashes_of_their_own():
    ids = torch.arange(10_000)
    same = HashedTables({"a": 10_000, "b": 10_000}, 1, {"a": 100, "b": 100})
    other = HashedTables({"a": 10_000, "b": 10_000}, 1, {"a": 100, "b": 100}, seed=1)
    a, b, c = same.places("a", ids), same.places("b", ids), other.places("a", ids)
    for one, two in itertools.combinations((a, b, c), 2):
        assert 0.005 < (one == two).double().mean() < 0.015  # 1 in 100 by chance
    assert (same.places("a", ids) == a).all()
    full_table = HashedTables({"a": 50}, 1, {"a": 50})
    assert full_table.places("a", ids[:50]).tolist() == list(range(50))


@settings(max_examples=100)
@given(data=st.data(), n_ids=st.integers(1, 300))
def test_no_two_ids_share_remainder_and_quotient(data, n_ids):
    rows = data.draw(st.integers(1, n_ids))
    tables = QuotientRemainderTables({"item": n_ids}, 2, {"item": rows}, "concat")
    with torch.no_grad():  # tables that hold their own row numbers: the vector is the pair
        for part in (tables.tables["item"], tables.quotients["item"]):
            part.copy_(torch.arange(len(part))[:, None])
    pairs = tables.vectors("item", torch.arange(n_ids)).long()
    assert len(pairs.unique(dim=0)) == n_ids
    assert len(tables.quotients["item"]) == int(pairs[:, 1].max()) + 1  # no row too many


@pytest.mark.parametrize("combine", COMBINE)
def test_a_vector_is_made_of_its_two_parts(combine):
    tables = QuotientRemainderTables(IDS, 4, {"item": 5}, combine)
    with torch.no_grad():
        rest, quotient = tables.tables["item"][17 % 5], tables.quotients["item"][17 // 5]
        expected = {
            "sum": lambda: rest + quotient,
            "product": lambda: rest * quotient,
            "concat": lambda: torch.cat([rest, quotient]),
        }[combine]()
        torch.testing.assert_close(tables.vectors("item", torch.tensor([17]))[0], expected)
        genres = tables.vectors("genres", torch.tensor([3]))[0]
        torch.testing.assert_close(genres, tables.tables["genres"][3])


def test_a_narrow_row_is_projected():
    tables = MixedDimensionTables(IDS, 4, {"item": 2, "genres": 4})
    assert list(tables.projections) == ["item"]
    with torch.no_grad():
        narrow, projection = tables.tables["item"][17], tables.projections["item"]
        vector = tables.vectors("item", torch.tensor([17]))[0]
        torch.testing.assert_close(vector, projection @ narrow)


@pytest.mark.parametrize(
    "make",
    [
        lambda: HashedTables(IDS, 4, {}),
        lambda: HashedTables(IDS, 4, dict(IDS)),
        lambda: QuotientRemainderTables(IDS, 4, {}),
        lambda: MixedDimensionTables(IDS, 4, {}),
        lambda: MixedDimensionTables(IDS, 4, dict.fromkeys(IDS, 4)),
    ],
)
def test_when_nothing_is_made_smaller_the_tables_are_plain(make):
    torch.manual_seed(0)
    tables = make()
    torch.manual_seed(0)
    plain = EmbeddingTables(IDS, 4)
    assert tables.state_dict().keys() == plain.state_dict().keys()
    for name in IDS:
        torch.testing.assert_close(tables.tables[name], plain.tables[name])
    plain.load_state_dict(tables.state_dict())
    sparse = features(genres=((4, 4, 0), ()))
    torch.testing.assert_close(tables(sparse), plain(sparse), rtol=0, atol=1e-7)
    assert tables.n_bytes == (23 + 5) * 4 * 4


@pytest.mark.parametrize("init_std", [None, 0.03])
@pytest.mark.parametrize(
    "make",
    [
        lambda ids, dim, **more: HashedTables(ids, dim, {"item": 900}, **more),
        lambda ids, dim, **more: QuotientRemainderTables(ids, dim, {"item": 100}, "sum", **more),
        lambda ids, dim, **more: QuotientRemainderTables(
            ids, dim, {"item": 100}, "product", **more
        ),
        lambda ids, dim, **more: QuotientRemainderTables(ids, dim, {"item": 100}, "concat", **more),
        lambda ids, dim, **more: MixedDimensionTables(ids, dim, {"item": 8}, **more),
    ],
    ids=["hashed", *COMBINE, "mixed"],
)
def test_vectors_begin_with_the_spread_of_a_plain_table(make, init_std):
    torch.manual_seed(0)
    ids = {"item": 10_000, "other": 10_000}
    tables = make(ids, 32, init_std=init_std)
    with torch.no_grad():
        vectors = {name: tables.vectors(name, torch.arange(10_000)) for name in ids}
    plain = EmbeddingTables(ids, 32, init_std=init_std).tables["item"].std().item()
    assert plain == pytest.approx(0.03 if init_std else (3 * 10_000) ** -0.5, rel=0.01)
    for name in ids:
        assert vectors[name].std().item() == pytest.approx(plain, rel=0.05)
        assert abs(vectors[name].mean().item()) < 0.05 * plain


def test_both_parts_of_a_product_can_move_from_the_start():
    tables = QuotientRemainderTables(IDS, 4, {"item": 5}, "product", init_std=0.0)
    assert (tables.quotients["item"].abs() == 1).all()
    tables(features()).sum().backward()
    assert tables.tables["item"].grad.abs().sum() == 2 * 4  # of two ids, at full size


@ALL
def test_sparse_gradients_are_the_dense_ones_of_the_rows_touched(make):
    sparse = features(item=(7, 7, 13), genres=((0, 3), (), (3,)))
    grown, dense = make(IDS, 4, sparse_gradient=True), make(IDS, 4)
    dense.load_state_dict(grown.state_dict())
    for tables in (grown, dense):
        tables(sparse).square().sum().backward()
    for (name, one), other in zip(grown.named_parameters(), dense.parameters(), strict=True):
        if name.startswith("projections"):
            torch.testing.assert_close(one.grad, other.grad)
            continue
        assert one.grad.is_sparse
        torch.testing.assert_close(one.grad.to_dense(), other.grad)
        assert len(one.grad.coalesce().indices()[0]) <= 2 < len(one)


@ALL
def test_gradients_against_finite_differences(make):
    tables = make(IDS, 4, pooling="mean").double()
    names = [name for name, _ in tables.named_parameters()]

    def lookup(*values):
        given = dict(zip(names, values, strict=True))
        return torch.func.functional_call(tables, given, (features(),))

    assert torch.autograd.gradcheck(lookup, list(tables.parameters()))


@ALL
def test_bytes_are_those_of_the_saved_numbers(make):
    tables = make(IDS, 4)
    saved = sum(value.numel() for value in tables.state_dict().values())
    assert tables.n_bytes == 4 * saved
    items = {HashedTables: 6 * 4, MixedDimensionTables: 23 * 2 + 4 * 2}
    half = getattr(tables, "combine", "") == "concat"
    expected = items.get(type(tables), (5 + 5) * (2 if half else 4)) + 5 * 4
    assert saved == expected


@ALL
def test_no_rows_and_empty_bags_are_legal(make):
    tables = make(IDS, 4)
    empty = features().select(torch.tensor([], dtype=torch.int64))
    assert tables(empty).shape == (0, 2, 4)
    vectors = tables(features(genres=((), ())))
    assert (vectors[:, 1] == 0).all()
    vectors.sum().backward()


@ALL
def test_an_id_without_a_row_names_feature_id_and_ids(make):
    tables = make(IDS, 4)
    assert tables.names == ("item", "genres")
    for wrong in (23, -1, 10**12):
        with pytest.raises(UserError, match=rf"'item' has the id {wrong}, .* has 23 rows"):
            tables(features(item=(0, wrong)))
    with pytest.raises(UserError, match=r"'genres' has the id 5, .* has 5 rows"):
        tables(features(genres=((), (5,))))
    with pytest.raises(UserError, match="no feature 'item'"):
        tables(SparseFeatures.from_columns({"genres": torch.tensor([1])}))
    tables.check = False
    try:
        tables(features(item=(0, 10**12)))
    except (IndexError, RuntimeError) as error:
        assert not isinstance(error, UserError)


@pytest.mark.parametrize("kind", [HashedTables, QuotientRemainderTables, MixedDimensionTables])
def test_sizes_that_cannot_be(kind):
    what = "dims" if kind is MixedDimensionTables else "rows"
    most = 4 if kind is MixedDimensionTables else 23
    with pytest.raises(UserError, match=rf"{what} names the feature 'user', .* are item, genres"):
        kind(IDS, 4, {"user": 3})
    for wrong in (0, -1, most + 1):
        with pytest.raises(UserError, match=rf"{what} of .*'item' is {wrong}; .* in 1..{most}\."):
            kind(IDS, 4, {"item": wrong})
    with pytest.raises(UserError, match="no sparse feature"):
        kind({}, 4, {})
    with pytest.raises(UserError, match="pooling is 'max'"):
        kind(IDS, 4, {}, pooling="max")
    with pytest.raises(UserError, match="nothing was allocated"):
        kind({"item": 10**15}, 4, {})


def test_combinations_that_cannot_be():
    with pytest.raises(UserError, match="combine is 'mult'; expected 'sum'"):
        QuotientRemainderTables(IDS, 4, {"item": 3}, "mult")
    with pytest.raises(UserError, match="dimension is 5; expected an even one"):
        QuotientRemainderTables(IDS, 5, {"item": 3}, "concat")


def test_the_memory_check_counts_the_small_tables():
    huge = {"item": 10**12}  # 16 TB in full
    assert HashedTables(huge, 4, {"item": 10}).n_bytes == 10 * 16
    assert QuotientRemainderTables(huge, 4, {"item": 10**6}).n_bytes == 2 * 10**6 * 16


@settings(max_examples=100)
@given(
    sizes=st.lists(st.integers(1, 10**8), min_size=1, max_size=6),
    log_dim=st.integers(0, 8),
    alpha=st.floats(0, 1),
)
def test_mixed_dims_follow_the_power_rule(sizes, log_dim, alpha):
    cardinalities = {f"t{n}": size for n, size in enumerate(sizes)}
    dims = mixed_dims(cardinalities, 2**log_dim, alpha)
    assert dims.keys() == cardinalities.keys()
    for name, n_ids in cardinalities.items():
        exact = 2**log_dim * (min(sizes) / n_ids) ** alpha
        assert dims[name] & (dims[name] - 1) == 0  # a power of two
        assert 1 <= dims[name] <= 2**log_dim
        assert dims[name] == 1 or 0.707 < dims[name] / exact < 1.415
        assert dims[name] > 1 or exact < 1.415


def test_mixed_dims_at_the_ends():
    sizes = {"a": 3, "b": 3000}
    assert mixed_dims(sizes, 24, 0.0) == {"a": 24, "b": 24}
    assert mixed_dims(sizes, 24, 1.0) == {"a": 24, "b": 1}
    for wrong in (-0.1, 1.5, float("nan")):
        with pytest.raises(UserError, match=f"alpha is {wrong}"):
            mixed_dims(sizes, 24, wrong)


@ALL
def test_a_dlrm_trains_with_them(make):
    torch.manual_seed(0)
    config = DLRMConfig(2, IDS, dim=4, bottom=(4,), top=(8, 1))
    tables = make(IDS, 4, sparse_gradient=True)
    model = DLRM(config, tables=tables)
    before = {name: value.clone() for name, value in tables.state_dict().items()}
    batch = random_batch(config, 64)
    optimizer = RowWiseAdagrad(model.parameters(), lr=0.1)
    losses = []
    for _ in range(30):
        loss = binary_cross_entropy_with_logits(model(batch), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    assert all((value != before[name]).any() for name, value in tables.state_dict().items())
