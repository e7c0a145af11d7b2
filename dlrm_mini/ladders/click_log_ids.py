"""Which rows the tables keep: ids by how often they occur, or hashed into buckets and counted.

Both follow `datasets.criteo_columns`, on ids in memory instead of text: 0 is missing; with a
threshold, 1 is out-of-vocabulary and the kept ids follow; with hashing, the buckets are 1 and up.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dlrm_mini.datasets.batches import Batch, SparseFeatures
from dlrm_mini.datasets.criteo_columns import MISSING, OUT_OF_VOCABULARY, hash_ids


@dataclass(frozen=True, eq=False)
class Encoding:
    """From a log's ids to the rows of a model's tables, field by field.

    Attributes:
        rows: field -> (ids of the log,) int64, the table's row of each.
        cardinalities: field -> rows of its table.
    """

    rows: Mapping[str, Tensor]
    cardinalities: dict[str, int]

    def __call__(self, batch: Batch) -> Batch:
        """The same examples with the table's rows as ids; every field has one id a row."""
        sparse = batch.sparse
        columns = [self.rows[name][sparse.ids(name)] for name in sparse.names]
        return Batch(
            batch.dense,
            SparseFeatures(sparse.names, torch.cat(columns), sparse.offsets),
            batch.labels,
        )


def frequent(train: Batch, sizes: Mapping[str, int], least: int) -> Encoding:
    """Keep the ids that at least `least` training rows hold; all others share a row.

    Args:
        train: the rows that are counted.
        sizes: field -> ids of the log, of which the last means missing.
        least: the threshold; with 1, only what training never saw is out of vocabulary.
    """
    rows, cardinalities = {}, {}
    for name, size in sizes.items():
        counts = torch.bincount(train.sparse.ids(name), minlength=size)
        kept = counts >= least
        kept[-1] = False  # missing has a row of its own
        place = torch.full((size,), OUT_OF_VOCABULARY)
        place[kept] = torch.arange(int(kept.sum())) + OUT_OF_VOCABULARY + 1
        place[-1] = MISSING
        rows[name], cardinalities[name] = place, int(kept.sum()) + OUT_OF_VOCABULARY + 1
    return Encoding(rows, cardinalities)


def hashed(sizes: Mapping[str, int], buckets: int) -> Encoding:
    """Hash the ids of every field into `buckets`; missing keeps a row of its own.

    Args:
        sizes: field -> ids of the log, of which the last means missing.
        buckets: of each field.
    """
    rows = {}
    for column, (name, size) in enumerate(sizes.items()):
        place = np.empty(size, np.uint32)
        nothing = np.zeros(size, np.uint32)
        hash_ids(np.arange(size, dtype=np.uint32), nothing, column, buckets, place)
        place[-1] = MISSING
        rows[name] = torch.from_numpy(place.astype(np.int64))
    return Encoding(rows, dict.fromkeys(sizes, buckets + 1))


@dataclass(frozen=True)
class Sharing:
    """What a hash does to one field's values.

    Attributes:
        values: different values that occur.
        expected: of these, the share that should share a bucket with another (`expected_sharing`).
        counted: the share that does.
        lookups: the share of all rows that look up a shared bucket; missing values count as alone.
    """

    values: int
    expected: float
    counted: float
    lookups: float


def expected_sharing(values: int, buckets: int) -> float:
    """The chance that one of `values` values has company in its bucket.

    Each of the others misses the bucket with chance 1 - 1/buckets: the birthday formula, for one.
    """
    return 1 - (1 - 1 / buckets) ** (values - 1) if values else 0.0


def sharing(encoding: Encoding, train: Batch, name: str) -> Sharing:
    """Count the collisions of one field among the values that occur in training.

    Args:
        encoding: one of `hashed`.
        train: rows with the log's own ids.
        name: the field.
    """
    place = encoding.rows[name]
    counts = torch.bincount(train.sparse.ids(name), minlength=len(place))
    total = int(counts.sum())
    counts[-1] = 0  # missing is not hashed
    seen = counts > 0
    company = torch.bincount(place[seen], minlength=encoding.cardinalities[name])[place] > 1
    shared, values = seen & company, int(seen.sum())
    return Sharing(
        values,
        expected_sharing(values, encoding.cardinalities[name] - 1),
        int(shared.sum()) / max(values, 1),
        int(counts[shared].sum()) / max(total, 1),
    )
