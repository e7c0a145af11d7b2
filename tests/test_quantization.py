"""Tables of 8 and 4 bits: layout, exact bytes, the error bound, pooling, bad input."""

import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from dlrm_mini import quantization
from dlrm_mini.datasets.sparse import SparseFeatures
from dlrm_mini.embeddings import EmbeddingTables
from dlrm_mini.errors import UserError
from dlrm_mini.quantization import QuantizedTables, dequantize, quantize
from dlrm_mini.smaller_tables import HashedTables

BITS = pytest.mark.parametrize("bits", [8, 4])
IDS = {"item": 23, "genres": 5}


def matrices(most):
    shapes = array_shapes(min_dims=2, max_dims=2, max_side=9)
    floats = st.floats(-most, most, width=32) | st.sampled_from([0.0, most, -most, 1e-45, 1e-30])
    return arrays("float32", shapes, elements=floats).map(torch.from_numpy)


def holding(table):
    """Plain tables with one feature and this table."""
    tables = EmbeddingTables({"item": len(table)}, table.shape[1])
    tables.tables["item"].data = table
    return tables


def check_bound(table, bits):
    made = QuantizedTables.from_tables(holding(table), bits)
    found = made.vectors("item", torch.arange(len(table)))
    assert found.dtype == torch.float32
    error = (found.double() - table.double()).abs().amax(1)
    assert (error <= made.error_bounds("item")).all()
    # The bound itself, from the trained numbers: half a step of (max - min) / levels, and what
    # the stored scale and bias cannot say exactly.
    low, high = table.double().aminmax(dim=1)
    precision, smallest = {8: (2.0**-23, 2.0**-149), 4: (2.0**-10, 2.0**-24)}[bits]
    levels = 2**bits - 1
    off = precision * low.abs() + smallest  # the bias, rounded down
    step = (high - low + off) / levels * (1 + precision) + smallest
    bound = step / 2 + 2.0**-20 * table.double().abs().amax(1) + 2.0**-147
    assert (made.error_bounds("item") <= bound).all()
    return error


@settings(max_examples=300, deadline=None)
@given(table=matrices(60_000.0))
def test_four_bits_are_off_by_half_a_step_at_most(table):
    check_bound(table, 4)


@settings(max_examples=300, deadline=None)
@given(table=matrices(2.0**126))
def test_eight_bits_are_off_by_half_a_step_at_most(table):
    check_bound(table, 8)


@BITS
def test_the_bound_is_nearly_reached(bits):
    table = torch.randn(2000, 64, generator=torch.Generator().manual_seed(0))
    error = check_bound(table, bits)
    half_step = (table.amax(1) - table.amin(1)).double() / (2**bits - 1) / 2
    assert 0.97 < (error / half_step).max() < 1.01


@BITS
def test_constant_rows(bits):
    table = torch.tensor([[0.0] * 3, [0.25] * 3, [-2.0] * 3, [0.1] * 3, [-1e-8] * 3])
    error = check_bound(table, bits)
    assert (error[:3] == 0).all()  # numbers that float16 has
    assert (error == 0).all() if bits == 8 else (error < 1e-5).all()


def test_a_row_far_from_zero_needs_eight_bits():
    table = torch.tensor([[1000.0, 1000.01, 1000.2]])
    assert check_bound(table, 8) < 5e-4
    assert check_bound(table, 4) < 0.05  # float16's numbers are 0.5 apart here


@BITS
@settings(max_examples=50, deadline=None)
@given(rows=st.integers(1, 40), half=st.integers(1, 20), seed=st.integers(0, 1000))
def test_torch_reads_the_bytes(bits, rows, half, seed):
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(rows, 2 * half, generator=generator)  # torch wants an even width
    kept = quantize(table, bits)
    kind = {8: "byte", 4: "4bit"}[bits]
    unpack = getattr(torch.ops.quantized, f"embedding_bag_{kind}_unpack")
    torch.testing.assert_close(
        unpack(kept).float(), dequantize(kept, 2 * half, bits), rtol=0, atol=1e-6
    )
    packed = getattr(torch.ops.quantized, f"embedding_bag_{kind}_prepack")(table)
    assert packed.shape == kept.shape
    torch.testing.assert_close(  # rounded a little differently: within a step
        dequantize(packed, 2 * half, bits),
        dequantize(kept, 2 * half, bits),
        rtol=0,
        atol=8 / (2**bits - 1),
    )


def test_the_first_code_is_in_the_low_half_byte():
    kept = quantize(torch.tensor([[0.0, 1.0, 15.0, 2.0, 3.0]]), 4)
    assert kept.shape == (1, 3 + 4)
    assert kept[0, :3].tolist() == [0 | 1 << 4, 15 | 2 << 4, 3]
    assert kept[0, 3:].clone().view(torch.float16).tolist() == [1.0, 0.0]
    kept = quantize(torch.tensor([[-5.0, 250.0, 0.0]]), 8)
    assert kept[0, :3].tolist() == [0, 255, 5]
    assert kept[0, 3:].clone().view(torch.float32).tolist() == [1.0, -5.0]


