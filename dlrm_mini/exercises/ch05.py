"""Checks of the exercises to chapter 05, DLRM."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations, pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, linear

from dlrm_mini.exercises import checking
from dlrm_mini.exercises.checking import Mistake, NotRight, call, difference, expect, right, shown
from dlrm_mini.interactions import dot_interaction, dot_products
from dlrm_mini.models import dlrm_presets

Answer = Callable[..., Any]
Layer = tuple[Tensor, Tensor]
Bugs = tuple[str, ...]
NEAR = 1e-6  # of the puzzle: how far off a logit may be

SYMPTOMS = {  # what each of the three bugs does, without saying where it is
    "rows": "a row's logit changes when another row of the batch does: rows are mixed somewhere.",
    "negative": "no logit is ever below 0, so no chance is below one half; any number can be one.",
    "twice": "however right an answer is, it costs 0.31 nats or more, a wrong one 1.31 at most.",
}


def check_place(answer: Callable[[int, int, int], int]) -> None:
    """Exercise 1: the place of a pair's product in the top MLP's input."""
    places = [(2, 1, 4), (1, 0, 4), (3, 0, 4), (2, 3, 4), (0, 5, 16), (26, 25, 16)]
    expect(
        answer,
        _place,
        [{"i": i, "j": j, "D": dim} for i, j, dim in places],
        mistakes=[
            Mistake(
                lambda i, j, dim: _place(i, j, 0),
                "the dense vector was forgotten: its D numbers stand in front of the products.",
            ),
            Mistake(
                lambda i, j, dim: dim + i * (i - 1) // 2 + j,
                "the larger of the two numbers decides where the pair stands; here it is j.",
            ),
            Mistake(
                lambda i, j, dim: _place(i, j, dim) + max(i, j),
                "the diagonal was counted: in front of vector i's products stand i (i - 1) / 2 "
                "pairs, and no vector with itself.",
            ),
        ],
        otherwise="write down the first six products in the order of the exercise, and count.",
        tolerance=1e-9,
        learnt="The number of vectors is not needed: a new table at the end adds its products at "
        "the end and leaves every old place alone. In the order of the upper triangle, row by row, "
        "it would move nearly all of them.",
    )


def check_counts(answer: Answer) -> None:
    """Exercise 2: all parameters of a DLRM, and those that one row needs."""
    kaggle = dlrm_presets.kaggle()
    sizes = (kaggle.n_dense, [*kaggle.cardinalities.values()], [*kaggle.bottom], [*kaggle.top])
    asked = [(3, [9, 50, 5], [2], [4, 1]), (3, [10, 100], [5, 2], [1]), (1, [7], [4], [1]), sizes]
    names = ("n_dense", "table_rows", "bottom", "top")
    whole, used = _counts(*sizes)
    looked_up = kaggle.dim * len(kaggle.cardinalities)
    expect(
        answer,
        _counts,
        [dict(zip(names, one, strict=True)) for one in asked],
        mistakes=[
            Mistake(
                lambda *given: _counts(*given, biases=0), "the layers' biases were not counted."
            ),
            Mistake(
                lambda *given: _counts(*given, vectors=0),
                "n is one more than the number of tables: the dense vector is part of the pairs.",
            ),
            Mistake(
                lambda *given: _counts(*given, in_front=0),
                "the top MLP also reads the dense vector itself, D numbers before the products.",
            ),
            Mistake(
                lambda *given: _counts(*given, diagonal=1),
                "no vector meets itself: there are n (n - 1) / 2 products, without the diagonal.",
            ),
            Mistake(
                lambda *given: (_counts(*given)[0],) * 2,
                "one row does not need whole tables: of each it needs the vector of one id.",
            ),
        ],
        otherwise="count the tables, the bottom MLP and the top MLP one by one, and compare.",
        tolerance=1e-10,  # of hundreds of millions, less than one
        learnt=f"The Kaggle model's tables hold {kaggle.parameters()['embeddings']:,} of {whole:,} "
        f"parameters, and one row reads {looked_up} of them, beside {used - looked_up:,} of the "
        f"MLPs: {looked_up / used:.2%}. Tables are a matter of memory, MLPs of arithmetic.",
    )


def check_loss(answer: Answer) -> None:
    """Exercise 3: from the vectors to the loss, without the three bugs."""
    count = {1: "one bug is left: ", 2: "two bugs are left: ", 3: "all three bugs are left: "}
    mistakes = [
        Mistake(
            partial(_loss, bugs=bugs),
            count[len(bugs)] + " Also, ".join(SYMPTOMS[name] for name in bugs),
        )
        for number in count
        for bugs in combinations(SYMPTOMS, number)
    ]
    summed = Mistake(
        lambda *given: _loss(*given) * len(given[-1]),
        "the loss is the mean over the rows, not their sum.",
    )
    expect(
        answer,
        _loss,
        [_top(rows=2, tables=2, seed=32), _top(rows=5, tables=3, seed=44), _top(1, 2, seed=5)],
        mistakes=[*mistakes, summed],
        otherwise="none of the three bugs explains it. Compare the logits of two rows by hand.",
        learnt="Shapes that fit and a loss that falls prove little. Three cheap questions would "
        "have found these: does one row's logit depend on another row? Can a logit be negative? "
        "Does the loss of a sure and right answer go to 0?",
    )


def check_twins(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Exercise 4: other vectors with the same dot products and the same dense vector."""
    generator = torch.Generator().manual_seed(5)
    for dim, tables, scale in ((2, 2, 1.0), (3, 4, 1.0), (16, 26, 1.0), (4, 3, 0.0)):
        z = scale * torch.rand(dim, generator=generator, dtype=torch.float64)
        vectors = torch.randn(tables, dim, generator=generator, dtype=torch.float64)
        case = {"z": z, "vectors": vectors}
        found = _tensor(call(answer, case), vectors.shape, "The new vectors")
        text = f"  input      {shown(case)}\n  got        {shown(found)}\n"
        wanted, read = (dot_interaction(z[None], one[None])[0] for one in (vectors, found))
        if place := difference(read, wanted):
            raise NotRight(
                f"The top MLP would see the difference.\n{text}"
                f"  it reads   {shown(read)}\n  expected   {shown(wanted)}\n"
                f"  first difference: {place}\n"
                f"This usually means: {_seen(z, vectors, found)}"
            )
        if (found - vectors).abs().max() < 0.01:
            raise NotRight(
                f"These are the old vectors; at least one has to differ.\n{text}"
                "This usually means: the mirror's normal is at right angles to every vector."
            )
    right(
        "Dot products see lengths and angles, no coordinates. Only z, in plain sight in front, "
        "ties coordinates down; whatever turns about it is free. So do not read a meaning into a "
        "single number of an embedding. Concatenation would have noticed."
    )


