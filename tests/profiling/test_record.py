"""Recorded step files: complete, checked, merged, and sentences for what is wrong."""

import copy
import json
from pathlib import Path

import pytest

from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm_presets import PRESETS
from dlrm_mini.profiling import record, schema
from dlrm_mini.profiling.workload import Workload
from tests.profiling.made_up import CARD, made_up_card, save


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DLRM_MINI_MEASUREMENTS", str(tmp_path))
    return tmp_path


def only(whole, *presets):
    """The record that a run of these presets alone would write."""
    made = copy.deepcopy(whole)
    results = made["results"]
    results["presets"] = {name: results["presets"][name] for name in presets}
    for kind in ("entries", "skipped"):
        results[kind] = [entry for entry in results[kind] if entry["preset"] in presets]
    return made


def test_the_committed_files_are_right():
    for found in record.recorded():
        assert found["results"]["device"] in found["name"]
        assert found["results"]["entries"]


def test_what_is_in_the_folder_is_read(folder):
    assert record.recorded() == []
    made = made_up_card()
    save(folder, made)
    (folder / "ratings_ladder.json").write_text("another kind of file, of no concern")
    assert record.recorded() == record.recorded("cuda") == [made]
    assert record.recorded("cpu") == []


def test_a_damaged_file_is_named(folder):
    path = folder / "steps_cpu_torn.json"
    path.write_text('{"name": ')
    with pytest.raises(UserError, match=r"steps_cpu_torn\.json is not JSON.*restore"):
        record.recorded()
    path.write_text("{}")
    with pytest.raises(UserError, match=r"steps_cpu_torn\.json is damaged: name is missing"):
        record.recorded()


ENTRY = ("results", "entries", 3)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("hardware", "cores"), 2.5, r"hardware\.cores is 2\.5; expected a whole number"),
        (("versions", "torch"), None, r"versions\.torch is null; expected a text"),
        (("results",), [], "results is list; expected an object"),
        (
            ("results", "device"),
            "tpu",
            r"results\.device is \"tpu\"; expected one of 'cpu', 'cuda'",
        ),
        (("results", "entries"), {}, r"results\.entries is dict; expected a list"),
        ((*ENTRY, "ms"), "fast", r"entries\[3\]\.ms is \"fast\"; expected a number of at least 0"),
        ((*ENTRY, "ms"), True, r"entries\[3\]\.ms is true"),
        ((*ENTRY, "ms"), 1e9, r"entries\[3\]\.ms is 1000000000\.0; expected the median"),
        ((*ENTRY, "spread_ms"), float("nan"), r"entries\[3\]\.spread_ms is NaN"),
        ((*ENTRY, "samples_per_s"), -1.0, r"entries\[3\]\.samples_per_s is -1\.0"),
        ((*ENTRY, "repetitions_ms"), [], r"expected the median of repetitions_ms"),
        ((*ENTRY, "ratios"), [1.0], r"entries\[3\]\.ratios has 1 numbers; expected 3"),
        ((*ENTRY, "arm"), "sparse", "is a second one of kaggle, kaggle, sparse"),
        ((*ENTRY, "preset"), "unheard", "presets lacks 'unheard'"),
        ((*ENTRY, "workload", "precision"), "int3", r"workload\.precision is \"int3\""),
        ((*ENTRY, "workload", "config", "dim"), 17, r"entries\[3\]\.workload cannot be built"),
        ((*ENTRY, "breakdown", "parts"), {"attention": 1.0}, "has the part 'attention'"),
        ((*ENTRY, "breakdown", "parts"), {"input": 0.1}, "parts add up to 0.1 ms"),
        ((*ENTRY, "breakdown", "operators"), {"FC": 0.1}, "operators add up to 0.1 ms"),
        ((*ENTRY, "predicted_ms"), {"FC": 0.1}, "predicted_ms has the part 'FC'"),
        ((*ENTRY, "curve", "tolerance"), None, r"curve\.tolerance is null"),
        (("results", "skipped", 0, "reason"), 7, r"skipped\[0\]\.reason is 7; expected a text"),
    ],
)
def test_a_wrong_field_is_named(place, value, said):
    made = made_up_card()
    record.check(made)
    inside = made
    for step in place[:-1]:
        inside = inside[step]
    inside[place[-1]] = value
    with pytest.raises(UserError, match=said):
        record.check(made)


