"""One bar for a terminal, a log and a notebook; none where outputs are compared."""

import io

import pytest

from dlrm_mini import progress


class Stream(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def shown(monkeypatch, *, terminal: bool, **keywords: object) -> str:
    stream = Stream(terminal)
    monkeypatch.setattr("sys.stderr", stream)
    items = list(progress.bar(range(3), total=3, desc="fit", file=stream, **keywords))
    assert items == [0, 1, 2]
    return stream.getvalue()


@pytest.fixture(autouse=True)
def on(monkeypatch):
    monkeypatch.setenv("DLRM_MINI_PROGRESS", "on")


def test_a_terminal_sees_a_bar_that_redraws_itself(monkeypatch):
    text = shown(monkeypatch, terminal=True, mininterval=0)
    assert "\r" in text and "100%" in text and "\n" not in text


def test_of_several_processes_the_first_shows_it(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert shown(monkeypatch, terminal=True, mininterval=0) == ""
    monkeypatch.setenv("RANK", "0")
    assert "100%" in shown(monkeypatch, terminal=True, mininterval=0)


def test_a_log_gets_lines_and_few_of_them(monkeypatch):
    text = shown(monkeypatch, terminal=False)
    assert [line.split(" after")[0] for line in text.splitlines()] == ["fit: 0/3it", "fit: 3/3it"]
    assert [line.split(", ")[1] for line in text.splitlines()] == ["? left", "00:00 left"]
    assert "\r" not in text and "%|" not in text and "  \n" not in text


@pytest.mark.parametrize("value", ["off", "0", "no"])
def test_nothing_is_shown_where_it_is_switched_off(monkeypatch, value):
    monkeypatch.setenv("DLRM_MINI_PROGRESS", value)
    assert shown(monkeypatch, terminal=True, mininterval=0) == ""


def test_this_test_runs_in_no_notebook(monkeypatch):
    import IPython

    assert not progress.in_notebook()
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    assert progress.in_notebook()