def check_narrow(answer: Answer) -> None:
    """Exercise 5: a factorization machine in a DLRM of width d + 1, nearly."""
    generator = torch.Generator().manual_seed(6)
    worst = 0.0
    for rows, fields, dim, scale in ((1, 2, 1, 1), (4, 3, 2, 1), (8, 9, 8, 3), (2, 5, 4, 0)):
        v = torch.randn(rows, fields, dim, generator=generator, dtype=torch.float64)
        w = scale * torch.randn(rows, fields, generator=generator, dtype=torch.float64)
        z, e = _narrow(answer, v, w)
        pairs = dot_products(torch.cat([z[:, None], e], dim=1)).sum(1)
        wanted = w.sum(1) + dot_products(v).sum(1)
        off = (pairs - wanted).abs()
        worst = max(worst, float(off.max()))
        if not bool((off < NEAR).all()):  # also when not finite
            row = int((~(off < NEAR)).nonzero()[0])
            raise NotRight(
                f"The logit of row {row} is off by {off[row]:.3g}, more than {NEAR:.0e}.\n"
                f"  input      {shown({'v': v[row], 'w': w[row]})}\n"
                f"  got        z = {shown(z[row])}, e = {shown(e[row])}\n"
                f"  pairs add up to {pairs[row]:.8g}, expected {wanted[row]:.8g}\n"
                f"This usually means: {_why(z[row], e[row], v[row], w[row])}"
            )
        order = torch.rand(rows, fields, generator=generator).argsort(0)
        order = order[:1]  # one row, of each field's vector from another one
        moved = [torch.take_along_dim(v, order[:, :, None], 0), torch.take_along_dim(w, order, 0)]
        other_z, other = _narrow(answer, *moved)
        if difference(other, torch.take_along_dim(e, order[:, :, None], 0), 1e-9):
            raise NotRight(
                "A field's vector changed when other fields, or other rows, got other ids.\nThis "
                "usually means: e_i was made from more than v_i and w_i, for example with the "
                "largest w of the batch. A table knows its own ids only."
            )
        if difference(torch.cat([z, other_z]), z[:1].expand(rows + 1, -1), 1e-9):
            raise NotRight(
                f"z differs between rows.\n  got        {shown(z)}\nThis usually means: z was made "
                "from the rows' weights. It comes from a bias and is the same for every row."
            )
    right(
        f"Off by {worst:.1e} at most. Being exact takes F slots, being as close as you like one: "
        "how wide a model has to be depends on the error one allows. (Weights a million times "
        "smaller than what they stand for can be written down; training would hardly find them.)"
    )


