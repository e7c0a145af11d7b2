"""A small table of machines that nobody measured for this course: what their documents say.

Peaks are bounds that no program reaches, so a step predicted from them is a step at best. What no
document says is assumed, the same for every machine, and is in the table with its reason:

- *Random rows.* Memory is read in whole pieces, lines of 64 bytes on these CPUs and sectors of 32
  on these GPUs. A row narrower than a piece wastes the rest of it; all other rows are taken to come
  at full bandwidth, the most that can be hoped for.
- *Overhead.* Beginning an operation takes the host some microseconds, on a CPU and for a GPU.

The machine of the reader is not here: `profiling.ceilings.measure` measures it.
"""

from dataclasses import dataclass, replace

from dlrm_mini.profiling.ceilings import Ceilings, Device
from dlrm_mini.training_step import Precision

OVERHEAD = 5e-6  # seconds an operation: an assumption
PIECE: dict[Device, float] = {"cpu": 64, "cuda": 32}  # bytes that memory is read in

PAPER_CPU, PAPER_GPU = "2 x Xeon Gold 6138", "V100 16 GB"


@dataclass(frozen=True)
class Figure:
    """One number of a machine, and where it is from.

    Attributes:
        machine: a key of `KNOWN`, or "all".
        what: the quantity with its unit.
        value: the number.
        document: what says so, or "assumption" with its reason.
        address: of the document; "" for an assumption.
        second_hand: whether the document copied the figure from another, such as a data sheet.
    """

    machine: str
    what: str
    value: float
    document: str
    address: str = ""
    second_hand: bool = False


# The vendors' own sheets could not be opened when this was written: what others copied from them
# stands for them, and is called second-hand.
_NAUMOV = ("Naumov et al. 2019, section 5", "https://arxiv.org/abs/1906.00091", False)
_TORCHREC = (
    "TorchRec's planner, its constant for the memory of a GPU",
    "https://github.com/pytorch/torchrec/blob/main/torchrec/distributed/planner/constants.py",
    False,
)
_MARKIDIS = ("Markidis et al. 2018, section III", "https://arxiv.org/abs/1803.04014", True)
_FMA = ("vpu-count, after Intel's ARK", "https://github.com/jeffhammond/vpu-count", True)
_COMPARED = ("Gold 6138 and Platinum 8176 compared", "https://m.jtti.cc/supports/2997.html", True)
_A100 = (
    "NVIDIA's A100 data sheet, as in PyTorch 2.13's torch/_inductor/analysis/device_info.py",
    "https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a100/pdf/"
    "nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf",
    True,
)
_H100 = (
    "NVIDIA's H100 page, as in PyTorch 2.13's torch/_inductor/analysis/device_info.py",
    "https://www.nvidia.com/en-us/data-center/h100/",
    True,
)
_BOARDS = (
    "a table of GPU boards",
    "https://huggingface.co/spaces/lambdabrendan/Lambda-LLM-Calculator",
    True,
)
_HPC_TECH = (
    "HPC Tech's H100 page",
    "https://archive-lib.hpctech.co.jp/gpuproduct/nvidia-h100.html",
    True,
)

