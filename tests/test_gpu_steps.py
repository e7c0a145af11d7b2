"""Chapter 11's numbers: predicted from data sheets, or out of a record, and what they judge."""

import pytest

from dlrm_mini.claims import VERDICTS
from dlrm_mini.ladders import gpu_steps
from dlrm_mini.pictures.gpu_steps import Run
from dlrm_mini.profiling import roofline
from dlrm_mini.profiling.known_hardware import KNOWN
from tests.profiling.made_up import CARD, made_up_card

LIVE = Run("live", 100.0, None, "extrapolated")
SCALE = "0.01 of the rows"  # of all that is made up


def with_share(share: float) -> dict:
    """A made-up record in which fully connected layers take this share of every step."""
    card = made_up_card()
    for entry in card["results"]["entries"]:
        wall = entry["breakdown"]["wall_ms"]
        entry["breakdown"]["parts"] = {"top MLP": share * wall, "idle": (1 - share) * wall}
    return card


def processor() -> dict:
    """A made-up record of a machine without a GPU."""
    cpu = made_up_card()
    cpu["results"] |= {"device": "cpu", "threads": 2}
    cpu["hardware"]["cpu"] = "made-up processor"
    return cpu


def test_the_size_of_the_tables_is_said():
    assert gpu_steps.rows([{"scale": 1.0}, {"scale": 1}]) == "full size"
    assert gpu_steps.rows([{"scale": 1.0}, {"scale": 0.1}]) == "0.1, 1 of the rows"


def test_the_prediction_is_the_roofline_of_the_papers_model():
    work = gpu_steps.workload("graphed", 512)
    assert work.batch_size == 512 and set(work.config.cardinalities.values()) == {1_000_000}
    assert (work.precision, work.dense_part) == ("bfloat16", "graphed")
    found = gpu_steps.predicted("H100 80 GB", "graphed", 512)
    assert found == roofline.predict(work, KNOWN["H100 80 GB"])


def test_idle_falls_with_the_batch_and_rises_with_the_card():
    slow, fast = KNOWN["V100 16 GB"], KNOWN["H100 80 GB"]
    shares = [gpu_steps.idle_share(gpu_steps.workload(batch_size=size), fast) for size in (32, 512)]
    assert 1 > shares[0] > shares[1] > 0
    assert gpu_steps.idle_share(gpu_steps.workload(batch_size=512), slow) < shares[1]


def test_without_a_card_the_ladder_is_predicted():
    found = gpu_steps.ladder([])
    assert not found.measured and tuple(found.predicted) == gpu_steps.RUNGS
    assert found.predicted["naive"] > found.predicted["graphed"]
    assert "predicted" in found.title


def test_with_a_card_the_ladder_is_what_was_recorded():
    card = made_up_card()
    other = made_up_card()
    other["results"]["entries"] = [e for e in card["results"]["entries"] if e["preset"] == "rm1"]
    assert gpu_steps.ladder([other]) == gpu_steps.ladder([])  # nothing of the profile in it
    found = gpu_steps.ladder([other, card])
    assert found.title == f"{SCALE},\n{CARD}"
    recorded = gpu_steps.measured(card)
    assert found.measured == {
        arm: recorded[arm]["ms"] for arm in gpu_steps.RUNGS if arm in recorded
    }
    assert set(found.predicted) == set(found.measured)
    fused = recorded["fused"]
    assert found.predicted["fused"] == pytest.approx(sum(fused["predicted_ms"].values()))


def test_sweeps_of_a_card_are_added_to_the_predicted_ones():
    alone, together = gpu_steps.sweeps([], []), gpu_steps.sweeps([made_up_card()], [])
    assert not any(sweep.measured for sweep in alone.values())
    added = {name: sweep for name, sweep in together.items() if name not in alone}
    assert set(added) == {f"{CARD}, {arm}, {SCALE}" for arm in ("fused", "graphed")}
    fused = added[f"{CARD}, fused, {SCALE}"]
    assert fused.measured and list(fused.batches) == [128, 512, 2048, 8192]
    assert fused.idle == pytest.approx([0.06] * 4)
    card = made_up_card()
    for entry in card["results"]["entries"]:
        entry["breakdown"] = None  # only the whole step was timed
    assert gpu_steps.sweeps([card], [])[f"{CARD}, fused, {SCALE}"].idle is None


def test_the_sweep_of_a_processor_is_measured_and_nobody_waits_there():
    alone, found = gpu_steps.sweeps([], []), gpu_steps.sweeps([], [processor()])
    (name,) = (name for name in found if name not in alone and "fused" in name)
    assert name == f"made-up processor, 2 threads, fused, {SCALE}"
    assert found[name].measured and found[name].idle is None
    assert list(found[name].ms) == pytest.approx([1.5 * (3 + n / 512) for n in found[name].batches])


def test_a_thousand_batches_are_published_live_predicted_and_recorded():
    alone = gpu_steps.thousand(LIVE, [], [])
    assert [run.seconds for run in alone[:2]] == [256, 62]
    assert [run.kind for run in alone[:3]] == ["published", "published", "extrapolated"]
    assert {run.kind for run in alone[3:]} == {"predicted"}
    assert alone[-1].name == "H100 80 GB, graphed"
    card = made_up_card()
    runs = gpu_steps.thousand(LIVE, [processor()], [card])
    assert runs[3].name == f"made-up processor, 2 threads, fused, {SCALE}"
    assert runs[-1].name == f"{CARD}, graphed, {SCALE}" and runs[-1].kind == "extrapolated"
    assert runs[-1].seconds == gpu_steps.measured(card)["graphed"]["ms"]


def test_nothing_is_judged_before_it_was_measured():
    found, because = gpu_steps.judge([])
    assert found == "not yet measured" and "predict" in because
    for card, arm in (("V100 16 GB", "fused"), ("H100 80 GB", "graphed")):
        share = gpu_steps.fully_connected(gpu_steps.predicted(card, arm))
        assert f"{share:.0%} of a step ({card}, {arm})" in because
    other = made_up_card()
    other["results"]["entries"] = [
        entry for entry in other["results"]["entries"] if entry["preset"] == "rm1"
    ]
    assert gpu_steps.judge([other])[0] == "not yet measured"


@pytest.mark.parametrize(
    ("shares", "verdict"),
    [((0.05,), "holds"), ((0.3,), "does not hold"), ((0.05, 0.3), "holds when")],
)
def test_a_recorded_card_decides(shares, verdict):
    cards = [with_share(share) for share in shares]
    for number, card in enumerate(cards):
        card["hardware"]["gpu"] = f"made-up card {number}"
    found, because = gpu_steps.judge(cards)
    assert found == verdict and found in VERDICTS
    for number, share in enumerate(shares):
        said = f"on made-up card {number} (2000-01-01) sparse {share:.0%}, fused {share:.0%}"
        assert said in because
    assert because.startswith("below 10% of a step is negligible; they take, on made-up card 0")
    assert "float16" not in because.replace("bfloat16", "")  # beside the ladder, not on it
