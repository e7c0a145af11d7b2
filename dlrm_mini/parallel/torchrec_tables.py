"""TorchRec's tables in the place of ours, and our batches as it wants them.

Importing this needs TorchRec.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dlrm_mini.datasets.batches import Batch
from dlrm_mini.datasets.sparse import SparseFeatures
from dlrm_mini.embeddings import check_features
from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.parallel import torchrec_plans  # says what to do where TorchRec is missing

# isort: split
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torchrec import EmbeddingBagCollection, KeyedJaggedTensor, KeyedTensor


class Tables(nn.Module):
    """TorchRec's collection with the interface of `EmbeddingTables`, as a DLRM wants its tables.

    Args:
        config: features, rows, width and pooling.
        check: whether to look for missing features and for ids without a row.
    """

    def __init__(self, config: DLRMConfig, check: bool) -> None:
        super().__init__()
        self.cardinalities, self.dim = dict(config.cardinalities), config.dim
        self.pooling, self.check = config.pooling, check
        self.collection: EmbeddingBagCollection = torchrec_plans.collection(config)

    @property
    def names(self) -> tuple[str, ...]:
        """The F features, in the order of the vectors."""
        return tuple(self.cardinalities)

    def forward(self, sparse: SparseFeatures) -> Tensor:
        """The pooled vectors (b, F, D) of this rank's rows, in the order of `names`.

        Raises:
            UserError: a feature is missing, an id has no row in its table, or ids have weights.
        """
        if self.check:
            check_features(sparse, self.cardinalities)
        keyed = to_keyed(sparse, self.names)
        # A sharded collection gives its features form by form: put them in our order.
        together = KeyedTensor.regroup([self.collection(keyed)], [list(self.names)])[
            0
        ]  # (b, F * D)
        vectors: Tensor = together.view(sparse.batch_size, len(self.names), self.dim)
        if self.pooling == "mean":
            lengths = keyed.lengths().view(len(self.names), -1).T  # (b, F)
            vectors = vectors / lengths.clamp(min=1)[:, :, None]
        return vectors


def to_keyed(sparse: SparseFeatures, names: tuple[str, ...]) -> KeyedJaggedTensor:
    """Our features as TorchRec's: both keep the bags feature after feature, end to end.

    Args:
        sparse: the features of b rows, perhaps more than are wanted, or in another order.
        names: those that are wanted.

    Raises:
        UserError: a feature is missing, or ids have weights.
    """
    if sparse.weights is not None:
        raise UserError(
            "The ids of this batch have weights, which this engine does not hand on to TorchRec. "
            "Leave them out, or train with ShardedDLRM."
        )
    if sparse.names != names:
        sparse = SparseFeatures.from_columns({name: sparse[name] for name in names})
    lengths = sparse.lengths().view(-1)  # (F * b,)
    return KeyedJaggedTensor(
        keys=list(names),
        values=sparse.values,
        lengths=lengths,
        offsets=sparse.offsets,
        stride=sparse.batch_size,
    )


def padded(batch: Batch, rows: int) -> Batch:
    """The batch with rows of zeros and empty bags at its end, `rows` in all.

    TorchRec's row-wise tables want as many rows of every rank. What has no part in the loss has no
    gradient.
    """
    lacking, sparse = rows - len(batch), batch.sparse
    if not lacking:
        return batch
    ends = F.pad(sparse.lengths(), (0, lacking)).view(-1).cumsum(0)  # (F * rows,)
    return Batch(
        F.pad(batch.dense, (0, 0, 0, lacking)),
        SparseFeatures(sparse.names, sparse.values, F.pad(ends, (1, 0)), sparse.weights),
        F.pad(batch.labels, (0, lacking)),
    )


def our_key(key: str) -> str:
    """TorchRec's name of a weight -> DLRM's, such as "tables.tables.C1"."""
    begin = f"{torchrec_plans.COLLECTION}.embedding_bags.{torchrec_plans.PREFIX}"
    if key.startswith(begin):
        return "tables.tables." + key.removeprefix(begin).removesuffix(".weight")
    return key


def pieces(tensor: Any) -> list[tuple[Tensor, tuple[slice, ...]]]:
    """What lies here of a weight, and where it is in the whole."""
    if not isinstance(tensor, ShardedTensor):
        return [(tensor, (slice(None),))]
    return [
        (
            shard.tensor,
            tuple(
                slice(first, first + size)
                for first, size in zip(
                    shard.metadata.shard_offsets, shard.metadata.shard_sizes, strict=True
                )
            ),
        )
        for shard in tensor.local_shards()
    ]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what TorchRec and torch say to each other's authors: what is to be replaced, when."""
    loggers = [logging.getLogger(name) for name in ("torchrec", "torch.fx", "")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            # The operator has its own backward below torch's; the tests hold its gradients to ours.
            warnings.filterwarnings("ignore", message="fbgemm::dense_embedding")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
