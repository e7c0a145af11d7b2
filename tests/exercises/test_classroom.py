"""A whole class through nbgrader: made, handed in right, partly right and empty, graded."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dlrm_mini.course import exercises, notebook
from dlrm_mini.course.classroom import write_classroom
from dlrm_mini.errors import UserError

NUMBER = "05"


def nbgrader(folder: Path, *words: str) -> str:
    """Run a command of nbgrader's in a course folder; returns what it printed."""
    home = {name: str(folder / ".home") for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")}
    # It calls other programs of its environment by name.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", *words],
        cwd=folder,
        env={**os.environ, **home, "PATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def hand_in(released: Path, target: Path, answers: dict[str, str]) -> None:
    """A student's notebook: the released one with these sources by grade_id."""
    nb = notebook.read(released)
    for cell in nb.cells:
        cell.source = answers.get(cell.metadata.nbgrader.grade_id, cell.source)
    target.parent.mkdir(parents=True)
    notebook.save(target, nb)


def test_a_class_is_graded(tmp_path):
    folder = tmp_path / "class"
    assert write_classroom(folder, [NUMBER]) == 0
    master = exercises.masters([NUMBER])[0]
    name = master.stem
    nbgrader(folder, "generate_assignment", name)
    released = folder / "release" / name / master.name
    text = released.read_text(encoding="utf-8")
    assert "BEGIN SOLUTION" not in text and "write this first" in text
    # The same cells with the same points as the version in the repository.
    ours = [c.metadata.nbgrader for c in notebook.read(exercises.student_path(master)).cells]
    theirs = {
        c.metadata.nbgrader.grade_id: c.metadata.nbgrader for c in notebook.read(released).cells
    }
    graded = {one.grade_id: one.points for one in ours if one.grade}
    assert graded == {key: one.points for key, one in theirs.items() if one.grade}

    nb = notebook.read(master)
    found = exercises.read(nb, master.name)
    right = {
        cell.metadata.nbgrader.grade_id: cell.source
        for cell in (nb.cells[one.solution] for one in found)
    }
    first, second, *_ = right
    wrong = right[second].partition("### BEGIN SOLUTION")[0] + "return 0"
    for student, answers in {
        "right": right,
        "partly": {first: right[first], second: wrong},
        "empty": {},
    }.items():
        hand_in(released, folder / "submitted" / student / name / master.name, answers)
    nbgrader(folder, "autograde", name)
    nbgrader(folder, "export")
    with (folder / "grades.csv").open(encoding="utf-8", newline="") as file:
        grades = {row["student_id"]: row for row in csv.DictReader(file)}
    points = [exercises.POINTS[one.difficulty] for one in found]
    scores = {student: float(row["score"]) for student, row in grades.items()}
    assert scores == {"right": sum(points), "partly": points[0], "empty": 0}
    assert {float(row["max_score"]) for row in grades.values()} == {sum(points)}
    nbgrader(folder, "generate_feedback", name)
    pages = {
        s: (folder / "feedback" / s / name / f"{name}.html").read_text("utf-8") for s in scores
    }
    assert "Not written yet" in pages["empty"] and "Not written yet" not in pages["right"]
    assert "is not right yet" in pages["partly"] or "stopped with" in pages["partly"]


def test_a_folder_that_holds_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"holds other things and no nbgrader_config\.py"):
        write_classroom(tmp_path, [NUMBER])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_chapter_without_exercises_is_named(tmp_path):
    with pytest.raises(UserError, match="Chapter 77 has no solutions"):
        write_classroom(tmp_path / "new", ["77"])
    assert not (tmp_path / "new").exists()
