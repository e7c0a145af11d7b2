"""Checks of the exercises to chapter 01, the data."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlrm_mini.datasets import movielens
from dlrm_mini.exercises.checking import Mistake, NotRight, call, expect, right, shown

Bags = tuple[Tensor, Tensor]
Rating = tuple[str, str, int]
SAMPLE = 1_500  # rows of MovieLens that a check compares on
FRONT = "the often rated movie is in front with no imaginary rating: 0, whatever a formula says."
MOST, GAP = 6, 2.0  # of the puzzle: ratings, and stars between the means


@functools.cache
def _movielens() -> movielens.MovieLens:
    return movielens.load()


def _bytes(n_users: int, n_items: int, n_ratings: int, **changed: int) -> dict[str, int]:
    size = {"row": 8, "column": 8, "stars": 4, "last": 1} | changed
    return {
        "matrix": 4 * n_users * n_items,
        "coordinates": n_ratings * (size["row"] + size["column"] + size["stars"]),
        "bags": n_ratings * (8 + size["stars"]) + 8 * (n_users + size["last"]),
    }


def check_bytes(answer: Callable[[int, int, int], dict[str, int]]) -> None:
    """Exercise 1: the bytes of a matrix, of coordinates and of bags."""
    keys = ("n_users", "n_items", "n_ratings")
    sizes = ((2, 3, 4), (943, 1682, 100_000), (10**6, 10**6, 10**8))
    expect(
        answer,
        _bytes,
        [dict(zip(keys, size, strict=True)) for size in sizes],
        mistakes=[
            Mistake(
                lambda *n: _bytes(*n, row=4, column=4),
                "ids are int64, eight bytes each; only the stars are float32.",
            ),
            Mistake(
                lambda *n: _bytes(*n, stars=0), "the stars were left out: four bytes a rating."
            ),
            Mistake(
                lambda *n: _bytes(*n, last=0),
                "B bags need B + 1 offsets: the last one says where the last bag ends.",
            ),
        ],
        otherwise="draw the smallest input on paper, and count how many numbers you write down.",
        tolerance=1e-12,
        learnt="Coordinates pay while fewer than a fifth of the cells are filled: 4 of 20 bytes.",
    )
    corner = _bytes(50, 50, 2_050)  # 82 % filled, as in the chapter
    print(f"The dark corner of the chapter: {corner['matrix']:,} bytes as a matrix, ", end="")
    print(f"{corner['coordinates']:,} as coordinates, {corner['bags']:,} as bags.")


def _select(values: Tensor, offsets: Tensor, rows: Tensor) -> Bags:
    return _bags(_cut(values, offsets, rows))


def _cut(values: Tensor, offsets: Tensor, rows: Tensor) -> list[Tensor]:
    return [values[offsets[row] : offsets[row + 1]] for row in rows.tolist()]


def _bags(bags: list[Tensor]) -> Bags:
    ends = torch.tensor([0, *map(len, bags)]).cumsum(0)
    return torch.cat([*bags, torch.zeros(0, dtype=torch.int64)]), ends


def check_select(answer: Callable[[Tensor, Tensor, Tensor], Bags]) -> None:
    """Exercise 2: values and offsets of some rows' bags, in the order asked for."""
    values, offsets = torch.tensor([5, 3, 4, 2, 2, 16, 16]), torch.tensor([0, 3, 6, 6, 7])
    wanted: tuple[list[int], ...] = ([1, 3], [3, 0], [2, 1], [1, 1, 0], [2], [])
    rows = [torch.tensor(r, dtype=torch.int64) for r in wanted]

    @functools.wraps(answer)
    def whole(*given: Tensor) -> Any:
        found = answer(*given)
        for part in found if isinstance(found, tuple | list) else ():
            if len(given[2]) and "float" in str(getattr(part, "dtype", "")):
                raise NotRight(
                    f"values and offsets are of int64; this is {part.dtype}: {shown(part)}.\nThis "
                    "usually means: `torch.zeros` makes floats unless it is told dtype=torch.int64."
                )
        return found

    expect(
        whole,
        _select,
        [{"values": values, "offsets": offsets, "rows": r} for r in rows],
        mistakes=[
            Mistake(
                lambda v, o, r: _select(v, o, r.sort().values),
                "the bags came in the order of the file; a loader shuffles, and labels follow "
                "the rows asked for.",
            ),
            Mistake(
                lambda v, o, r: (_select(v, o, r)[0], torch.cat([o[r], o[-1:]])),
                "the offsets still point into the old values; they begin at 0 again.",
            ),
            Mistake(
                lambda v, o, r: (_select(v, o, r)[0], _select(v, o, r)[1][:-1]),
                "B bags need B + 1 offsets; the last one, where the last bag ends, is missing.",
            ),
            Mistake(
                lambda v, o, r: (_select(v, o, r)[0], o.diff()[r]),
                "those are lengths. Offsets are their running sum, with a 0 in front.",
            ),
            Mistake(
                lambda v, o, r: _select(v, o, torch.tensor([*dict.fromkeys(r.tolist())])),
                "a row asked for twice comes twice.",
            ),
            Mistake(
                lambda v, o, r: _bags([bag.sort().values for bag in _cut(v, o, r)]),
                "the ids within a bag changed places; they stay as they are.",
            ),
            Mistake(
                lambda v, o, r: _bags([torch.tensor(sorted({*b.tolist()})) for b in _cut(v, o, r)]),
                "an id that a bag holds twice came once; a bag is no set.",
            ),
        ],
        otherwise="write the wanted bags as a list of lists first, then put them end to end.",
        learnt="Every batch of bags is made like this: ids move, and offsets are counted anew.",
    )


