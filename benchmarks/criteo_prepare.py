"""Preparing click logs: rows a second and peak memory at two sizes of file; and loading them.

The text is generated in Criteo's raw format. Each run has a process of its own, whose peak resident
memory is the operating system's figure for all of it, interpreter and libraries included. The same
1,000 lines are prepared first, so that compiling is not part of the time. Loading is measured on
the training rows of the smaller log, beside torch's own DataLoader over the same rows as tensors in
memory, in its plainest form; one thread each, an epoch, shuffled.

`python -m benchmarks.criteo_prepare ARM FILE OUT` is one such run, and prints a line of JSON.
"""

import json
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.report import Row
from dlrm_mini import hardware, style

NAME = "criteo-prepare"
LOADING = "criteo-loading"
SIZES = {"1M": 1_000_000, "10M": 10_000_000}
NAMES = {"1M": f"{NAME}-1M", "10M": NAME}  # of the rows in the report: the large file is the test
REPETITIONS = 3
BUCKETS, THRESHOLD = 100_000, 10
BATCH = 2048
ARMS = {"hash": f"{BUCKETS:,} buckets a column", "threshold": f"threshold {THRESHOLD}"}
UNITS = {"rows_per_s": "rows/s", "peak_gb": "GB"}
PACKAGES = ("dlrm-mini", "polars", "numba", "numpy")
SETTINGS = f"{BATCH} rows a batch, shuffled, one thread, the log's 857,142 training rows"

Measured = dict[str, dict[str, dict[str, list[float]]]]  # size -> arm -> metric -> repetitions


def run(folder: Path) -> list[Row]:
    """Measure, draw the picture, return the rows."""
    scratch = folder / f"bench-{NAME}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        generate(scratch)
        measured = prepare_all(scratch)
        loading = load(scratch / "out-1M-hash")
    finally:
        shutil.rmtree(scratch)
    rows = to_rows(measured) + loading_rows(loading)
    draw(rows).savefig(folder / f"bench-{NAME}.png")
    return rows


def generate(scratch: Path) -> None:
    """The raw text: a file for each size, and a small one to compile with."""
    from dlrm_mini.datasets import synthetic_text
    from dlrm_mini.datasets.synthetic import ClickLog
    from dlrm_mini.datasets.synthetic_config import ClickLogConfig

    log = ClickLog(ClickLogConfig())
    for name, rows in {"small": 1000, **SIZES}.items():
        synthetic_text.write(log, scratch / f"{name}.txt", 0, rows, progress=False)


def prepare_all(scratch: Path) -> Measured:
    """Every arm on every size, by turns, so that a machine that grows slower does so for all."""
    measured: Measured = {
        size: {arm: {metric: [] for metric in UNITS} for arm in ARMS} for size in SIZES
    }
    for repetition in range(1, REPETITIONS + 1):
        for size in SIZES:
            for arm in ARMS:
                out = scratch / f"out-{size}-{arm}"
                shutil.rmtree(out, ignore_errors=True)
                command = [sys.executable, "-m", "benchmarks.criteo_prepare", arm]
                text = str(scratch / f"{size}.txt")
                done = subprocess.run(
                    [*command, text, str(out)], check=True, stdout=subprocess.PIPE, text=True
                )
                said = json.loads(done.stdout.splitlines()[-1])
                for metric in UNITS:
                    measured[size][arm][metric].append(said[metric])
                print(f"repetition {repetition} {size} {arm} {said}", flush=True)
                if (size, arm) != ("1M", "hash"):
                    shutil.rmtree(out)
    return measured


