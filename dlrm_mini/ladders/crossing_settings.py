"""What chapter 06 compares: worlds with known interactions, nine models, what they may cost.

A world is a synthetic click log of eight fields and two dense columns. Each field has thirty ids,
few enough for a third order to be found from 400,000 rows. What the pairs and triples of fields add
to the logit always has the same variance; the worlds differ in how much of it is third order, and
in how loud it is.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import permutations

import torch
from torch import Tensor
from torch.nn import functional

from dlrm_mini.datasets.batches import Batch
from dlrm_mini.datasets.clicks import ClickTask
from dlrm_mini.datasets.synthetic import ClickLog, ClickLogConfig
from dlrm_mini.models.interaction_config import InteractionConfig, Kind, Unit, matched

SEEDS = (0, 1, 2, 3, 4)
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of third order in the variance of the interactions
ROWS, VALID, TEST = 400_000, 50_000, 60_000  # rows that a seed trains on, that choose, that judge

FIELDS = {f"C{number}": 30 for number in range(1, 9)}
N_DENSE = 2
FIRST, INTERACTIONS, NOISE = 0.8, 1.2, 0.8  # standard deviations in logits, of a noisy world
LOUDER = 2.5  # in a loud world the terms are so many times as strong, and there is no noise

# Arm -> how the vectors meet, and the hidden layers on top. Budgets adapt the widths. "cat" without
# an MLP is linear, however wide; it is there to show that.
LINEAR = "linear"
ARMS: dict[str, tuple[Kind, tuple[int, ...]]] = {
    "cat": ("cat", ()),
    "cat + MLP": ("cat", (64,)),
    "dot": ("dot", ()),
    "dot + MLP": ("dot", (64,)),
    "cross": ("cross", ()),
    "cross + MLP": ("cross", (64,)),
    "third": ("third", ()),
    "third + MLP": ("third", (64,)),
}
HIGHER = ("cross", "third")  # those that multiply more than two vectors


@dataclass(frozen=True)
class Budget:
    """What a model may cost.

    Attributes:
        of: "parameters", or "flops" of one example's forward pass.
        cost: how many; every arm comes within 1 % of it.
    """

    of: Unit
    cost: int

    @property
    def name(self) -> str:
        """Such as "7620 parameters"."""
        return f"{self.cost} {self.of}"


# Numbers near which whole widths bring every arm within 1 %.
PARAMETERS, FLOPS, DOUBLE = (
    Budget("parameters", 7_620),
    Budget("flops", 8_360),
    Budget("parameters", 15_880),
)
MOVIELENS_BUDGETS = (Budget("parameters", 91_000), Budget("flops", 12_550))


@dataclass(frozen=True)
class Setting:
    """The hyper-parameters of a run; every rate falls to zero in a straight line.

    Without a penalty it is Adam, one pass over rows that never come twice. With one it is the
    recipe of chapter 05, Adagrad, whose MLPs get a tenth of the tables' rate.

    Attributes:
        rate: the first learning rate.
        init_std: standard deviation of the vectors' first entries.
        l2: weight of the looked-up vectors' squared lengths, per example.
        batch_size: examples in a step.
        epochs: passes over the training rows.
    """

    rate: float
    init_std: float
    l2: float = 0.0
    batch_size: int = 512
    epochs: int = 1


GRID = tuple(Setting(rate, std) for rate in (0.01, 0.02, 0.04) for std in (0.1, 0.3))
MOVIELENS_GRID = tuple(
    Setting(rate, std, l2, batch_size=1024, epochs=4)
    for rate, std, l2 in (
        *((0.1, 0.03, 0.002), (0.2, 0.03, 0.002), (0.2, 0.03, 0.006), (0.4, 0.1, 0.002)),
    )
)


@dataclass(frozen=True)
class World:
    """A click log with planted interactions.

    Attributes:
        share: of the third order in the variance of the interactions, 0..1.
        loud: whether all terms are `LOUDER`, and nothing is left to things that no model sees.
    """

    share: float
    loud: bool = False

    @property
    def name(self) -> str:
        """Such as "0.5 noisy"."""
        return f"{self.share} {'loud' if self.loud else 'noisy'}"

    @cached_property
    def log(self) -> ClickLog:
        """The rows, without end. All worlds plant the same pairs and triples."""
        loud = LOUDER if self.loud else 1.0
        return ClickLog(
            ClickLogConfig(
                cardinalities=FIELDS,
                n_dense=N_DENSE,
                missing_dense=0.1,
                missing_sparse=0.0,
                first=loud * FIRST,
                second=loud * INTERACTIONS * (1 - self.share) ** 0.5,
                third=loud * INTERACTIONS * self.share**0.5,
                n_pairs=6,
                n_triples=2,
                dense_pairs=1,
                teacher_dim=2,
                noise=0.0 if self.loud else NOISE,
            )
        )

    def train(self, seed: int) -> Batch:
        """The rows that a seed trains on; each seed has its own."""
        return self.log.batch(seed * ROWS, (seed + 1) * ROWS)[0]

    def valid(self) -> tuple[Batch, Tensor]:
        """Rows that choose settings, and their true probabilities."""
        return self.log.batch(10 * ROWS, 10 * ROWS + VALID)

    def test(self) -> tuple[Batch, Tensor]:
        """Rows that judge, and their true probabilities."""
        return self.log.batch(20 * ROWS, 20 * ROWS + TEST)

    def optimum(self) -> dict[str, float]:
        """What the best possible model reaches on the test rows; see `ClickLog.optimum`."""
        return self.log.optimum(20 * ROWS, 20 * ROWS + TEST)

    def planted(self) -> tuple[tuple[str, ...], Tensor]:
        """What `pair_strengths` would find in the teacher: the pairs, and the triples around them.

        Names, and (n, n) float64 standard deviations in logits.
        """
        names, pairs = self.log.planted_pairs()
        variance = pairs.square()
        for triple, strength in self.log.planted_triples().items():
            for one, two in permutations((names.index(name) for name in triple), 2):
                variance[one, two] += strength**2
        return names, variance.sqrt()


def arm_config(
    arm: str,
    budget: Budget = PARAMETERS,
    cardinalities: dict[str, int] | None = None,
    n_dense: int = N_DENSE,
) -> InteractionConfig:
    """The sizes of an arm, such that it costs what it may.

    Args:
        arm: a key of `ARMS`, or `LINEAR`, which has no widths to adapt.
        budget: what it may cost, within 1 %.
        cardinalities: feature -> rows of its table; those of the worlds when None.
        n_dense: dense columns.
    """
    sizes = cardinalities or FIELDS
    if arm == LINEAR:
        return InteractionConfig("linear", n_dense, sizes, dim=1)
    kind, hidden = ARMS[arm]
    if kind == "cross" and cardinalities:  # whole matrices come in steps that are too coarse there
        kind = "cross_low_rank"
    return matched(
        InteractionConfig(kind, n_dense, sizes, dim=8, hidden=hidden), budget.cost, budget.of
    )


def movielens_config(arm: str, budget: Budget, task: ClickTask) -> InteractionConfig:
    """The same for MovieLens; a cross network has matrices of low rank there."""
    return arm_config(arm, budget, task.cardinalities, task.train.dense.shape[1])


def log_odds(labels: Tensor) -> float:
    """Of a click among these labels: where a model's logit starts."""
    return float(torch.logit(labels.double().mean()))


def expected_logloss(logits: Tensor, probability: Tensor) -> float:
    """The logloss of logits (N,), averaged over labels that are 1 with `probability` (N,)."""
    z = logits.double()
    return float((functional.softplus(z) - probability * z).mean())


def share(loss: float, linear: float, optimum: float) -> float:
    """How much of the way from logistic regression to the optimum a logloss has gone; 1 is all."""
    return (linear - loss) / (linear - optimum)
