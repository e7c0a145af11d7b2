"""A training step of DLRM beside plain torch, FBGEMM, FuxiCTR and what the machine could do.

A step is zero_grad, forward, loss, backward and the update of everything, from batches that are in
memory; eight of them, with uniform ids, take turns, so that no row is still in the caches. Each
side has a process of its own, with as many threads as the machine has cores, and they take turns, a
group of steps each. Before the clock runs, every side trains a small model of the same shape from
the same weights, and must lose what plain torch loses and move its tables as far.

Values are medians of the repetitions, as are the factors, which are taken within a repetition (of
FuxiCTR, which comes when the others are done, with the repetition of the same number).
"""

import contextlib
import math
import statistics
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks import arms, peer_env
from benchmarks.arms import Measured, Outcome
from benchmarks.report import Row
from benchmarks.step_side import BATCHES, Plan
from dlrm_mini import hardware, style
from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm_config import DLRMConfig

REPETITIONS = 9
SECONDS = 1.5  # of a group of steps
OURS, BF16, TORCH = "ours", "ours-bf16", "torch-sparse"
# Each process, its arms, and the peer whose environment it runs in.
SCRIPTS: dict[str, tuple[tuple[str, ...], str | None]] = {
    "ours_step": ((OURS, BF16), None),
    "torch_step": ((TORCH,), None),
    "fbgemm_step": (("fbgemm",), "fbgemm"),
    "fuxictr_step": (("fuxictr",), "fuxictr"),
    "step_ceiling": (("ceiling", "ceiling-bf16", "ceiling-shapes"), None),
}
# What our two arms are held to: metric -> the arm that is divided by.
HELD = {
    OURS: {"times_ceiling": "ceiling", "times_ceiling_shapes": "ceiling-shapes"},
    BF16: {"times_ceiling": "ceiling-bf16"},
}
# Dense gradients of all tables take gigabytes, and slow down what runs beside them by a third: so
# these have their turns when the others have had theirs, and make their model only then.
LATE = ("fuxictr",)
PEERS = (TORCH, "fbgemm", "fuxictr")
UNITS = {"ms": "ms", "products_ms": "ms", "rows_ms": "ms", "gflop_per_s": "GFLOP/s",
         "copy_gb_per_s": "GB/s"}  # fmt: skip
RULES = {"sgd": "SGD", "rowwise_adagrad": "row-wise Adagrad on the tables, Adagrad on the MLPs"}
DEEPCTR = (
    "DeepCTR-Torch has no DLRM: none of its models has a bottom MLP whose output meets the "
    "embeddings in dot products"
)
NOTES = {
    OURS: "DLRM with fused tables, {rule}, float32",
    BF16: "as ours, MLPs and interaction under autocast to bfloat16; tables float32",
    TORCH: "nn.EmbeddingBag(sparse=True), torch.optim.SGD on everything",
    "fbgemm": "FBGEMM's fused operator on the CPU, {rule}; MLPs in plain torch. TorchRec's fused "
    "tables run this operator",
    "fuxictr": "DLRM of FuxiCTR's layers and its train_step, SGD; the tables' gradients are dense",
    "ceiling": "FLOP of the fully connected layers, 3 times the forward pass as DLRMConfig counts "
    "it (the gradient of the dense features included), over the rate of the fastest of a few large "
    "matrix products; plus bytes of rows (each lookup read, each distinct row read and written, "
    "with its state) over the rate of a large copy, its reads and writes both counted",
    "ceiling-bf16": "as ceiling, with matrix products in bfloat16",
    "ceiling-shapes": "this model's own matrix products (without the gradient of the dense "
    "features) into memory that is there already, plus its own rows read, and each distinct row "
    "changed, at random places; nothing else of a step",
}  # fmt: skip
COLOURS = {OURS: style.BLUE, BF16: style.SKY, TORCH: style.ORANGE, "fbgemm": style.GREEN,
           "fuxictr": style.PURPLE}  # fmt: skip
LINES = {"ceiling": (style.INK, "--"), "ceiling-bf16": (style.RED, "--"),
         "ceiling-shapes": (style.INK, ":")}  # fmt: skip