@BITS
@settings(max_examples=25, deadline=None)
@given(
    dim=st.integers(1, 9),
    lengths=st.lists(st.integers(0, 4), min_size=1, max_size=5),
    seed=st.integers(0, 1000),
    pooling=st.sampled_from(["sum", "mean"]),
)
def test_forward_pools_the_dequantised_table(bits, dim, lengths, seed, pooling):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, (sum(lengths),), generator=generator)
    weights = torch.randn(len(ids), generator=generator)
    sparse = SparseFeatures.from_columns(
        {
            "genres": (ids, torch.tensor([0, *lengths]).cumsum(0), weights),
            "item": torch.randint(23, (len(lengths),), generator=generator),
        }
    )
    trained = EmbeddingTables(IDS, dim, pooling=pooling)
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    made = QuantizedTables.from_tables(trained, bits)
    assert all((value == before[name]).all() for name, value in trained.state_dict().items())
    plain = EmbeddingTables(IDS, dim, pooling=pooling)
    for name, n_ids in IDS.items():
        plain.tables[name].data = made.vectors(name, torch.arange(n_ids))
    vectors = made(sparse)
    torch.testing.assert_close(vectors, plain(sparse))
    assert not vectors.requires_grad


@BITS
@pytest.mark.parametrize("dim", [1, 4, 7, 64])
def test_bytes_are_exact(bits, dim):
    made = QuantizedTables.from_tables(EmbeddingTables(IDS, dim), bits)
    row = dim + 8 if bits == 8 else (dim + 1) // 2 + 4
    assert made.n_bytes == 28 * row
    file = io.BytesIO()
    torch.save(made.state_dict(), file)
    assert sum(value.nbytes for value in made.state_dict().values()) == 28 * row


@BITS
def test_state_dict_round_trip(bits):
    made = QuantizedTables.from_tables(EmbeddingTables(IDS, 5), bits)
    other = QuantizedTables(IDS, 5, bits)
    sparse = SparseFeatures.from_columns(
        {"item": torch.tensor([0, 22]), "genres": torch.tensor([4, 1])}
    )
    assert (other(sparse) == 0).all()
    file = io.BytesIO()
    torch.save(made.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file))
    assert torch.equal(other(sparse), made(sparse))
    assert list(made.state_dict()) == ["tables.item", "tables.genres"]
    assert torch.equal(made.double()(sparse), other(sparse))  # bytes stay bytes


@BITS
def test_chunks_change_nothing(bits, monkeypatch):
    trained = EmbeddingTables(IDS, 5)
    whole = QuantizedTables.from_tables(trained, bits)
    monkeypatch.setattr(quantization, "CHUNK", 4)
    parts = QuantizedTables.from_tables(trained, bits)
    for name in IDS:
        assert torch.equal(whole.tables[name], parts.tables[name])


@BITS
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_an_entry_that_is_not_finite_names_feature_and_row(bits, wrong, monkeypatch):
    monkeypatch.setattr(quantization, "CHUNK", 4)
    for row in (0, 2, 22):
        trained = EmbeddingTables(IDS, 3)
        trained.tables["item"].data[row, 1] = wrong
        with pytest.raises(UserError, match=rf"Row {row} of .*'item' has an entry that is not fin"):
            QuantizedTables.from_tables(trained, bits)


def test_rows_that_scale_and_bias_cannot_hold():
    for row in ([0.0, 1e6], [-65505.0, 0.0], [7e4, 7e4]):
        table = torch.tensor([[0.0, 1.0], row])
        with pytest.raises(UserError, match=r"Row 1 of .*'item' runs from .* 6.55e\+04. Use 8"):
            QuantizedTables.from_tables(holding(table), 4)
        check_bound(table, 8)
    with pytest.raises(UserError, match=r"Row 0 of .* more than 8 bits .* 3.403e\+38. Train with"):
        QuantizedTables.from_tables(holding(torch.tensor([[-3e38, 3e38]])), 8)
    check_bound(torch.tensor([[-65504.0, 65504.0]]), 4)


def test_tables_that_cannot_be_quantised():
    with pytest.raises(UserError, match="bits is 2; expected 8 or 4"):
        QuantizedTables.from_tables(EmbeddingTables(IDS, 3), 2)
    hashed = HashedTables(IDS, 3, {"item": 4})
    with pytest.raises(UserError, match=r"'item' is \(4, 3\); expected \(23, 3\)"):
        QuantizedTables.from_tables(hashed, 8)
    made = QuantizedTables.from_tables(EmbeddingTables(IDS, 3), 8)
    wrong = {"item": torch.tensor([23]), "genres": torch.tensor([0])}
    with pytest.raises(UserError, match=r"'item' has the id 23, .* has 23 rows"):
        made(SparseFeatures.from_columns(wrong))
