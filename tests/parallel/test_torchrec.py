"""TorchRec trains the same model to the same weights: two processes beside a single device.

All trainings share one start of two processes, since importing TorchRec takes seconds.
"""

import json
import subprocess
import sys

import pytest

from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.parallel import launch
from dlrm_mini.parallel.sharding import Placement, Plan
from dlrm_mini.shell import torchrec

# The largest difference of a tensor's weights, over how far they have moved since the start, after
# every step. Rounding alone gives 1.2e-5 at most; a learning rate 1 % too large gives 1e-2.
TOLERANCE = 1e-4
FORMS = ("table-wise", "row-wise", "data-parallel", "mixture")
TRAININGS = [f"{form}, {rule}" for form in FORMS for rule in ("sgd", "rowwise_adagrad")]
TRAININGS += ["column-wise, sgd", "mixture-with-columns, sgd", "mean", "planner"]
needs_torchrec = pytest.mark.skipif(
    torchrec.missing() is not None, reason=torchrec.missing() or "TorchRec is there"
)


@pytest.fixture(scope="module")
def found():
    try:
        return json.loads(launch.run("tests.parallel.torchrec_worker", 2, timeout=100))
    except UserError as error:
        if "TorchRec cannot be imported" in "".join([str(error), *error.__notes__]):
            pytest.skip(str(error))
        raise


@needs_torchrec
@pytest.mark.parametrize("training", TRAININGS)
def test_weights_are_those_of_one_device_after_every_step(found, training):
    result = found[training]
    assert result["carried"] and result["names"], "weights are not the same there and back"
    assert len(result["worst"]) == 5 and not result["still"], "not all tensors have moved"
    assert max(result["worst"]) < TOLERANCE
    assert result["losses"] < 1e-6


@needs_torchrec
def test_the_plan_is_the_one_that_was_asked_for(found):
    forms = {name: set(found[f"{name}, sgd"]["plan"].values()) for name in FORMS}
    assert forms["row-wise"] == {"row-wise"} and forms["table-wise"] == {"table-wise"}
    assert len(forms["mixture"]) == 3
    assert set(found["planner"]["plan"]) == {"user", "item", "place", "kind"}


@needs_torchrec
def test_a_wrong_learning_rate_of_the_tables_is_seen_and_hardly_in_the_losses(found):
    assert max(found["P-fold"]["worst"]) > 0.5
    assert min(found["1 %"]["worst"]) > 50 * TOLERANCE
    assert found["1 %"]["losses"] < 1e-3


@needs_torchrec
@pytest.mark.parametrize(
    ("wrong", "words"),
    {
        "rule": "'adam'; expected 'sgd' or 'rowwise_adagrad'",
        "size": "The plan is for 3 ranks and 4 tables of width 16; there are 2 processes",
        "rows": "'user' is row-wise on the ranks (1,); TorchRec cuts rows over all",
        "columns": "6 wide and column-wise on 2 ranks; TorchRec's pieces",
        "adagrad": "'user' is column-wise, and TorchRec's row-wise Adagrad",
        "weights": "'tables.tables.item' they hold (8, 16), the config expects (7, 16)",
        "missing": "'bottom.0.bias' they hold nothing",
        "weighted": "The ids of this batch have weights",
        "ended": "The ranks [0] have no batch left, and the ranks [1] have one",
        "empty": "No rank has a row",
    }.items(),
)
def test_what_torchrec_cannot_do_is_a_sentence(found, wrong, words):
    assert words in found["refusals"][wrong]


@needs_torchrec
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # FBGEMM's, when it is imported
@pytest.mark.parametrize(("rows", "right"), [(3, False), (5, False), (4, True), (7, True)])
def test_a_rank_without_a_row_of_a_row_wise_table_is_refused(rows, right):
    """With four ranks: 5 rows are cut into 2, 2, 1 and none."""
    from dlrm_mini.parallel import torchrec_plans

    config = DLRMConfig(4, {"user": rows}, 8, bottom=(8,), top=(1,))
    everyone = Placement("row-wise", (0, 1, 2, 3))
    try:
        torchrec_plans.check_plan(Plan(4, {"user": rows}, 8, {"user": everyone}), config, 4, "sgd")
    except UserError as error:
        assert not right and ("leaves the last of 4 ranks without" in str(error)) == (rows == 5)
    else:
        assert right


def test_without_torchrec_the_engine_says_how_to_get_it():
    code = "import sys; sys.modules['torchrec'] = None\nimport dlrm_mini.parallel.torchrec_engine"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert "UserError: TorchRec cannot be imported" in last and "dlrm_mini torchrec" in last


def test_nothing_else_of_the_package_imports_torchrec():
    code = (
        "import sys, dlrm_mini.cli, dlrm_mini.parallel.process_group, dlrm_mini.parallel.launch\n"
        "import dlrm_mini.parallel.sharded_step; print('torchrec' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
