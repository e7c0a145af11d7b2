"""Chapter 16: the single cases behind the verdicts that hang on where a line is drawn.

A sentence with "most" or "negligible" in it names no number. Each case is a share of a step; the
verdict is what a line makes of all of them.
"""

from collections.abc import Sequence

import numpy as np

from dlrm_mini.ladders import communication, gpu_steps
from dlrm_mini.ladders.step_shares import Recorded
from dlrm_mini.models.dlrm_presets import PRESETS
from dlrm_mini.parallel.topology import LINKS
from dlrm_mini.pictures.verdict_lines import Case, Line
from dlrm_mini.profiling.parts import grouped

ROWS_OF_A_RANK = 2048  # as in chapter 14
CARDS = (
    ("V100 16 GB", "fused"),
    ("A100 80 GB", "fused"),
    ("H100 80 GB", "fused"),
    ("A100 80 GB", "bfloat16"),
    ("H100 80 GB", "bfloat16"),
)


def lines() -> list[Line]:
    """The four questions of chapter 16 with all their cases."""
    return [*_on_a_cpu(), _all_to_all(), _on_a_gpu()]


def _on_a_cpu() -> list[Line]:
    """Steps recorded on a CPU, in float32: the sentence by the letter, and read kindly."""
    narrow, wide = [], []
    for (name, arm), parts in Recorded().steps.items():
        if name not in PRESETS or arm not in ("sparse", "fused"):
            continue
        wall, groups = sum(parts.values()), grouped(parts)
        layers = groups["fully connected"]
        narrow.append(Case(f"{name}, {arm}", (parts["embedding forward"] + layers) / wall))
        wide.append(Case(f"{name}, {arm}", (groups["embeddings"] + layers) / wall))
    found: list[tuple[str, Sequence[Case]]] = [
        ("lookups and layers, on a CPU", narrow),
        ("tables and layers, on a CPU", wide),
    ]
    return [Line("time-cpu", words, tuple(cases), "measured") for words, cases in found if cases]


def _all_to_all() -> Line:
    """Chapter 14's models over its links in two precisions: the largest share up to 128 ranks."""
    cases = []
    for gpu in ("A100", "A100, bfloat16"):
        for name, preset in communication.MODELS.items():
            found = communication.landscape(
                preset(),
                communication.GPUS[gpu],
                ROWS_OF_A_RANK,
                bandwidths=np.array([link.beta for link in LINKS.values()]),
                alpha=[link.alpha for link in LINKS.values()],
            )
            shares = found.shares["all-to-all"].max(axis=0)
            cases += [
                Case(f"{name}, {gpu}, {link}", float(share))
                for link, share in zip(LINKS, shares, strict=True)
            ]
    words = "all-to-all, at its largest up to 128 ranks"
    return Line("all-to-all", words, tuple(cases), "modelled")


def _on_a_gpu() -> Line:
    """Steps at the ceilings of data sheets: what the fully connected layers take."""
    cases = tuple(
        Case(
            f"{model}, {card}, {arm}",
            gpu_steps.fully_connected(gpu_steps.predicted(card, arm, model=model)),
        )
        for card, arm in CARDS
        for model in PRESETS
    )
    return Line("time-gpu", "layers, on a GPU", cases, "modelled", most=False)
