"""A training step of the paper's profile model: wide MLPs and 1.6 million lookups, SGD."""

from pathlib import Path

from benchmarks import steps
from benchmarks.report import Row
from dlrm_mini.models import dlrm_presets

NAME = "step-profile"
TITLE = "The paper's profile model: 8 tables of 1 M x 64, 100 lookups, batch 2048, SGD"


def run(folder: Path) -> list[Row]:
    """Measure, draw the picture, return the rows."""
    return steps.run(NAME, TITLE, steps.plan_of(dlrm_presets.profile(), "sgd"), folder)
