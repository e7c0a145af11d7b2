"""Right and wrong answers to the exercises of chapter 12."""

from itertools import pairwise

import numpy as np
import torch

from tests.exercises.trying import Wrong


def parcels_by_outer(r, t, d):
    found = np.outer(t, r).astype(np.float32) * d * 4
    np.fill_diagonal(found, 0)
    return found


def home_row_by_row(comm, pooled, rows, tables):
    """A shuffle of whole rows for each table of the sender, transposed before and after."""
    b, dim = rows[comm.rank], pooled.shape[2]
    ends = np.cumsum([0, *rows])
    send = [n * tables[comm.rank] for n in rows]
    flat = torch.cat([
        pooled[low:high].transpose(0, 1).reshape(-1, dim)
        for low, high in pairwise(ends)
    ])  # fmt: skip
    received = comm.all_to_all(flat, send, [b * held for held in tables])
    return received.view(sum(tables), b, dim).transpose(0, 1)


def home_broken(comm, pooled, rows, tables):
    b, dim = rows[comm.rank], pooled.shape[2]
    flat = comm.all_to_all(
        pooled.reshape(-1, dim), [n * tables[comm.rank] for n in rows], [b * t for t in tables]
    )
    return flat.view(b, sum(tables), dim)


def home_as_tables(comm, pooled, rows, tables):
    b, dim = rows[comm.rank], pooled.shape[2]
    return home_broken(comm, pooled, rows, tables).reshape(sum(tables), b, dim).transpose(0, 1)


def home_wrong_splits(comm, pooled, rows, tables):
    dim = pooled.shape[2]
    b = rows[comm.rank]
    return comm.all_to_all(pooled.reshape(-1, dim), [b * t for t in tables], rows).view(b, -1, dim)


def home_as_sent(comm, pooled, rows, tables):
    dim = pooled.shape[2]
    send = [n * tables[comm.rank] for n in rows]
    return comm.all_to_all(pooled.reshape(-1, dim), send, send).view(rows[comm.rank], -1, dim)


def home_rows_last(comm, pooled, rows, tables):
    return home_row_by_row(comm, pooled, rows, tables).transpose(0, 1)


def averaged_by_weights(losses, rows):
    share = len(losses) / sum(rows)
    mean = losses.mean() if len(losses) else losses.sum()
    return float(mean * share * len(rows)), len(rows) ** -1


def rounds_asking_each_time(comm, batches, step):
    left, steps = list(batches), 0
    while comm.all_reduce(torch.tensor(float(len(left) > 0))) > 0:
        step(left.pop(0) if left else None)
        steps += 1
    return steps


def rounds_alone(comm, batches, step):
    for batch in batches:
        step(batch)
    return len(batches)


def rounds_until_the_first_ends(comm, batches, step):
    steps = int(comm.all_gather(torch.tensor([len(batches)])).min())
    for batch in batches[:steps]:
        step(batch)
    return steps


def rounds_by_the_sum(comm, batches, step):
    steps = int(comm.all_reduce(torch.tensor(len(batches))))
    for place in range(steps):
        step(batches[place] if place < len(batches) else None)
    return steps


def rounds_for_ever(comm, batches, step):
    while True:
        step(None)


def rounds_backwards(comm, batches, step):
    return rounds_asking_each_time(comm, batches[::-1], step)


def rounds_own_length(comm, batches, step):
    steps = int(comm.all_gather(torch.tensor([len(batches)])).max())
    for place in range(steps):
        step(batches[place] if place < len(batches) else None)
    return len(batches)


def ring_in_one_tensor(mine, r, size, give):
    total, n = mine.double(), len(mine) // size
    total = total.clone()

    def piece(i):
        return slice(i % size * n, i % size * n + n)

    for k in range(2 * (size - 1)):
        got = give(total[piece(r - k)])
        here = piece(r - k - 1)
        total[here] = total[here] + got if k < size - 1 else got
    return total


def ring_of_wholes(tensor, rank, size, pass_on):
    total, one = tensor.clone(), tensor
    for _ in range(size - 1):
        one = pass_on(one)
        total = total + one
    return total


