"""All pairs' dot products on a CPU, in numba: straight into the top MLP's input, and back.

In torch the same takes a concatenation, a full matrix of products of which half is thrown away, an
index, and in backward a matrix of zeros to scatter into: more time in memory than in arithmetic.
Here a row's vectors stay in the first cache from their first product to their last.
"""

from typing import Any

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from dlrm_mini.kernels.cpu import Floats, use_torch_threads

BLOCK = 64  # rows that share one buffer
_compile = njit(
    parallel=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"}
)


def forward(dense: Tensor, vectors: Tensor, self_interaction: bool) -> Tensor:
    """The dense vector and the products of all pairs, as `interactions.dot_interaction`.

    Args:
        dense: (B, D) float32.
        vectors: (B, F, D) float32.
        self_interaction: whether the diagonal is among the products.

    Returns:
        (B, D + n_pairs) float32, with n = F + 1 vectors.
    """
    n, dim = vectors.shape[1] + 1, vectors.shape[2]
    width = dim + n * (n - 1 + 2 * self_interaction) // 2
    out = torch.empty(len(dense), width, dtype=torch.float32, device="cpu")
    use_torch_threads()
    _forward(_array(dense), _array(vectors), int(self_interaction), out.numpy())
    return out


def backward(
    dense: Tensor, vectors: Tensor, self_interaction: bool, gradient: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients (B, D) and (B, F, D) of what went into `forward`.

    Args:
        dense: (B, D) float32.
        vectors: (B, F, D) float32.
        self_interaction: as in `forward`.
        gradient: (B, D + n_pairs) float32, of what came out.
    """
    to_dense = torch.empty(dense.shape, dtype=torch.float32, device="cpu")
    to_vectors = torch.empty(vectors.shape, dtype=torch.float32, device="cpu")
    given, diagonal = (_array(dense), _array(vectors), _array(gradient)), int(self_interaction)
    use_torch_threads()
    _backward(*given, diagonal, to_dense.numpy(), to_vectors.numpy())
    return to_dense, to_vectors


# Plain loops beat those that put a row's vectors side by side, and those made for one width.


@_compile
def _forward(dense: Floats, vectors: Floats, diagonal: int, out: Floats) -> None:
    n_rows, n_features, dim = vectors.shape
    for block in prange((n_rows + BLOCK - 1) // BLOCK):
        x = np.empty((n_features + 1, dim), np.float32)
        for row in range(block * BLOCK, min(n_rows, (block + 1) * BLOCK)):
            for d in range(dim):
                x[0, d] = out[row, d] = dense[row, d]
            for f in range(n_features):
                for d in range(dim):
                    x[f + 1, d] = vectors[row, f, d]
            place = dim
            for i in range(1 - diagonal, n_features + 1):
                for j in range(i + diagonal):
                    product = np.float32(0)
                    for d in range(dim):
                        product += x[i, d] * x[j, d]
                    out[row, place] = product
                    place += 1


@_compile
def _backward(
    dense: Floats, vectors: Floats, gradient: Floats, diagonal: int, to_dense: Floats,
    to_vectors: Floats,
) -> None:  # fmt: skip
    n_rows, n_features, dim = vectors.shape
    for block in prange((n_rows + BLOCK - 1) // BLOCK):
        x = np.empty((n_features + 1, dim), np.float32)
        slope = np.empty((n_features + 1, dim), np.float32)
        for row in range(block * BLOCK, min(n_rows, (block + 1) * BLOCK)):
            for d in range(dim):
                x[0, d], slope[0, d] = dense[row, d], gradient[row, d]
            for f in range(n_features):
                for d in range(dim):
                    x[f + 1, d], slope[f + 1, d] = vectors[row, f, d], 0
            place = dim
            for i in range(1 - diagonal, n_features + 1):
                for j in range(i + diagonal):
                    of_product = gradient[row, place]
                    for d in range(dim):
                        slope[i, d] += of_product * x[j, d]
                        slope[j, d] += of_product * x[i, d]
                    place += 1
            for d in range(dim):
                to_dense[row, d] = slope[0, d]
            for f in range(n_features):
                for d in range(dim):
                    to_vectors[row, f, d] = slope[f + 1, d]


def _array(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().numpy()
