"""The parts of a training step, under the names that every measurement and prediction uses."""

from collections.abc import Mapping

# In the order in which a step comes to them. "dense part" is bottom MLP, interaction and top MLP in
# one piece, where they are compiled or replayed as a graph and no border is left between them.
FORWARD = (
    "input", "embedding forward", "bottom MLP", "interaction", "top MLP", "dense part", "loss",
)  # fmt: skip
BACKWARD = (
    "loss backward", "top MLP backward", "interaction backward", "bottom MLP backward",
    "dense part backward", "embedding backward",
)  # fmt: skip
UPDATE = ("embedding update", "dense update")
# What no part accounts for: a device that waits for work, and what the profiler sees between parts.
REST = ("idle", "remainder")
PARTS = (*FORWARD, *BACKWARD, *UPDATE, *REST)

# The four kinds of work that the claim is about: "embedding lookups and fully connected layers".
GROUPS: Mapping[str, tuple[str, ...]] = {
    "embeddings": ("embedding forward", "embedding backward", "embedding update"),
    "fully connected": (
        "bottom MLP", "top MLP", "top MLP backward", "bottom MLP backward", "dense part",
        "dense part backward", "dense update",
    ),
    "interaction": ("interaction", "interaction backward"),
    "everything else": ("input", "loss", "loss backward", *REST),
}  # fmt: skip


def grouped(parts: Mapping[str, float]) -> dict[str, float]:
    """Group -> the sum of its parts, in the order of `GROUPS`."""
    return {group: sum(parts.get(part, 0.0) for part in names) for group, names in GROUPS.items()}


def in_order(parts: Mapping[str, float]) -> dict[str, float]:
    """The same numbers in the order of `PARTS`, without parts that are not there."""
    return {part: parts[part] for part in PARTS if part in parts}
