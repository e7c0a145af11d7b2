"""What every check is made of: call the answer, compare it, and say what a difference means."""

import copy
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

TOLERANCE = 1e-4  # of the largest expected number, and at least of 1: answers may be float32
# Code that is not the reader's: of the package, of libraries, of Python itself.
ELSEWHERE = (str(Path(__file__).parents[1]), *sysconfig.get_paths().values())
SHOWN = 160  # characters of a value that a message quotes


class NotRight(AssertionError):  # noqa: N818  the sentence is for the reader, not for a handler
    """An answer is not right yet; the message says where. A notebook shows no traceback of it."""

    def _render_traceback_(self) -> list[str]:
        return str(self).splitlines()


class NotWritten(NotRight):
    """The stub is still there."""


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that people give.

    Attributes:
        answer: a function that makes the mistake; called with the same inputs as the reader's.
        meaning: what whoever wrote the same has usually done, as one sentence.
    """

    answer: Callable[..., Any]
    meaning: str


def expect(
    answer: Callable[..., Any],
    reference: Callable[..., Any],
    inputs: Iterable[Mapping[str, Any]],
    *,
    mistakes: Sequence[Mistake] = (),
    otherwise: str = "",
    tolerance: float = TOLERANCE,
    learnt: str = "",
) -> None:
    """Compare the reader's function with the reference on each input; say so when all agree.

    Args:
        answer: the reader's function.
        reference: the right one, best in float64.
        inputs: for each call its arguments by name, in the order of the parameters; passed by
            position, so that the reader may rename them.
        mistakes: wrong answers to recognise; the first that agrees with the reader's on this
            input and differs from the reference gives the message its last sentence.
        otherwise: the last sentence where no mistake is recognised.
        tolerance: largest difference, relative to the largest expected number or to 1.
        learnt: what to take away, printed when the answer is right.

    Raises:
        NotWritten: the stub is still there.
        NotRight: at the first input where the two differ.
    """
    for case in inputs:
        wanted = reference(*copy.deepcopy([*case.values()]))
        found = call(answer, case)
        if place := difference(found, wanted, tolerance):
            meaning = next(
                (one.meaning for one in mistakes if _made(one, case, found, wanted, tolerance)),
                otherwise,
            )
            raise NotRight(report(answer, case, found, wanted, place, meaning))
    right(learnt)


def right(learnt: str) -> None:
    """Say that an answer is right, and what to take away from it."""
    print(f"Right. {learnt}".strip())


def call(answer: Callable[..., Any], case: Mapping[str, Any]) -> Any:
    """What the reader's function gives for this input, which it must leave as it was.

    Raises:
        NotWritten: the stub is still there.
        NotRight: it fails, returns nothing, or changes its input.
    """
    name, given = _name(answer), copy.deepcopy([*case.values()])
    try:
        found = answer(*given)
    except NotImplementedError as stub:
        advice = f"Replace the line `raise NotImplementedError` in {name} by your own lines."
        raise NotWritten(f"Not written yet. {str(stub) or name}. {advice}") from None
    except NotRight:  # from a helper that the check handed to the reader's function
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [one.line for one in frames if not one.filename.startswith(ELSEWHERE)]
        line = f"\n  in line    {own[-1]}" if own and own[-1] else ""
        raise NotRight(
            f"{name} stopped with {type(error).__name__}: {error}\n  input      {shown(case)}{line}"
        ) from None
    if found is None:
        raise NotRight(
            f"{name} returned nothing (None). Is its `return` missing?\n  input      {shown(case)}"
        )
    for (label, before), after in zip(case.items(), given, strict=True):
        if _comparable(before) and difference(after, before, 0.0):
            raise NotRight(
                f"{name} changed its input {label}: it was {shown(before)}, and is {shown(after)} "
                "now. Work on a copy, or write `a = a + b` in place of `a += b`."
            )
    return found


def difference(found: Any, wanted: Any, tolerance: float = TOLERANCE) -> str | None:
    """Where two values first differ, in words; None when they agree.

    Numbers, tensors and arrays are compared as float64 within the tolerance, sequences and
    mappings part by part, anything else by `==`. A list of numbers may stand for an array.
    """
    if isinstance(wanted, Mapping):
        return _mappings(found, wanted, tolerance)
    if isinstance(wanted, str | bool | set | frozenset) or wanted is None:
        return None if _equal(found, wanted) else "the value"
    if isinstance(wanted, list | tuple) and not _numbers(wanted):
        return _sequences(found, wanted, tolerance)
    expected, got = as_array(wanted), as_array(found)
    if got is None:
        return f"the type: a {type(found).__name__} where numbers were expected"
    if expected is None:
        return None if _equal(found, wanted) else "the value"
    if got.size == expected.size == 0 and isinstance(found, list | tuple):
        return None  # a list cannot say (0, 3)
    if got.shape != expected.shape:
        return f"the shape: {got.shape} where {expected.shape} was expected"
    scale = max(1.0, float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0)))
    near = np.isclose(got, expected, rtol=0.0, atol=tolerance * scale, equal_nan=True)
    if near.all():
        return None
    place = tuple(int(i) for i in np.argwhere(~near)[0])
    return f"[{', '.join(map(str, place))}]: {got[place]:.6g} is not {expected[place]:.6g}" if (
        place
    ) else "the number"  # fmt: skip


def report(
    answer: Callable[..., Any],
    case: Mapping[str, Any],
    found: object,
    wanted: object,
    place: str,
    meaning: str,
) -> str:
    """The message of a wrong answer: input, got, expected, first difference, what it means."""
    lines = [
        f"{_name(answer)} is not right yet.",
        f"  input      {shown(case)}",
        f"  got        {shown(found)}",
        f"  expected   {shown(wanted)}",
        f"  first difference: {place}",
    ]
    if meaning:
        lines.append(f"This usually means: {meaning}")
    return "\n".join(lines)


def shown(value: object) -> str:
    """A value on one line, short enough to read."""
    if isinstance(value, Mapping):
        text = ", ".join(f"{name} = {shown(one)}" for name, one in value.items())
    elif isinstance(value, torch.Tensor | np.ndarray):
        if isinstance(value, torch.Tensor):
            value = value.detach().cpu().to_dense()
            value = value.float() if value.dtype == torch.bfloat16 else value
        numbers = np.asarray(value)
        text = np.array2string(numbers, precision=4, threshold=24, edgeitems=3, separator=", ")
        text = " ".join(text.split()) + (f" of shape {numbers.shape}" if numbers.ndim > 1 else "")
    elif isinstance(value, float):
        text = f"{value:.6g}"
    elif callable(value):
        text = _name(value)
    else:
        text = " ".join(repr(value).split())
    return text if len(text) <= SHOWN else text[: SHOWN - 4] + " ..."


def _made(
    mistake: Mistake, case: Mapping[str, Any], found: object, wanted: object, tolerance: float
) -> bool:
    """Whether the reader's value is what this mistake gives, and the right answer is not."""
    try:
        wrong = mistake.answer(*copy.deepcopy([*case.values()]))
        return difference(found, wrong, tolerance) is None and bool(
            difference(wrong, wanted, tolerance)
        )
    except Exception:  # a mistake may fail on an input that the right answer masters
        return False


