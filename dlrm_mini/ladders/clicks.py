"""The click ladder of MovieLens-100K: from a constant to DLRM, on two splits.

`search` chooses every hyper-parameter on validation rows out of the training rows: random ones for
the random split, each user's last ones for the temporal split. `ladder` measures all models with
what was chosen, three seeds each.
"""

import random
import statistics
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dlrm_mini import measurements
from dlrm_mini.datasets import movielens, splits
from dlrm_mini.datasets.clicks import PRIOR_ROWS, ClickTask, click_task
from dlrm_mini.datasets.movielens import MovieLens
from dlrm_mini.datasets.splits import Split
from dlrm_mini.ladders.click_models import (
    CHOSEN,
    FITTERS,
    METRICS,
    Fitter,
    WideDLRM,
    fit_dlrm,
)
from dlrm_mini.ladders.click_settings import FM, GRIDS, FMSetting, NetSetting
from dlrm_mini.ladders.plans import one_thread
from dlrm_mini.progress import bar
from dlrm_mini.training import predict

SEEDS = (0, 1, 2)
SPLITS = ("random", "temporal")
VALIDATION = 0.125  # of the training rows: a tenth of all

SEARCH_FITTERS: dict[str, Fitter] = {
    name: FITTERS.get(name, fit_dlrm)
    for name in GRIDS  # all but the rungs are of a DLRM
} | {"dlrm_wide": partial(fit_dlrm, kind=WideDLRM)}
DRAWS, FINALISTS = 22, 3
PRIORS = (0.0, 2.0, 5.0, 10.0, 20.0, 50.0)


def click_split(ml: MovieLens, name: str) -> Split:
    """The split "random" or "temporal" (by user) that the ladder is measured on."""
    return (
        splits.user_temporal_split(ml)
        if name == "temporal"
        else splits.random_split(len(ml.rating))
    )


def validation_split(ml: MovieLens, name: str) -> Split:
    """The split's training rows alone, cut once more in the way they were cut from the test rows.

    Settings that are to foresee the future are chosen by how well they foresee a part of the past.
    """
    rows = click_split(ml, name).train
    if name == "random":
        return splits.holdout(rows, VALIDATION)
    known = replace(
        ml,
        user=ml.user[rows],
        item=ml.item[rows],
        rating=ml.rating[rows],
        timestamp=ml.timestamp[rows],
    )
    part = splits.user_temporal_split(known, VALIDATION)
    return Split(rows[part.train], rows[part.test])


def search(progress: bool = True) -> Path:
    """Choose the hyper-parameters on validation rows and record `clicks_search`; 20 minutes."""
    ml = movielens.load()
    parts = {name: validation_split(ml, name) for name in SPLITS}
    tasks = {name: click_task(ml, part) for name, part in parts.items()}
    features = _search_features(ml, parts)
    searches = [(model, split) for model in GRIDS for split in SPLITS]
    found: dict[str, dict[str, Any]] = {split: {} for split in SPLITS}
    for model, split in _shown(searches, "search", progress):
        found[split][model] = search_model(model, tasks[split])
    results = {
        "validation": {
            "random": "a random eighth of the training rows",
            "temporal": "the last eighth of each user's training rows",
        },
        "rows": {name: [len(part.train), len(part.test)] for name, part in parts.items()},
        "chosen_by": f"mean validation logloss over {len(SEEDS)} seeds of the {FINALISTS} best "
        f"of {DRAWS} random settings",
        "features": features,
        "searches": found,
        "best": {split: _best(of_split) for split, of_split in found.items()},
    }
    return measurements.write("clicks_search", results, "python -m dlrm_mini measure clicks-search")


def search_model(model: str, task: ClickTask) -> dict[str, Any]:
    """Settings drawn from a model's grid, fitted with one seed; the best of them with all seeds.

    Args:
        model: a key of `GRIDS`.
        task: the validation rows are its test rows.

    Returns:
        `tried` and `finalists`, each with its setting and validation AUC and logloss; `best`, the
        setting of the finalist with the lowest mean logloss; `seconds` of the processor.
    """
    started = time.process_time()
    start, grid = GRIDS[model]
    draw = random.Random(0)
    settings = [
        replace(start, **{name: draw.choice(values) for name, values in grid.items()})
        for _ in range(DRAWS)
    ]
    fitter = SEARCH_FITTERS[model]
    tried = [_attempt(fitter, task, setting, SEEDS[:1]) for setting in settings]
    order = sorted(range(len(tried)), key=lambda place: float(tried[place]["logloss"]))
    finalists = [_attempt(fitter, task, settings[place], SEEDS) for place in order[:FINALISTS]]
    best = min(finalists, key=lambda one: float(one["logloss"]))
    return {
        "tried": tried,
        "finalists": finalists,
        "best": best["setting"],
        "logloss": best["logloss"],
        "seconds": round(time.process_time() - started, 1),
    }


