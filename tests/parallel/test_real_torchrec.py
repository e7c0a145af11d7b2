"""Chapter 15's training by TorchRec: one launch, where TorchRec is installed."""

import dataclasses
import sys
from functools import partial

import pytest
import torch

import dlrm_mini.parallel
from dlrm_mini import optimizers
from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm import DLRM
from dlrm_mini.parallel import real_torchrec
from dlrm_mini.parallel.real_cluster import RealCluster
from dlrm_mini.parallel.simulated import SimulatedCluster
from dlrm_mini.shell import torchrec
from dlrm_mini.training_step import TrainingStep
from tests.parallel.test_real_cluster import BATCHES, CONFIG, job

FLOAT = dataclasses.replace(job(2), dtype=torch.float32)


def test_a_job_that_it_cannot_do_is_refused():
    for other in (job(2), dataclasses.replace(FLOAT, rule="adagrad")):
        with pytest.raises(UserError, match="TorchRec is tried with"):
            SimulatedCluster(1).run(partial(real_torchrec.train, other, BATCHES))


def test_without_torchrec_there_is_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchrec", None)
    for module in ("torchrec_engine", "torchrec_plans", "torchrec_tables"):
        monkeypatch.delitem(sys.modules, f"dlrm_mini.parallel.{module}", raising=False)
        monkeypatch.delattr(dlrm_mini.parallel, module, raising=False)  # an import would find it
    (said,) = SimulatedCluster(1).run(partial(real_torchrec.train, FLOAT, BATCHES))
    assert "TorchRec cannot be imported" in said and "python -m dlrm_mini torchrec" in said


@pytest.mark.skipif(torchrec.missing() is not None, reason=torchrec.missing() or "it is there")
def test_weights_are_those_of_one_device_after_every_step():
    first, second = RealCluster(2).run(partial(real_torchrec.train, FLOAT, BATCHES))
    assert first.losses == second.losses and second.weights == [None] * 3
    assert first.theirs == second.theirs
    assert first.theirs.cardinalities == CONFIG.cardinalities and first.theirs.size == 2
    single = DLRM(CONFIG, sparse_gradient=True)
    single.load_state_dict(FLOAT.start)
    step = TrainingStep(single, optimizers.SGD(single.parameters(), FLOAT.lr))
    for batch, loss, weights in zip(BATCHES, first.losses, first.weights, strict=True):
        assert float(step(batch)) == pytest.approx(loss, rel=1e-5)
        for name, expected in single.state_dict().items():
            moved = float((expected - FLOAT.start[name]).abs().max())
            assert float((weights[name] - expected).abs().max()) <= 1e-3 * moved, name
