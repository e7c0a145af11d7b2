"""The ledger: results by name, verdicts by claim, one file however many kernels write."""

import json
import math
import subprocess
import sys

import pytest

from dlrm_mini import claims
from dlrm_mini.errors import UserError


@pytest.fixture(autouse=True)
def results_file(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    monkeypatch.setenv("DLRM_MINI_RESULTS", str(path))
    return path


def test_a_result_is_written_with_all_its_fields(results_file):
    claims.record("ratings.mf.rmse", 0.91, chapter="02", spread=0.001, seeds=3, split="canonical")
    claims.record("ratings.mf.rmse", 0.912, chapter="02", spread=0.001, seeds=3, split="canonical")
    assert json.loads(results_file.read_text()) == {
        "ratings.mf.rmse": {"value": 0.912, "unit": "", "spread": 0.001, "seeds": 3,
                            "split": "canonical", "chapter": "02"}
    }  # fmt: skip


@pytest.mark.parametrize("wrong", ["rmse", "Ratings.MF", "ratings..rmse", "ratings.mf rmse"])
def test_a_name_has_its_form(wrong):
    with pytest.raises(UserError, match=r"ratings\.mf\.rmse"):
        claims.record(wrong, 1.0, chapter="02")


def test_what_is_no_number_and_a_spread_of_one_seed_are_refused(results_file):
    with pytest.raises(UserError, match="finite"):
        claims.record("a.b", math.nan, chapter="02")
    with pytest.raises(UserError, match="one seed has no spread"):
        claims.record("a.b", 1.0, chapter="02", spread=0.1)
    assert not results_file.exists()


def test_two_processes_lose_nothing(results_file):
    code = "from dlrm_mini import claims\nfor i in range(40): claims.record(f'p{}.r{{i}}', i, chapter='00')"  # noqa: E501
    running = [subprocess.Popen([sys.executable, "-c", code.format(p)]) for p in range(2)]
    assert [p.wait() for p in running] == [0, 0]
    assert len(claims.results()) == 80


def test_the_ledger_holds_every_claim_and_takes_verdicts():
    assert {row["verdict"] for row in claims.ledger()} == {"not yet measured"}
    line = claims.verdict("factors", "holds", "RMSE .91 against .94")
    assert "HOLDS" in line and "RMSE .91 against .94" in line
    row = next(row for row in claims.ledger() if "dot product predict" in row["claim"])
    assert (row["verdict"], row["because"]) == ("holds", "RMSE .91 against .94")


def test_unknown_claims_and_verdicts_are_refused():
    with pytest.raises(UserError, match="no claim 'fctors'"):
        claims.verdict("fctors", "holds", "")
    with pytest.raises(UserError, match="a verdict is one of"):
        claims.verdict("factors", "maybe", "")


def test_a_damaged_file_is_named(results_file):
    results_file.write_text("{")
    with pytest.raises(UserError, match=r"results\.json is not JSON"):
        claims.results()