@one_thread()
def _attempt(
    fitter: Fitter, task: ClickTask, setting: FMSetting | NetSetting, seeds: Iterable[int]
) -> dict[str, Any]:
    """One setting and its mean validation metrics."""
    logits = [predict(fitter(task, seed, setting)[0], task.test) for seed in seeds]
    means = {
        name: statistics.mean(METRICS[name](one, task.test.labels) for one in logits)
        for name in ("logloss", "auc")
    }
    return {"setting": asdict(setting)} | {name: round(mean, 5) for name, mean in means.items()}


def _best(of_split: dict[str, Any]) -> dict[str, Any]:
    """Rung -> its setting; the DLRM's is the better one of those with and without hidden layers."""
    tops = [of_split[name] for name in ("dlrm_linear_top", "dlrm_hidden_top")]
    best = {name: of_split[name]["best"] for name in FITTERS if name in of_split}
    return best | {"dlrm": min(tops, key=lambda one: float(one["logloss"]))["best"]}


def _search_features(ml: MovieLens, parts: dict[str, Split]) -> dict[str, Any]:
    """How far to shrink the two means among the dense features, with one FM for all."""
    table = {
        name: [
            _attempt(FITTERS["fm"], click_task(ml, part, prior_rows=prior), FM, SEEDS)["logloss"]
            for prior in PRIORS
        ]
        for name, part in parts.items()
    }
    totals = [sum(column) for column in zip(*table.values(), strict=True)]
    return {
        "setting": asdict(FM),
        "prior_rows": list(PRIORS),
        "valid_logloss": table,
        "best_prior_rows": PRIORS[totals.index(min(totals))],
    }


def ladder(progress: bool = True) -> Path:
    """Measure every model on both splits and record `clicks_ladder`; three minutes."""
    ml = movielens.load()
    measured: dict[str, dict[str, Any]] = {}
    against: dict[str, Any] = {}
    for split in SPLITS:
        task = click_task(ml, click_split(ml, split))
        losses: dict[str, Tensor] = {}
        measured[split] = {}
        for name in _shown(FITTERS, f"{split} split", progress):
            setting = CHOSEN[split].get(name)
            measured[split][name], losses[name] = measure(FITTERS[name], task, setting)
        against[split] = paired(losses["dlrm"], losses["fm"])
    results = {
        "metric": "of the test rows; spread: standard deviation over the seeds",
        "seconds": "of one processor, one thread",
        "settings": {
            split: {name: asdict(setting) for name, setting in CHOSEN[split].items()}
            for split in SPLITS
        },
        "prior_rows": PRIOR_ROWS,
        "seeds": list(SEEDS),
        "splits": measured,
        "dlrm_minus_fm": against,
    }
    return measurements.write("clicks_ladder", results, "python -m dlrm_mini measure clicks-ladder")


@one_thread()
def measure(
    fitter: Fitter, task: ClickTask, setting: FMSetting | NetSetting | None
) -> tuple[dict[str, Any], Tensor]:
    """One model with all seeds.

    Returns:
        `auc`, `logloss` and `ne`, each with `mean`, `spread` (standard deviation over the seeds)
        and `per_seed`; `fit_seconds`, the median processor seconds of a fit; `parameters`, those
        that are trained. And the logloss of each test row, averaged over the seeds, (N,) float64.
    """
    seconds, logits = [], []
    parameters = 0
    for seed in SEEDS:
        started = time.process_time()
        model, _ = fitter(task, seed, setting)
        seconds.append(time.process_time() - started)
        logits.append(predict(model, task.test))
        parameters = _n_trained(model)
    labels = task.test.labels
    result: dict[str, Any] = {}
    for name, metric in METRICS.items():
        values = [metric(one, labels) for one in logits]
        result[name] = {
            "mean": round(statistics.mean(values), 5),
            "spread": round(statistics.stdev(values), 5),
            "per_seed": [round(value, 5) for value in values],
        }
    result |= {"fit_seconds": round(statistics.median(seconds), 2), "parameters": parameters}
    rows = [
        functional.binary_cross_entropy_with_logits(one.double(), labels.double(), reduction="none")
        for one in logits
    ]
    return result, torch.stack(rows).mean(0)


def paired(losses: Tensor, others: Tensor) -> dict[str, float]:
    """By how much one model's logloss is above another's on the same test rows.

    Args:
        losses: (N,) of each row.
        others: (N,) the other model's.

    Returns:
        `logloss`, the mean difference in nats, and its `standard_error` over the rows.
    """
    gain = losses - others
    return {
        "logloss": round(float(gain.mean()), 5),
        "standard_error": round(float(gain.std() / len(gain) ** 0.5), 5),
    }


def _n_trained(model: nn.Module) -> int:
    """The numbers that training moves."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _shown(items: Iterable[Any], what: str, progress: bool) -> Any:
    """The items, with a bar that counts them."""
    listed = list(items)
    return bar(listed, total=len(listed), desc=what, unit="run", disable=not progress)