def _fewest(n_few: int, above_few: float, n_many: int, above_many: float) -> float:
    if above_many >= above_few:
        return 0
    surplus = n_many * above_many - n_few * above_few  # of stars above the mean
    if surplus <= 0:
        return math.inf
    return _formula(n_few, above_few, n_many, above_many)


def _formula(n_few: int, above_few: float, n_many: int, above_many: float) -> int:
    surplus = n_many * above_many - n_few * above_few
    return math.ceil(n_few * n_many * (above_few - above_many) / surplus)


def check_imaginary(answer: Callable[[int, float, int, float], float]) -> None:
    """Exercise 3: the fewest imaginary ratings that put the often rated movie in front."""
    keys = ("n_few", "above_few", "n_many", "above_many")
    movies = (
        (1, 1.5, 100, 0.9), (2, 1.5, 4, 1.0), (1, 2.0, 10, 1.0), (40, 1.2, 53, 0.95),
        (40, 0.5, 53, 0.9), (3, 1.5, 4, 1.0), (2, 1.0, 4, 0.5), (1, 0.5, 30, -0.2),
        (2, -0.5, 40, -0.25),
    )  # fmt: skip
    expect(
        answer,
        _fewest,
        [dict(zip(keys, movie, strict=True)) for movie in movies],
        mistakes=[
            Mistake(lambda *m: 1 if _fewest(*m) == 0 else -1, FRONT),
            Mistake(lambda *m: math.inf if _fewest(*m) == 0 else -1, FRONT),
            Mistake(lambda *m: _formula(*m) if _fewest(*m) == 0 else -1, FRONT),
            Mistake(
                lambda *m: _fewest(*m) + 1,
                "one too many: as soon as both are equal, the often rated movie counts as in "
                "front.",
            ),
            Mistake(
                lambda *m: _fewest(*m) - 1,
                "one too few: with so many the rare movie is still in front.",
            ),
        ],
        otherwise="for very many imaginary ratings k, n * above / (n + k) is nearly n * above / k: "
        "then only the sum of the stars above the mean counts. Where the rare movie's sum is as "
        "large, no k is enough, and the answer is math.inf.",
        learnt="Shrinkage walks from the mean to the sum: with k = 0 one fan is enough, with very "
        "many k only a crowd.",
    )


def check_paradox(answer: Callable[[], list[Rating]]) -> None:
    """Exercise 4: A has the far higher mean, yet everybody who rated both prefers B."""
    found = call(answer, {})
    try:
        ratings = [(str(u), str(i), float(s)) for u, i, s in found]
    except (TypeError, ValueError):
        raise NotRight(
            "A list of (user, movie, stars) was expected, three things for each rating.\n"
            f"  got        {shown(found)}"
        ) from None
    stars = {(user, item): s for user, item, s in ratings}
    both = [u for u in dict.fromkeys(u for u, _, _ in ratings) if {(u, "A"), (u, "B")} <= {*stars}]
    means = {i: np.mean([s for _, item, s in ratings if item == i] or [np.nan]) for i in "AB"}
    gap = float(means["A"] - means["B"])
    for broken, rule in (
        (len(ratings) > MOST, f"there are {len(ratings)} ratings; at most {MOST} are allowed."),
        (len(stars) < len(ratings), "somebody rated the same movie twice; once is allowed."),
        (any(i not in "AB" for _, i, _ in ratings), 'the movies are called "A" and "B".'),
        (any(s not in (1, 2, 3, 4, 5) for _, _, s in ratings), "stars are whole, from 1 to 5."),
        (not both, "nobody rated both movies, so that nobody prefers B."),
    ):
        if broken:
            raise NotRight(f"The rules do not allow these ratings: {rule}\n  got        {ratings}")
    if other := [u for u in both if stars[u, "B"] <= stars[u, "A"]]:
        raise NotRight(
            f"User {other[0]} rated both and does not prefer B: A {stars[other[0], 'A']:.0f}, "
            f"B {stars[other[0], 'B']:.0f} stars."
        )
    if not gap >= GAP:
        raise NotRight(
            f"The mean of A is {means['A']:.2f}, of B {means['B']:.2f}: A leads by {gap:+.2f} "
            f"stars, and {GAP:g} are asked for. Who should rate only A, and who only B?"
        )
    print(
        f"Plain means: A {means['A']:.2f}, B {means['B']:.2f}. A leads by {gap:.2f} stars ", end=""
    )
    print("(2.5 is the most that six ratings can do).")
    print(f"Biases fitted together: B is better by {_fitted_lead(ratings):.2f} stars.")
    right("A mean says as much about who came to rate as about the movie.")