def plan_of(config: DLRMConfig, rule: str) -> Plan:
    """How a model of this size is trained."""
    rows, lookups = config.cardinalities.values(), config.lookups_by_table.values()
    sizes = (config.n_dense, tuple(rows), tuple(lookups), config.dim)
    return Plan(*sizes, config.bottom_sizes, config.top_sizes, rule)


def run(name: str, title: str, plan: Plan, folder: Path) -> list[Row]:
    """Measure, draw the picture, return the rows."""
    folder.mkdir(parents=True, exist_ok=True)
    outcome = measure(plan, folder)
    outcome.missing["deepctr"] = DEEPCTR
    rows = to_rows(name, plan, outcome)
    draw(rows, title).savefig(folder / f"bench-{name}.png")
    return rows


def measure(plan: Plan, folder: Path) -> Outcome:
    """Every arm by turns; the first repetition warms up and does not count."""
    with contextlib.ExitStack() as workers:
        sides: dict[str, peer_env.Worker] = {}
        missing: dict[str, str] = {}
        asks = {}
        for script, (names, peer) in SCRIPTS.items():
            try:
                worker = peer_env.Worker(command_of(script, peer, folder), threads())
                workers.enter_context(contextlib.closing(worker))
                about = worker.ask(plan.text())
            except peer_env.PeerError as error:
                for name in names:
                    _skip(missing, name, str(error))
                continue
            sides |= dict.fromkeys(names, worker)
            asks |= {name: ask(worker, name, about) for name in names}
        check(sides, plan, missing)
        asks = {name: question for name, question in asks.items() if name not in missing}
        counted = {}
        for late in (False, True):
            turn = {name: question for name, question in asks.items() if (name in LATE) == late}
            outcome = arms.alternate(turn, range(REPETITIONS + 1), "repetition")
            counted |= {name: jobs[1:] for name, jobs in outcome.measured.items()}
            missing |= outcome.missing
    return Outcome(counted, missing)


def threads() -> int:
    """Of every side: the cores that this process may use."""
    return int(hardware.describe()["cores"])


def command_of(script: str, peer: str | None, folder: Path) -> list[str | Path]:
    if peer is None:
        return [sys.executable, "-m", f"benchmarks.{script}"]
    return [peer_env.of(peer, folder), peer_env.HERE / f"{script}.py"]


def ask(worker: peer_env.Worker, arm: str, about: dict[str, Any]) -> Callable[[int], Measured]:
    """What measures an arm: a group of steps."""

    def measured(_: int) -> Measured:
        said = worker.ask(f"{arm} {SECONDS}")
        return Measured(said, about["versions"], f"{about['threads']} threads")

    return measured


def check(sides: Mapping[str, peer_env.Worker], plan: Plan, missing: dict[str, str]) -> None:
    """Let all sides train the same small model; a peer that does not goes to `missing`.

    Ours is also held to plain torch's SGD where the plan has another rule; with bfloat16 to SGD
    alone: Adagrad's first steps make a whole step of a rounding error.

    Raises:
        UserError: ours or plain torch does not run, or does not compute what it should.
    """
    for arm in (OURS, TORCH):
        if arm in missing:
            raise UserError(f"{arm} does not run: {missing[arm]}")
    right = {rule: sides[TORCH].ask(f"check:reference {rule}") for rule in {"sgd", plan.rule}}
    questions = [(OURS, "sgd"), (OURS, plan.rule), (BF16, "sgd"), (TORCH, "sgd"),
                 ("fbgemm", plan.rule), ("fuxictr", "sgd")]  # fmt: skip
    for arm, rule in [(arm, rule) for arm, rule in questions if arm in sides]:
        try:
            wrong = difference(sides[arm].ask(f"check:{arm} {rule}"), right[rule], arm == BF16)
        except peer_env.PeerError as error:
            wrong = str(error)
        if wrong and arm not in ("fbgemm", "fuxictr"):
            raise UserError(f"{arm} with {rule} does not train as it should: {wrong}.")
        if wrong:
            _skip(missing, arm, f"does not train as plain torch does: {wrong}")


def _skip(missing: dict[str, str], arm: str, why: str) -> None:
    missing[arm] = why
    print(f"SKIPPED {arm}: {why}", flush=True)


