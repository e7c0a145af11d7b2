"""The sizes of a DLRM: checked, counted and described before any memory is taken.

The conventions of the counts, which the tests hold to the models that are built:

- a parameter is 4 bytes (float32); kB, MB and GB are powers of 1000;
- a multiply-add is 2 FLOP, an addition in pooling 1; biases, ReLUs, copies and the sigmoid are not
  counted;
- of the dot interaction the pairs that are kept are counted, though a matrix product computes all;
- the backward pass of the fully connected parts is twice their forward pass: one product for the
  gradient of the weights, one for that of the input.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from numbers import Integral
from typing import get_args

from dlrm_mini.embeddings import Pooling
from dlrm_mini.errors import UserError
from dlrm_mini.interactions import Interaction, output_width
from dlrm_mini.models.dlrm_description import describe

BYTES = 4  # of a float32
PARTS = ("embeddings", "bottom MLP", "interaction", "top MLP")


@dataclass(frozen=True)
class DLRMConfig:
    """Everything that decides the shapes of a DLRM (Naumov et al. 2019).

    Attributes:
        n_dense: dense columns of a batch, at least 1.
        cardinalities: sparse feature -> rows of its table, in the order of the vectors.
        dim: D, the width of every vector that interacts.
        bottom: widths of the bottom MLP's layers; the last is `dim`.
        top: widths of the top MLP's layers; the last is 1, the logit.
        interaction: "dot" or "cat".
        self_interaction: whether "dot" keeps each vector's product with itself.
        pooling: "sum" or "mean", how the vectors of a bag become one.
        lookups: L, ids a row: one number for all tables, or feature -> number (1 for those left
            out). Only the counts use it; a batch may hold bags of any length.
        dropout: share of the top MLP's hidden units that training leaves out.

    Raises:
        UserError: when the numbers do not fit together; the message says which to change to what.

    Example:
        >>> config = DLRMConfig(13, {"user": 943, "item": 1682}, 16, bottom=(64, 16), top=(32, 1))
        >>> config.top_input  # the dense vector and three pairs
        19
        >>> config.parameters()
        {'embeddings': 42000, 'bottom MLP': 1936, 'interaction': 0, 'top MLP': 673}
    """

    n_dense: int
    cardinalities: dict[str, int]
    dim: int
    bottom: tuple[int, ...]
    top: tuple[int, ...]
    interaction: Interaction = "dot"
    self_interaction: bool = False
    pooling: Pooling = "sum"
    lookups: dict[str, int] | int = 1
    dropout: float = 0.0

    def __post_init__(self) -> None:
        # Copies of plain types: nobody changes them later, and a checkpoint can hold them.
        copies = {"cardinalities": dict(self.cardinalities), "bottom": tuple(self.bottom)}
        copies |= {"top": tuple(self.top)}
        copies |= {"lookups": dict(self.lookups)} if isinstance(self.lookups, Mapping) else {}
        for name, value in copies.items():
            object.__setattr__(self, name, value)
        self._check_sizes()
        self._check_ends()
        self._check_kinds()

    def _check_sizes(self) -> None:
        if self.n_dense == 0:
            raise UserError(
                "n_dense is 0, but the bottom MLP needs at least one dense column: change n_dense "
                "to 1 and give a column of zeros, or use a factorization machine."
            )
        if not self.cardinalities:
            raise UserError(
                "cardinalities is empty; change it to at least one sparse feature and the number "
                "of its ids, such as {'item': 1682}."
            )
        for name, widths in (("bottom", self.bottom), ("top", self.top)):
            if not widths:
                end = self.dim if name == "bottom" else 1
                raise UserError(f"{name} has no layer; change it to at least ({end},).")
            for place, width in enumerate(widths):
                _check_positive(f"{name}[{place}]", width)
        _check_positive("n_dense", self.n_dense)
        _check_positive("dim", self.dim)
        for feature, rows in self.cardinalities.items():
            _check_positive(f"cardinalities['{feature}']", rows)
        if not isinstance(self.lookups, dict):
            _check_positive("lookups", self.lookups)
            return
        for feature, number in self.lookups.items():
            if feature not in self.cardinalities:
                raise UserError(
                    f"lookups names the feature '{feature}', which has no table; change it to one "
                    f"of {', '.join(self.cardinalities)}."
                )
            _check_positive(f"lookups['{feature}']", number)

    def _check_ends(self) -> None:
        if self.bottom[-1] != self.dim:
            raise UserError(
                f"The bottom MLP ends at {self.bottom[-1]}, but the embeddings have dim "
                f"{self.dim}, and vectors that interact must be equally long: change the last "
                f"number of bottom to {self.dim}, or dim to {self.bottom[-1]}."
            )
        if self.top[-1] != 1:
            raise UserError(
                f"The top MLP ends at {self.top[-1]}, but a row has one logit: change top to "
                f"{(*self.top, 1)}."
            )

    def _check_kinds(self) -> None:
        for name, kind, kinds in (
            ("interaction", self.interaction, get_args(Interaction)),
            ("pooling", self.pooling, get_args(Pooling)),
        ):
            if kind not in kinds:
                choice = " or ".join(map(repr, kinds))
                raise UserError(f"{name} is {kind!r}; change it to {choice}.")
        if self.interaction == "cat" and self.self_interaction:
            raise UserError(
                "self_interaction is True, but 'cat' multiplies nothing: change self_interaction "
                "to False, or interaction to 'dot'."
            )
        if not 0 <= self.dropout < 1:
            raise UserError(
                f"dropout is {self.dropout}; change it to at least 0 and less than 1, such as 0.1."
            )

    @property
    def n_vectors(self) -> int:
        """How many vectors interact (n): one of each table, and the bottom MLP's."""
        return len(self.cardinalities) + 1

    @property
    def top_input(self) -> int:
        """The numbers that the top MLP reads."""
        return output_width(self.interaction, self.n_vectors, self.dim, self.self_interaction)

    @property
    def bottom_sizes(self) -> tuple[int, ...]:
        """The bottom MLP's widths, its input first."""
        return (self.n_dense, *self.bottom)

    @property
    def top_sizes(self) -> tuple[int, ...]:
        """The top MLP's widths, its input first."""
        return (self.top_input, *self.top)

    @property
    def lookups_by_table(self) -> dict[str, int]:
        """Sparse feature -> ids a row."""
        if isinstance(self.lookups, dict):
            return dict.fromkeys(self.cardinalities, 1) | self.lookups
        return dict.fromkeys(self.cardinalities, self.lookups)

    def parameters(self) -> dict[str, int]:
        """Part -> its parameters, exactly those of the built model."""
        embeddings = sum(self.cardinalities.values()) * self.dim
        bottom, top = (
            sum(n_in * n_out + n_out for n_in, n_out in _layers(sizes))
            for sizes in (self.bottom_sizes, self.top_sizes)
        )
        return dict(zip(PARTS, (embeddings, bottom, 0, top), strict=True))

    def bytes(self, batch_size: int | None = None) -> dict[str, int]:
        """Part -> bytes of its parameters; or those that a forward pass reads.

        Args:
            batch_size: B. Without it, what the parameters occupy. With it, what a batch of B rows
                reads of them: every weight of the MLPs once, and of the tables a row for each
                lookup (*gathered*), as often as it is looked up.
        """
        sizes = {part: BYTES * count for part, count in self.parameters().items()}
        if batch_size is not None:
            ids = batch_size * sum(self.lookups_by_table.values())
            sizes["embeddings"] = BYTES * ids * self.dim
        return sizes

    def flops(self, batch_size: int) -> dict[str, int]:
        """Part -> FLOP of a forward pass over B = `batch_size` rows.

        A pass backward costs the two MLPs twice as much again.
        """
        pooling = sum(number - 1 for number in self.lookups_by_table.values()) * self.dim
        pairs = self.top_input - self.dim if self.interaction == "dot" else 0
        bottom, top = (
            2 * sum(map(prod, _layers(sizes))) for sizes in (self.bottom_sizes, self.top_sizes)
        )
        counts = (pooling, bottom, 2 * pairs * self.dim, top)
        return {part: batch_size * count for part, count in zip(PARTS, counts, strict=True)}

    def describe(self, batch_size: int = 2048) -> str:
        """The architecture as a table: shapes, parameters and bytes; nothing is allocated."""
        return describe(self, self.shapes(batch_size))

    def shapes(self, batch_size: int) -> dict[str, tuple[int, ...]]:
        """Name of each step -> the shape of what comes out of it for a batch of B rows.

        "bottom.0" is the first layer of the bottom MLP, with its ReLU; "tables" are the pooled
        vectors.
        """
        rows = batch_size
        vectors = (rows, len(self.cardinalities), self.dim)
        return {
            "dense": (rows, self.n_dense),
            **{f"bottom.{i}": (rows, width) for i, width in enumerate(self.bottom)},
            "tables": vectors,
            "interaction": (rows, self.top_input),
            **{f"top.{i}": (rows, width) for i, width in enumerate(self.top)},
            "logits": (rows,),
        }


def _layers(sizes: tuple[int, ...]) -> list[tuple[int, int]]:
    """The widths (in, out) of each layer of a fully connected network."""
    return list(pairwise(sizes))


def _check_positive(name: str, value: object) -> None:
    if not isinstance(value, Integral) or value < 1:
        raise UserError(f"{name} is {value!r}; change it to a whole number of at least 1.")
