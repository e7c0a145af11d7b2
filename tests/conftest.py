"""For all tests: examples of hypothesis have no deadline, since machines are shared and noisy."""

import pytest
from hypothesis import settings

from dlrm_mini import cli
from tests.chromium import browser  # noqa: F401  one for all tests that look at pages

settings.register_profile("course", deadline=None)
settings.load_profile("course")


@pytest.fixture
def say(capsys):
    """Run a command in this process: its status, what it printed, its complaint."""

    def run(command: str) -> tuple[int, str, str]:
        status = cli.main(command.split())
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run
