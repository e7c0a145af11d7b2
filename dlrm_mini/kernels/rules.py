"""What every kernel is told: which rows a batch looks up, and by which rule they are updated."""

from typing import Literal, NamedTuple

from torch import Tensor

Rule = Literal["sgd", "adagrad", "rowwise_adagrad"]
"""How a row w changes when the batch's gradients for it sum up to g; other rows stay as they are.

- "sgd": w -= lr g. No state.
- "adagrad" (Duchi et al. 2011): s += g^2, w -= lr g / (sqrt(s) + eps). One s a number, (N, D).
- "rowwise_adagrad" (as in FBGEMM and MLPerf): the same with s += mean(g^2). One s a row, (N,).
"""


class Lookups(NamedTuple):
    """The ids of a batch of B rows for F tables that are stacked in one matrix (N, D)."""

    ids: Tensor
    """(V,) int64, each a row of its own table; feature 0's B bags come first."""
    offsets: Tensor
    """(F * B + 1,) int64, where each bag begins, and V at the end."""
    first: Tensor
    """(F + 1,) int64: table f is rows first[f] .. first[f + 1] of the matrix."""
    weights: Tensor | None
    """(V,) float32, what each row counts in its bag's sum; None: all 1."""

    @property
    def n_features(self) -> int:
        """F."""
        return len(self.first) - 1

    @property
    def batch_size(self) -> int:
        """B."""
        return (len(self.offsets) - 1) // self.n_features