def test_every_field_is_needed():
    def without(value, place):
        """Every dict of named fields in the form, and a key that is left out of the record."""
        if isinstance(place, schema.Maybe):
            place = place.form
        if isinstance(place, list) and value:
            yield from without(value[0], place[0])
        if isinstance(place, dict):
            for name, form in place.items():
                if name is not schema.Any:
                    yield value, name
                    yield from without(value[name], form)

    made = made_up_card(ceilings={})
    made["results"]["entries"][0]["sweep"] = {"knob": "batch", "value": 1}
    fields = list(without(made, record.SCHEMA))
    assert len(fields) > 60
    for inside, name in fields:
        kept = inside.pop(name)
        with pytest.raises(UserError, match=f"{name} is missing"):
            record.check(made)
        inside[name] = kept


@pytest.mark.parametrize("name", PRESETS)
def test_a_workload_comes_back_as_it_was(name):
    made = Workload(PRESETS[name](0.5), 64, "sparse", "rowwise_adagrad", "bfloat16", "compiled")
    assert record.workload({"workload": json.loads(json.dumps(record.as_json(made)))}) == made


def test_names_of_processors_become_names_of_files(folder):
    assert record.slug("Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz") == (
        "intel_xeon_platinum_8370c"
    )
    assert record.slug("NVIDIA H100 80GB HBM3") == "nvidia_h100_80gb_hbm3"
    machine = {"cpu": "Some CPU @ 2 GHz", "gpu": CARD}
    assert record.file_of("cpu", machine) == folder / "steps_cpu_some.json"
    assert record.file_of("cuda", machine).name.startswith("steps_cuda_made_up_card")


def test_a_preset_that_runs_again_replaces_its_entries_and_keeps_the_others(folder):
    whole = made_up_card()
    path = record.write(folder / "steps_cuda_x.json", only(whole, "profile", "kaggle"))
    again = only(whole, "profile")
    again["results"]["entries"] = again["results"]["entries"][:1]
    again["results"]["ceilings"] = {"name": "new"}
    record.write(path, again, predict=lambda workload, prefetch: {"input": float(prefetch)})
    results = record.read(path)["results"]
    kept = [entry for entry in results["entries"] if entry["preset"] == "kaggle"]
    assert len(results["entries"]) == len(kept) + 1 and len(kept) > 1
    assert set(results["presets"]) == {"profile", "kaggle"}
    assert {entry["preset"] for entry in results["skipped"]} == {"profile", "kaggle"}
    # One set of ceilings, and the predictions that follow from it.
    assert results["ceilings"] == {"name": "new"}
    assert all(entry["predicted_ms"] == {"input": entry["prefetch"]} for entry in kept)
    assert [found.name for found in folder.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("group", "field", "value"),
    [("hardware", "cores", 64), ("hardware", "driver", "999"), ("versions", "torch", "9.9"),
     ("results", "threads", 3)],
)  # fmt: skip
def test_other_hardware_or_versions_are_refused_and_the_file_stays(folder, group, field, value):
    path = record.write(folder / "steps_cuda_x.json", only(made_up_card(), "kaggle"))
    before = path.read_bytes()
    other = only(made_up_card(), "profile")
    other[group][field] = value
    with pytest.raises(UserError, match=rf"{group}\.{field} .* this is {value}.*move or delete"):
        record.write(path, other)
    assert path.read_bytes() == before


def test_nothing_is_written_that_could_not_be_read(folder):
    made = made_up_card()
    made["results"]["entries"][0]["ms"] = float("inf")
    with pytest.raises(UserError, match=r"entries\[0\]\.ms"):
        record.write(folder / "steps_cuda_x.json", made)
    assert not list(folder.iterdir())


def test_a_file_stays_whole_when_writing_is_stopped(folder, monkeypatch):
    path = save(folder, made_up_card())
    before = path.read_bytes()

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        record.write(path, made_up_card())
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    record.check_place(tmp_path / "new" / "steps_cpu_x.json")
    assert not list((tmp_path / "new").iterdir())
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="Name another folder in DLRM_MINI_MEASUREMENTS"):
        record.check_place(tmp_path / "file" / "steps_cpu_x.json")
