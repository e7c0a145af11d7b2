"""The fused dot interaction against the plain one in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm_mini.errors import UserError
from dlrm_mini.interactions import dot_interaction, fused_dot_interaction


def both(dense, vectors, self_interaction):
    """Result and gradients of both, the plain one in float64."""
    found = []
    for dot, dtype in ((fused_dot_interaction, torch.float32), (dot_interaction, torch.float64)):
        given_ = [x.detach().to(dtype).requires_grad_() for x in (dense, vectors)]
        out = dot(*given_, self_interaction=self_interaction)
        slope = torch.sin(torch.arange(out.numel(), dtype=dtype)).view(out.shape)
        found.append((out, *torch.autograd.grad(out, given_, slope)))
    return found


@settings(max_examples=40, deadline=None)
@given(rows=st.sampled_from([0, 1, 63, 64, 65, 130]), features=st.integers(1, 9),
       dim=st.sampled_from([1, 2, 16, 17]), own=st.booleans())  # fmt: skip
def test_fused_interaction_is_the_plain_one(rows, features, dim, own):
    generator = torch.Generator().manual_seed(0)
    dense = torch.randn(rows, dim, generator=generator)
    vectors = torch.randn(rows, features, dim, generator=generator)
    for mine, expected in zip(*both(dense, vectors, own), strict=True):
        torch.testing.assert_close(mine.double(), expected, rtol=1e-4, atol=1e-4)


def test_what_is_not_contiguous_and_what_is_half_precise():
    dense, vectors = torch.randn(6, 4).T, torch.randn(3, 4, 6).transpose(0, 1).contiguous()
    vectors = vectors.transpose(1, 2).contiguous().transpose(1, 2)
    for mine, expected in zip(*both(dense, vectors, False), strict=True):
        torch.testing.assert_close(mine.double(), expected, rtol=1e-4, atol=1e-4)
    half = dense.bfloat16()
    result = fused_dot_interaction(half, vectors)
    torch.testing.assert_close(result, dot_interaction(half.float(), vectors))


def test_float64_stays_float64():
    dense, vectors = torch.randn(5, 4).double(), torch.randn(5, 2, 4).double()
    assert fused_dot_interaction(dense, vectors).dtype == torch.float64


def test_shapes_that_do_not_fit():
    with pytest.raises(UserError, match="must end at the embedding dimension"):
        fused_dot_interaction(torch.zeros(5, 3), torch.zeros(5, 2, 4))
