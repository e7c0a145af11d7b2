"""One run of chapter 09's experiment: a DLRM with smaller tables, trained and scored.

Two generated logs, which differ in one thing. In the *silent* one only the first 128 ids of a field
matter (and "missing"): whoever drops the others loses nothing. In the *telling* one every id does.
Ten of Criteo's fields, shrunk as in chapter 07: the five largest, and five small ones. The ids are
numbered at random, since a table cannot know that a small number means a frequent id.
"""

import json
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from dlrm_mini.datasets.synthetic import ClickLog, ClickLogConfig
from dlrm_mini.ladders import click_logs
from dlrm_mini.ladders import smaller_table_methods as methods
from dlrm_mini.ladders.click_log_ids import Encoding
from dlrm_mini.ladders.click_log_training import SMALL, Setting
from dlrm_mini.ladders.plans import Plan
from dlrm_mini.models.dlrm import DLRM
from dlrm_mini.models.dlrm_presets import kaggle
from dlrm_mini.quantization import Bits, QuantizedTables
from dlrm_mini.training import logistic_loss, predict, set_seed

ROWS = 500_000  # to train on
SHRUNK_TO = 250_000  # rows for which `click_logs.cardinalities` shrinks the fields
LARGE = ("C3", "C4", "C12", "C16", "C21")  # Criteo's five largest
FIELDS = ("C2", "C5", "C6", "C14", "C25", *LARGE)
WORLDS = {"silent": 128, "telling": 2**20}  # ids of a field that have effects of their own
VALID = range(2**32, 2**32 + 100_000)  # settings are chosen here, scores are of `click_logs.TEST`
BASE = replace(SMALL, batch_size=1024, table_rate=0.4, prior=10.0)
EDGES = (0, 1, 10, 100, 1000, 10_000)  # training rows of an id: the lower ends of `by_count`
QUANTISED = ("full", "hash", "threshold")


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        world: key of `WORLDS`.
        method: key of `methods.METHODS`.
        part: the tables have at most this part of the full bytes: 16 for a sixteenth.
        seed: of the first weights and of the order of the rows.
        setting: the hyper-parameters.
        valid: whether it is scored on `VALID`, to choose a setting.
    """

    world: str
    method: str
    part: int
    seed: int
    setting: Setting
    valid: bool = False

    @property
    def key(self) -> str:
        """All that decides its outcome."""
        return json.dumps(asdict(self), sort_keys=True)


def config(world: str) -> ClickLogConfig:
    """What is planted: strong first-order effects, and three pairs that every seed can find."""
    sizes = click_logs.cardinalities(SHRUNK_TO)
    fields = {name: size for name, size in sizes.items() if name in FIELDS}
    return ClickLogConfig(
        fields,
        first=1.2,
        second=0.9,
        n_pairs=3,
        dense_pairs=0,
        teacher_dim=2,
        teacher_ids=WORLDS[world],
        noise=0.3,
    )


def draw(world: str, rows: int = ROWS, test: range = click_logs.TEST) -> click_logs.Data:
    """A world's first rows and its test rows, the ids of each field numbered at random."""
    data = click_logs.Data.draw(ClickLog(config(world), threads=1), rows, test)
    generator = torch.Generator().manual_seed(0)
    numbers = {name: torch.randperm(n, generator=generator) for name, n in data.sizes.items()}
    return data.encoded(Encoding(numbers, data.sizes))


