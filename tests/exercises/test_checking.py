"""What all checks are made of: comparing, and saying what is wrong."""

import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch

from dlrm_mini.exercises.checking import (
    Mistake,
    NotRight,
    NotWritten,
    call,
    difference,
    expect,
    shown,
)

TENSOR = torch.tensor([[1.0, 2.0], [3.0, 4.0]])


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (3, 3.0),
        (np.float32(0.1), 0.1),
        (torch.tensor(2), 2),
        ([1, 2], np.array([1.0, 2.0])),
        ([[1, 2], [3, 4]], TENSOR),
        (TENSOR.double().numpy(), TENSOR),
        (TENSOR.requires_grad_(False).clone().requires_grad_(), TENSOR),
        ({"a": [1, 2], "b": "x"}, {"b": "x", "a": torch.tensor([1, 2])}),
        ([TENSOR, "word"], (TENSOR, "word")),
        ({1, 2}, {2, 1}),
        (True, True),
        (math.nan, math.nan),
        (math.inf, math.inf),
        (1e9 + 1, 1e9),
        ([], torch.zeros(0)),
        ([torch.ones(2, requires_grad=True), torch.ones(2)], torch.ones(2, 2)),
        (torch.eye(2).to_sparse(), torch.eye(2)),
        (torch.ones(2, dtype=torch.bfloat16), torch.ones(2)),
        (TENSOR, [TENSOR[0], TENSOR[1]]),
        ([], torch.zeros(0, 3)),
    ],
)
def test_the_same_in_another_form_agrees(found, wanted):
    assert difference(found, wanted) is None


@pytest.mark.parametrize(
    ("found", "wanted", "says"),
    [
        (3, 4, "the number"),
        (TENSOR + torch.tensor([[0, 0], [0.5, 0]]), TENSOR, "[1, 0]: 3.5 is not 3"),
        (TENSOR[0], TENSOR, "the shape: (2,) where (2, 2) was expected"),
        ("three", 3, "the type: a str where numbers were expected"),
        ([1, "two"], [1, 2], "the type: a list where numbers were expected"),
        ({"a": 1}, {"a": 1, "b": 2}, "'b' is missing"),
        ({"a": 1, "c": 2}, {"a": 1}, "'c' is too much"),
        ({"a": [1, 3]}, {"a": [1, 2]}, "at 'a', [1]: 3 is not 2"),
        ([TENSOR], [TENSOR, TENSOR], "the length: 1 where 2 was expected"),
        ([TENSOR, TENSOR + 1], [TENSOR, TENSOR], "part 1, [0, 0]: 2 is not 1"),
        (7, {"a": 1}, "the type: a int where a dict was expected"),
        (1.0, "word", "the value"),
        (np.ones(2), "word", "the value"),
        (10**400, 1.0, "the type"),
        (math.nan, 1.0, "the number"),
        (1e9 + 1e6, 1e9, "the number"),
    ],
)
def test_the_first_difference_is_named(found, wanted, says):
    assert says in difference(found, wanted)


@hypothesis.given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6), st.integers(0, 5))
def test_a_change_is_seen_and_placed(numbers, place):
    wanted = np.array(numbers)
    assert difference(numbers, wanted) is None
    place %= len(numbers)
    other = wanted.copy()
    other[place] += 1.0 + 1e-3 * np.abs(wanted).max()
    assert difference(other, wanted).startswith(f"[{place}]")


def add(a, b):
    return a + b


def test_the_known_mistake_that_agrees_gives_the_meaning(capsys):
    mistakes = [
        Mistake(lambda a, b: 1 / 0, "never chosen: it fails"),
        Mistake(lambda a, b: a - b, "the sign"),
        Mistake(lambda a, b: a * b, "a product"),
    ]
    inputs = [{"a": 0.0, "b": 0.0}, {"a": 2.0, "b": 3.0}]
    expect(add, add, inputs, mistakes=mistakes, learnt="Sums are sums.")
    assert capsys.readouterr().out == "Right. Sums are sums.\n"
    with pytest.raises(NotRight) as raised:
        expect(lambda a, b: a * b, add, inputs, mistakes=mistakes, otherwise="count again")
    assert str(raised.value) == (
        "<lambda> is not right yet.\n"
        "  input      a = 2, b = 3\n"
        "  got        6\n"
        "  expected   5\n"
        "  first difference: the number\n"
        "This usually means: a product"
    )
    with pytest.raises(NotRight, match="This usually means: count again"):
        expect(lambda a, b: 7.0, add, inputs, mistakes=mistakes, otherwise="count again")


def test_a_mistake_that_is_right_on_this_input_explains_nothing():
    mistakes = [Mistake(lambda a, b: a + b, "this one is right")]
    with pytest.raises(NotRight) as raised:
        expect(lambda a, b: 9, add, [{"a": 1, "b": 1}], mistakes=mistakes)
    assert "This usually means" not in str(raised.value)


def test_failing_forgetting_and_changing_are_told_apart():
    case = {"a": torch.ones(2), "b": [1, 2]}

    def fails(a, b):
        return a @ torch.ones(3)

    def refused(a, b):
        raise NotRight("a helper's own sentence")

    def forgets(a, b):
        a + 1

    def changes(a, b):
        a += 1
        return a

    def appends(a, b):
        b.append(3)
        return a

    def stub(a, b):
        raise NotImplementedError("Exercise 1: write stub")

    with pytest.raises(NotRight, match="fails stopped with RuntimeError") as raised:
        call(fails, case)
    assert "in line    return a @ torch.ones(3)" in str(raised.value)
    with pytest.raises(NotRight, match=r"^a helper's own sentence$"):
        call(refused, case)
    with pytest.raises(NotRight, match=r"returned nothing \(None\). Is its `return` missing"):
        call(forgets, case)
    with pytest.raises(NotRight, match="changes changed its input a"):
        call(changes, case)
    with pytest.raises(NotRight, match="appends changed its input b"):
        call(appends, case)
    with pytest.raises(NotWritten, match="Exercise 1: write stub"):
        call(stub, case)
    assert torch.equal(case["a"], torch.ones(2)) and case["b"] == [1, 2]


def test_a_notebook_shows_the_sentence_and_no_traceback():
    assert NotRight("one\ntwo")._render_traceback_() == ["one", "two"]


def test_values_are_shown_on_one_short_line():
    assert (
        shown({"x": torch.tensor([[1.5, 2.0]]), "n": 3})
        == "x = [[1.5, 2. ]] of shape (1, 2), n = 3"
    )
    for other in (torch.eye(2).to_sparse(), torch.ones(2, dtype=torch.bfloat16)):
        assert "1." in shown(other)
    long = shown(torch.arange(10_000.0))
    assert "\n" not in long and len(long) <= 160 and "..." in long
    assert shown("a\nb " * 100).endswith(" ...")
