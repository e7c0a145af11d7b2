"""Which chapter taught which module of the package: the way from a name back to its idea."""

import fnmatch
from functools import cache

from dlrm_mini.errors import UserError
from dlrm_mini.paths import PACKAGE

# Chapter -> modules without `dlrm_mini.`: the first chapter that explains the idea, which its last
# cell "What moved into `dlrm_mini/`" names; then what is drawn and computed for that chapter alone.
# A star stands for all modules that match and that nothing names in full.
TAUGHT: dict[str, tuple[str, ...]] = {
    "00": (
        "datasets", "datasets.movielens", "datasets.registry", "datasets.sources", "environment",
        "claims", "widgets", "plots", "style", "pictures", "pictures.course_*",
        "widgets.start_here", "hardware",
    ),
    "01": (
        "datasets.batches", "datasets.sparse", "datasets.splits", "datasets.clicks",
        "datasets.ratings_file", "models", "models.baselines", "metrics", "pictures.the_data",
        "widgets.the_data",
    ),
    "02": (
        "models.matrix_factorization", "training", "epochs", "checkpoints", "measurements",
        "ladders", "ladders.plans", "ladders.rating_*", "ladders.ratings", "ladders.upper_search",
        "pictures.matrix_factorization", "widgets.matrix_factorization",
    ),
    "03": (
        "models.factorization_machine", "datasets.rating_features", "ladders.history",
        "ladders.fm_features", "gibbs", "pictures.factorization_machines",
        "widgets.factorization_machines",
    ),
    "04": (
        "models.mlp", "ladders.dot_product", "ladders.folded_product", "pictures.hidden_units",
        "pictures.the_mlp", "widgets.the_mlp",
    ),
    "05": (
        "models.dlrm", "models.dlrm_*", "models.fm_in_dlrm", "interactions", "embeddings",
        "lookup_tables", "table_checks", "memory", "ladders.click_models",
        "ladders.click_settings", "ladders.click_ablations", "ladders.clicks", "pictures.dlrm",
        "widgets.dlrm",
    ),
    "06": (
        "crossing", "models.interaction_*", "datasets.synthetic", "datasets.synthetic_*",
        "ladders.crossing_*", "ladders.crossings", "pictures.crossing_matrices",
        "pictures.crossings", "widgets.crossings",
    ),
    "07": (
        "datasets.criteo", "datasets.criteo_*", "datasets.synthetic_text", "metrics_streaming",
        "ladders.click_log_*", "ladders.click_logs", "pictures.click_logs",
        "pictures.click_promises", "widgets.click_logs",
    ),
    "08": (
        "optimizers", "sparse_rules", "kernels", "kernels.*", "ladders.sparse_*",
        "pictures.sparse_costs", "pictures.sparse_training", "widgets.sparse_training",
    ),
    "09": (
        "smaller_tables", "quantization", "ladders.smaller_table_*", "ladders.smaller_tables",
        "pictures.kept_pictures", "pictures.smaller_tables", "widgets.smaller_tables",
    ),
    "10": (
        "profiling", "profiling.*", "ladders.step_shares", "pictures.step_clock",
        "pictures.step_time", "pictures.where_time_goes", "widgets.step_time",
    ),
    "11": (
        "devices", "training_step", "dense_part", "prefetching", "profiling.asynchronous",
        "profiling.known_hardware", "ladders.gpu_steps", "pictures.gpu_*",
        "pictures.recorded_steps", "widgets.recorded_steps",
    ),
    "12": (
        "parallel", "parallel.communicator", "parallel.simulated", "parallel.baton",
        "parallel.blame", "parallel.standing", "parallel.marks", "parallel.memory_meter",
        "parallel.traffic", "parallel.events", "parallel.held", "parallel.exchange",
        "parallel.sharded_tables", "parallel.sharded_model", "parallel.sharded_step",
        "parallel.dense_adagrad", "pictures.split_steps", "pictures.the_split",
        "pictures.shuffle", "pictures.timeline", "widgets.the_split",
    ),
    "13": (
        "parallel.sharding", "parallel.sharded_rules", "parallel.loads", "parallel.skew",
        "parallel.cost", "parallel.cost_parts", "parallel.machine", "parallel.shuffles",
        "parallel.planner", "parallel.planner_*", "ladders.sharding_puzzles",
        "pictures.sharding_costs", "pictures.sharding_plans", "widgets.sharding_plans",
    ),
    "14": (
        "parallel.fit", "parallel.fit_worker", "parallel.topology", "parallel.schedule",
        "ladders.communication", "pictures.communication_costs", "pictures.crossover_map",
        "widgets.communication_costs",
    ),
    "15": (
        "parallel.process_group", "parallel.launch", "parallel.real_*", "parallel.recorded",
        "parallel.wire", "parallel.trainer", "parallel.sharded_checkpoints",
        "parallel.sharded_reading", "parallel.shard_files", "parallel.torchrec_*",
        "pictures.for_real", "widgets.for_real",
    ),
    "16": (
        "ledger", "ledger_*", "experiments", "ladders.verdict_*", "pictures.verdict*",
        "widgets.verdict*",
    ),
}  # fmt: skip
# What no chapter teaches: the commands, the course as files, its pages and checks.
WORKSHOP = (
    "alternative_text", "bootstrap", "cli", "course", "course.*", "errors", "exercises",
    "exercises.checking", "paths", "progress", "shell", "shell.*", "site", "site.*",
)  # fmt: skip


@cache
def modules() -> tuple[str, ...]:
    """All public modules of the package, without `dlrm_mini.`, in alphabetical order."""
    files = (path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))
    names = (".".join(file.parts).removesuffix("__init__").rstrip(".") for file in files)
    return tuple(sorted(name for name in names if name and not name.startswith("_")))


def taught_in(module: str) -> str | None:
    """The number of the chapter that taught a module; None for a module of the workshop.

    Args:
        module: without `dlrm_mini.`, such as "models.dlrm".

    Raises:
        UserError: when no chapter or more than one has it.
    """
    if module.startswith("exercises.ch"):
        return module[-2:]
    rooms: dict[str | None, tuple[str, ...]] = {None: WORKSHOP}
    rooms.update(TAUGHT)
    exact = [number for number, names in rooms.items() if module in names]
    found = exact or [
        number
        for number, names in rooms.items()
        if any(fnmatch.fnmatchcase(module, name) for name in names)
    ]
    if len(found) != 1:
        places = ", ".join(str(number or "the workshop") for number in found) or "nowhere"
        raise UserError(
            f"dlrm_mini.{module} is taught in: {places}; expected exactly one chapter, or the "
            "workshop. Name it in TAUGHT or WORKSHOP of dlrm_mini/course/taught.py."
        )
    return found[0]


def of_chapter(number: str | None) -> list[str]:
    """The modules that a chapter taught, its most important first; of None, the workshop's."""
    names = WORKSHOP if number is None else TAUGHT.get(number, ())
    own = [module for module in modules() if taught_in(module) == number]

    def place(module: str) -> tuple[int, str]:
        matching = (i for i, name in enumerate(names) if fnmatch.fnmatchcase(module, name))
        return next(matching, len(names)), module

    return sorted(own, key=place)
