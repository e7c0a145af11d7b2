"""Small click logs in Criteo's layout, and what must become of them, in plain Python."""

import math
import random
from collections import Counter
from pathlib import Path

import numpy as np

from dlrm_mini.datasets.criteo_format import DENSE, SPARSE

Row = tuple[str, ...]  # 40 fields as they stand in a file


def some_rows(n: int, seed: int = 0) -> list[Row]:
    """Rows with missing values, negatives, and categories some of which come up again and again."""
    draw = random.Random(seed)

    def integer() -> str:
        return "" if draw.random() < 0.21 else str(int(draw.paretovariate(0.7)) - 3)

    def category(column: int) -> str:
        if draw.random() < 0.11:
            return ""
        return f"{(min(int(draw.paretovariate(0.8)), 500) * 2654435761 * (column + 1)) % 2**32:08x}"

    return [
        (str(int(draw.random() < 0.256)), *(integer() for _ in DENSE), *map(category, range(26)))
        for _ in range(n)
    ]


def text_of(rows: list[Row], separator: str = "\t", end: str = "\n") -> bytes:
    return "".join(separator.join(row) + end for row in rows).encode()


def write(path: Path, rows: list[Row]) -> Path:
    path.write_bytes(text_of(rows))
    return path


def dense_of(rows: list[Row]) -> np.ndarray:
    return np.array([[math.log1p(max(int(x or 0), 0)) for x in row[1:14]] for row in rows])


def threshold_ids(rows: list[Row], column: int, least: int, training: list[int]) -> list[int]:
    """0 missing, 1 out of vocabulary, from 2 on the frequent values in ascending order."""
    texts = [row[14 + column] for row in rows]
    counts = Counter(texts[place] for place in training if texts[place])
    words = sorted(int(text, 16) for text, count in counts.items() if count >= least)
    ids = {f"{word:08x}": 2 + place for place, word in enumerate(words)}
    return [ids.get(text.lower(), 1) if text else 0 for text in texts]


def hashed_ids(rows: list[Row], column: int, buckets: int) -> list[int]:
    """0 missing, 1 to `buckets` by splitmix64's finish of column and value."""

    def bucket(text: str) -> int:
        x = ((column + 1) << 32 | int(text, 16)) % 2**64
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % 2**64
        return 1 + (((x ^ (x >> 31)) >> 32) * buckets >> 32)

    return [bucket(row[14 + column]) if row[14 + column] else 0 for row in rows]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


HEADER = ("label", *DENSE, *SPARSE)
