"""Published sizes of DLRM, as configurations whose tables can be scaled down.

"A DLRM" is several workloads: the first two are of the paper, one for accuracy and one for speed;
the other three are DeepRecSys', and lie two orders of magnitude apart in arithmetic per byte.
"""

import math
from collections.abc import Callable, Mapping

from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm_config import DLRMConfig

# Rows of C1..C26 in Criteo's Kaggle data, as every public port of DLRM counts them.
KAGGLE_ROWS = (
    *(1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683, 8351593, 3194),
    *(27, 14992, 5461306, 10, 5652, 2173, 4, 7046547, 18, 15, 286181, 105, 142572),
)

# The same for Criteo's terabyte, as in TorchRec's public example on it (torchrec_dlrm/README.MD in
# facebookresearch/dlrm). It calls them 91.10 GiB at width 128; they are 91.1 GB, or 84.9 GiB.
TERABYTE_ROWS = (
    *(45833188, 36746, 17245, 7413, 20243, 3, 7114, 1441, 62, 29275261, 1572176, 345138, 10),
    *(2209, 11267, 128, 4, 974, 14, 48937457, 11316796, 40094537, 452104, 12606, 104, 35),
)


def _tables(rows: Mapping[str, int], scale: float) -> dict[str, int]:
    """Name -> rows times `scale`, rounded, at least 1."""
    if not (math.isfinite(scale) and scale > 0):
        raise UserError(
            f"scale is {scale}; change it to a number above 0: 1.0 for the tables as published, "
            "0.01 for a hundredth of their rows."
        )
    return {name: max(1, round(scale * number)) for name, number in rows.items()}


def _equal_tables(number: int, rows: int, scale: float) -> dict[str, int]:
    return _tables({f"table{place}": rows for place in range(1, number + 1)}, scale)


def kaggle(scale: float = 1.0) -> DLRMConfig:
    """The accuracy experiment of Naumov et al. 2019 on Criteo's Kaggle data: 540.2 M parameters.

    13 dense features, 26 tables of width 16. The text has the bottom MLP 512-256-64, which does not
    end at 16; the public script for the experiment has 13-512-256-64-16, taken here.

    Args:
        scale: factor on the rows of every table.

    Raises:
        UserError: a scale that is not above 0.
    """
    names = [f"C{place}" for place in range(1, len(KAGGLE_ROWS) + 1)]
    tables = _tables(dict(zip(names, KAGGLE_ROWS, strict=True)), scale)
    return DLRMConfig(13, tables, 16, bottom=(512, 256, 64, 16), top=(512, 256, 1))


def terabyte(scale: float = 1.0) -> DLRMConfig:
    """Criteo's terabyte of clicks, as TorchRec's public example trains it: 91.1 GB of parameters.

    13 dense features, 26 tables of width 128, one lookup each; bottom 512-256-128, top
    1024-1024-512-256-1, dot interaction. No single machine of the course holds it, so it is not in
    `PRESETS`.

    Args:
        scale: factor on the rows of every table.

    Raises:
        UserError: a scale that is not above 0.
    """
    names = [f"C{place}" for place in range(1, len(TERABYTE_ROWS) + 1)]
    tables = _tables(dict(zip(names, TERABYTE_ROWS, strict=True)), scale)
    top = (1024, 1024, 512, 256, 1)
    return DLRMConfig(13, tables, 128, bottom=(512, 256, 128), top=top)


def profile(scale: float = 1.0) -> DLRMConfig:
    """The profiling experiment of Naumov et al. 2019: 8 tables of a million rows, 100 lookups each.

    512 dense features, the number that the bottom MLP 512-512-64 begins with; top 1024-1024-1024-1,
    dot interaction.

    Args:
        scale: factor on the rows of every table.

    Raises:
        UserError: a scale that is not above 0.
    """
    tables = _equal_tables(8, 1_000_000, scale)
    return DLRMConfig(512, tables, 64, bottom=(512, 64), top=(1024, 1024, 1024, 1), lookups=100)


def rm1(scale: float = 1.0) -> DLRMConfig:
    """DeepRecSys' RM1: 8 tables of 4 M x 32 and 80 lookups, small MLPs.

    Public configuration: bottom 128-64-32 (its first number is the dense features), top 256-64-1,
    concatenation.

    Args:
        scale: factor on the rows of every table.

    Raises:
        UserError: a scale that is not above 0.
    """
    tables = _equal_tables(8, 4_000_000, scale)
    return DLRMConfig(
        128, tables, 32, bottom=(64, 32), top=(256, 64, 1), interaction="cat", lookups=80
    )


def rm2(scale: float = 1.0) -> DLRMConfig:
    """DeepRecSys' RM2: 32 tables of 500 k x 64 and 120 lookups, bound by memory.

    Public configuration: bottom 256-128-64 (its first number is the dense features), top 128-64-1,
    concatenation.

    Args:
        scale: factor on the rows of every table.

    Raises:
        UserError: a scale that is not above 0.
    """
    tables = _equal_tables(32, 500_000, scale)
    return DLRMConfig(
        256, tables, 64, bottom=(128, 64), top=(128, 64, 1), interaction="cat", lookups=120
    )


def rm3(scale: float = 1.0) -> DLRMConfig:
    """DeepRecSys' RM3: 10 tables of 2 M x 32 and 20 lookups, bound by its bottom MLP.

    Public configuration: bottom 2560-1024-256-32 (its first number is the dense features), top
    512-256-1, concatenation.

    Args:
        scale: factor on the rows of every table.

    Raises:
        UserError: a scale that is not above 0.
    """
    tables = _equal_tables(10, 2_000_000, scale)
    return DLRMConfig(
        2560, tables, 32, bottom=(1024, 256, 32), top=(512, 256, 1), interaction="cat", lookups=20
    )


PRESETS: Mapping[str, Callable[..., DLRMConfig]] = {
    "kaggle": kaggle, "profile": profile, "rm1": rm1, "rm2": rm2, "rm3": rm3,
}  # fmt: skip
