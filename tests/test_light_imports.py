"""On a lent GPU machine there is torch, Triton and numpy: a step must be measured with these."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAVY = (
    "matplotlib", "pandas", "tqdm", "numba", "llvmlite", "seaborn", "ipywidgets", "IPython",
    "filelock", "polars", "scipy", "PIL",
)  # fmt: skip
STEP = f"""
import sys
for name in {HEAVY!r}:
    sys.modules[name] = None  # importing it fails from here on

from dlrm_mini import devices, hardware, kernels, measurements, prefetching, training_step
from dlrm_mini.models.dlrm import DLRM
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.models.dlrm_presets import PRESETS
from dlrm_mini.profiling.workload import Workload

hardware.describe()
config = DLRMConfig(3, {{"user": 9, "item": 7}}, 4, bottom=(4,), top=(8, 1), lookups=2)
workload = Workload(config, 5)
for tables in ("dense", "sparse", "fused"):
    step = workload.but(tables=tables).build(devices.choose("cpu"))
    before = [p.detach().clone() for p in step.model.parameters()]
    for batch in prefetching.Prefetched(workload.batches(2), step.device):
        assert 0 < step(batch).item() < 10
    assert all((p != q).any() for p, q in zip(step.model.parameters(), before, strict=True))
print(kernels.choose("auto", step.model.tables.weight).__name__)
"""


def test_a_step_needs_torch_and_numpy_only():
    done = subprocess.run(
        [sys.executable, "-W", "error::ImportWarning", "-c", STEP],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "dlrm_mini.kernels.reference"
