"""Checks of the exercises to chapter 12, the split."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlrm_mini.errors import UserError
from dlrm_mini.exercises.checking import Mistake, NotRight, call, difference, expect, report, right
from dlrm_mini.parallel.communicator import Communicator
from dlrm_mini.parallel.simulated import SimulatedCluster

BYTES = 4  # of a float32
STEPS = 100  # of a rank that never ends


class Line:
    """A rank's communicator, as the exercises hand it out: a copy of it is itself."""

    def __init__(self, comm: Communicator) -> None:
        self.comm = comm

    def __getattr__(self, name: str) -> Any:
        return getattr(self.comm, name)

    def __deepcopy__(self, memo: dict[int, Any]) -> Line:
        return self

    def __repr__(self) -> str:
        return f"rank {self.comm.rank} of {self.comm.size}"


def _on_ranks(size: int, live: Callable[[Communicator], Any], meaning: str) -> list[Any]:
    """What each rank gives; where they wait in vain or their parcels do not fit, say why."""
    try:
        with torch.no_grad():
            return SimulatedCluster(size).run(live)
    except UserError as illegal:
        raise NotRight(f"{size} ranks ran it and stopped. {illegal}\n{meaning}") from None


def check_parcels(answer: Callable[[list[int], list[int], int], Any]) -> None:
    """Exercise 1: bytes of each parcel of vectors, from rows and tables of each rank and D."""

    def parcels(rows: list[int], tables: list[int], dim: int, number: int = BYTES) -> Tensor:
        found = torch.outer(torch.tensor(tables), torch.tensor(rows)) * dim * number
        return (found - found.diag().diag()).double()

    expect(
        answer,
        parcels,
        [
            {"rows": [3, 1], "tables": [1, 2], "dim": 2},
            {"rows": [2, 3, 2, 3], "tables": [3, 2, 3, 2], "dim": 16},
            {"rows": [4, 0, 1], "tables": [1, 5, 0], "dim": 8},
        ],
        mistakes=[
            Mistake(
                lambda rows, tables, dim: parcels(tables, rows, dim),
                "sender and receiver are exchanged: in step 4 a rank sends what it looked up in "
                "its own tables, for the rows of the others.",
            ),
            Mistake(
                lambda rows, tables, dim: np.outer(tables, rows) * dim * BYTES,
                "what a rank keeps for itself moves over no link: the diagonal is 0.",
            ),
            Mistake(lambda r, t, dim: parcels(r, t, dim, 1), "a float32 has 4 bytes."),
            Mistake(lambda r, t, dim: parcels(r, t, 1), "a vector has D numbers."),
        ],
        otherwise="from s to r goes a vector for each table of s and each row of r.",
        learnt="What a rank sends grows with its tables, what it gets with its rows. The busiest "
        "sender is whoever holds most tables, and a smaller share of the batch does not help it.",
    )


ONE_TENSOR = (
    "the parcels were read as one tensor. But each is (b, tables of its sender, D) for itself, and "
    "a row's next table lies in the next parcel."
)
BY_TABLES = (
    "the parcels were read as if table came after table. But inside a parcel, row comes after row."
)


def check_vectors_home(answer: Callable[..., Any]) -> None:
    """Exercise 2: from (B, T, D) of one's own tables to (b, F, D) of one's own rows."""
    for rows, tables, dim in (
        ([2, 1], [1, 2], 1), ([2, 3, 2, 3], [3, 2, 3, 2], 2), ([2, 0, 1], [2, 1, 0], 2),
    ):  # fmt: skip
        row, table = torch.arange(sum(rows))[:, None, None], torch.arange(sum(tables))[:, None]
        vectors = 10.0 * row + table + torch.arange(dim) / 10  # (B, F, D)
        _check_home(answer, vectors, rows, tables)
    right(
        "Parcels arrive one behind the other, and each is a block of its own: first split, then "
        "shape, then join along the tables. A test with one row a rank would never have told."
    )