FIGURES = (
    Figure(PAPER_CPU, "sockets", 2, *_NAUMOV),
    Figure(PAPER_CPU, "GHz, base", 2.0, *_NAUMOV),
    Figure(PAPER_CPU, "cores a socket", 20, *_COMPARED),
    Figure(PAPER_CPU, "AVX-512 multiply-add units a core", 2, *_FMA),
    Figure(PAPER_CPU, "memory channels a socket", 6, *_COMPARED),
    Figure(PAPER_CPU, "million transfers/s a channel", 2666, *_COMPARED),
    Figure(PAPER_GPU, "TFLOP/s, float32", 15.7, *_MARKIDIS),
    Figure(PAPER_GPU, "TFLOP/s, float16", 125, *_MARKIDIS),
    # The constant is of a card with 32 GB, which is taken to be the V100: its white paper says 900.
    Figure(PAPER_GPU, "GB/s of memory", 897, *_TORCHREC),
    Figure(PAPER_GPU, "generation of PCI Express, 16 lanes", 3, *_BOARDS),
    Figure("A100 80 GB", "TFLOP/s, float32", 19.5, *_A100),
    Figure("A100 80 GB", "TFLOP/s, bfloat16 and float16", 312, *_A100),
    Figure("A100 80 GB", "GB/s of memory", 2039, *_A100),
    Figure("A100 80 GB", "generation of PCI Express, 16 lanes", 4, *_BOARDS),
    Figure("H100 80 GB", "TFLOP/s, float32", 67, *_H100),
    # The page has 1,979, where half of the numbers are zero.
    Figure("H100 80 GB", "TFLOP/s, bfloat16 and float16", 1979 / 2, *_H100),
    Figure("H100 80 GB", "GB/s of memory", 3350, *_H100),
    Figure("H100 80 GB", "generation of PCI Express, 16 lanes", 5, *_HPC_TECH),
    Figure("all", "share of the bandwidth for rows of whole lines or sectors", 1.0,
           "assumption: the most that can be hoped for; measured machines show less"),
    Figure("all", "microseconds of overhead an operation", 1e6 * OVERHEAD,
           "assumption: what eager PyTorch needs to begin one, to within a factor of two or three"),
)  # fmt: skip


def _of(machine: str, what: str) -> float:
    """The figure of a machine whose quantity begins so."""
    (found,) = (f.value for f in FIGURES if f.machine == machine and f.what.startswith(what))
    return found


def _known(
    name: str, device: Device, products: dict[Precision, float], bandwidth: float, transfer: float
) -> Ceilings:
    """Ceilings at the peaks, with the assumptions."""
    documents = dict.fromkeys(f.document for f in FIGURES if f.machine == name)
    sheet = Ceilings.from_datasheet(
        name, "; ".join(documents), products=products, bandwidth=bandwidth, overhead=OVERHEAD,
        transfer=transfer, device=device,
    )  # fmt: skip
    # Linear in logarithms between the two: of a row of 4 bytes only 4 of a piece are used.
    rows = ((4.0, 1.0, 4 / PIECE[device] * bandwidth), (PIECE[device], 1.0, bandwidth))
    return replace(sheet, gathers=rows, changes=rows)


def _xeon() -> Ceilings:
    cores = _of(PAPER_CPU, "sockets") * _of(PAPER_CPU, "cores")
    cycle = 2 * 16 * _of(PAPER_CPU, "AVX-512")  # FLOP: 16 float32 in 512 bits, a product and a sum
    flops = cores * cycle * 1e9 * _of(PAPER_CPU, "GHz")
    channels = _of(PAPER_CPU, "sockets") * _of(PAPER_CPU, "memory channels")
    bandwidth = channels * 8 * 1e6 * _of(PAPER_CPU, "million transfers")  # 64 bits a transfer
    return _known(PAPER_CPU, "cpu", {"float32": flops}, bandwidth, 0.0)


def _gpu(name: str, tensor: tuple[Precision, ...]) -> Ceilings:
    products: dict[Precision, float] = {"float32": 1e12 * _of(name, "TFLOP/s, float32")}
    products |= {kind: 1e12 * _of(name, f"TFLOP/s, {tensor[0]}") for kind in tensor}
    # 8 GT/s in generation 3, twice as many in each that follows; 128 bits in 130.
    lanes = 16 * 8e9 * 2 ** (_of(name, "generation") - 3)
    transfer = lanes / 8 * 128 / 130
    return _known(name, "cuda", products, 1e9 * _of(name, "GB/s"), transfer)


# float32 is full float32, as PyTorch multiplies unless it is asked for TF32.
KNOWN: dict[str, Ceilings] = {
    ceilings.name: ceilings
    for ceilings in (
        _xeon(),
        _gpu(PAPER_GPU, ("float16",)),
        _gpu("A100 80 GB", ("bfloat16", "float16")),
        _gpu("H100 80 GB", ("bfloat16", "float16")),
    )
}
