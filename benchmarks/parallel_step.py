"""A training step on 1, 2 and 4 processes: ours beside TorchRec, same plan, same global batch.

Every arm is a group of processes of one thread each, over gloo on this machine. All are started
once and take turns, a group of steps each; who has no turn waits without work. Before the clock
runs, every group trains a small model, and must end where a single device ends.

Values are medians of the repetitions, as are the factors, which are taken within a repetition.
Beside ours stands what the cost model predicts, from rates measured on this machine.
"""

import contextlib
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks import arms, peer_env
from benchmarks.arms import Measured, Outcome
from benchmarks.parallel_side import BATCH, BATCHES, RULE, plan_of
from benchmarks.report import Row
from dlrm_mini import hardware, style
from dlrm_mini.errors import UserError
from dlrm_mini.models import dlrm_presets
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.parallel import fit
from dlrm_mini.parallel.cost import step_cost
from dlrm_mini.parallel.machine import Machine
from dlrm_mini.profiling import ceilings
from dlrm_mini.shell import torchrec

NAME = "parallel-step"
SIZES = (1, 2, 4)
ENGINES = ("ours", "torchrec")
REPETITIONS = 7
SECONDS = 1.0  # of a group of steps
SCALE = 0.1  # of the rows: 14 processes hold their tables at once
# The rules that are checked, and the difference to a single device that is allowed, over the way
# that a tensor has moved: rounding alone is a tenth of that.
RULES, ALLOWED = ("sgd", "rowwise_adagrad"), 1e-3
UNITS = {"ms": "ms", "times_ours": "times", "predicted_ms": "ms", "times_predicted": "times"}
NOTES = {
    "ours": "ShardedDLRM with fused tables",
    "torchrec": "TorchRec's EmbeddingBagCollection and DistributedModelParallel, our MLPs",
}
COLOURS = {"ours": style.BLUE, "torchrec": style.GREEN}


@dataclass
class Group:
    """The processes of one arm.

    Attributes:
        worker: who is asked.
        about: versions, and threads of each process.
        steps: in a turn; few in the first, which says how many fit.
    """

    worker: peer_env.Worker
    about: dict[str, object]
    steps: int = 3

    def __call__(self, _: int) -> Measured:
        """A turn."""
        said = self.worker.ask(f"steps {self.steps}")
        self.steps = max(3, round(1e3 * SECONDS / said["ms"]))
        return Measured({"ms": said["ms"]}, dict(self.about["versions"]))  # type: ignore[call-overload]


def run(folder: Path) -> list[Row]:
    """Measure, draw the picture, return the rows."""
    folder.mkdir(parents=True, exist_ok=True)
    outcome = measure()
    config = dlrm_presets.kaggle(SCALE)
    rows = to_rows(outcome, predicted_ms(config))
    draw(rows).savefig(folder / f"bench-{NAME}.png")
    return rows


def measure() -> Outcome:
    """Every arm by turns; the first repetition warms up and does not count."""
    missing: dict[str, str] = {}
    groups: dict[str, Callable[[int], Measured]] = {}
    with contextlib.ExitStack() as workers:
        for engine in ENGINES:
            for size in SIZES:
                arm = f"{engine}-{size}"
                try:
                    groups[arm] = started(engine, size, workers)
                except peer_env.PeerError as error:
                    if engine == "ours":
                        raise UserError(f"{arm} does not run: {error}") from error
                    missing[arm] = str(error)
                    print(f"SKIPPED {arm}: {error}", flush=True)
        outcome = arms.alternate(groups, range(REPETITIONS + 1), "repetition")
    counted = {name: jobs[1:] for name, jobs in outcome.measured.items()}
    return Outcome(counted, missing | outcome.missing)


def started(engine: str, size: int, workers: contextlib.ExitStack) -> Group:
    """A group of processes that trains as a single device does.

    Raises:
        PeerError: it does not run, or trains to other weights.
    """
    if engine == "torchrec" and (why := torchrec.missing()):
        raise peer_env.PeerError(why)
    worker = peer_env.Worker(command_of(engine, size))
    workers.enter_context(contextlib.closing(worker))
    group = Group(worker, worker.ask("about"))
    for rule in RULES:
        worst = worker.ask(f"check {rule}")["worst"]
        if not worst < ALLOWED:  # nor where it is no number
            raise peer_env.PeerError(
                f"with {rule} it does not train as a single device does: a tensor's difference is "
                f"{worst:.2g} of the way that it has moved"
            )
    return group


