"""What the kernels of a synthetic click log draw from."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Wholes = NDArray[np.int64]
Words = NDArray[np.uint64]


class Plan(NamedTuple):
    """All that a row is made from, as arrays; F fields, S slots (fields and columns planted).

    Attributes:
        keys: (F,), of each field's ids.
        length_keys: (F,), of the lengths of a bag field.
        dense_keys: (n_dense,).
        label_key: of the labels.
        slots: S.
        most: (F,), longest bag; 0: one id a row.
        regular: (F,), ids that are not "missing".
        missing: (F,), the id of "missing"; -1: none.
        share: (F,), of missing values.
        zipf: (F, 3), see `synthetic_kernels.zipf_id`.
        head: (F,), ids with a row of their own in the teacher's table.
        row: (F,), first row of the field's part of `table`: its head, the tail, "missing".
        table: (R, 1 + dim), weight and vector.
        slot: (F,), where the field's vector goes; -1: nowhere.
        dense_slot: (n_dense,).
        dense_value: (n_dense, 2**BITS), what the teacher sees of each value.
        dense_table: (n_dense, 1 + dim), weight and vector that this is multiplied with.
        pairs: (P, 2), slots.
        pair_scale: (P,).
        triples: (Q, 3), slots.
        triple_scale: (Q,).
        bias: the constant of the logit.
        curve: (knots, 2), probability and slope at each knot.
    """

    keys: Words
    length_keys: Words
    dense_keys: Words
    label_key: np.uint64
    slots: int
    most: Wholes
    regular: Wholes
    missing: Wholes
    share: Floats
    zipf: Floats
    head: Wholes
    row: Wholes
    table: Floats
    slot: Wholes
    dense_slot: Wholes
    dense_value: Floats
    dense_table: Floats
    pairs: Wholes
    pair_scale: Floats
    triples: Wholes
    triple_scale: Floats
    bias: float
    curve: Floats
