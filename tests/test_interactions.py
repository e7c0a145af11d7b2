"""The interaction against loops, and its order against the public implementation's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm_mini.errors import UserError
from dlrm_mini.interactions import (
    cat_interaction,
    dot_interaction,
    gram,
    output_width,
    pair_indices,
    pair_names,
)


def reference(dense, vectors, itself):
    """As `interact_features` of facebookresearch/dlrm: lists of places, batched product."""
    ly = list(vectors.unbind(1))
    (batch_size, d) = dense.shape
    t = torch.cat([dense, *ly], dim=1).view((batch_size, -1, d))
    z = torch.bmm(t, torch.transpose(t, 1, 2))
    _, ni, nj = z.shape
    offset = 1 if itself else 0
    li = torch.tensor([i for i in range(ni) for j in range(i + offset)])
    lj = torch.tensor([j for i in range(nj) for j in range(i + offset)])
    return torch.cat([dense, z[:, li, lj]], dim=1)


@settings(max_examples=60)
@given(
    rows=st.integers(1, 4),
    features=st.integers(1, 6),
    dim=st.integers(1, 5),
    itself=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_equal_to_the_public_implementation(rows, features, dim, itself, seed):
    generator = torch.Generator().manual_seed(seed)
    dense = torch.randn(rows, dim, dtype=torch.float64, generator=generator)
    vectors = torch.randn(rows, features, dim, dtype=torch.float64, generator=generator)
    mine = dot_interaction(dense, vectors, self_interaction=itself)
    torch.testing.assert_close(mine, reference(dense, vectors, itself), rtol=0, atol=1e-12)
    assert mine.shape[1] == output_width("dot", features + 1, dim, itself)
    together = cat_interaction(dense, vectors)
    assert together.shape[1] == output_width("cat", features + 1, dim)
    torch.testing.assert_close(together[:, dim:], vectors.reshape(rows, -1))


def test_the_order_of_pairs():
    assert pair_names(["dense", "user", "item"]) == [
        ("user", "dense"),
        ("item", "dense"),
        ("item", "user"),
    ]
    rows, columns = pair_indices(3, self_interaction=True)
    assert rows.tolist() == [0, 1, 1, 2, 2, 2]
    assert columns.tolist() == [0, 0, 1, 0, 1, 2]


def test_by_hand():
    dense = torch.tensor([[1.0, 2.0]])
    vectors = torch.tensor([[[3.0, 4.0], [5.0, 6.0]]])
    assert dot_interaction(dense, vectors).tolist() == [[1, 2, 11, 17, 39]]
    assert dot_interaction(dense, vectors, self_interaction=True).tolist() == [
        [1, 2, 5, 11, 25, 17, 39, 61]
    ]
    assert gram(dense, vectors)[0, 2, 1] == 39


def test_gradients_against_finite_differences():
    dense = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    vectors = torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda d, v: dot_interaction(d, v), (dense, vectors))


@pytest.mark.parametrize("interact", [dot_interaction, cat_interaction])
def test_widths_must_agree(interact):
    with pytest.raises(UserError, match=r"\(2, 4\) and the embeddings \(2, 3, 5\)"):
        interact(torch.zeros(2, 4), torch.zeros(2, 3, 5))
    with pytest.raises(UserError, match="same B and D"):
        interact(torch.zeros(1, 5), torch.zeros(2, 3, 5))


def test_another_interaction():
    with pytest.raises(UserError, match="'sum'; expected 'dot' or 'cat'"):
        output_width("sum", 3, 4)