def _place(i: int, j: int, dim: int) -> int:
    late, early = max(i, j), min(i, j)
    return dim + late * (late - 1) // 2 + early


def _counts(
    n_dense: int,
    table_rows: list[int],
    bottom: list[int],
    top: list[int],
    *,
    biases: int = 1,
    vectors: int = 1,
    in_front: int = 1,
    diagonal: int = 0,
) -> tuple[int, int]:
    """Both counts; the keywords switch single mistakes on. The tests hold it to `DLRMConfig`."""
    dim, n = bottom[-1], len(table_rows) + vectors
    reads = in_front * dim + n * (n - 1) // 2 + diagonal * n
    layers = [*pairwise([n_dense, *bottom]), *pairwise([reads, *top])]
    mlps = sum(a * b + biases * b for a, b in layers)
    return mlps + dim * sum(table_rows), mlps + dim * len(table_rows)


def _loss(
    z: Tensor, pooled: list[Tensor], hidden: Layer, output: Layer, labels: Tensor, bugs: Bugs = ()
) -> Tensor:
    """The loss in float64, with those of the mistakes that are asked for."""
    z, labels = z.double(), labels.double()
    together = torch.stack(pooled).double()  # (F, B, D)
    mixed = together.reshape(len(z), len(pooled), -1)
    x = dot_interaction(z, mixed if "rows" in bugs else together.transpose(0, 1))
    first, second = ((weight.double(), bias.double()) for weight, bias in (hidden, output))
    logits = linear(torch.relu(linear(x, *first)), *second).squeeze(1)
    logits = torch.relu(logits) if "negative" in bugs else logits
    logits = torch.sigmoid(logits) if "twice" in bugs else logits
    return binary_cross_entropy_with_logits(logits, labels)


def _top(rows: int, tables: int, seed: int, dim: int = 2, units: int = 3) -> dict[str, object]:
    """Inputs of `my_loss`: some rows with logits on both sides of zero."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return (torch.randn(shape, generator=generator) * 10).round() / 10

    return {
        "z": draw(rows, dim).relu(),
        "pooled": [draw(rows, dim) for _ in range(tables)],
        "hidden": (draw(units, dim + tables * (tables + 1) // 2), draw(units)),
        "output": (draw(1, units), torch.tensor([-0.8])),
        "labels": (torch.arange(rows) % 2).float(),
    }


def _tensor(value: object, shape: Sequence[int], what: str) -> Tensor:
    """A reader's array or lists as float64, of the right shape."""
    made = checking.tensor(value, what)
    if tuple(made.shape) != tuple(shape):
        raise NotRight(f"{what} have the shape {tuple(made.shape)}; expected {tuple(shape)}.")
    return made


def _seen(z: Tensor, old: Tensor, new: Tensor) -> str:
    """Which products differ, and what that means."""
    if not bool(torch.isfinite(new).all()):
        why = " z is all zeros here." if not bool(z.any()) else ""
        return f"something was divided by zero, perhaps by a length.{why}"
    with_z = difference(new @ z, old @ z) is not None
    among = difference(dot_products(new[None]), dot_products(old[None])) is not None
    if with_z and among:
        return "this is no rotation and no reflection; these alone keep all products."
    if with_z:
        return (
            "the vectors kept their products with each other, but not those with z. The mirror has "
            "to leave z alone: its normal is at right angles to z."
        )
    return (
        "the products with z stayed, but those among the vectors did not. One and the same mirror "
        "has to move them all."
    )


def _narrow(answer: Answer, v: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """What the reader makes of a machine's vectors and weights: z and e, of the right shapes."""
    rows, fields, dim = v.shape
    found = call(answer, {"v": v, "w": w})
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise NotRight("Return two things: z (B, d + 1) and e (B, F, d + 1).")
    z = _tensor(found[0], (rows, dim + 1), "The dense vectors z")
    return z, _tensor(found[1], (rows, fields, dim + 1), "The tables' vectors e")


def _why(z: Tensor, e: Tensor, v: Tensor, w: Tensor) -> str:
    """What a sum that is off has usually gone wrong with, of one row."""
    if difference(e @ z, w, NEAR):
        return f"z · e_i should be w_i: it is {shown(e @ z)}, and w is {shown(w)}."
    unwanted = float(dot_products(w[None, :, None]).sum())
    extra = float((dot_products(e[None]) - dot_products(v[None])).sum())
    if abs(extra - unwanted) < NEAR:
        return "each pair adds w_i w_j in full. How small may w_i be in the slot, if z is large?"
    return f"the slots still meet and add {extra:.3g}; w_i w_j would add {unwanted:.3g} in all."
