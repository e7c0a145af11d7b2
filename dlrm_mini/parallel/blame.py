"""Whose fault it is that a collective failed, from what all ranks have written down."""

from __future__ import annotations

from dlrm_mini.parallel.baton import named, ordinal
from dlrm_mini.parallel.standing import Board, condition


def absent(board: Board, rank: int) -> str:
    """A sentence on ranks that certainly will not come: they have left, died or been stopped.

    Args:
        board: with the notes of all.
        rank: who asks, and waits.

    Returns:
        "" if there are none.
    """
    here = f"while rank {rank} was in its {_place(board, rank)}."
    if gone := board.left():
        return (
            f"{_have(gone, 'left in good order')}, {here} Every rank needs as many steps as the "
            "others."
        )
    states = {other: condition(process) for other, process in board.processes().items()}
    if dead := [other for other, state in states.items() if state == "dead"]:
        return f"{_have(dead, 'died')}, {here}"
    if held := [other for other, state in states.items() if state == "stopped"]:
        return f"{_have(held, 'been stopped by a signal (SIGSTOP)')}, {here}"
    return ""


def late(board: Board, rank: int, cause: str, waited: float | None) -> str:
    """A sentence on the ranks that are furthest behind.

    Args:
        board: with the notes of all.
        rank: who asks.
        cause: what the backend says, used where the notes blame nobody.
        waited: seconds, if the time was up; None: the connection broke.
    """
    found = board.read()
    mine = found[rank]
    least = min(other.calls for other in found)
    if least == mine.calls:
        if len({other.operation for other in found}) > 1:
            return (
                f"As their {ordinal(least)} collective the ranks have entered different ones. "
                "Every rank has to enter the same collectives, in the same order."
            )
        return f"The ranks have lost each other in their {_place(board, rank)}: {cause}."
    behind = named([other for other, far in enumerate(found) if far.calls == least])
    place = f"rank {rank}'s {_place(board, rank)}"
    if waited is None:
        return f"A connection broke in {place}, to which {behind} had not come."
    return f"{behind.capitalize()} did not come to {place}, within {waited:g} s."


def _have(ranks: list[int], what: str) -> str:
    return f"{named(ranks).capitalize()} {'has' if len(ranks) == 1 else 'have'} {what}"


def _place(board: Board, rank: int) -> str:
    mine = board.read()[rank]
    return f"{ordinal(mine.calls)} collective, {mine.operation}"