def _fitted_lead(ratings: list[tuple[str, str, float]]) -> float:
    """By how many stars B leads when user and movie biases are fitted together, without L2."""
    users = sorted({user for user, _, _ in ratings})
    x = np.array([[item == "B", *(user == u for u in users)] for user, item, _ in ratings], float)
    return float(np.linalg.lstsq(x, np.array([s for _, _, s in ratings]), rcond=None)[0][0])


def _so_far(
    user: Tensor, rating: Tensor, time: Tensor, default: float, *, order: str = "earlier"
) -> Tensor:
    row = torch.arange(len(user))
    before = {
        "earlier": time[None] < time[:, None],
        "not later": time[None] <= time[:, None],
        "file": row[None] < row[:, None],
        "file and own": row[None] <= row[:, None],
        "sorted": (time[None] < time[:, None])
        | ((time[None] == time[:, None]) & (row[None] < row[:, None])),
        "others": row[None] != row[:, None],
    }[order]
    counted = (before & (user[None] == user[:, None])).double()  # (N, N): row, its history
    counts = counted.sum(1)
    return torch.where(counts > 0, counted @ rating.double() / counts.clamp(min=1), default)


def check_mean_so_far(answer: Callable[[Tensor, Tensor, Tensor, float], Any]) -> None:
    """Exercise 5: for each row the user's mean rating before it, and the default where none is."""
    ml = _movielens()
    user = torch.tensor([0, 1, 0, 0, 1, 0])
    rating = torch.tensor([5.0, 3.0, 1.0, 2.0, 4.0, 3.0])
    time = torch.tensor([30, 10, 10, 20, 20, 20])
    rows = torch.isin(ml.user, torch.arange(12)).nonzero().squeeze(1)[:SAMPLE]
    keys = ("user", "rating", "time", "default")
    short = (torch.tensor([4, 4, 4]), torch.tensor([1.0, 5.0, 3.0]), torch.tensor([1, 2, 3]), 3.5)
    real = (ml.user[rows], ml.rating[rows], ml.timestamp[rows], 3.5)
    expect(
        answer,
        _so_far,
        [dict(zip(keys, c, strict=True)) for c in (short, (user, rating, time, 2.5), real)],
        mistakes=[
            Mistake(
                lambda *c: _so_far(*c, order="file and own"),
                "the row's own rating is inside its own feature: that is the leak this feature was "
                "made to avoid.",
            ),
            Mistake(
                lambda *c: _so_far(*c, order="not later"),
                "the ratings of the same second are inside, the row's own among them.",
            ),
            Mistake(
                lambda *c: _so_far(*c, order="file"),
                "the file is not sorted by time; rows above are not the earlier ones.",
            ),
            Mistake(
                lambda *c: _so_far(*c, order="sorted"),
                "ratings of the same second are counted when they stand above in the file. Nobody "
                "knows their order: only earlier seconds count.",
            ),
            Mistake(
                lambda *c: _so_far(*c, order="others"),
                "that is leave-one-out: ratings from the user's future are inside.",
            ),
            Mistake(
                lambda user, rating, time, _: _so_far(user, rating, time, math.nan),
                "where a user has no earlier rating the default is missing.",
            ),
            Mistake(
                lambda user, rating, time, _: _so_far(user, rating, time, 0.0),
                "no history was called zero; the default is asked for.",
            ),
        ],
        otherwise="for one row, write down which other rows of this user have a smaller time.",
        learnt="What a model may know is decided by the clock, and a clock has ties.",
    )
