"""Chapter 08's ladder: its ways take the same step, its trainings are the record's."""

import pytest
import torch

from dlrm_mini import cli, measurements
from dlrm_mini.datasets.sparse import SparseFeatures
from dlrm_mini.ladders import sparse_accuracy as accuracy
from dlrm_mini.ladders import sparse_steps as steps
from dlrm_mini.ladders import sparse_training as ladder

SGDS = ("dense SGD", "sparse SGD", "fused SGD")


@pytest.fixture(scope="module")
def record():
    return measurements.read("sparse_training")["results"]


def test_batches_have_their_shape_and_no_ids_in_common_but_by_chance():
    found = steps.batches(1000, 8, 5, number=3)
    assert [(one.batch_size, len(one.values)) for one in found] == [(8, 40)] * 3
    assert not torch.equal(found[0].values, found[1].values)


def step(way: str, monkeypatch) -> torch.Tensor:
    """The table after one step, all ways from the same first entries."""
    made = []
    for name in ("EmbeddingTables", "FusedEmbeddingTables"):
        kind = getattr(steps, name)

        def keep(*args, kind=kind, **options):
            torch.manual_seed(0)
            made.append(kind(*args, **options))
            return made[-1]

        monkeypatch.setattr(steps, name, keep)
    take = steps.stepper(way, 20, 3)
    generator = torch.Generator().manual_seed(1)
    sparse = SparseFeatures(("table",), torch.tensor([3, 3, 7, 3]), torch.tensor([0, 2, 4]))
    take(sparse, torch.randn(2, 1, 3, generator=generator))
    return made[0].tables["table"].detach()


@pytest.mark.parametrize("way", steps.WAYS)
def test_a_step_moves_the_rows_touched(way, monkeypatch):
    with monkeypatch.context() as patched:
        before = step("dense SGD", patched)
    with monkeypatch.context() as patched:
        after = step(way, patched)
    if way in SGDS:
        torch.testing.assert_close(after, before)
    rest = [row for row in range(20) if row not in (3, 7)]
    assert torch.equal(after[rest], before[rest])
    torch.manual_seed(0)
    start = steps.EmbeddingTables({"table": 20}, 3, init_std=0.01).tables["table"]
    assert (after[[3, 7]] != start[[3, 7]]).all()


@pytest.mark.parametrize("way", steps.WAYS)
def test_every_way_is_timed(way):
    assert 0 < steps.seconds(way, 50, 4, steps.batches(50, 8, 2, number=4)) < 5


def test_the_speed_of_a_copy_is_a_number_of_bytes():
    assert 1e8 < steps.copy_speed(8_000_000) < 1e13


def test_the_measurement_has_a_command():
    assert cli.MEASUREMENTS["sparse-training"].endswith("sparse_training:measure")


def test_the_record_has_every_table_and_way(record):
    assert record["rows"] == list(ladder.ROWS)
    assert [law["zipf"] for law in record["laws"].values()] == list(ladder.LAWS.values())
    uniform, zipf = record["laws"].values()
    assert set(uniform["seconds"]) == set(steps.WAYS)
    assert set(zipf["seconds"]) == {way for way in steps.WAYS if not way.startswith("dense")}
    for law in (uniform, zipf):
        assert all(len(took) == len(ladder.ROWS) for took in law["seconds"].values())
        assert law["distinct"] == sorted(law["distinct"])


def test_the_recorded_dense_step_grows_with_the_table_and_the_fused_one_hardly(record):
    rows, took = record["rows"], next(iter(record["laws"].values()))["seconds"]
    grown = {way: values[-1] / values[0] for way, values in took.items()}
    assert grown["dense Adam"] > 20 * grown["fused SGD"]
    floor = 8 * 4 * rows[-1] * ladder.DIM / record["copy_bytes_per_second"]
    assert took["dense Adam"][-1] > 0.5 * floor


def test_the_recorded_rates_are_the_best_of_those_tried(record):
    for name, rates in accuracy.RATES.items():
        for way, found in record["accuracy"][name].items():
            tried = {one["rate"]: one["ne"] for one in found["tried"]}
            assert tuple(tried) == rates, (name, way)
            assert tried[found["rate"]] == min(tried.values())
            seeds = found["ne"]["per_seed"]
            assert len(seeds) == len(accuracy.SEEDS)
            assert found["ne"]["mean"] == pytest.approx(sum(seeds) / len(seeds))


def test_a_training_on_movielens_is_the_recorded_one(record):
    way = "row-wise Adagrad"
    found = record["accuracy"]["movielens"][way]
    now = accuracy.score_clicks(accuracy.task(), way, found["rate"], seed=1)
    assert now == pytest.approx(found["ne"]["per_seed"][1], abs=0.002)


def test_a_plan_starts_at_the_share_of_clicks_and_trains_its_tables_inside_backward():
    log = accuracy.ClickLog(accuracy.click_logs.config(), threads=1)
    data = accuracy.click_logs.Data.draw(log, 2_000, range(2**33, 2**33 + 500)).frequent(10)
    low = accuracy.score_log(data, "row-wise Adagrad", 0.1, 0)
    assert 0.5 < low < 1.1
    assert low == accuracy.score_log(data, "row-wise Adagrad", 0.1, 0)  # to the bit
    assert low != accuracy.score_log(data, "Adagrad", 0.1, 0)
    assert low != accuracy.score_log(data, accuracy.PRIOR, 0.1, 0)
