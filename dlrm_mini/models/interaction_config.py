"""The sizes of an `InteractionModel`: checked and counted before it is built, and made to match.

The counts follow `interactions.Cost`: a multiply-add is 2 FLOP; biases, ReLUs and copies are none.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, get_args

from dlrm_mini.crossing import cross_cost, third_order_cost
from dlrm_mini.errors import UserError
from dlrm_mini.interactions import interaction_cost

Kind = Literal["linear", "cat", "dot", "cross", "cross_low_rank", "third"]
Knob = Literal["dim", "rank", "hidden"]
Unit = Literal["parameters", "flops"]
PARTS = ("linear", "embeddings", "bottom MLP", "interaction", "top MLP")


@dataclass(frozen=True)
class InteractionConfig:
    """Everything that decides the shapes and the cost of an `InteractionModel`.

    Attributes:
        kind: how the vectors meet; the table of `dlrm_mini.models.interaction_models` has them all.
        n_dense: dense columns of a batch; may be 0.
        cardinalities: sparse feature -> rows of its table.
        dim: D, the width of every vector.
        bottom: hidden layers of the bottom MLP, which ends at `dim`.
        hidden: hidden layers of the top MLP; none makes it a linear read-out.
        layers: of the cross network.
        rank: of its matrices, for "cross_low_rank".

    Raises:
        UserError: when the numbers do not fit together.

    Example:
        >>> config = InteractionConfig("dot", 13, {"user": 943, "item": 1682}, dim=8, hidden=(32,))
        >>> config.top_input, config.cost("parameters")
        (11, 24168)
    """

    kind: Kind
    n_dense: int
    cardinalities: dict[str, int]
    dim: int
    bottom: tuple[int, ...] = ()
    hidden: tuple[int, ...] = ()
    layers: int = 2
    rank: int = 8

    def __post_init__(self) -> None:
        # Copies of plain types, which nobody changes later.
        object.__setattr__(self, "cardinalities", dict(self.cardinalities))
        for name in ("bottom", "hidden"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        self._check_kind()
        self._check_sizes()

    def _check_kind(self) -> None:
        if self.kind not in get_args(Kind):
            kinds = ", ".join(map(repr, get_args(Kind)))
            raise UserError(f"kind is {self.kind!r}; change it to one of {kinds}.")
        if self.kind == "linear" and self.hidden:
            raise UserError(
                f"hidden is {self.hidden}, but kind='linear' has no vectors that a top MLP could "
                "read: change hidden to (), or kind to 'cat', whose vectors only the MLP combines."
            )

    def _check_sizes(self) -> None:
        if not self.cardinalities:
            raise UserError("cardinalities is empty; expected at least one sparse feature.")
        if self.n_dense < 0:
            raise UserError(f"n_dense is {self.n_dense}; change it to 0 or more.")
        sizes = {"dim": self.dim, "layers": self.layers, "rank": self.rank}
        sizes |= {f"cardinalities['{name}']": rows for name, rows in self.cardinalities.items()}
        sizes |= {f"bottom[{place}]": width for place, width in enumerate(self.bottom)}
        sizes |= {f"hidden[{place}]": width for place, width in enumerate(self.hidden)}
        for name, size in sizes.items():
            if size < 1:
                raise UserError(f"{name} is {size}; change it to at least 1.")
        if not self.top_input and self.kind != "linear":
            raise UserError(
                f"kind is {self.kind!r}, but there is one vector, which meets no other: expected "
                "two sparse features or a dense column. Add one, or change kind to 'cat'."
            )
        width = self.n_vectors * self.dim
        if self.kind == "cross_low_rank" and self.rank > width:
            raise UserError(
                f"rank is {self.rank}, but {self.n_vectors} vectors of dim {self.dim} are {width} "
                f"numbers: change rank to at most {width}, or make dim larger."
            )

    @property
    def n_vectors(self) -> int:
        """n, how many vectors meet: one of each table and, with dense columns, the bottom MLP's."""
        return len(self.cardinalities) + (self.n_dense > 0)

    @property
    def cross_rank(self) -> int | None:
        """The rank of the cross network's matrices; None where they are full."""
        return self.rank if self.kind == "cross_low_rank" else None

    @property
    def bottom_sizes(self) -> tuple[int, ...]:
        """The bottom MLP's widths, its input first; () where there is none."""
        has_bottom = self.n_dense and self.kind != "linear"
        return (self.n_dense, *self.bottom, self.dim) if has_bottom else ()

    @property
    def top_input(self) -> int:
        """The numbers that the top MLP or the linear read-out reads; 0 for "linear"."""
        n, dim = self.n_vectors, self.dim
        if self.kind == "linear":
            return 0
        if self.kind not in ("dot", "third"):
            return n * dim
        triples = dim if self.kind == "third" and n > 2 else 0
        return dim * (self.n_dense > 0) + n * (n - 1) // 2 + triples

    @property
    def top_sizes(self) -> tuple[int, ...]:
        """The widths from the interaction to the logit; () for "linear"."""
        return (self.top_input, *self.hidden, 1) if self.top_input else ()

    def parameters(self) -> dict[str, int]:
        """Part -> its parameters, exactly those of the built model."""
        rows = sum(self.cardinalities.values())
        tables = 0 if self.kind == "linear" else rows * self.dim
        bottom, top = (
            sum(n_in * n_out + n_out for n_in, n_out in pairwise(sizes))
            for sizes in (self.bottom_sizes, self.top_sizes)
        )
        counts = (rows + self.n_dense + 1, tables, bottom, self._interaction()[0], top)
        return dict(zip(PARTS, counts, strict=True))

    def flops(self) -> dict[str, int]:
        """Part -> FLOP of one example's forward pass, every feature with one id.

        A lookup is no FLOP; adding up the F linear weights is.
        """
        linear = len(self.cardinalities) + 2 * self.n_dense
        bottom, top = (
            2 * sum(n_in * n_out for n_in, n_out in pairwise(sizes))
            for sizes in (self.bottom_sizes, self.top_sizes)
        )
        return dict(zip(PARTS, (linear, 0, bottom, self._interaction()[1], top), strict=True))

    def cost(self, of: Unit) -> int:
        """All "parameters", or all "flops" of one example's forward pass.

        Raises:
            UserError: another word.
        """
        if of not in get_args(Unit):
            raise UserError(f"The cost is to be of {of!r}; change it to 'parameters' or 'flops'.")
        return sum((self.parameters() if of == "parameters" else self.flops()).values())

    def _interaction(self) -> tuple[int, int]:
        """Parameters and FLOP of one example's interaction."""
        n, dim = self.n_vectors, self.dim
        if self.kind.startswith("cross"):
            crossed = cross_cost(n * dim, self.layers, self.cross_rank)
            return crossed.parameters, crossed.flops
        if self.kind in ("linear", "cat"):
            return 0, 0
        triples = third_order_cost(n, dim).flops if self.kind == "third" and n > 2 else 0
        return 0, interaction_cost("dot", n, dim).flops + triples