def ring_half(tensor, rank, size, pass_on):
    pieces = list(tensor.clone().chunk(size))
    for k in range(size - 1):
        here = (rank - k - 1) % size
        pieces[here] = pieces[here] + pass_on(pieces[(rank - k) % size])
    return torch.cat(pieces)


def ring_in_place(tensor, rank, size, pass_on):
    pieces = tensor.chunk(size)
    for k in range(size - 1):
        pieces[(rank - k - 1) % size].add_(pass_on(pieces[(rank - k) % size].clone()))
    return torch.cat(pieces)


def ring_only_some(tensor, rank, size, pass_on):
    return tensor + pass_on(tensor) if rank else tensor


RIGHT = {
    "check_parcels": [parcels_by_outer],
    "check_vectors_home": [home_row_by_row],
    "check_averaged": [
        averaged_by_weights,
        lambda x, rows: [x.sum(0, keepdim=True) * len(rows) / sum(rows), np.float32(1 / len(rows))],
    ],
    "check_rounds": [rounds_asking_each_time],
    "check_ring": [ring_in_one_tensor],
}
WRONG = {
    "check_parcels": [
        Wrong("transposed", lambda r, t, d: parcels_by_outer(t, r, d), "exchanged"),
        Wrong("to itself", lambda r, t, d: np.outer(t, r) * d * 4, "the diagonal is 0"),
        Wrong("numbers", lambda r, t, d: parcels_by_outer(r, t, d) / 4, "4 bytes"),
        Wrong("vectors", lambda r, t, d: parcels_by_outer(r, t, d) / d, "D numbers"),
        Wrong("per rank", lambda r, t, d: parcels_by_outer(r, t, d).sum(1), "the shape"),
    ],
    "check_vectors_home": [
        Wrong("as one tensor", home_broken, "read as one tensor"),
        Wrong("table after table", home_as_tables, "row comes after row"),
        Wrong("splits exchanged", home_wrong_splits, "adding up to 3"),
        Wrong("receives what it sends", home_as_sent, "what the other expects"),
        Wrong("rows last", home_rows_last, "the shape"),
        Wrong("own part", lambda comm, pooled, rows, tables: pooled, "the shape"),
    ],
    "check_averaged": [
        Wrong("mean", lambda x, rows: (x.mean(), 1.0), "nobody averages a table's gradient"),
        Wrong("mean, scaled", lambda x, rows: (x.mean(), 1 / len(rows)), "equally many"),
        Wrong(
            "exchanged", lambda x, rows: averaged_by_weights(x, rows)[::-1], "each kind of weight"
        ),
        Wrong("sum over B", lambda x, rows: (x.sum() / sum(rows), 1.0), "a P-th of their rate"),
        Wrong(
            "nan",
            lambda x, rows: (x.mean() * len(x) * len(rows) / sum(rows), 1 / len(rows)),
            "the mean of no rows is nan",
        ),
    ],
    "check_rounds": [
        Wrong("alone", rounds_alone, "must not go home"),
        Wrong("until the first ends", rounds_until_the_first_ends, "the first one ran out"),
        Wrong("backwards", rounds_backwards, "too late"),
        Wrong("too often", rounds_by_the_sum, "will do"),
        Wrong("for ever", rounds_for_ever, "nobody has stopped"),
        Wrong("own length", rounds_own_length, "not the number of steps"),
    ],
    "check_ring": [
        Wrong("whole tensors", ring_of_wholes, "too much was sent"),
        Wrong("half the way", ring_half, "have to go round once more"),
        Wrong("in place", ring_in_place, "changed its input"),
        Wrong("the average", lambda *a: ring_in_one_tensor(*a) / a[2], "that is the average"),
        Wrong(
            "pieces",
            lambda t, r, p, give: list(ring_in_one_tensor(t, r, p, give).chunk(p)),
            "shape",
        ),
        Wrong("not everybody", ring_only_some, "equally often"),
    ],
}
