"""The ledger read out: every claim has numbers, every number was recorded, nothing is stale."""

import json
import re
from pathlib import Path

import pytest

from dlrm_mini import claims, experiments, ledger, measurements
from dlrm_mini.course import ledger_record, links, notebook
from dlrm_mini.errors import UserError
from dlrm_mini.paths import course_file

ROOT = Path(__file__).parents[1]


def entry(value=0.5, **changes):
    whole = {"value": value, "unit": "", "spread": None, "seeds": 1, "split": "", "chapter": "02"}
    return whole | changes


def ruling(verdict="holds", because="0.91 against 0.94"):
    return {"verdict": verdict, "because": because, "chapter": "02"}


def line(key):
    return next(row for row in ledger.rows() if row.key == key)


def test_every_claim_has_an_experiment_with_numbers():
    assert experiments.EXPERIMENTS.keys() == claims.CLAIMS.keys()
    assert all(one.numbers for one in experiments.EXPERIMENTS.values())
    assert [row.key for row in ledger.rows()] == list(claims.CLAIMS)


def test_the_claims_are_in_the_order_of_the_course():
    chapters = [claim.chapter for claim in claims.CLAIMS.values()]
    assert chapters == sorted(chapters)


def test_the_record_says_what_the_chapters_are_held_to():
    held = json.loads((ROOT / "tests/notebooks/results.json").read_text(encoding="utf-8"))
    recorded = ledger.results()
    assert recorded.keys() == held.keys()
    for name, wanted in held.items():
        assert abs(recorded[name]["value"] - wanted["value"]) <= wanted["tolerance"], name
        assert recorded[name]["chapter"] == wanted["chapter"], name


@pytest.mark.parametrize("key", claims.CLAIMS)
def test_every_line_leads_to_the_cell_that_judged_it(key):
    row = line(key)
    source = course_file("notebooks") / "16_verdicts.ipynb"
    assert links.problem(row.link, source, notebook.read(source)) is None
    path = source.parent / row.link.partition("#")[0]
    cells = notebook.read(path).cells
    anchor = f'<a id="verdict-{row.key}"></a>'
    (above,) = (i for i, cell in enumerate(cells) if anchor in cell.source)
    (judging,) = (i for i, c in enumerate(cells) if f'"{row.key}", ' in _verdicts(c))
    assert 0 < judging - above <= 4
    assert not any(cell.cell_type == "markdown" for cell in cells[above + 1 : judging])


def _verdicts(cell):
    """The beginnings of the verdict calls in a cell, blanks out."""
    found = re.findall(r"claims\.verdict\(\s*(\"[\w-]+\"),", cell.source)
    return "".join(f"{one}, " for one in found) if cell.cell_type == "code" else ""


@pytest.mark.parametrize("key", claims.CLAIMS)
def test_a_condition_is_short_and_measured_things_name_their_hardware(key):
    row = line(key)
    if row.verdict == "holds when":
        assert 5 <= len(row.condition) <= 90, row.condition
        assert not row.condition.startswith(("modelled", "measured"))
    assert row.on in ("counted", "modelled") or row.hardware["cpu"] in row.on
    assert all(re.search(r"\d", found.text()) for found in row.numbers)


def test_a_number_carries_its_spread_where_it_has_one():
    number = experiments.Number("a.b", "words", ".1%")
    assert ledger.Found(number, 0.123, 0.004, 3, "", "").text() == "12.3% ± 0.4%"
    assert ledger.Found(number, 0.123, None, 1, "", "").text() == "12.3%"


def test_a_claim_that_nobody_judged_is_named(monkeypatch):
    record = measurements.read("ledger")
    del record["results"]["chapters"]["02"]["verdicts"]["factors"]
    monkeypatch.setattr(measurements, "read", lambda name: record)
    with pytest.raises(
        UserError, match=r"lacks the verdict of the claim 'factors'. .* notebooks 02"
    ):
        ledger.rows()


def test_a_number_that_was_not_recorded_is_named(monkeypatch):
    record = measurements.read("ledger")
    del record["results"]["chapters"]["02"]["results"]["ratings.mf.rmse"]
    monkeypatch.setattr(measurements, "read", lambda name: record)
    with pytest.raises(UserError, match=r"lacks ratings\.mf\.rmse of the claim 'factors'"):
        ledger.rows()


@pytest.fixture
def record(tmp_path, monkeypatch):
    """A ledger of its own; returns what it holds by chapter."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "pyproject.toml").touch()
    for module in ("dlrm_mini.paths", "dlrm_mini.measurements"):
        monkeypatch.setattr(f"{module}.checkout", lambda: tmp_path)
    monkeypatch.setattr(ledger_record, "build_dir", lambda: tmp_path / "build")
    file = tmp_path / "data" / "measurements" / "ledger.json"

    def chapters():
        return json.loads(file.read_text(encoding="utf-8"))["results"]["chapters"]

    # An installed wheel would have a record too: here there is none but this.
    monkeypatch.setattr("dlrm_mini.measurements.course_file", lambda name: _there(tmp_path / name))
    return chapters


def _there(path):
    if not path.exists():
        raise UserError(f"{path} is not there")
    return path


def test_what_only_scatters_leaves_the_record_as_it_is(record):
    assert ledger_record.keep("02", {"a.b": entry(0.5)}, {"factors": ruling()})
    assert not ledger_record.keep("02", {"a.b": entry(0.50001)}, {"factors": ruling()})
    assert record()["02"]["results"]["a.b"]["value"] == 0.5
    assert ledger_record.keep("02", {"a.b": entry(0.52)}, {"factors": ruling()})
    assert record()["02"]["results"]["a.b"]["value"] == 0.52
    assert ledger_record.keep("03", {}, {})
    assert set(record()) == {"02", "03"}
    assert {"date", "hardware", "results", "verdicts"} == record()["02"].keys()


@pytest.mark.parametrize(
    ("results", "verdicts", "says"),
    [
        ({}, {"factors": ruling()}, "the result a.b is gone"),
        ({"a.b": entry(), "a.c": entry()}, {"factors": ruling()}, "the result a.c is new"),
        ({"a.b": entry(0.6)}, {"factors": ruling()}, "the result a.b is 0.6, was 0.5"),
        ({"a.b": entry(unit="s")}, {"factors": ruling()}, "the result a.b is 0.5, was 0.5"),
        ({"a.b": entry()}, {}, "the verdict factors is gone"),
        ({"a.b": entry()}, {"factors": ruling("does not hold")}, "factors is does not hold"),
        ({"a.b": entry()}, {"factors": ruling(because="0.99 against 0.94")}, "0.99 against"),
    ],
)
def test_what_changed_is_said(results, verdicts, says):
    recorded = {"results": {"a.b": entry()}, "verdicts": {"factors": ruling()}}
    (found,) = ledger_record.differences(recorded, results, verdicts)
    assert says in found
