"""Which interactions matter: chapter 06's experiment, on worlds with a known optimum and MovieLens.

The models of `models.interaction_models` learn from synthetic click logs whose pairs and triples
were planted, at equal parameters and at equal FLOP. How good one is, is told as the share that it
closes of the gap in logloss between logistic regression and the best possible model. The logloss is
expected over the labels of the test rows, whose true probabilities are known. The same models then
learn from MovieLens, where nobody knows the optimum.
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from dlrm_mini import measurements, metrics
from dlrm_mini.datasets import movielens
from dlrm_mini.datasets.clicks import ClickTask, click_task
from dlrm_mini.ladders import clicks
from dlrm_mini.ladders import crossing_settings as settings
from dlrm_mini.ladders.crossing_models import fit, learned
from dlrm_mini.ladders.crossing_settings import ARMS, LINEAR, SEEDS, Budget, Setting, World
from dlrm_mini.ladders.plans import one_thread
from dlrm_mini.models.interaction_config import InteractionConfig
from dlrm_mini.models.interaction_models import InteractionModel
from dlrm_mini.progress import bar
from dlrm_mini.training import predict


@one_thread()
def measure(progress: bool = True) -> Path:
    """Search, measure all worlds and MovieLens and record `interactions`; about half an hour."""
    started = time.process_time()
    noisy = [World(share) for share in settings.SHARES]
    loud = [World(share, loud=True) for share in (0.0, 0.5, 1.0)]
    middle = World(0.5)
    chosen = _search_worlds((middle, World(1.0)), progress)
    worlds = {}
    for world in _shown([*noisy, *loud], "worlds", progress):
        budgets = [settings.PARAMETERS]
        if not world.loud and world.share in (0.0, 0.5, 1.0):
            budgets.append(settings.FLOPS)
        if world == middle:
            budgets.append(settings.DOUBLE)
        worlds[world.name] = measure_world(world, budgets, chosen[_nearest(world)])
    results: dict[str, Any] = {
        "metric": "share of the gap in expected logloss between logistic regression and optimum; "
        "spread: standard deviation over the seeds, each with rows of its own",
        "seeds": list(SEEDS),
        "rows": {"train": settings.ROWS, "valid": settings.VALID, "test": settings.TEST},
        "grid": [asdict(setting) for setting in settings.GRID],
        "settings": {
            world: {arm: asdict(setting) for arm, setting in arms.items()}
            for world, arms in chosen.items()
        },
        "worlds": worlds,
        "learned": _learned(middle, chosen[middle.name]),
        "movielens": _movielens(progress),
    }
    results["cpu_seconds"] = round(time.process_time() - started, 1)
    return measurements.write("interactions", results, "python -m dlrm_mini measure interactions")


def measure_world(
    world: World, budgets: Sequence[Budget], chosen: Mapping[str, Setting]
) -> dict[str, Any]:
    """All arms in one world, each at each budget and with each seed."""
    test, probability = world.test()
    optimum = world.optimum()
    arms: dict[str, Any] = {arm: {} for arm in ARMS}
    runs = [
        (arm, budget)
        for arm in ARMS
        for budget in budgets
        if arm != "cat" or budget.of == "parameters"
    ]
    trains = [world.train(seed) for seed in SEEDS]
    linear = [
        fit(settings.arm_config(LINEAR), chosen[LINEAR], train, seed)[0]
        for seed, train in zip(SEEDS, trains, strict=True)
    ]
    base = [settings.expected_logloss(predict(model, test), probability) for model in linear]
    for arm, budget in runs:
        config = settings.arm_config(arm, budget)
        shares, aucs, losses, seconds = [], [], [], []
        for seed, train in zip(SEEDS, trains, strict=True):
            model, took = fit(config, chosen[arm], train, seed)
            logits = predict(model, test)
            losses.append(settings.expected_logloss(logits, probability))
            shares.append(settings.share(losses[-1], base[seed], optimum["logloss"]))
            aucs.append(metrics.auc(logits, test.labels))
            seconds.append(took)
        arms[arm][budget.name] = _sizes(config) | {
            "share": _summary(shares),
            "logloss": _summary(losses),
            "auc": _summary(aucs),
            "fit_seconds": round(statistics.median(seconds), 2),
        }
    aucs = [metrics.auc(predict(model, test), test.labels) for model in linear]
    baseline = {"logloss": _summary(base), "auc": _summary(aucs)}
    baseline |= _sizes(settings.arm_config(LINEAR))
    return {"optimum": optimum, LINEAR: baseline, "arms": arms}


def _search_worlds(worlds: Sequence[World], progress: bool) -> dict[str, dict[str, Setting]]:
    """World -> arm -> the setting with the lowest logloss on validation rows, with one seed."""
    chosen: dict[str, dict[str, Setting]] = {}
    for world in _shown(worlds, "search", progress):
        valid, probability = world.valid()
        train = world.train(SEEDS[-1] + 1)  # rows that no seed trains on
        chosen[world.name] = {}
        for arm in (LINEAR, *ARMS):
            config = settings.arm_config(arm)
            losses = {}
            for setting in settings.GRID:
                model, _ = fit(config, setting, train, 0)
                losses[setting] = settings.expected_logloss(predict(model, valid), probability)
            chosen[world.name][arm] = min(losses, key=lambda one: losses[one])
    return chosen


def _nearest(world: World) -> str:
    """The world whose search a world uses: noisy, with a second order planted or none."""
    return World(1.0 if world.share == 1.0 else 0.5).name


def _learned(world: World, chosen: Mapping[str, Setting]) -> dict[str, Any]:
    """What each arm learned with the first seed, at equal parameters."""
    train = world.train(SEEDS[0])
    found = {}
    for arm in ARMS:
        config = settings.arm_config(arm)
        model, _ = fit(config, chosen[arm], train, SEEDS[0])
        found[arm] = learned(model, world)
    return found


def _movielens(progress: bool) -> dict[str, Any]:
    """All arms on MovieLens, random split; settings chosen on validation rows with one seed."""
    ml = movielens.load()
    part = click_task(ml, clicks.validation_split(ml, "random"))
    task = click_task(ml, clicks.click_split(ml, "random"))
    found: dict[str, Any] = {}
    losses: dict[str, dict[str, Tensor]] = {}  # budget -> arm -> of each test row, (N,)
    for arm in _shown((LINEAR, *ARMS), "MovieLens", progress):
        budgets = settings.MOVIELENS_BUDGETS[: 1 if arm in (LINEAR, "cat") else None]
        setting = _search_movielens(settings.movielens_config(arm, budgets[0], task), part)
        found[arm] = {}
        for budget in budgets:
            config = settings.movielens_config(arm, budget, task)

            def fitter(
                task: ClickTask, seed: int, setting: Setting, config: InteractionConfig = config
            ) -> tuple[InteractionModel, float]:
                return fit(config, setting, task.train, seed)

            of_arm, rows = clicks.measure(fitter, task, setting)  # type: ignore[arg-type]
            found[arm][budget.name] = of_arm | _sizes(config) | {"setting": asdict(setting)}
            losses.setdefault(budget.name, {})[arm] = rows
    for name, of_arm in losses.items():
        for arm, rows in of_arm.items():
            found[arm][name]["minus_dot"] = clicks.paired(rows, of_arm["dot"])
            found[arm][name]["minus_dot_mlp"] = clicks.paired(rows, of_arm["dot + MLP"])
    return found


def _search_movielens(config: InteractionConfig, part: ClickTask) -> Setting:
    losses = {}
    for setting in settings.MOVIELENS_GRID:
        model, _ = fit(config, setting, part.train, 0)
        losses[setting] = metrics.logloss(predict(model, part.test), part.test.labels)
    return min(losses, key=lambda one: losses[one])


def _shown(items: Sequence[Any], what: str, progress: bool) -> Any:
    return bar(items, total=len(items), desc=what, disable=not progress)


def _sizes(config: InteractionConfig) -> dict[str, Any]:
    costs = {"parameters": config.cost("parameters"), "flops": config.cost("flops")}
    return {"dim": config.dim, "hidden": list(config.hidden), "rank": config.cross_rank} | costs


def _summary(values: Sequence[float]) -> dict[str, Any]:
    return {
        "mean": round(statistics.mean(values), 5),
        "spread": round(statistics.stdev(values), 5),
        "per_seed": [round(value, 5) for value in values],
    }
