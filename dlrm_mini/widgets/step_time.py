"""Chapter 10's widget: the predicted step of any workload on this machine and on known ones."""

import ipywidgets
from matplotlib.figure import Figure

from dlrm_mini.models.dlrm_presets import PRESETS
from dlrm_mini.pictures import step_time as pictures
from dlrm_mini.profiling import roofline
from dlrm_mini.profiling.ceilings import Ceilings
from dlrm_mini.profiling.known_hardware import KNOWN, PAPER_CPU
from dlrm_mini.profiling.workload import Tables, Workload
from dlrm_mini.training_step import Precision
from dlrm_mini.widgets import Explorer, explore

AS_PUBLISHED = 0  # a slider's first place: what the preset has
BATCHES = [2**power for power in range(5, 17)]
POOLINGS = [AS_PUBLISHED, 1, 2, 5, 10, 20, 50, 100, 200]
WIDTHS = [AS_PUBLISHED, 8, 16, 32, 64, 128, 256]
HALVES: tuple[Precision, ...] = ("bfloat16", "float16")


class StepTime:
    """Predicted steps on two machines, one above the other.

    Args:
        here: the ceilings of the reader's machine; without them, the paper's CPU is compared.
    """

    def __init__(self, here: Ceilings | None = None) -> None:
        self.machines = ({here.name: here} if here else {}) | KNOWN
        self.compared = here.name if here else PAPER_CPU

    def draw(
        self,
        hardware: str,
        preset: str,
        batch: int,
        pooling: int = AS_PUBLISHED,
        width: int = AS_PUBLISHED,
        tables: Tables = "fused",
        half: bool = False,
    ) -> Figure:
        """Milliseconds and shares, and what they say to the claim.

        Args:
            hardware: one of `machines`, drawn under the one it is compared with.
            preset: one of `PRESETS`.
            batch: B.
            pooling: lookups a bag, or `AS_PUBLISHED`.
            width: D, or `AS_PUBLISHED`.
            tables: how the tables are trained.
            half: products in 16 bits, where a machine has a ceiling for them.
        """
        workload = chosen(preset, batch, pooling, width, tables)
        predicted, notes = {}, {}
        for name in dict.fromkeys((self.compared, hardware)):
            ceilings = self.machines[name]
            precision = _precision(ceilings, half)
            predicted[name] = roofline.predict(workload.but(precision=precision), ceilings)
            notes[name] = _note(ceilings, precision)
        config = workload.config
        bags = set(config.lookups_by_table.values())
        lookups = " to ".join(map(str, sorted({min(bags), max(bags)})))
        title = (
            f"{preset}: {batch:,} rows, {len(config.cardinalities)} tables of width {config.dim}, "
            f"{lookups} lookup{'' if lookups == '1' else 's'} a bag"
        )
        return pictures.predicted_steps(predicted, title=title, notes=notes)

    def widget(self, hardware: str, preset: str, batch: int) -> Explorer:
        """Turn every knob and see whether the verdict flips."""

        def slider(values: list[int], value: int, name: str) -> ipywidgets.SelectionSlider:
            options = [("published" if one == AS_PUBLISHED else f"{one:,}", one) for one in values]
            return ipywidgets.SelectionSlider(options=options, value=value, description=name)

        return explore(
            "the predicted step",
            self.draw,
            hardware=ipywidgets.Dropdown(
                options=list(self.machines), value=hardware, description="hardware"
            ),
            preset=ipywidgets.Dropdown(options=list(PRESETS), value=preset, description="preset"),
            batch=slider(BATCHES, batch, "batch"),
            pooling=slider(POOLINGS, AS_PUBLISHED, "lookups"),
            width=slider(WIDTHS, AS_PUBLISHED, "width"),
            tables=ipywidgets.Dropdown(
                options=["fused", "sparse", "dense"], value="fused", description="tables"
            ),
            half=ipywidgets.Checkbox(False, description="16-bit products"),
        )


def chosen(preset: str, batch: int, pooling: int, width: int, tables: Tables) -> Workload:
    """The preset's workload at full size with these changes; the bottom MLP ends at the width."""
    config = PRESETS[preset]()
    workload = Workload(config, batch, tables)
    if pooling != AS_PUBLISHED:
        workload = workload.but(lookups=pooling)
    if width != AS_PUBLISHED:
        workload = workload.but(dim=width, bottom=(*config.bottom[:-1], width))
    return workload


def _precision(ceilings: Ceilings, half: bool) -> Precision:
    known = [kind for kind in HALVES if half and kind in ceilings.products]
    return known[0] if known else "float32"


def _note(ceilings: Ceilings, precision: Precision) -> str:
    kind = "measured" if ceilings.measured else "published"
    flops, copied = ceilings.best(precision) / 1e9, ceilings.copy / 1e9
    rate = f"{_short(flops)} GFLOP/s" if flops < 1000 else f"{_short(flops / 1000)} TFLOP/s"
    return f"{kind} ceilings, {precision}:\n{rate}, {_short(copied)} GB/s"


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