def _check_home(
    answer: Callable[..., Any], vectors: Tensor, rows: list[int], tables: list[int]
) -> None:
    """On one set of ranks; vectors (B, F, D) are what one device looks up."""
    held = torch.split(vectors, tables, 1)
    cases = [{"pooled": one.clone(), "rows": rows, "tables": tables} for one in held]
    found = _on_ranks(
        len(rows),
        lambda comm: call(answer, {"comm": Line(comm), **cases[comm.rank]}),
        "For each pair of ranks, what one sends must be what the other expects: as many vectors "
        "as the receiver has rows times the sender's tables.",
    )
    for rank, (one, wanted) in enumerate(zip(found, torch.split(vectors, rows), strict=True)):
        if place := difference(one, wanted):
            flat = torch.cat([parcel.reshape(-1) for parcel in torch.split(wanted, tables, 1)])
            exchanged = wanted.transpose(0, 1)
            meaning = next(
                (words for made, words in (
                    (flat.view(wanted.shape), ONE_TENSOR),
                    (exchanged, "rows and tables are exchanged: rows come first."),
                    (flat.view(exchanged.shape).transpose(0, 1), BY_TABLES),
                ) if difference(one, made) is None),
                "row i, table t of the answer is the vector of one's own row i in table t.",
            )  # fmt: skip
            case = {"comm": f"rank {rank} of {len(rows)}", **cases[rank]}
            raise NotRight(report(answer, case, one, wanted, place, meaning))


def check_averaged(answer: Callable[[Tensor, list[int]], tuple[Any, float]]) -> None:
    """Exercise 3: what to call backward on where gradients get averaged, and the tables' factor."""

    def pair(losses: Tensor, rows: list[int], loss: float, factor: float) -> tuple[Any, float]:
        return losses.double().sum() * loss / sum(rows), factor

    def weighted(losses: Tensor, rows: list[int]) -> tuple[Any, float]:
        return losses.mean() * len(losses) * len(rows) / sum(rows), 1 / len(rows)

    own = (
        "the mean over a rank's own rows, averaged over ranks, is the mean over all rows only if "
        "all ranks have equally many."
    )
    added = (
        "a sum divided by B is right where gradients are added. This library divides by P after "
        "that, so its layers would learn at a P-th of their rate."
    )
    untouched = (
        "nobody averages a table's gradient: its one home gets those of all rows, added up. The "
        "loss is now P times a share of the mean, and so is that gradient."
    )

    @functools.wraps(answer)
    def plain(losses: Tensor, rows: list[int]) -> Any:
        """The answer, in which a tensor of one number may have any shape."""
        found = answer(losses, rows)
        parts = found if isinstance(found, tuple | list) else []
        return [one.squeeze() if isinstance(one, Tensor) else one for one in parts] or found

    expect(
        plain,
        lambda losses, rows: pair(losses, rows, len(rows), 1 / len(rows)),
        [
            {"losses": torch.tensor([0.5, 2.5]), "rows": [2, 2]},
            {"losses": torch.tensor([1.0, 2.0, 6.0]), "rows": [3, 1, 2, 2]},
            {"losses": torch.tensor([]), "rows": [0, 5]},
            {"losses": torch.tensor([0.25, 1.0]), "rows": [2]},
        ],
        mistakes=[
            Mistake(weighted, "the mean of no rows is nan, and so is 0 times that. Take the sum."),
            Mistake(lambda losses, rows: (losses.mean(), 1.0), untouched),
            Mistake(lambda losses, rows: (losses.mean(), 1 / len(rows)), own),
            Mistake(lambda losses, rows: pair(losses, rows, 1, 1.0), added),
            Mistake(lambda losses, rows: pair(losses, rows, len(rows), 1.0), untouched),
        ],
        otherwise="ask for each kind of weight: sum the ranks' gradients, then divide by P for the "
        "layers and by nothing for the tables. What is left has to be the mean over all B rows.",
        learnt="One loss cannot serve both: what is averaged wants P / B times the sum, what is "
        "added wants 1 / B. The chapter's crime is this factor of the tables, forgotten.",
    )


def check_rounds(answer: Callable[..., int]) -> None:
    """Exercise 4: steps until nobody has a batch left, in which all ranks take part."""
    for numbers in ([2, 1], [3, 0, 5, 2], [1, 1, 1], [0, 0]):
        _check_rounds(answer, numbers)
    right(
        "A rank without rows still serves its tables, so it stays to the end. To know the end, "
        "ranks have to talk: what each could see alone is not enough."
    )


