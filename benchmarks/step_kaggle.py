"""A training step of the Kaggle model: 26 tables with one lookup each, row-wise Adagrad."""

from pathlib import Path

from benchmarks import steps
from benchmarks.report import Row
from dlrm_mini.models import dlrm_presets

NAME = "step-kaggle"
TITLE = "The Kaggle model: 26 tables, 16 wide, one lookup each, batch 2048"


def run(folder: Path) -> list[Row]:
    """Measure, draw the picture, return the rows."""
    return steps.run(NAME, TITLE, steps.plan_of(dlrm_presets.kaggle(), "rowwise_adagrad"), folder)