def _name(answer: object) -> str:
    return getattr(answer, "__name__", None) or type(answer).__name__


def _comparable(value: object) -> bool:
    return isinstance(value, torch.Tensor | np.ndarray | list | tuple | dict)


def _numbers(value: Sequence[Any]) -> bool:
    return all(isinstance(one, int | float) and not isinstance(one, bool) for one in value)


def tensor(value: object, what: str) -> torch.Tensor:
    """The reader's numbers in float64, whatever they came in and whether they carry gradients.

    Args:
        value: a tensor, an array, a list or a number.
        what: how to call it.

    Raises:
        NotRight: there are other things in it than numbers.
    """
    array = as_array(value)
    if array is None:
        raise NotRight(f"{what} is {shown(value)}; numbers were expected.")
    return torch.as_tensor(array)


def as_array(value: object) -> "np.ndarray[Any, np.dtype[np.float64]] | None":
    """A float64 array of the value, or None where it does not consist of numbers."""
    if isinstance(value, str):
        return None
    try:
        made = np.asarray(_bare(value), dtype=np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None
    return made


def _bare(value: Any) -> Any:
    """The value with each tensor in it, however deep, as a float64 array."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().to_dense().to(torch.float64).numpy()
    return [_bare(one) for one in value] if isinstance(value, list | tuple) else value


def _equal(found: object, wanted: object) -> bool:
    """Whether two values compare equal; arrays and frames, which give many answers, do not."""
    try:
        return bool(found == wanted)
    except (TypeError, ValueError, RuntimeError):
        return False


def _mappings(found: object, wanted: Mapping[Any, Any], tolerance: float) -> str | None:
    if not isinstance(found, Mapping):
        return f"the type: a {type(found).__name__} where a dict was expected"
    for key in wanted:
        if key not in found:
            return f"{key!r} is missing"
        if place := difference(found[key], wanted[key], tolerance):
            return f"at {key!r}, {place}"
    extra = [key for key in found if key not in wanted]
    return f"{extra[0]!r} is too much" if extra else None


def _sequences(found: Any, wanted: Sequence[Any], tolerance: float) -> str | None:
    stacked = isinstance(found, torch.Tensor | np.ndarray) and found.ndim > 0
    if stacked and len(found) == len(wanted):
        found = list(found)  # parts of one size may come stacked
    if not isinstance(found, list | tuple):
        return f"the type: a {type(found).__name__} where a {type(wanted).__name__} was expected"
    if len(found) != len(wanted):
        return f"the length: {len(found)} where {len(wanted)} was expected"
    for place, (one, other) in enumerate(zip(found, wanted, strict=True)):
        if inside := difference(one, other, tolerance):
            return f"part {place}, {inside}"
    return None
