"""What a training step would take if every part ran at this machine's ceilings.

On a CPU operations run one after the other, so a part's time is a sum, each term a count over a
ceiling, and each with its reason:

- matrix products at the rate of their own shape, since a narrow layer's is far below the best;
  reading the operands is in that rate already;
- small products (the dot interaction) at the rate of many of their size;
- bytes in order over the rate of a copy that spans as much as one operation of the part moves on
  the average, since caches hold what is small; weights and gradients in the update are far, all of
  them have been pushed out since: a copy that spans them together;
- rows read at random places at the rate of their width and span, and rows changed there likewise:
  a core waits for these, not for bandwidth; bags over the rate of bags of one row;
- keys to sort over the rate of sorting;
- bytes of memory that is new to the process over the rate of getting it;
- an overhead for every operation: Python, dispatch and autograd are not free.

On a GPU the host runs ahead, so the overheads pass while the device works: a part takes the longer
of the two, and what comes from the host is added.

Nothing else is modelled: no two parts overlap, and none leaves anything in a cache for the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dlrm_mini.profiling.ceilings import Ceilings
from dlrm_mini.profiling.counts import Work, count
from dlrm_mini.profiling.workload import Workload
from dlrm_mini.training_step import Precision

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def predict(workload: Workload, ceilings: Ceilings) -> dict[str, float]:
    """Part -> milliseconds of a step at these ceilings.

    Raises:
        UserError: a precision whose rate is not known.
    """
    works = count(workload, ceilings.device)
    return {part: 1e3 * seconds(work, ceilings, workload.precision) for part, work in works.items()}


def seconds(work: Work, ceilings: Ceilings, precision: Precision = "float32") -> float:
    """The time of some work at these ceilings."""
    terms = explain(work, ceilings, precision)
    begun, moved = terms.pop("operations"), terms.pop("transfer")
    worked = sum(terms.values())
    return moved + (max(worked, begun) if ceilings.device == "cuda" else worked + begun)


def explain(work: Work, ceilings: Ceilings, precision: Precision = "float32") -> dict[str, float]:
    """Term of the model -> its seconds.

    Raises:
        UserError: a precision whose rate is not known.
    """
    rates, product = ceilings.rates, ceilings.product(precision)
    span = work.streamed / max(1, work.operations)
    streamed = work.streamed - work.fresh * bool(ceilings.fresh)
    return {
        "products": sum(2 * m * k * n / product(m, k, n) for m, k, n in work.products),
        "small products": sum(flops / rates["batched"](n, k) for flops, n, k in work.batched),
        "streamed": streamed / rates["copies"](span) + work.far / rates["copies"](work.far),
        "random reads": sum(b / rates["gathers"](row, gap) for row, gap, b in work.gathered),
        "bags": work.bags / ceilings.bags if ceilings.bags else 0.0,
        "random changes": sum(b / rates["changes"](row, gap) for row, gap, b in work.changed),
        "sorting": work.sorted / ceilings.sort,
        "new memory": work.fresh / ceilings.fresh if ceilings.fresh else 0.0,
        "transfer": work.transferred / ceilings.transfer if ceilings.transfer else 0.0,
        "operations": work.operations * ceilings.overhead,
    }


def draw(
    ceilings: Ceilings,
    works: Mapping[str, Work],
    *,
    precision: Precision = "float32",
    title: str = "",
    measured: Mapping[str, float] | None = None,
) -> Figure:
    """The roofline, with works on it: see `profiling.roofline_picture.draw`.

    Args:
        ceilings: the roofs.
        works: part, or name of a whole model -> its work. What has no FLOP has no place.
        precision: of the products.
        title: of the picture.
        measured: name -> milliseconds. What is here is a solid marker at the rate that was
            measured, all else a hollow one at the rate that is predicted.
    """
    from dlrm_mini.profiling import roofline_picture

    return roofline_picture.draw(
        ceilings, works, precision=precision, title=title, measured=measured or {}
    )
