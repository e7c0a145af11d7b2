"""The house's own rules: lint, types, sizes, and imports that run one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "dlrm_mini").rglob("*.py"))
# Lower rooms first: a module imports from its own level or from one above it in this list.
ROOMS = [
    {"errors", "paths", "bootstrap"},
    {"alternative_text", "style", "progress", "hardware"},
    {"datasets", "metrics", "metrics_streaming"},
    {"kernels", "memory"},
    {"sparse_rules", "optimizers", "table_checks"},
    {"embeddings", "interactions", "crossing", "lookup_tables", "smaller_tables", "quantization"},
    {"models"},
    {"training", "training_step", "dense_part", "devices", "prefetching", "epochs"}
    | {"checkpoints", "claims", "experiments", "ledger", "measurements", "gibbs"},
    {"profiling"},
    {"parallel"},
    {"plots", "pictures"},
    {"ladders", "environment"},
    {"widgets", "exercises"},
    {"course", "shell"},
    {"site"},
    {"cli"},
    {"__main__"},
]
FORBIDDEN = [
    "pypi" + ".org", "files.python" + "hosted", "registry.npm" + "js", "download." + "pytorch",
    "/" + "work/", "/" + "root/",
]  # fmt: skip


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True
    )


def test_ruff():
    done = run("ruff", "check", ".")
    assert done.returncode == 0, done.stdout
    done = run("ruff", "format", "--check", ".")
    assert done.returncode == 0, done.stdout


def test_types():
    done = run("mypy")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_module_is_two_ideas(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


def room(module: str) -> int | None:
    name = module.removeprefix("dlrm_mini").lstrip(".").split(".")[0]
    return next((level for level, names in enumerate(ROOMS) if name in names), None)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path):
    here = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    if here in ("dlrm_mini.__init__",):
        return
    level = room(here.removesuffix(".__init__"))
    assert level is not None, f"{here} is in no room: add it to ROOMS"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        targets = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "dlrm_mini":
            targets = [f"dlrm_mini.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            targets = [node.module or ""]
        for target in targets:
            if target.startswith("dlrm_mini.") and (other := room(target)) is not None:
                assert other <= level, f"{here} imports {target}, which is a room above it"


def test_start_up_imports_nothing_heavy():
    code = "import sys, dlrm_mini.cli; print([m for m in ('torch', 'numpy', 'pandas', 'tqdm') if m in sys.modules])"  # noqa: E501
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_no_machine_and_no_registry_host_is_named():
    files = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split("\0")
    texts = {".py", ".md", ".toml", ".yml", ".txt", ".json", ".ipynb", ""}
    found = []
    for name in filter(None, files):
        path = ROOT / name
        if path.suffix in texts and path.is_file():
            text = path.read_text(encoding="utf-8", errors="ignore")
            found += [f"{name}: {word}" for word in FORBIDDEN if word in text]
    assert not found
