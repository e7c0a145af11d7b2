"""What several files here need."""

import pytest

from tests.parallel.left_over import belonging_to


@pytest.fixture
def tag(tmp_path):
    """A word for the command lines of one test; none of its processes may be left at the end."""
    yield str(tmp_path)
    left = belonging_to(str(tmp_path))
    for process in left:
        process.kill()
    assert not left