def _check_rounds(answer: Callable[..., int], numbers: Sequence[int]) -> None:
    batches = [[f"{rank}{letter}" for letter in "abcde"[:n]] for rank, n in enumerate(numbers)]
    seen: list[list[str | None]] = [[] for _ in numbers]
    sizes = f"{len(numbers)} ranks with {', '.join(map(str, numbers))} batches"

    def live(comm: Communicator) -> Any:
        def step(batch: str | None) -> None:
            if len(seen[comm.rank]) == STEPS:
                raise NotRight(f"After {STEPS} steps nobody has stopped. The input: {sizes}.")
            seen[comm.rank].append(batch)
            comm.barrier()  # stands for the collectives of a step

        case = {"comm": Line(comm), "batches": batches[comm.rank], "step": step}
        return call(answer, case)

    found = _on_ranks(
        len(numbers),
        live,
        f"The input: {sizes}. A step is a collective (here `barrier` stands for it): a rank that "
        "has no batch left must not go home, since its tables are needed; it steps with None. And "
        "whatever ranks ask each other, all of them have to ask equally often.",
    )
    for rank, mine in enumerate(batches):
        used = [one for one in seen[rank] if one is not None]
        if used != mine:
            raise NotRight(
                f"{sizes}: rank {rank} has trained on {used}, and has {mine}. This usually means: "
                "ranks stopped when the first one ran out, or a batch came twice or too late."
            )
        if len(seen[rank]) != max(numbers):
            raise NotRight(
                f"{sizes}: rank {rank} took {len(seen[rank])} steps, and {max(numbers)} will do, "
                "as many as the longest list has batches. In the others no rank has any row."
            )
        if difference(found[rank], max(numbers)):
            raise NotRight(
                f"{sizes}: all took {max(numbers)} steps, as they should. But rank {rank} returns "
                f"{found[rank]!r}, not the number of steps."
            )


def check_ring(answer: Callable[..., Any]) -> None:
    """Exercise 5: an all-reduce whose only means is to pass something to the next rank."""
    lines = []
    for size, number in ((2, 4), (3, 6), (4, 8), (8, 32), (1, 3)):
        sent, rounds = _check_ring(answer, size, number)
        lines.append(f"  {size} ranks, {number:2} numbers: each sent {sent:2} in {rounds:2} rounds")
    right(
        "Each rank sends 2 (P - 1) / P times the tensor: twice its size at most, however many "
        "ranks there are. Only the number of rounds grows."
    )
    print("\n".join(lines))


def _check_ring(answer: Callable[..., Any], size: int, number: int) -> tuple[int, int]:
    """Numbers that a rank sent, and in how many rounds."""
    tensors = [torch.arange(number) + 100.0 * 2**rank for rank in range(size)]
    sent = [[0, 0] for _ in tensors]

    def live(comm: Communicator) -> Any:
        def pass_on(piece: Any) -> Tensor:
            piece = torch.as_tensor(piece)
            sent[comm.rank][0] += piece.numel() if size > 1 else 0
            sent[comm.rank][1] += 1
            send, receive = [0] * size, [0] * size
            send[(comm.rank + 1) % size] = receive[comm.rank - 1] = piece.numel()
            return comm.all_to_all(piece.reshape(-1), send, receive).view(piece.shape)

        tensor = tensors[comm.rank]
        case = {"tensor": tensor, "rank": comm.rank, "size": size, "pass_on": pass_on}
        return call(answer, case)

    found = _on_ranks(
        size,
        live,
        "In every round all ranks pass on a piece, of one size (`all_to_all` stands for it here): "
        "so each calls pass_on equally often, whichever piece it is at.",
    )
    wanted = torch.stack(tensors).double().sum(0)
    for rank, one in enumerate(found):
        if place := difference(one, wanted):
            case = {"tensor": tensors[rank], "rank": rank, "size": size}
            done = [] if place.startswith("the ") else _finished(one, wanted, size)
            meaning = "follow one piece round the ring: who adds to it, and who finishes it?"
            if len(done) == 1:
                meaning = (
                    f"piece {done[0]} is finished on rank {rank}, and the others are not. After "
                    "the sums, the finished pieces have to go round once more, and nobody adds."
                )
            elif difference(one, wanted / size) is None:
                meaning = "that is the average. An all-reduce here gives the sum."
            raise NotRight(report(answer, case, one, wanted, place, meaning))
        if sent[rank][0] > (least := 2 * (size - 1) * number // size):
            raise NotRight(
                f"The sum is right, and too much was sent: with {size} ranks and {number} "
                f"numbers, rank {rank} passed on {sent[rank][0]}, where {least} will do. This "
                "usually means: whole tensors go round. Cut them into P pieces, and have each rank "
                "work on another piece in every round."
            )
    return sent[0][0], sent[0][1]


def _finished(found: Any, wanted: Tensor, size: int) -> list[int]:
    """The pieces that are right already."""
    whole = torch.as_tensor(found, dtype=torch.float64)
    pairs = enumerate(zip(whole.chunk(size), wanted.chunk(size), strict=True))
    return [piece for piece, (one, sum_) in pairs if difference(one, sum_) is None]