def matched(
    config: InteractionConfig,
    budget: int,
    of: Unit,
    *,
    knobs: Sequence[Knob] = ("dim", "rank", "hidden"),
    tolerance: float = 0.01,
) -> InteractionConfig:
    """The same model with other widths, so that it costs what it is allowed to.

    The knobs are turned one after the other: each as far up as the budget allows, and the last as
    close to it as whole numbers get. With the default, the vectors become as wide as can be beside
    the `rank` and `hidden` of `config`, which then fill up what is left.

    Args:
        config: the model; knobs that are not named keep its values.
        budget: parameters, or FLOP of one example's forward pass.
        of: "parameters" or "flops".
        knobs: "dim"; "rank" of a cross network; "hidden", the width of the first hidden layer, with
            the others in proportion. Those that the kind does not have are passed over.
        tolerance: by which share of the budget the result may miss it.

    Raises:
        UserError: no widths come that close, and the message says how close they come; or there is
            no such knob.
    """
    has = {
        "dim": config.kind != "linear",
        "rank": config.kind == "cross_low_rank",
        "hidden": bool(config.hidden),
    }
    if not set(knobs) <= set(has):
        raise UserError(f"knobs are {tuple(knobs)}; change them to some of {', '.join(has)}.")
    own = [knob for knob in knobs if has[knob]]
    for knob in own:
        below = _largest(config, knob, budget, of)
        choice = [below]
        if knob == own[-1] and not (knob == "rank" and below >= config.n_vectors * config.dim):
            choice.append(below + 1)
        turned = [_turned(config, knob, value) for value in choice]
        config = min(turned, key=lambda one: abs(one.cost(of) - budget))
    cost = config.cost(of)
    if abs(cost - budget) > tolerance * budget:
        turned_by = " and ".join(own) or "none of its widths"
        raise UserError(
            f"A model of kind {config.kind!r} with {budget:,} {of} was asked for; turning "
            f"{turned_by}, the closest has {cost:,} (dim {config.dim}, rank {config.rank}, hidden "
            f"{config.hidden}). Change the budget to that, allow a tolerance of "
            f"{abs(cost - budget) / budget:.3f}, or give the model hidden layers to fill up."
        )
    return config


def _largest(config: InteractionConfig, knob: Knob, budget: int, of: Unit) -> int:
    """The largest value of a knob that the budget allows, or the smallest there is."""
    low, cap = 1, budget
    if knob == "dim" and config.kind == "cross_low_rank":
        low = -(-config.rank // config.n_vectors)  # the rank has to fit
    if knob == "rank":
        cap = config.n_vectors * config.dim
    high = low
    while high <= cap and _turned(config, knob, high).cost(of) <= budget:
        low, high = high, 2 * high
    high = min(high, cap + 1)
    while high - low > 1:  # low is allowed, if anything is; high is not
        middle = (low + high) // 2
        if _turned(config, knob, middle).cost(of) <= budget:
            low = middle
        else:
            high = middle
    return low


def _turned(config: InteractionConfig, knob: Knob, value: int) -> InteractionConfig:
    """The configuration with one knob at a value."""
    if knob == "dim":
        return replace(config, dim=value)
    if knob == "rank":
        return replace(config, rank=value)
    scale = value / config.hidden[0]
    return replace(config, hidden=tuple(max(1, round(scale * width)) for width in config.hidden))
