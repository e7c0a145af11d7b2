"""Right and wrong answers to the exercises of chapter 15."""

import numpy as np
import torch

from tests.exercises.trying import Wrong


def by_ternary_search(save, death, ranks):
    low, high = 1e-3, 1e9
    for _ in range(300):
        one, two = (2 * low + high) / 3, (low + 2 * high) / 3
        worse = [save / t + t / 2 * ranks / death for t in (one, two)]
        low, high = (one, high) if worse[0] > worse[1] else (low, two)
    return torch.tensor((low + high) / 2)


def gathered(comm, step, enough, most):
    done = 0
    while done < most:
        done += 1
        if comm.all_gather(torch.tensor([step()])).mean() <= enough:
            return done
    return done


def deciding(judge):
    """A training that stops by `judge` of all ranks' losses."""

    def training(comm, step, enough, most):
        for done in range(1, most + 1):
            if judge(comm.all_gather(torch.tensor([step()]))) <= enough:
                return done
        return most

    return training


def content(comm, step, enough, most):
    for done in range(1, most + 1):
        if step() <= enough:
            return done
    return most


def all_but_content(comm, step, enough, most):
    """Only those that are not content yet tell the others."""
    for done in range(1, most + 1):
        loss = step()
        if loss <= enough or comm.all_reduce(torch.tensor(loss)) / comm.size <= enough:
            return done
    return most


def without_end(comm, step, enough, most):
    done = 1
    while comm.all_reduce(torch.tensor(step())) / comm.size > enough:
        done += 1
    return done


def told_too_late(comm, step, enough, most):
    """Returns the right number, and goes on to the end."""
    means = [float(comm.all_reduce(torch.tensor(step()))) / comm.size for _ in range(most)]
    return next((place + 1 for place, mean in enumerate(means) if mean <= enough), most)


def below(losses):
    return losses.mean() + 1e-6  # at most, less a hair: `<` where `<=` belongs


def number_by_number(pieces, rows, columns):
    found = np.zeros((rows[1] - rows[0], columns[1] - columns[0]))
    for row in range(*rows):
        for column in range(*columns):
            for one in pieces:
                r, c = row - one.rows[0], column - one.columns[0]
                if row in range(*one.rows) and column in range(*one.columns):
                    found[row - rows[0], column - columns[0]] = one.read((r, r + 1), (c, c + 1))
    return found


def assembled(pieces, rows, columns):
    """The whole table, of which a part is returned."""
    whole = torch.zeros(8, 4)
    for one in pieces:
        (a, b), (c, d) = one.rows, one.columns
        whole[a:b, c:d] = one.read((0, b - a), (0, d - c))
    return whole[rows[0] : rows[1], columns[0] : columns[1]]


def touched(pieces, rows, columns):
    near = [
        one for one in pieces
        if one.rows[0] < rows[1] and rows[0] < one.rows[1]
        and one.columns[0] < columns[1] and columns[0] < one.columns[1]
    ]  # fmt: skip
    return assembled(near, rows, columns)


def of_the_table(pieces, rows, columns):
    found = torch.zeros(rows[1] - rows[0], columns[1] - columns[0])
    for one in pieces:
        a, b = max(rows[0], one.rows[0]), min(rows[1], one.rows[1])
        c, d = max(columns[0], one.columns[0]), min(columns[1], one.columns[1])
        if a < b and c < d:
            found[a - rows[0] : b - rows[0], c - columns[0] : d - columns[0]] = one.read(
                (a, b), (c, d)
            )
    return found


def rows_only(pieces, rows, columns):
    """Right as long as pieces are as wide as the table."""
    parts = []
    for one in pieces:
        a, b = max(rows[0], one.rows[0]), min(rows[1], one.rows[1])
        if a < b:
            first = one.rows[0]
            wide = one.columns[1] - one.columns[0]
            parts.append(
                one.read((a - first, b - first), (columns[0], max(min(columns[1], wide), 0)))
            )
    return torch.cat(parts) if parts else torch.zeros(0, 4)


def joined(pieces, rows, columns):
    """Right as long as the table is cut one way, and in order."""
    parts = []
    for one in pieces:
        a, b = max(rows[0], one.rows[0]), min(rows[1], one.rows[1])
        c, d = max(columns[0], one.columns[0]), min(columns[1], one.columns[1])
        if a < b and c < d:
            top, left = one.rows[0], one.columns[0]
            parts.append(one.read((a - top, b - top), (c - left, d - left)))
    whole = len({one.columns for one in pieces}) == 1
    return torch.cat(parts, 0 if whole else 1) if parts else torch.zeros(0, 4)


def upside_down(pieces, rows, columns):
    return number_by_number(pieces, rows, columns)[::-1].copy()


RIGHT = {
    "check_numbers": [
        lambda: (0.1, 0.2, 0.3),
        lambda: torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64),
    ],
    "check_interval": [by_ternary_search],
    "check_training": [gathered],
    "check_rectangle": [number_by_number],
}
WRONG = {
    "check_numbers": [
        Wrong("huge", lambda: [1e16, 1.0, 1.0], "at most 1"),
        Wrong("signs", lambda: [1.0, 0.1, -1.0], "above 0"),
        Wrong("few bits", lambda: [0.5, 0.25, 0.125], "Both orders give 0.875"),
        Wrong("two", lambda: [0.1, 0.2], "three numbers"),
        Wrong("a word", lambda: "abc", "numbers were expected"),
    ],
    "check_interval": [
        Wrong("one rank", lambda c, m, p: (2 * c * m) ** 0.5, "for one rank"),
        Wrong("no half", lambda c, m, p: (c * m / p) ** 0.5, "the half is missing"),
        Wrong("longer", lambda c, m, p: (2 * c * m * p) ** 0.5, "live longer"),
        Wrong("the square", lambda c, m, p: 2 * c * m / p, "the square of it"),
        Wrong("a day", lambda c, m, p: 24 * 3600.0, "derivative"),
    ],
    "check_training": [
        Wrong("as it was", content, "has ended, while"),
        Wrong("the content are silent", all_but_content, "has ended, while"),
        Wrong("the sum", deciding(torch.sum), "divide it"),
        Wrong("everybody", deciding(torch.max), "until every rank is content"),
        Wrong("anybody", deciding(torch.min), "one rank is content"),
        Wrong("rank 0", deciding(lambda losses: losses[0]), "rank 0 decides"),
        Wrong("below", deciding(below), "so <= and not <"),
        Wrong("without end", without_end, "and `most` is 2"),
        Wrong("told too late", told_too_late, "Leave the loop"),
        Wrong("nobody", deciding(lambda losses: torch.inf), "nobody stops early"),
    ],
    "check_rectangle": [
        Wrong("all of it", assembled, "every piece was read whole"),
        Wrong("what is touched", touched, "share anything were read whole"),
        Wrong("the table's rows", of_the_table, "from its own corner it has 0 to"),
        Wrong("rows only", rows_only, "stopped with RuntimeError"),
        Wrong("joined", joined, "Sizes of tensors must match"),
        Wrong("upside down", upside_down, "hold 31"),
    ],
}
