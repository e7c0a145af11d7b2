"""Click logs in the prepared form: memory-mapped columns, what was counted, and the splits.

`python -m dlrm_mini criteo prepare train.txt --out DIR` makes the folder (`criteo_prepare` says
what is in it), `Prepared.open(DIR)` opens it in a moment whatever its size, and `PreparedLoader`
in `criteo_loader` cuts shuffled batches out of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dlrm_mini.datasets.batches import Batch, SparseFeatures
from dlrm_mini.datasets.criteo_columns import Buckets, hash_ids, rule
from dlrm_mini.datasets.criteo_format import DENSE, SPARSE
from dlrm_mini.datasets.criteo_lines import decode
from dlrm_mini.datasets.criteo_splits import SPLITS, Days
from dlrm_mini.datasets.criteo_store import META, read_json
from dlrm_mini.datasets.criteo_vocabulary import search
from dlrm_mini.errors import UserError


@dataclass(frozen=True, eq=False)
class Prepared:
    """A prepared click log of N rows.

    Attributes:
        folder: where it is.
        meta: what was asked and counted when it was prepared.
        labels: (N,) uint8, 0 or 1.
        dense: (N, 13) float32, log(1 + max(x, 0)), 0 where missing.
        columns: C1 to C26, each (N,) of unsigned integers: the ids.

    Example:
        >>> prepared = Prepared.open(Path("criteo"))  # doctest: +SKIP
        >>> prepared.cardinalities["C1"], prepared.splits  # doctest: +SKIP
        (1461, {'train': 39291957, 'valid': 3274330, 'test': 3274330})
    """

    folder: Path
    meta: Mapping[str, Any]
    labels: NDArray[np.uint8]
    dense: NDArray[np.float32]
    columns: Mapping[str, NDArray[Any]]

    @classmethod
    def open(cls, folder: Path) -> Prepared:
        """Map the files of a prepared folder into memory; none of them is read yet.

        Raises:
            UserError: the folder is not a prepared one, or a file in it has another size.
        """
        meta = read_json(folder / META)
        if meta is None:
            raise UserError(
                f"{folder} is no prepared click log: it has no {META}. Make one with `python -m "
                "dlrm_mini criteo prepare train.txt --out DIR`."
            )
        n = meta["rows"]

        def check(name: str, expected: int) -> Path:
            path = folder / name
            found = path.stat().st_size if path.is_file() else 0
            if found != expected:
                raise UserError(
                    f"{path} has {found:,} bytes, expected {expected:,} for {n:,} rows. Delete "
                    f"{folder} and prepare it again."
                )
            return path

        def mapped(name: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
            path = check(name, int(np.prod(shape)) * np.dtype(dtype).itemsize)
            return np.memmap(path, dtype, "r", shape=shape).view(np.ndarray)

        for name, counts in meta["sparse"].items():
            if "words" in counts:
                check(f"{name}.words", 4 * counts["words"])
        if meta["job"]["split"] != str(Days()):
            for name, size in meta["splits"].items():
                check(f"{name}.rows", 8 * size)
        columns = {
            name: mapped(f"{name}.bin", meta["sparse"][name]["dtype"], (n,)) for name in SPARSE
        }
        labels, dense = mapped("label.bin", "uint8", (n,)), mapped("dense.bin", "float32", (n, 13))
        return cls(folder, meta, labels, dense, columns)

    def __len__(self) -> int:
        """N, the number of rows."""
        return len(self.labels)

    @property
    def cardinalities(self) -> dict[str, int]:
        """How many ids each column has, missing and out-of-vocabulary included: table sizes."""
        return {name: counts["ids"] for name, counts in self.meta["sparse"].items()}

    @property
    def splits(self) -> dict[str, int]:
        """How many rows each split has."""
        return dict(self.meta["splits"])

    def rows(self, split: str, start: int, stop: int) -> NDArray[np.int64]:
        """Where rows start..stop of a split are among all rows, ascending (stop - start,).

        Raises:
            UserError: there is no such split, or it has fewer rows.
        """
        sizes = self.splits
        if split not in sizes:
            raise UserError(f"there is no split '{split}'; there are {', '.join(sizes)}.")
        if not 0 <= start <= stop <= sizes[split]:
            raise UserError(
                f"rows {start:,} to {stop:,} of the {split} split were asked for; it has "
                f"{sizes[split]:,}."
            )
        if self.meta["job"]["split"] != str(Days()):
            listed = self.folder / f"{split}.rows"
            return np.fromfile(listed, np.int64, stop - start, offset=8 * start)
        first = sum(sizes[name] for name in SPLITS[: SPLITS.index(split)])
        return np.arange(first + start, first + stop)

    def batch(self, split: str, start: int = 0, stop: int | None = None) -> Batch:
        """Rows of a split in their order, all of them unless said otherwise, in memory.

        Raises:
            UserError: there is no such split, or it has fewer rows.
        """
        where = self.rows(split, start, self.splits.get(split, 0) if stop is None else stop)
        ids = np.concatenate([column[where].astype(np.int64) for column in self.columns.values()])
        return Batch(
            torch.from_numpy(self.dense[where]),
            SparseFeatures(SPARSE, torch.from_numpy(ids), torch.arange(len(ids) + 1)),
            torch.from_numpy(self.labels[where].astype(np.float32)),
        )

    def ids(self, column: str, values: Sequence[str | None]) -> NDArray[np.uint32]:
        """The ids of categories as they stand in a raw file, seen before or not.

        Args:
            column: C1 to C26.
            values: eight hexadecimal digits each; empty or None where missing.

        Returns:
            (n,) uint32; an unseen value is out-of-vocabulary, or in one of the buckets.

        Raises:
            UserError: there is no such column, or a value is none.
        """
        if column not in self.columns:
            raise UserError(f"there is no column '{column}'; there are C1 to C26.")
        how, (numbers, missing) = rule(self.meta["job"]["columns"][column]), decode(values)
        if isinstance(how, Buckets):
            found, place = np.empty(len(numbers), np.uint32), SPARSE.index(column)
            absent = missing.astype(np.uint32) << np.uint32(place)
            hash_ids(numbers, absent, place, how.number, found)
            return found
        return search(np.fromfile(self.folder / f"{column}.words", np.uint32), numbers, missing)

    def describe(self) -> str:
        """What is there, as text: rows, splits, and a line for each column."""
        meta, n = self.meta, len(self)
        sizes = ", ".join(f"{name} {size:,}" for name, size in self.splits.items())
        lines = [
            f"{self.folder}: {n:,} rows, {meta['positives'] / n:.1%} clicked; {sizes} "
            f"({meta['job']['split']})",
            f"{len(meta['skipped'])} bad line(s) left out",
            "column   missing  negative",
        ]
        for name in DENSE:
            counts = meta["dense"][name]
            lines.append(f"{name:<6}{counts['missing'] / n:>10.2%}{counts['negative'] / n:>10.2%}")
        lines.append("column   missing         ids  rule             out of vocabulary in test")
        for name in SPARSE:
            counts = meta["sparse"][name]
            line = f"{name:<6}{counts['missing'] / n:>10.2%}{counts['ids']:>12,}  "
            line += f"{meta['job']['columns'][name]:<17}"
            if "words" in counts:
                line += f"{counts['out_of_vocabulary']['test'] / max(self.splits['test'], 1):.2%}"
            lines.append(line.rstrip())
        return "\n".join(lines)