def one(arm: str, text: Path, out: Path) -> None:
    """One run, in a process of its own."""
    from dlrm_mini.datasets.criteo_columns import Buckets, Threshold
    from dlrm_mini.datasets.criteo_prepare import prepare

    rule = Buckets(BUCKETS) if arm == "hash" else Threshold(THRESHOLD)
    warm = out.with_name(f"{out.name}-warm")
    prepare(text.with_name("small.txt"), warm, rules=rule, progress=False)
    shutil.rmtree(warm)
    started = time.perf_counter()
    rows = prepare(text, out, rules=rule, progress=False)["rows"]
    rate = rows / (time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak_gb = peak / (1e9 if sys.platform == "darwin" else 1e9 / 1024)
    print(json.dumps({"rows_per_s": rate, "peak_gb": peak_gb}))


def load(out: Path) -> dict[str, list[float]]:
    """Rows a second of an epoch, by turns."""
    from dlrm_mini.datasets.criteo import Prepared
    from dlrm_mini.datasets.criteo_loader import PreparedLoader

    prepared = Prepared.open(out)
    whole = prepared.batch("train")
    ids = whole.sparse.values.view(len(whole.sparse.names), -1).T.contiguous()
    rows = TensorDataset(whole.dense, ids, whole.labels)
    sides: dict[str, Iterable[object]] = {
        "ours": PreparedLoader(prepared, "train", BATCH),
        "torch-dataloader": DataLoader(rows, BATCH, shuffle=True),
    }
    rates: dict[str, list[float]] = {side: [] for side in sides}
    for repetition in range(REPETITIONS + 1):
        for side, batches in sides.items():
            started = time.perf_counter()
            for _ in batches:
                pass
            if repetition:  # the first reads the files into memory
                rates[side].append(len(whole) / (time.perf_counter() - started))
                print(f"repetition {repetition} {side} {rates[side][-1]:,.0f} rows/s", flush=True)
    return rates


def to_rows(measured: Measured) -> list[Row]:
    """Medians, with the spread over the repetitions."""
    machine, versions = hardware.describe(), hardware.versions(*PACKAGES)
    rows = []
    for size, arms in measured.items():
        for arm, metrics in arms.items():
            note = f"{SIZES[size]:,} generated lines, {ARMS[arm]}; median of {REPETITIONS}"
            for metric, values in metrics.items():
                about = (UNITS[metric], machine, versions, note)
                rows.append(Row(NAMES[size], arm, metric, *middle(values), *about))
    return rows


def loading_rows(rates: dict[str, list[float]]) -> list[Row]:
    """The loader's rates beside torch's."""
    machine, versions = hardware.describe(), hardware.versions("dlrm-mini", "torch", "numpy")
    note = f"{SETTINGS}; median of {REPETITIONS}"
    return [
        Row(LOADING, side, "rows_per_s", *middle(values), "rows/s", machine, versions, note)
        for side, values in rates.items()
    ]


def middle(values: list[float]) -> tuple[float, float]:
    return statistics.median(values), statistics.stdev(values)


def draw(rows: list[Row]) -> Figure:
    """Rows a second and peak memory against the size of the file; rows a second of loading."""
    style.use()
    figure = Figure(figsize=(11, 3.8), dpi=100, layout="constrained")
    panels = figure.subplots(1, 3)
    colours = {"hash": style.BLUE, "threshold": style.ORANGE}
    by_key = {(row.benchmark, row.arm, row.metric): row for row in rows}
    sizes = [rows / 1e6 for rows in SIZES.values()]
    for axes, metric, scale in zip(panels, UNITS, (1e-3, 1.0), strict=False):
        for arm, colour in colours.items():
            found = [by_key[NAMES[size], arm, metric] for size in SIZES]
            values = [scale * (row.value or 0) for row in found]
            spread = [scale * (row.spread or 0) for row in found]
            axes.errorbar(sizes, values, spread, color=colour, marker="o", capsize=3, label=arm)
        axes.set_ylim(bottom=0)
        axes.set(xlabel="rows in the file (millions)", xlim=(0, 1.08 * max(sizes)))
        axes.legend(loc="lower right")
    panels[0].set(ylabel="thousand rows a second", title="Preparing: speed")
    panels[1].axhline(1.5, color=style.GREY, linestyle="--")
    panels[1].text(
        0.02, 1.51, "the limit", va="bottom", color=style.GREY,
        transform=panels[1].get_yaxis_transform(),
    )  # fmt: skip
    panels[1].set(ylabel="peak memory (GB)", title="Preparing: memory", ylim=(0, 1.7))
    for place, side in enumerate(("ours", "torch-dataloader")):
        row = by_key[LOADING, side, "rows_per_s"]
        value, spread = (row.value or 0) / 1e6, (row.spread or 0) / 1e6
        panels[2].bar(place, value, yerr=spread, color=style.PALETTE[place], capsize=3)
        panels[2].text(place, value + spread, f"{value:.2f}\n", ha="center", va="center")
    panels[2].set_xticks([0, 1], ["ours", "torch's\nDataLoader"])
    panels[2].set(ylabel="million rows a second", title="Loading shuffled batches")
    panels[2].margins(y=0.15)
    return figure


if __name__ == "__main__":
    torch.set_num_threads(1)
    one(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
