"""The upper rungs of the ratings ladder: from a split and a seed to test predictions."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from dlrm_mini import gibbs
from dlrm_mini.datasets.movielens import MovieLens
from dlrm_mini.datasets.rating_features import rating_features
from dlrm_mini.datasets.splits import Split
from dlrm_mini.errors import UserError
from dlrm_mini.ladders import rating_models, rating_nets
from dlrm_mini.ladders.plans import one_thread
from dlrm_mini.ladders.rating_models import (
    CHOSEN_FM,
    CHOSEN_SVDPP,
    FM_GROUPS,
    FMSetting,
    fit_fm_to,
)
from dlrm_mini.ladders.rating_nets import CHOSEN_DLRM, CHOSEN_MLP, CHOSEN_NEUMF, NetSetting
from dlrm_mini.models.factorization_machine import FactorizationMachine
from dlrm_mini.training import predict, set_seed

# Data set, split and seed, and for all but the lowest a setting -> test ratings (N_test,).
Rung = Callable[..., Tensor]


@dataclass(frozen=True)
class GibbsSetting:
    """How the posterior is sampled.

    Attributes:
        dim: D, the rank.
        samples: how many samples are averaged.
        burn_in: how many are left out first.
        init_std: standard deviation of the first vectors' entries.
    """

    dim: int
    samples: int
    burn_in: int
    init_std: float


CHOSEN_GIBBS = GibbsSetting(dim=16, samples=250, burn_in=20, init_std=0.1)


@one_thread()
def sample_fm(
    ml: MovieLens,
    split: Split,
    *,
    seed: int,
    groups: Collection[str] = FM_GROUPS,
    setting: GibbsSetting = CHOSEN_GIBBS,
    progress: bool = False,
) -> tuple[gibbs.Posterior, FactorizationMachine]:
    """Average a factorization machine over its posterior, with the features of `fit_fm`.

    Args:
        ml: the data set.
        split: which rows to learn from and to predict.
        seed: of the start and of all draws.
        groups: which groups of `rating_features.GROUPS`, without the history.
        setting: how to sample.
        progress: show a bar.

    Returns:
        The posterior of the test rows' predictions, and the machine with the last sample's weights.

    Raises:
        UserError: the history is among the groups.
    """
    if "history" in groups:
        raise UserError(
            "The sampler does not take the group 'history': most of its ids share rows and would "
            "have to be drawn one by one, far too slowly. Leave it out, or use fit_fm."
        )
    task = rating_features(ml, split, groups)
    set_seed(seed)
    mean = task.train.labels.mean().item()
    model = FactorizationMachine(
        task.cardinalities, setting.dim, bias=mean, init_std=setting.init_std
    )
    posterior = gibbs.sample(
        model,
        task.train,
        task.test,
        samples=setting.samples,
        burn_in=setting.burn_in,
        seed=seed,
        progress=progress,
    )
    return posterior, model


def rung(fitter: rating_models.Fitter) -> Rung:
    """The rung of a fitter that knows user and movie alone."""

    def predicted(ml: MovieLens, split: Split, seed: int) -> Tensor:
        return predict(fitter(ml, split.train, seed), ml.examples(split.test))

    return predicted


def svdpp(ml: MovieLens, split: Split, seed: int, setting: FMSetting = CHOSEN_SVDPP) -> Tensor:
    """SVD++: the factorization machine of user, movie and the user's history."""
    task = rating_features(ml, split, ("history",))
    return predict(fit_fm_to(task, seed=seed, setting=setting), task.test)


def fm(
    ml: MovieLens,
    split: Split,
    seed: int,
    setting: FMSetting = CHOSEN_FM,
    groups: Collection[str] = FM_GROUPS,
) -> Tensor:
    """The factorization machine with side features."""
    task = rating_features(ml, split, groups)
    return predict(fit_fm_to(task, seed=seed, setting=setting), task.test)


def mlp(ml: MovieLens, split: Split, seed: int, setting: NetSetting = CHOSEN_MLP) -> Tensor:
    """The MLP in NCF's shape: user and movie, vectors end to end."""
    task = rating_features(ml, split)
    return predict(rating_nets.fit_mlp(task, seed=seed, setting=setting), task.test)


def neumf(ml: MovieLens, split: Split, seed: int, setting: NetSetting = CHOSEN_NEUMF) -> Tensor:
    """The MLP with a dot path beside it, NeuMF's shape."""
    return mlp(ml, split, seed, setting)


def dlrm(ml: MovieLens, split: Split, seed: int, setting: NetSetting = CHOSEN_DLRM) -> Tensor:
    """DLRM with the factorization machine's fields and four dense features."""
    task = rating_nets.dlrm_task(ml, split)
    return predict(rating_nets.fit_dlrm(task, seed=seed, setting=setting), task.test)


def fm_bayes(
    ml: MovieLens,
    split: Split,
    seed: int,
    setting: GibbsSetting = CHOSEN_GIBBS,
    groups: Collection[str] = FM_GROUPS,
) -> Tensor:
    """The factorization machine with side features, averaged over its posterior."""
    return sample_fm(ml, split, seed=seed, groups=groups, setting=setting)[0].mean


# The settings of the rungs whose search is `upper_search`.
UPPER: dict[str, FMSetting | NetSetting | GibbsSetting] = {
    "svdpp": CHOSEN_SVDPP,
    "fm": CHOSEN_FM,
    "mlp": CHOSEN_MLP,
    "mlp+dot": CHOSEN_NEUMF,
    "dlrm": CHOSEN_DLRM,
    "fm_bayes": CHOSEN_GIBBS,
}
RUNGS: dict[str, Rung] = {
    **{name: rung(fitter) for name, fitter in rating_models.RUNGS.items()},
    "svdpp": svdpp,
    "fm": fm,
    "mlp": mlp,
    "mlp+dot": neumf,
    "dlrm": dlrm,
    "fm_bayes_ids": partial(fm_bayes, groups=()),  # user and movie alone
    "fm_bayes": fm_bayes,
}
