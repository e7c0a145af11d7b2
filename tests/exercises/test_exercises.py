"""Every exercise: its form, its check against the solution and mistakes, the student's version."""

import functools
import importlib
import inspect
import re
import time
from pathlib import Path

import matplotlib as mpl
import pytest

from dlrm_mini.course import chapters, exercises, notebook
from dlrm_mini.course.execute import execute
from dlrm_mini.exercises.checking import NotRight, NotWritten
from tests.exercises.trying import Wrong, asked, solved

MASTERS = exercises.masters()
ASKED = [(path, *one) for path in MASTERS for one in asked(path)]
PARTS = [("00", "02"), ("03", "05"), ("06", "09"), ("10", "11"), ("12", "15")]
SECONDS = 1.0  # a check answers within


@functools.cache
def names_of(path: Path) -> dict[str, object]:
    mpl.use("agg")
    return solved(path)


@functools.cache
def cases(number: str):
    return importlib.import_module(f"tests.exercises.cases_ch{number}")


def checked(path: Path, check: str):
    return getattr(importlib.import_module(f"dlrm_mini.exercises.ch{path.name[:2]}"), check)


def label(value: object) -> str | None:
    return value.name[:2] if isinstance(value, Path) else value if isinstance(value, str) else ""


every_exercise = pytest.mark.parametrize(("path", "exercise", "check", "name"), ASKED, ids=label)


def test_every_chapter_has_exercises():
    assert [path.name for path in MASTERS] == [c.path.name for c in chapters.read_order()]


def test_every_part_has_a_bug_hunt_or_a_puzzle():
    for first, last in PARTS:
        titles = [e.title for p, e, _, _ in ASKED if first <= p.name[:2] <= last]
        assert any(re.search("bug hunt|puzzle", title, re.IGNORECASE) for title in titles), first


@pytest.mark.parametrize("path", MASTERS, ids=label)
def test_a_notebook_has_three_to_six_exercises_from_easy_to_hard(path):
    found = exercises.read(notebook.read(path), path.name)
    assert 3 <= len(found) <= 6
    points = [exercises.POINTS[e.difficulty] for e in found]
    assert points == sorted(points) and points[0] == 1 and points[-1] >= 2
    for exercise in found:
        assert "<details><summary>Hint" in exercise.text, f"{exercise.title} has no hint"
        assert 2 <= exercise.minutes <= 45


@pytest.mark.parametrize("path", MASTERS, ids=label)
def test_every_check_of_the_module_is_used(path):
    module = importlib.import_module(f"dlrm_mini.exercises.ch{path.name[:2]}")
    there = {name for name, _ in inspect.getmembers(module, inspect.isfunction)}
    there = {name for name in there if name.startswith("check_")}
    assert there == {check for _, check, _ in asked(path)}


@every_exercise
def test_the_solution_is_right_and_the_check_is_quick(path, exercise, check, name, capsys):
    answer, judge = names_of(path)[name], checked(path, check)
    taken = []
    for _ in range(2):
        wall, processor = time.perf_counter(), time.process_time()
        judge(answer)
        taken.append(min(time.perf_counter() - wall, time.process_time() - processor))
    assert "Right." in capsys.readouterr().out
    assert min(taken) <= SECONDS


@every_exercise
def test_any_other_right_answer_is_accepted(path, exercise, check, name):
    others = cases(path.name[:2]).RIGHT[check]
    assert others
    for other in others:
        checked(path, check)(other)


@every_exercise
def test_typical_mistakes_are_rejected_and_named(path, exercise, check, name):
    mistakes: list[Wrong] = cases(path.name[:2]).WRONG[check]
    assert len(mistakes) >= 3
    for mistake in mistakes:
        with pytest.raises(NotRight) as raised:
            checked(path, check)(mistake.answer)
        assert mistake.says in str(raised.value), f"{mistake.name}: {raised.value}"


@every_exercise
def test_a_stub_is_told_from_a_mistake(path, exercise, check, name):
    def stub(*_anything):
        raise NotImplementedError("Exercise 9: write it")

    with pytest.raises(NotWritten, match=r"Not written yet\. Exercise 9: write it\. Replace"):
        checked(path, check)(stub)


@pytest.mark.parametrize("path", MASTERS, ids=label)
def test_the_students_version_is_made_from_the_master(path):
    master = notebook.read(path)
    exercises.complete(master, path)
    assert notebook.dumps(master) == path.read_text(encoding="utf-8"), "run `make exercises`"
    made = notebook.dumps(exercises.student(master, path))
    stored = exercises.student_path(path).read_text(encoding="utf-8")
    assert made == stored, "run `make exercises`"
    assert "BEGIN SOLUTION" not in stored and "END SOLUTION" not in stored


@pytest.mark.parametrize("path", MASTERS, ids=label)
def test_every_stub_stops_with_its_own_message(path):
    nb = notebook.read(exercises.student_path(path))
    for cell in nb.cells:  # go on behind a check that stops
        if "check" in notebook.tags(cell):
            cell.metadata.tags = [*cell.metadata.tags, "raises-exception"]
    execute(nb, exercises.student_path(path).parent, label=path.stem)
    for exercise, _, name in asked(path):
        stops = [o for o in nb.cells[exercise.check].outputs if o.output_type == "error"]
        assert [one.ename for one in stops] == ["NotWritten"]
        assert f"Exercise {exercise.number}: write" in stops[0].evalue
        assert name in stops[0].evalue
        assert not [o for o in nb.cells[exercise.solution].outputs if o.output_type == "error"]
