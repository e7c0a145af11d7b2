"""Chapter 14's widget: the map on which one reads where most of a step is all-to-all."""

from __future__ import annotations

from functools import lru_cache

import ipywidgets
from matplotlib.figure import Figure

from dlrm_mini.ladders.communication import GPUS, MODELS, READINGS, landscape
from dlrm_mini.pictures import crossover_map
from dlrm_mini.pictures.crossover_map import Landscape
from dlrm_mini.profiling.workload import Workload
from dlrm_mini.widgets import Explorer, explore

AS_PUBLISHED = 0  # a slider's first place: what the preset has
WIDTHS = [AS_PUBLISHED, 8, 16, 32, 64, 128, 256]
ROWS = [2**power for power in range(6, 15)]  # of each rank; all ranks together have 8 times as many
ALPHAS = [1, 2, 5, 10, 20, 50, 100]
EIGHT = 8


@lru_cache(maxsize=64)
def surveyed(
    model: str, gpu: str, rows: int, weak: bool, width: int, alpha: int, number: int, overlap: bool
) -> Landscape:
    """The landscape of these choices, remembered."""
    config = MODELS[model]()
    if width != AS_PUBLISHED:
        bottom = (*config.bottom[:-1], width)
        config = Workload(config, rows).but(dim=width, bottom=bottom).config
    batch = rows if weak else EIGHT * rows
    return landscape(
        config, GPUS[gpu], batch, weak=weak, overlap=overlap, number=number, alpha=1e-6 * alpha
    )


class CostMap:
    """The crossover map, redrawn for a model, a batch, a width, a GPU."""

    def draw(
        self,
        model: str,
        rows: int,
        scaling: str = "weak",
        width: int = AS_PUBLISHED,
        alpha: int = 5,
        gpu: str = "A100",
        waiting: str = "all-to-all",
        number: int = 4,
        overlap: bool = False,
    ) -> Figure:
        """Sea, land and the coast between them.

        Args:
            model: key of `MODELS`.
            rows: of each rank. Strong scaling: of each of eight ranks; all have 8 times as many.
            scaling: "weak" or "strong".
            width: D, or `AS_PUBLISHED`.
            alpha: of every link, in millionths of a second.
            gpu: key of `GPUS`.
            waiting: for what: key of `READINGS`.
            number: bytes of a number of vectors and gradients.
            overlap: whether what can pass at the same time does.
        """
        weak = scaling == "weak"
        found = surveyed(model, gpu, rows, weak, width, alpha, number, overlap)
        batch = f"{rows:,} rows a rank" if weak else f"{EIGHT * rows:,} rows in all"
        wide = MODELS[model]().dim if width == AS_PUBLISHED else width
        title = f"{model}, {batch}, width {wide}, {gpu}, alpha {alpha} µs"
        return crossover_map.sea_and_land(found, waiting, title=title)

    def widget(self, model: str, rows: int) -> Explorer:
        """Move the coast."""
        widths = [("published" if one == AS_PUBLISHED else str(one), one) for one in WIDTHS]
        return explore(
            "the map of what communication costs",
            self.draw,
            model=ipywidgets.Dropdown(options=list(MODELS), value=model, description="model"),
            rows=ipywidgets.SelectionSlider(
                options=[(f"{one:,}", one) for one in ROWS], value=rows, description="rows a rank"
            ),
            scaling=ipywidgets.Dropdown(
                options=[("weak: so many for each", "weak"), ("strong: 8 x, in all", "strong")],
                value="weak", description="scaling",
            ),
            width=ipywidgets.SelectionSlider(options=widths, value=0, description="width"),
            alpha=ipywidgets.SelectionSlider(options=ALPHAS, value=5, description="alpha, µs"),
            gpu=ipywidgets.Dropdown(options=list(GPUS), value="A100", description="GPU"),
            waiting=ipywidgets.Dropdown(
                options=list(READINGS), value="all-to-all", description="waiting for"
            ),
            number=ipywidgets.Dropdown(
                options=[(f"{one} bytes a number", one) for one in (4, 2, 1)], value=4,
                description="vectors",
            ),
            overlap=ipywidgets.Checkbox(False, description="overlap"),
        )  # fmt: skip
