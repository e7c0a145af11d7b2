"""What a rank did when: the entries of a timeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Event:
    """Something that a rank was busy with.

    Attributes:
        rank: whose it is.
        name: of a part, such as "bottom MLP", or of a collective, such as "all_to_all".
        start: seconds since the beginning.
        end: seconds since the beginning.
        kind: whether the rank computed, or took part in a collective; before one it may have waited
            for the others, which is no event.
        sent: bytes that the rank sent to others.
    """

    rank: int
    name: str
    start: float
    end: float
    kind: Literal["compute", "communication"]
    sent: int = 0
