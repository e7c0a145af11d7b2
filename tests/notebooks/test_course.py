"""What every chapter has, beyond what each notebook's own checks can see."""

import pytest

from dlrm_mini.course import chapters, notebook

COURSE = chapters.read_order()


@pytest.mark.parametrize("chapter", COURSE, ids=lambda chapter: chapter.number)
def test_a_chapter_has_figures_and_one_or_two_widgets(chapter):
    shown = [
        output.data
        for _, cell in notebook.code_cells(notebook.read(chapter.path))
        for output in cell.outputs
        if "data" in output
    ]
    widgets = sum(data.get("text/plain", "").startswith("[widget:") for data in shown)
    figures = sum("image/png" in data for data in shown) - widgets  # one is the widget's picture
    # A reader's own answer is drawn beside each puzzle, and is no figure to take in.
    cells = [cell.source for _, cell in notebook.code_cells(notebook.read(chapter.path))]
    figures -= sum(source.endswith("answer.draw()") for source in cells)
    assert 1 <= widgets <= 2
    assert chapter.number == "00" or 4 <= figures <= 7


@pytest.mark.parametrize("chapter", COURSE, ids=lambda chapter: chapter.number)
def test_exactly_one_cell_draws_the_chapters_picture(chapter):
    cells = notebook.read(chapter.path).cells
    assert sum("thumbnail" in notebook.tags(cell) for cell in cells) == 1
