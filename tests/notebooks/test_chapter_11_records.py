"""Chapter 11 from top to bottom: with a recorded GPU, and with nothing recorded at all.

Nbval runs it with what is in the repository. The card here does not exist.
"""

import shutil

from dlrm_mini.claims import CLAIMS
from dlrm_mini.course import chapters, execute, notebook
from dlrm_mini.paths import course_file
from tests.profiling.made_up import CARD, made_up_card, save

NO_GPU = "No GPU has been measured"
CPUS = "steps_cpu_*.json"


def printed(folder, monkeypatch) -> str:
    """What all cells of the chapter print, where these records are the only ones."""
    monkeypatch.setenv("DLRM_MINI_MEASUREMENTS", str(folder))
    monkeypatch.setenv("DLRM_MINI_RESULTS", str(folder / "results.json"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # the live cells are not what is tested
    chapter = chapters.find("11")
    nb = notebook.read(chapter.path)
    execute.execute(nb, chapter.path.parent, label="11")
    outputs = [output for _, cell in notebook.code_cells(nb) for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 8
    return "".join(output.text for output in outputs if output.output_type == "stream")


def verdict(text: str) -> str:
    return text[text.index(CLAIMS["time-gpu"].sentence) :]


def test_with_nothing_recorded_all_about_a_gpu_is_predicted(tmp_path, monkeypatch):
    text = printed(tmp_path, monkeypatch)
    assert text.count(NO_GPU) == 1 and "predicted: H100" in text
    assert "recorded GPU" not in text and "recorded:" not in text and "recorded on" not in text
    assert "measured: works more" not in text
    assert "NOT YET MEASURED" in verdict(text) and "ceilings predict" in verdict(text)


def test_with_a_gpu_it_is_named_with_its_numbers(tmp_path, monkeypatch):
    card = made_up_card()
    save(tmp_path, card)
    processors = list(course_file("data/measurements").glob(CPUS))
    assert processors
    for file in processors:
        shutil.copy(file, tmp_path)
    text = printed(tmp_path, monkeypatch)
    assert NO_GPU not in text and f"recorded GPU: {CARD}, 2000-01-01" in text
    assert f"recorded on {CARD}: the losses' largest distance" in text
    for arm in ("fused", "graphed"):  # the sweep and the thousand batches; 6 % idle everywhere
        row = f"{CARD}, {arm}, 0.01 of the rows"
        assert f"{row}, measured: works more than it waits from batch 128 on" in text
        (ms,) = (
            entry["ms"] for entry in card["results"]["entries"]
            if entry["configuration"] == "profile" and entry["arm"] == arm
        )  # fmt: skip
        assert f"recorded: {row} {ms:.2f} s; fully connected: 32%" in text
    assert "DOES NOT HOLD: below 10% of a step is negligible;\nthey take, on " in verdict(text)
    assert f"on {CARD} (2000-01-01) sparse 32%, fused 32%" in verdict(text)
    assert "predict" not in verdict(text)
