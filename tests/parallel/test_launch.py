"""Runs that torchrun starts: an answer, or a sentence and no process left."""

import pytest

from dlrm_mini.errors import UserError
from dlrm_mini.parallel import launch
from tests.parallel.left_over import MODULE


def test_the_last_line_of_rank_0_comes_back_and_the_rest_is_shown(tag, capsys):
    answer = launch.run(MODULE, 2, ["is fine", "1", "30", tag], timeout=60, show=True)
    assert answer == "threads 1, ranks 2"
    assert capsys.readouterr().out == "before\nthreads 1, ranks 2\n"


def test_rank_0_may_die_as_any_other(tag):
    with pytest.raises(UserError, match=r"^tests.parallel.failing with 2 processes has failed. "
                       r"Rank 0 has (died|ended with exit code 17)") as caught:  # fmt: skip
        launch.run(MODULE, 2, ["exits", "0", "30", tag], timeout=60)
    assert "rank 0 step 2, after its 5th collective, all_reduce" in str(caught.value)


def test_what_a_rank_wrote_before_it_could_connect_is_told(tag):
    with pytest.raises(UserError, match="could not convert string to float: 'soon'") as caught:
        launch.run(MODULE, 1, ["is fine", "0", "soon", tag], timeout=60)
    assert "rank 0 not connected yet" in str(caught.value)
    assert "Traceback" in caught.value.__notes__[0]


def test_a_run_needs_a_process():
    with pytest.raises(UserError, match="at least one process; got processes=0"):
        launch.run(MODULE, 0)
