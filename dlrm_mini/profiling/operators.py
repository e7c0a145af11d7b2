"""The operator names of the paper's breakdown, as a grouping of what torch calls its operators."""

import re

# Names of torch's as `_plain` leaves them: the same for an operator and for its backward node.
OPERATORS = {
    "FC": ("linear", "addmm", "mm", "t"),
    "EmbeddingBag": ("embedding", "embeddingbag", "fused"),  # SparseLengthsSum in Caffe2
    "BatchMatMul": ("matmul", "bmm", "pairs"),
    "Concat": ("cat", "stack"),
    "ReLU": ("relu",),
    "Loss": ("sigmoid", "binarycrossentropywithlogits"),
    "Copy": ("to", "tocopy", "copy", "clone", "contiguous"),
}
# Parts that are one operator, whatever they are made of.
WHOLE = {
    "embedding update": "Optimizer",
    "dense update": "Optimizer",
    "dense part": "Dense part",
    "dense part backward": "Dense part",
}
OTHER = "Other"
# In the order in which they are shown; the last two are no operators, but they are in the sum.
SHOWN = (*OPERATORS, "Optimizer", "Dense part", OTHER, "idle", "remainder")
_GROUP = {plain: group for group, names in OPERATORS.items() for plain in names}


def operator(name: str) -> str:
    """The paper's name for "aten::addmm", "AddmmBackward0" and their like, else "Other"."""
    return _GROUP.get(_plain(name), OTHER)


def _plain(name: str) -> str:
    name = name.removeprefix("aten::")
    return re.sub(r"Backward\d*$", "", name).replace("_", "").lower()
