"""The click ladder beside its peers: DeepCTR-Torch's DeepFM and DCN, and DLRM with FuxiCTR.

Test AUC, logloss and normalised entropy on two splits of MovieLens-100K, and the seconds of
training, with building the model and cutting batches; three seeds, each arm in a process of its own
on one thread. All see the same rows and features. Epochs are chosen on validation rows, then all
training rows are trained on. Beyond that our settings are those of this project's search, and the
peers' are their own defaults.
"""

import json
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks import click_rows, panels, peer_env
from benchmarks.arms import Measured, Outcome, to_rows
from benchmarks.report import Row
from dlrm_mini import metrics
from dlrm_mini.datasets import movielens
from dlrm_mini.datasets.clicks import click_task
from dlrm_mini.datasets.movielens import MovieLens
from dlrm_mini.ladders.clicks import SPLITS, click_split, validation_split

NAME = "clicks"
SEEDS = 3
UNITS = {"auc": "", "logloss": "nats", "ne": "", "s": "s"}
OURS = ("ours-lr", "ours-mf", "ours-fm", "ours-mlp", "ours-dlrm")
# arm -> (environment, script)
PEERS = {
    "deepctr-deepfm": ("deepctr", "deepctr_clicks.py"),
    "deepctr-dcn": ("deepctr", "deepctr_clicks.py"),
    "fuxictr-dlrm": ("fuxictr", "fuxictr_clicks.py"),
}


def run(folder: Path) -> list[Row]:
    """Measure all arms that can be had here, draw the picture, return the rows."""
    folder.mkdir(parents=True, exist_ok=True)
    ml = movielens.load()
    outcomes = {name: measure(ml, name, folder) for name in SPLITS}
    draw(outcomes).savefig(folder / f"bench-{NAME}.png")
    return [row for name, one in outcomes.items() for row in to_rows(f"{NAME}-{name}", one, UNITS)]


def measure(ml: MovieLens, split_name: str, folder: Path) -> Outcome:
    """All arms on one split; an arm that fails does not stop the others."""
    outcome = Outcome({}, {})
    split = click_split(ml, split_name)
    with tempfile.TemporaryDirectory() as temporary:
        rows = Path(temporary)
        task = click_task(ml, split)
        click_rows.write(task, rows / "rows.npz")
        click_rows.write(click_task(ml, validation_split(ml, split_name)), rows / "choose.npz")
        for arm in (*OURS, *PEERS):
            words = (arm, rows, str(SEEDS))
            if arm in OURS:
                said = peer_env.call_ours("benchmarks.ours_clicks", *words, split_name)
            else:
                peer, script = PEERS[arm]
                try:
                    said = peer_env.call(peer_env.of(peer, folder), script, *words)
                except peer_env.PeerError as error:
                    outcome.missing[arm] = str(error)
                    print(f"SKIPPED {arm}: {error}", flush=True)
                    continue
            outcome.measured[arm] = judge(np.load(rows / f"{arm}.npy"), task.test.labels, said)
            runs = outcome.measured[arm]
            means = {m: statistics.mean(run.values[m] for run in runs) for m in runs[0].values}
            shown = ", ".join(f"{metric} {value:.4g}" for metric, value in means.items())
            print(f"{split_name} {arm:<16} mean {shown} ({runs[0].note})", flush=True)
    return outcome


def judge(probabilities: np.ndarray, labels: Tensor, said: str) -> list[Measured]:
    """One entry a seed.

    Args:
        probabilities: (seeds, N) of a click.
        labels: (N,) 0 or 1.
        said: the line of JSON with `s` for each seed, epochs, parameters and versions.
    """
    fields = json.loads(said)
    note = (
        f"{fields['epochs']} epochs, {fields['parameters']} parameters, {len(probabilities)} seeds"
    )
    runs = []
    for p, seconds in zip(torch.from_numpy(probabilities).double(), fields["s"], strict=True):
        logits = p.clamp(1e-7, 1 - 1e-7).logit()
        values = {
            "auc": metrics.auc(logits, labels),
            "logloss": metrics.logloss(logits, labels),
            "ne": metrics.normalised_entropy(logits, labels),
            "s": seconds,
        }
        runs.append(Measured(values, fields["versions"], note))
    return runs


def draw(outcomes: dict[str, Outcome]) -> Figure:
    """Logloss on both splits, and seconds on the first."""
    first = next(iter(outcomes.values()))
    arms = [arm for arm in first.measured if all(arm in o.measured for o in outcomes.values())]

    def of(outcome: Outcome, metric: str) -> dict[str, list[float]]:
        return {arm: [run.values[metric] for run in outcome.measured[arm]] for arm in arms}

    quality = [
        panels.Panel(f"test logloss, nats\n({name} split)", of(outcome, "logloss"))
        for name, outcome in outcomes.items()
    ]
    seconds = panels.Panel(
        "seconds to train\n(random split, log scale)", of(first, "s"), "{:.1f}", log=True
    )
    return panels.draw([*quality, seconds], "Clicks on MovieLens-100K: three seeds, one thread")
