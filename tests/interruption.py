"""Ctrl-C in the middle of a training."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dlrm_mini.shell import train


@contextmanager
def interrupted(monkeypatch: pytest.MonkeyPatch, call: int) -> Iterator[None]:
    """Meanwhile, the shell's `call`-th epoch ends in Ctrl-C, its steps done and not yet saved."""
    fit, calls = train.fit, []

    def stopping(*args, **keywords):
        history = fit(*args, **keywords)
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return history

    with monkeypatch.context() as patch:
        patch.setattr(train, "fit", stopping)
        yield
