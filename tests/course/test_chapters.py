"""Chapters are found by file name, in order, with title and question."""

import pytest

from dlrm_mini.course import chapters
from dlrm_mini.errors import UserError
from tests.course.making import code, markdown, write


@pytest.fixture
def course(tmp_path):
    write(tmp_path, "02_factors", [markdown("# 02 · Factors\n\nA rank. *How many* factors?")])
    write(tmp_path, "00_start", [code("1"), markdown("# Start here\n\nNo question.")])
    write(tmp_path, "01_data", [markdown("No heading."), markdown("Why?")])
    write(tmp_path, "notes", [markdown("# Notes")])
    return tmp_path / "notebooks"


def test_they_come_in_order_with_title_and_question(course):
    found = [(c.number, c.title, c.question) for c in chapters.read_order(course)]
    assert found == [
        ("00", "Start here", ""),
        ("01", "Data", "Why?"),
        ("02", "Factors", "How many factors?"),
    ]


def test_a_number_that_is_not_there_names_those_that_are(course):
    assert chapters.find("2", course).name == "02_factors"
    with pytest.raises(UserError, match=r"no chapter 07.*00 Start here, 01 Data, 02 Factors"):
        chapters.find("07", course)
    assert [c.number for c in chapters.select(["02", "1"], course)] == ["01", "02"]


def test_neighbours_end_at_the_ends(course):
    first, middle, last = chapters.read_order(course)
    assert chapters.neighbours(first) == (None, middle)
    assert chapters.neighbours(middle) == (first, last)
    assert chapters.neighbours(last) == (middle, None)


def test_two_chapters_of_one_number_are_refused(course, tmp_path):
    write(tmp_path, "02_other", [markdown("# Other")])
    with pytest.raises(UserError, match=r"02_factors\.ipynb, 02_other\.ipynb"):
        chapters.read_order(course)


def test_a_file_that_is_no_notebook_says_so(course):
    (course / "03_broken.ipynb").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"03_broken\.ipynb is not a notebook"):
        chapters.read_order(course)
    (course / "03_broken.ipynb").write_text('{"nbformat": 3}', encoding="utf-8")
    with pytest.raises(UserError, match="format 3, expected 4"):
        chapters.read_order(course)


def test_exercises_and_solutions_are_no_chapters(tmp_path):
    assert chapters.is_chapter(tmp_path / "notebooks" / "02_x.ipynb")
    assert not chapters.is_chapter(tmp_path / "notebooks" / "solutions" / "02_x.ipynb")
