"""The table of known machines: every figure has its document, and the ceilings are made of them."""

import pytest

from dlrm_mini.models.dlrm_presets import PRESETS
from dlrm_mini.profiling import roofline
from dlrm_mini.profiling.ceilings import Ceilings
from dlrm_mini.profiling.known_hardware import FIGURES, KNOWN, OVERHEAD, PAPER_CPU, PAPER_GPU
from dlrm_mini.profiling.workload import Workload


def test_every_figure_names_its_document_or_calls_itself_an_assumption():
    for figure in FIGURES:
        assert figure.machine in {*KNOWN, "all"} and figure.value > 0
        if figure.document.startswith("assumption: "):
            assert not figure.address and not figure.second_hand
        else:
            assert figure.address.startswith("https://"), figure
    assert len({(figure.machine, figure.what) for figure in FIGURES}) == len(FIGURES)


@pytest.mark.parametrize("name", KNOWN)
def test_a_machine_is_published_and_survives_json(name):
    ceilings = KNOWN[name]
    assert ceilings.name == name and not ceilings.measured
    assert Ceilings.from_json(ceilings.as_json()) == ceilings
    for figure in FIGURES:
        if figure.machine == name:
            assert figure.document in ceilings.source


def test_the_papers_processor_is_counted_from_its_units():
    xeon = KNOWN[PAPER_CPU]
    # 2 sockets x 20 cores x 2 GHz x 2 units x 16 numbers x (a product and a sum)
    assert xeon.best("float32") == pytest.approx(2 * 20 * 2e9 * 2 * 16 * 2) == 5.12e12
    assert xeon.copy == pytest.approx(2 * 6 * 8 * 2666e6)  # sockets, channels, bytes, transfers/s
    assert set(xeon.products) == {"float32"} and xeon.device == "cpu" and xeon.transfer == 0


def test_the_papers_gpu_has_no_bfloat16():
    gpu = KNOWN[PAPER_GPU]
    assert set(gpu.products) == {"float32", "float16"}
    assert gpu.best("float32") == pytest.approx(15.7e12) and gpu.copy == 897e9
    assert gpu.transfer == pytest.approx(15.75e9, rel=1e-3)  # PCI Express 3.0, 16 lanes
    assert KNOWN["H100 80 GB"].transfer == pytest.approx(4 * gpu.transfer)


@pytest.mark.parametrize("name", ["A100 80 GB", "H100 80 GB"])
def test_the_figures_are_those_that_pytorch_copied_from_the_sheets(name):
    torch = pytest.importorskip("torch")
    sheets = pytest.importorskip("torch._inductor.analysis.device_info")
    sheet = sheets.lookup_device_info(f"NVIDIA {name.split()[0]}")
    if sheet is None or not hasattr(sheet, "tops_sparsity_factor"):
        pytest.skip("another version of PyTorch's table")
    ceilings, zeros = KNOWN[name], sheet.tops_sparsity_factor
    assert ceilings.copy == pytest.approx(1e9 * sheet.dram_bw_gbs)
    assert ceilings.best("float32") == pytest.approx(1e12 * sheet.tops[torch.float32])
    for kind in ("bfloat16", "float16"):
        dense = 1e12 * sheet.tops[getattr(torch, kind)] / zeros
        assert ceilings.best(kind) == pytest.approx(dense, rel=0.002)  # 312 and 312.5


@pytest.mark.parametrize(("name", "piece"), [(PAPER_CPU, 64), (PAPER_GPU, 32)])
def test_narrow_rows_waste_the_rest_of_a_line_or_sector(name, piece):
    ceilings = KNOWN[name]
    for row in (4, 8, 16, 32, 64, 256, 1024):
        share = min(1, row / piece)
        assert ceilings.gather(row) == pytest.approx(share * ceilings.copy)
        assert ceilings.rates["changes"](row, 1e9) == pytest.approx(share * ceilings.copy)
    assert ceilings.overhead == OVERHEAD


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_can_be_predicted(name, preset):
    for precision in KNOWN[name].products:
        workload = Workload(PRESETS[preset](), 2048, precision=precision)
        parts = roofline.predict(workload, KNOWN[name])
        assert all(ms >= 0 for ms in parts.values()) and 0.01 < sum(parts.values()) < 1000


def test_flops_a_byte_of_the_papers_two_machines_are_alike():
    """Said in the text: in float32 their ceilings alone do not flip the verdict."""
    cpu, gpu = (KNOWN[name].best("float32") / KNOWN[name].copy for name in (PAPER_CPU, PAPER_GPU))
    assert (round(cpu, 1), round(gpu, 1)) == (20.0, 17.5)
