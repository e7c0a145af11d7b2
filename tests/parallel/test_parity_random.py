"""Any plan, any batches: as on a single device."""

from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm_mini.parallel.sharding import FORMS, Placement
from tests.parallel.cases import DIM, RULES, TABLES, Case, check, simulate


@st.composite
def cases(draw):
    size = draw(st.integers(1, 5))
    placements = {}
    for name, rows in TABLES.items():
        form = draw(st.sampled_from(FORMS))
        most = {"table-wise": 1, "row-wise": rows, "column-wise": DIM, "data-parallel": 0}[form]
        ranks = draw(st.permutations(range(size)))
        number = draw(st.integers(min(1, most), min(most, size)))
        placements[name] = Placement(form, tuple(ranks[:number]))
    return Case(
        size,
        placements,
        draw(st.sampled_from([*RULES])),
        draw(st.sampled_from(["sum", "mean"])),
        weighted=draw(st.booleans()),
        rows=tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))),
        fused=draw(st.booleans()),
    )


@given(cases())
@settings(max_examples=40)
def test_any_plan_and_any_batches(case):
    check(case, *simulate(case))