def command_of(engine: str, size: int) -> list[str | Path]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*torchrun, "--nproc-per-node", str(size), "-m", "benchmarks.parallel_side", engine,
            str(SCALE)]  # fmt: skip


def predicted_ms(config: DLRMConfig) -> dict[int, float]:
    """Processes -> what the cost model says of our step, from rates measured on this machine.

    It gives each process a core of its own, whether there is one or not.
    """
    machine = Machine.from_ceilings(ceilings.measure("cpu", precisions=("float32",)))
    fitted = {size: fit.fit(size) for size in SIZES if size > 1}
    found = {}
    for size in SIZES:
        topology = fitted[max(size, 2)].topology(size)  # one process sends nothing
        plan = plan_of(config, size)
        cost = step_cost(config, plan, topology, machine, BATCH, rule=RULE)
        found[size] = 1e3 * cost.seconds
        print(f"predicted, {size} process(es): {found[size]:.4g} ms", flush=True)
    return found


def to_rows(outcome: Outcome, predicted: Mapping[int, float]) -> list[Row]:
    """Medians of the times and of the factors within a repetition."""
    machine, rows, runs = hardware.describe(), [], outcome.measured
    shared = (
        f"Kaggle model at {SCALE:g} of its rows, row-wise Adagrad, global batch {BATCH}, {BATCHES} "
        "batches in memory, gloo, one thread a process"
    )

    def add(arm: str, metric: str, values: list[float]) -> None:
        engine, size = arm.split("-")
        spread = statistics.stdev(values) if len(values) > 1 else None
        note = f"{NOTES[engine]}; {size} process(es); {shared}; median of {len(values)}"
        if "predicted" in metric:
            note = f"cost model with this machine's rates, a core for each process; {note}"
        about = (UNITS[metric], machine, runs[arm][0].versions, note)
        rows.append(Row(NAME, arm, metric, statistics.median(values), spread, *about))

    for arm, jobs in runs.items():
        engine, size = arm.split("-")
        times = [job.values["ms"] for job in jobs]
        add(arm, "ms", times)
        if engine != "ours" and f"ours-{size}" in runs:
            mine = [job.values["ms"] for job in runs[f"ours-{size}"]]
            add(arm, "times_ours", [one / two for one, two in zip(times, mine, strict=True)])
        if engine == "ours" and int(size) in predicted:
            add(arm, "predicted_ms", [predicted[int(size)]])
            add(arm, "times_predicted", [time / predicted[int(size)] for time in times])
    return rows + arms.to_rows(NAME, Outcome({}, outcome.missing), {})


def draw(rows: list[Row]) -> Figure:
    """A bar an arm, and hatched beside ours what was predicted."""
    style.use()
    found = {(row.arm, row.metric): row for row in rows if row.value is not None}
    figure = Figure(figsize=(9, 4.5), dpi=100)
    axes = figure.subplots()
    for place, size in enumerate(SIZES):
        bars = [(f"ours-{size}", "predicted_ms", -1), (f"ours-{size}", "ms", 0),
                (f"torchrec-{size}", "ms", 1)]  # fmt: skip
        for arm, metric, shift in bars:
            row = found.get((arm, metric))
            if row is None or row.value is None:
                continue
            at, colour = place + 0.27 * shift, COLOURS[arm.split("-")[0]]
            if metric == "ms":
                axes.bar(at, row.value, 0.25, yerr=row.spread, color=colour, capsize=3)
            else:
                axes.bar(at, row.value, 0.25, color=colour, hatch=style.MODELLED["hatch"])
            axes.annotate(f"{row.value:.1f}", (at, row.value + (row.spread or 0)), (0, 3),
                          textcoords="offset points", ha="center", fontsize=9)  # fmt: skip
    kinds = [
        (
            "ours, modelled with a core for each process",
            {"color": style.BLUE, "hatch": style.MODELLED["hatch"]},
        ),
        ("ours, measured", {"color": style.BLUE}),
        ("TorchRec, measured", {"color": style.GREEN}),
    ]
    for label, look in kinds:
        axes.bar(0, 0, label=label, **look)
    axes.set_xticks(range(len(SIZES)), [f"{n} process{'es' * (n > 1)}" for n in SIZES])
    axes.set(ylabel="ms a training step (median, spread)", xlabel="one thread each")
    cores = hardware.describe()["cores"]
    axes.set_title(
        f"The Kaggle model at {SCALE:g} of its rows, batch {BATCH}, over gloo on {cores} cores"
    )
    axes.grid(axis="x", visible=False)
    figure.legend(loc="outside lower center", ncols=3)
    return figure
