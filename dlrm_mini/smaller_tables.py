"""Embedding tables with fewer numbers: hashed, quotient-remainder and mixed-dimension tables.

A plain table keeps D numbers for each of the N_t ids of its feature. The modules here keep fewer,
take the place of `EmbeddingTables` in any model, and are trained like it.
"""

import math
import zlib
from collections.abc import Mapping
from typing import Literal, Unpack, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dlrm_mini.errors import UserError
from dlrm_mini.lookup_tables import LookupTables, Options
from dlrm_mini.memory import check_fits

Combine = Literal["sum", "product", "concat"]


class HashedTables(LookupTables):
    """Tables with fewer rows than ids: ids that hash to the same row share one vector.

    Args:
        cardinalities: feature -> N_t, its ids.
        dim: D, the width of a vector.
        rows: feature -> M_t <= N_t, the rows that are kept. A feature that is not named, and one
            with M_t = N_t, keeps its full table and no id of it is hashed.
        seed: another seed lets other ids collide.
        **options: as in `LookupTables`.

    Raises:
        UserError: as `EmbeddingTables`; rows of an unknown feature, or not in 1..N_t.

    Example:
        >>> tables = HashedTables({"item": 1000, "genre": 18}, dim=4, rows={"item": 100})
        >>> tables.n_bytes  # (100 + 18) rows of 4 numbers of 4 bytes
        1888
    """

    def __init__(
        self,
        cardinalities: Mapping[str, int],
        dim: int,
        rows: Mapping[str, int],
        *,
        seed: int = 0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(cardinalities, dim, **options)
        _check_choice("rows", rows, cardinalities, cardinalities)
        self.rows, self.seed = {**cardinalities, **rows}, seed
        check_fits(self.rows, dim)
        self.tables = nn.ParameterDict()
        for name, n_rows in self.rows.items():
            std = self._plain_std(cardinalities[name])
            self.tables[name] = self._table(n_rows, dim, std)

    def places(self, name: str, ids: Tensor) -> Tensor:
        """The row of each id, (V,) int64 in 0..M_t - 1."""
        if self.rows[name] == self.cardinalities[name]:
            return ids
        return hash_ids(ids, self.rows[name], zlib.crc32(name.encode()) + self.seed)

    def vectors(self, name: str, ids: Tensor) -> Tensor:
        """The vectors (V, D) of ids (V,): the rows that they hash to."""
        return self._rows(self.tables[name], self.places(name, ids))


def hash_ids(ids: Tensor, n_rows: int, seed: int) -> Tensor:
    """Spread ids over rows as if each id had drawn its row at random.

    An id modulo the rows would do for ids that mean nothing. Real ids are often numbered in order
    of time or of popularity, and rise by even steps; then the modulo puts whole groups on the same
    rows, and the same groups in every table. So the bits are mixed first, by the finaliser of
    SplitMix64 (Steele, Lea and Flood 2014), in which every bit of the id moves every bit of the
    result; the seed gives each feature a hash of its own.

    Args:
        ids: (V,) int64, not negative.
        n_rows: M, the rows.
        seed: which hash.

    Returns:
        (V,) int64 in 0..M - 1, the same on every machine.
    """
    # int64 wraps around, as the unsigned arithmetic of the paper does.
    mixed = ids + _signed((seed + 1) * 0x9E3779B97F4A7C15)
    mixed = (mixed ^ _shifted(mixed, 30)) * _signed(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ _shifted(mixed, 27)) * _signed(0x94D049BB133111EB)
    mixed = mixed ^ _shifted(mixed, 31)
    return mixed.remainder(n_rows)


def _signed(number: int) -> int:
    """The int64 with the last 64 bits of a number."""
    return (number + 2**63) % 2**64 - 2**63


def _shifted(bits: Tensor, n: int) -> Tensor:
    """Shifted right with zeros coming in; int64's own shift repeats the sign."""
    return (bits >> n) & ((1 << (64 - n)) - 1)


class QuotientRemainderTables(LookupTables):
    """Two small tables a feature: one for id % M_t, one for id // M_t, and no two ids share both.

    Shi et al. 2020, "Compositional Embeddings Using Complementary Partitions for Memory-Efficient
    Recommendation Systems", section 3. M_t + N_t / M_t rows are kept of N_t, fewest at
    M_t = sqrt(N_t).

    Vectors begin with the spread s of a plain table. For a sum both parts begin with s / sqrt(2),
    for a concatenation with s. For a product, which is taken for each id before pooling, one begins
    as random signs: two small factors would give each other gradients too small for SGD.

    Args:
        cardinalities: feature -> N_t, its ids.
        dim: D, the width of a vector.
        rows: feature -> M_t, the remainders. A feature that is not named keeps its full table.
        combine: "sum", "product" (element by element), or "concat" of two vectors of D / 2.
        **options: as in `LookupTables`.

    Raises:
        UserError: as `EmbeddingTables`; rows of an unknown feature, or not in 1..N_t; another
            `combine`; "concat" with an odd D.

    Example:
        >>> tables = QuotientRemainderTables({"item": 1000}, dim=4, rows={"item": 32})
        >>> tables.n_bytes  # (32 + 32) rows of 4 numbers of 4 bytes
        1024
    """

    def __init__(
        self,
        cardinalities: Mapping[str, int],
        dim: int,
        rows: Mapping[str, int],
        combine: Combine = "sum",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(cardinalities, dim, **options)
        _check_choice("rows", rows, cardinalities, cardinalities)
        if combine not in get_args(Combine):
            raise UserError(f"combine is {combine!r}; expected 'sum', 'product' or 'concat'.")
        if combine == "concat" and dim % 2:
            raise UserError(
                f"The embedding dimension is {dim}; expected an even one, because 'concat' joins "
                "two vectors of half the width. Choose an even dimension, or 'sum'."
            )
        self.rows, self.combine = dict(rows), combine
        quotients = {name: -(-cardinalities[name] // m) for name, m in rows.items()}
        width = dim // 2 if combine == "concat" else dim
        together = {name: m + quotients[name] for name, m in rows.items()}
        widths = {name: width if name in rows else dim for name in cardinalities}
        check_fits({**cardinalities, **together}, widths)
        self.tables, self.quotients = nn.ParameterDict(), nn.ParameterDict()
        for name, n_ids in cardinalities.items():
            std = self._plain_std(n_ids) * (0.5**0.5 if name in rows and combine == "sum" else 1)
            self.tables[name] = self._table(rows.get(name, n_ids), widths[name], std)
            if name in rows:
                product = combine == "product"
                quotient = self._table(quotients[name], width, 1.0 if product else std)
                if product:
                    quotient.data.sign_()
                self.quotients[name] = quotient

    def vectors(self, name: str, ids: Tensor) -> Tensor:
        """The vectors (V, D) of ids (V,): that of the remainder with that of the quotient."""
        if name not in self.rows:
            return self._rows(self.tables[name], ids)
        remainder = self._rows(self.tables[name], ids % self.rows[name])
        quotient = self._rows(self.quotients[name], ids // self.rows[name])
        if self.combine == "concat":
            return torch.cat([remainder, quotient], dim=1)
        return remainder + quotient if self.combine == "sum" else remainder * quotient


class MixedDimensionTables(LookupTables):
    """Narrow tables for features with many rare ids, each projected to the common width D.

    Ginart et al. 2021, "Mixed Dimension Embeddings with Application to Memory-Efficient
    Recommendation Systems". The projection has no bias, so that an empty bag still gives zeros.
    It begins with orthogonal columns, scaled so that vectors have the spread of a plain table.

    Args:
        cardinalities: feature -> N_t, its ids.
        dim: D, the width of a vector.
        dims: feature -> d_t <= D, the width that is kept; see `mixed_dims`. A feature that is not
            named, and one with d_t = D, keeps its full table and has no projection.
        **options: as in `LookupTables`. The projections' gradients are dense in any case.

    Raises:
        UserError: as `EmbeddingTables`; the width of an unknown feature, or not in 1..D.

    Example:
        >>> tables = MixedDimensionTables({"item": 1000}, dim=16, dims={"item": 4})
        >>> tables.n_bytes  # (1000 rows + 16 of the projection) of 4 numbers of 4 bytes
        16256
    """

    def __init__(
        self,
        cardinalities: Mapping[str, int],
        dim: int,
        dims: Mapping[str, int],
        **options: Unpack[Options],
    ) -> None:
        super().__init__(cardinalities, dim, **options)
        _check_choice("dims", dims, cardinalities, dict.fromkeys(cardinalities, dim))
        self.dims = {name: dims.get(name, dim) for name in cardinalities}
        check_fits(cardinalities, self.dims)
        self.tables, self.projections = nn.ParameterDict(), nn.ParameterDict()
        for name, n_ids in cardinalities.items():
            width, std = self.dims[name], self._plain_std(n_ids)
            self.tables[name] = self._table(n_ids, width, std)
            if width < dim:
                projection = nn.Parameter(torch.empty(dim, width))
                self.projections[name] = nn.init.orthogonal_(projection, (dim / width) ** 0.5)

    def vectors(self, name: str, ids: Tensor) -> Tensor:
        """The vectors (V, D) of ids (V,): their narrow rows, projected."""
        narrow = self._rows(self.tables[name], ids)  # (V, d_t)
        if name not in self.projections:
            return narrow
        return F.linear(narrow, self.projections[name])  # (V, d_t) -> (V, D)


def mixed_dims(cardinalities: Mapping[str, int], dim: int, alpha: float) -> dict[str, int]:
    """Widths by the power rule of Ginart et al. 2021: d_t proportional to popularity^alpha.

    The popularity of a table's ids is taken as 1 / N_t: each example looks one of them up. The
    smallest table gets D, and the others D halved until it is nearest D * (N_min / N_t)^alpha, in
    powers of two; at least 1.

    Args:
        cardinalities: feature -> N_t.
        dim: D.
        alpha: 0 (all tables D wide) to 1 (tables of about the same number of bytes).

    Returns:
        Feature -> d_t, of every feature.

    Raises:
        UserError: alpha is not in 0..1.

    Example:
        >>> mixed_dims({"genre": 16, "user": 1024, "item": 65536}, dim=32, alpha=0.3)
        {'genre': 32, 'user': 8, 'item': 2}
    """
    if not 0 <= alpha <= 1:
        raise UserError(f"alpha is {alpha}; expected a number from 0 to 1.")
    smallest = min(cardinalities.values())
    halvings = {name: round(alpha * math.log2(n / smallest)) for name, n in cardinalities.items()}
    return {name: max(1, dim >> n) for name, n in halvings.items()}


def _check_choice(
    what: str, chosen: Mapping[str, int], cardinalities: Mapping[str, int], most: Mapping[str, int]
) -> None:
    """Raise a UserError unless `chosen` names known features, each with a number in 1..most."""
    for name, number in chosen.items():
        if name not in cardinalities:
            raise UserError(
                f"{what} names the feature '{name}', which has no table; "
                f"there are {', '.join(cardinalities)}."
            )
        if not 1 <= number <= most[name]:
            raise UserError(
                f"{what} of feature '{name}' is {number}; expected a number in 1..{most[name]}. "
                f"Leave the feature out of {what} to keep its full table."
            )
