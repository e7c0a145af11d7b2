"""SVD++ as a factorization machine: the user's history as one more field, cheap enough to train.

Koren 2008, "Factorization Meets the Neighborhood", equation (15), read as a choice of features
(Rendle, Zhang and Koren 2019).
"""

import torch

from dlrm_mini.datasets.batches import Batch
from dlrm_mini.datasets.sparse import SparseFeatures
from dlrm_mini.models.factorization_machine import FactorizationMachine, Terms


class HistoryMachine(FactorizationMachine):
    """A factorization machine with a bag of ids that depends on the user alone.

    The same as a `FactorizationMachine` whose batches hold the bag in every row, except that the
    bag of each user in a batch is pooled once, not once for each of their ratings.

    Args:
        cardinalities: feature -> rows of its table, "user" and "item" among them, without the
            history.
        histories: the feature "history", one row for each user, ids as of "item".
        dim: D, the rank.
        bias: first value of w_0.
        init_std: standard deviation of the first vectors' entries.
    """

    def __init__(
        self,
        cardinalities: dict[str, int],
        histories: SparseFeatures,
        dim: int,
        *,
        bias: float = 0.0,
        init_std: float = 0.03,
    ) -> None:
        super().__init__(cardinalities, dim, bias=bias, init_std=init_std)
        self.histories = histories
        self.history = FactorizationMachine(
            {"history": cardinalities["item"]}, dim, init_std=init_std
        )
        self.history.bias.requires_grad_(False)  # this machine has one already

    @property
    def field_names(self) -> tuple[str, ...]:
        """The n fields, the history last."""
        return (*super().field_names, "history")

    def look_up(self, batch: Batch) -> Terms:
        """The rows of each example in every field; see `FactorizationMachine.look_up`."""
        terms = super().look_up(batch)
        users, place = torch.unique(batch.sparse.ids("user"), return_inverse=True)
        n = len(users)
        bags = Batch(torch.empty(n, 0), self.histories.select(users), torch.zeros(n))
        of_user = self.history.look_up(bags)
        both = zip(terms, of_user, strict=True)
        return Terms(*(torch.cat([others, own[place]], dim=1) for others, own in both))
