"""Making exercise notebooks: what a master must have, and what the student gets of it."""

import pytest

from dlrm_mini.course import exercises, notebook
from dlrm_mini.errors import UserError
from tests.course.making import code, commit, markdown

STATEMENT = "## Exercise 1 · A title\n\n*warm-up · 5 minutes*\n\nDo it."
SOLUTION = "def mine(a):\n    ### BEGIN SOLUTION\n    b = a + 1\n    return b\n    ### END SOLUTION"


@pytest.fixture
def master(tmp_path):
    """Writes a chapter and a master of these cells; returns the master's path."""

    def make(*cells):
        commit(tmp_path, "07_logs", [markdown("# 07 · Logs")])
        folder = tmp_path / "notebooks" / "solutions"
        folder.mkdir()
        nb = notebook.node(
            {"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        )
        path = folder / "07_logs.ipynb"
        notebook.save(path, nb)
        return path

    return make


def sheet(**changes):
    parts = {"statement": STATEMENT, "solution": SOLUTION, "check": "ch07.check_it(mine)"} | changes
    return [
        markdown("# Exercises"),
        code("import math"),
        markdown(parts["statement"]),
        code(parts["solution"], tags=["solution"]),
        code(parts["check"], tags=["check"]),
    ]


def completed(path):
    nb = notebook.read(path)
    exercises.complete(nb, path)
    return nb


def test_what_nbgrader_wants_to_know_is_filled_in(master):
    path = master(*sheet())
    nb = completed(path)
    about = [cell.metadata.nbgrader for cell in nb.cells]
    assert [one.grade_id for one in about[-2:]] == ["ch07-1-solution", "ch07-1-check"]
    assert [one.solution for one in about] == [False] * (len(about) - 2) + [True, False]
    assert [one.locked for one in about] == [True] * (len(about) - 2) + [False, True]
    assert about[-1].points == 1 and "points" not in about[-2]
    assert len({one.grade_id for one in about}) == len(about)
    assert nb.cells[0].source.startswith("Exercises to [07 Logs](../07_logs.ipynb)")
    assert "colab" in notebook.tags(nb.cells[2])
    again = notebook.node(nb)
    exercises.complete(again, path)
    assert notebook.dumps(again) == notebook.dumps(nb)


def test_the_student_gets_a_stub_with_its_own_message_and_locked_checks(master):
    path = master(*sheet())
    student = exercises.student(completed(path), path)
    solution, check = student.cells[-2:]
    assert solution.source == (
        "def mine(a):\n    # YOUR CODE HERE\n"
        '    raise NotImplementedError("Exercise 1: write mine")'
    )
    assert check.metadata.editable is False and check.metadata.nbgrader.checksum
    assert solution.metadata.get("editable", True) and solution.metadata.deletable is False
    assert all(not cell.outputs for cell in student.cells if cell.cell_type == "code")
    assert exercises.student_path(path) == path.parent.parent / "exercises" / "07_logs.ipynb"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"statement": "## Exercise 1 · T\n\nDo it."}, "before a solution come"),
        ({"statement": STATEMENT.replace("warm-up", "trivial")}, "before a solution come"),
        ({"statement": STATEMENT.replace("Exercise 1", "Exercise 2")}, "exercise 2 comes where 1"),
    ],
)
def test_a_part_that_is_missing_is_named(master, changes, says):
    with pytest.raises(UserError, match=says):
        completed(master(*sheet(**changes)))


def test_a_solution_without_a_check_is_named(master):
    with pytest.raises(UserError, match="the cell after a solution is its check"):
        completed(master(*sheet()[:-1]))


def test_a_check_that_checks_nothing_is_named(master):
    path = master(*sheet(check="print(mine)"))
    with pytest.raises(UserError, match=r"has one line chNN\.check_something"):
        list(exercises.checks(completed(path), path.name))


def test_a_chapter_without_solutions_is_named(master):
    path = master(*sheet())
    assert exercises.masters(["7"], path.parent) == [path]
    with pytest.raises(UserError, match=r"Chapter 08 has no solutions in solutions/; those of 07"):
        exercises.masters(["08"], path.parent)