def plan(tables: nn.Module, rows: int, rate: float, setting: Setting) -> Plan[DLRM]:
    """A DLRM with these tables, yet to be trained, as `click_log_training.plan_net` trains.

    Every number that belongs to ids has the same prior, however many ids share it; projections have
    none. The last width of the bottom MLP is that of the tables.

    Args:
        tables: with the interface of `EmbeddingTables`.
        rows: training rows, by which the prior and the schedule are measured.
        rate: share of clicks, where the last bias starts.
        setting: the hyper-parameters.
    """
    found: Any = tables
    sizes, width = found.cardinalities, found.dim
    model = DLRM(
        replace(
            kaggle(),
            cardinalities=dict(sizes),
            dim=width,
            bottom=(*setting.bottom[:-1], width),
            top=setting.top,
        ),
        tables=tables,
    )
    nn.init.constant_(cast(nn.Linear, model.top[-1]).bias, torch.tensor(rate).logit().item())
    numbers, projections = methods.parameter_groups(model)
    mlps = [*model.bottom.parameters(), *model.top.parameters()]
    groups: list[dict[str, Any]] = [
        {"params": numbers, "lr": setting.table_rate, "weight_decay": setting.prior / rows},
        {"params": mlps, "lr": setting.mlp_rate},
    ]
    if projections:
        groups.append({"params": projections, "lr": setting.table_rate})
    start = setting.accumulator
    # One pass over each table instead of one for each operation: a third of the time.
    optimizer = torch.optim.Adagrad(groups, initial_accumulator_value=start, fused=True)
    steps = setting.epochs * -(-rows // setting.batch_size)
    schedule = LambdaLR(
        optimizer, lambda step: min((step + 1) / (setting.warm_up + 1), 1) * (1 - step / steps)
    )
    return Plan(model, logistic_loss, optimizer, setting.batch_size, setting.epochs, schedule)


def train(
    data: click_logs.Data, method: str, part: int, seed: int, setting: Setting
) -> tuple[DLRM, click_logs.Data, int] | None:
    """Fit a DLRM with tables of at most a part of the full bytes.

    Returns:
        The model, the data with the ids that it wants, and the bytes of its tables; None where the
        method has no tables that small.
    """
    set_seed(seed)
    budget = methods.full_bytes(data.sizes) // part
    tables = methods.METHODS[method](data.sizes, budget, data.train)
    if tables is None:
        return None
    encoded = data if tables.encoding is None else data.encoded(tables.encoding)
    rate = float(data.train.labels.mean())
    planned = plan(tables.module, len(data.train), rate, setting)
    planned.run(encoded.train, seed)
    return planned.model, encoded, tables.n_bytes


def outcome(data: click_logs.Data, run: Run) -> dict[str, Any]:
    """Train one run and score it: `ne`, `auc`, bytes, and where its loss is."""
    trained = train(data, run.method, run.part, run.seed, run.setting)
    if trained is None:
        return {"possible": False}
    model, encoded, n_bytes = trained
    logits = predict(model, encoded.test).double()
    found: dict[str, Any] = {"possible": True, "bytes": n_bytes, **data.scored(logits)}
    if run.valid:
        return found
    found["by_count"] = by_count(data, logits)
    if run.method in QUANTISED:
        found["quantised"] = {
            str(bits): _quantised(model, encoded, n_bytes, bits) for bits in (8, 4)
        }
    return found


def by_count(data: click_logs.Data, logits: Tensor) -> list[float]:
    """Mean logloss above the best, of the test lookups whose id has so many training rows.

    Of the five largest fields, each test row counts once a field; a group for each of `EDGES`.
    """
    loss = functional.binary_cross_entropy_with_logits
    excess = loss(logits, data.chance, reduction="none")
    excess -= loss(data.chance.logit(), data.chance, reduction="none")
    groups = torch.cat([one for _, one in counted(data)])
    total = torch.bincount(groups, excess.repeat(len(LARGE)), len(EDGES))
    return [float(one) for one in total / torch.bincount(groups, minlength=len(EDGES)).clamp(min=1)]


def counted(data: click_logs.Data) -> Iterator[tuple[str, Tensor]]:
    """For each large field, the place in `EDGES` of every test row's id, by its training rows."""
    for name in LARGE:
        counts = torch.bincount(data.train.sparse.ids(name), minlength=data.sizes[name])
        mine = counts[data.test.sparse.ids(name)]
        yield name, torch.bucketize(mine, torch.tensor(EDGES[1:]), right=True)


def quantised(model: DLRM, bits: Bits) -> DLRM:
    """The same model with its tables quantised; it shares its MLPs with the original."""
    smaller = copy(model)
    smaller._modules = dict(model._modules)
    smaller.tables = QuantizedTables.from_tables(model.tables, bits)
    return smaller


def _quantised(model: DLRM, data: click_logs.Data, n_bytes: int, bits: Bits) -> dict[str, Any]:
    """Bytes and scores after quantisation, and its errors against their bounds."""
    smaller = quantised(model, bits)
    tables, small = model.tables, smaller.tables
    keys = n_bytes - sum(p.numel() * methods.NUMBER for p in tables.parameters())
    logits = predict(smaller, data.test).double()
    worst, squares, spread, numbers = 0.0, 0.0, 0.0, 0
    for name, size in tables.cardinalities.items():
        table = tables.tables[name].detach()
        error = (small.vectors(name, torch.arange(size)) - table).double()
        worst = max(worst, float((error.abs().amax(1) / small.error_bounds(name)).max()))
        squares, spread = (
            squares + float(error.square().sum()),
            spread + float(table.square().sum()),
        )
        numbers += table.numel()
    return {
        "bytes": small.n_bytes + keys,
        **data.scored(logits),
        "worst_of_bound": worst,
        "rms_error": (squares / numbers) ** 0.5,
        "rms_number": (spread / numbers) ** 0.5,
    }


class Store:
    """The outcomes of runs, one line each, kept as they come.

    Args:
        path: of the file; it may not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.found = path, {}
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            self.found = dict(json.loads(line) for line in lines if line.endswith("]"))

    def __call__(self, run: Run, data: Callable[[Run], click_logs.Data]) -> dict[str, Any]:
        """The outcome of a run, from the file or trained now."""
        if run.key not in self.found:
            self.found[run.key] = outcome(data(run), run)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n" + json.dumps([run.key, self.found[run.key]]))
        return cast(dict[str, Any], self.found[run.key])