def difference(found: Mapping[str, Any], right: Mapping[str, Any], bf16: bool) -> str:
    """The first loss or movement of a table that is not as in the reference; empty if none."""
    tolerance = {"losses": 0.05, "moved": 0.1} if bf16 else {"losses": 1e-4, "moved": 1e-3}
    for what, allowed in tolerance.items():
        pairs = zip(found[what], right[what], strict=True)
        for place, (mine, other) in enumerate(pairs):
            if not math.isclose(mine, other, rel_tol=allowed, abs_tol=1e-7):
                return f"{what}[{place}] is {mine:.6g}, expected {other:.6g}"
    return ""


def to_rows(name: str, plan: Plan, outcome: Outcome) -> list[Row]:
    """Medians of all that was said, and of the factors within a repetition."""
    machine, rows, runs = hardware.describe(), [], outcome.measured
    shared = f"batch {plan.batch_size}, {BATCHES} batches in memory"

    def add(arm: str, metric: str, values: list[float], unit: str) -> None:
        what = NOTES[arm].format(rule=RULES[plan.rule])
        note = f"{what}; {shared}, {runs[arm][0].note}; median of {len(values)}"
        spread = statistics.stdev(values) if len(values) > 1 else None
        about = (unit, machine, runs[arm][0].versions, note)
        rows.append(Row(name, arm, metric, statistics.median(values), spread, *about))

    def times(arm: str, other: str) -> list[float]:
        both = zip(runs[arm], runs[other], strict=True)
        return [one.values["ms"] / two.values["ms"] for one, two in both]

    for arm, jobs in runs.items():
        for metric in jobs[0].values:
            add(arm, metric, [job.values[metric] for job in jobs], UNITS[metric])
        if OURS in runs and arm in PEERS:
            add(arm, "times_ours", times(arm, OURS), "times")
        if BF16 in runs and arm in PEERS:
            add(arm, "times_ours_bf16", times(arm, BF16), "times")
        for metric, other in HELD.get(arm, {}).items():
            if other in runs:
                add(arm, metric, times(arm, other), "times")
    return rows + arms.to_rows(name, Outcome({}, outcome.missing), {})


def draw(rows: list[Row], title: str) -> Figure:
    """A bar an arm, with how many times as long as ours it took, and the ceilings as lines.

    A bar that is far longer than the others is cut, and says so.
    """
    style.use()
    found = {(row.arm, row.metric): row for row in rows if row.value is not None}
    shown = [arm for arm in COLOURS if (arm, "ms") in found]
    figure = Figure(figsize=(9, 1.9 + 0.5 * len(shown)), dpi=100)
    axes = figure.subplots()
    values = {arm: float(found[arm, "ms"].value or 0) for arm in shown}
    end = 1.35 * max(value for value in values.values() if value < 6 * min(values.values()))
    for place, arm in enumerate(shown):
        cut, spread = values[arm] > end, found[arm, "ms"].spread or 0
        axes.barh(place, min(values[arm], end), 0.62, xerr=None if cut else spread,
                  color=COLOURS[arm], capsize=3)  # fmt: skip
        said = _ms(values[arm])
        for metric, words in (
            ("times_ours", "{:.2f} x ours"),
            ("times_ceiling", "{:.2f} x ceiling"),
        ):
            if factor := found.get((arm, metric)):
                said += ", " + words.format(factor.value)
        if cut:
            axes.text(0.98 * end, place, f"{said}, cut here  ▶", ha="right", va="center",
                      fontsize=9, color="white", fontweight="bold")  # fmt: skip
        else:
            beside = min(values[arm] + spread, 0.72 * end)
            axes.annotate(said, (beside, place), (8, 0), va="center", fontsize=9,
                          textcoords="offset points",
                          bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip
    for arm, (colour, form) in LINES.items():
        if row := found.get((arm, "ms")):
            label = f"{arm}: {_ms(row.value)}"
            axes.axvline(row.value, color=colour, linestyle=form, linewidth=1.6, label=label)
    axes.set_yticks(range(len(shown)), shown)
    axes.set(ylim=(len(shown) - 0.4, -0.6), xlim=(0, end), ylabel="arm", title=title)
    axes.set_xlabel(f"ms a training step, {threads()} threads (median, spread); shorter is better")
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _ms(value: float | None) -> str:
    assert value is not None
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.1f} ms"
