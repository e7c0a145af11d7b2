import math
from dataclasses import FrozenInstanceError, asdict, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm import DLRM, random_batch
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.models.dlrm_description import human
from dlrm_mini.models.dlrm_presets import PRESETS, kaggle, profile, rm1, rm2, rm3, terabyte

SMALL = DLRMConfig(3, {"user": 9, "item": 7}, 4, bottom=(8, 4), top=(6, 1))
WIDTH = st.integers(1, 9)


@st.composite
def configs(draw):
    dim, interaction = draw(WIDTH), draw(st.sampled_from(["dot", "cat"]))
    sizes = draw(st.lists(WIDTH, min_size=1, max_size=4))
    return DLRMConfig(
        n_dense=draw(WIDTH),
        cardinalities={f"t{place}": rows for place, rows in enumerate(sizes)},
        dim=dim,
        bottom=(*draw(st.lists(WIDTH, max_size=3)), dim),
        top=(*draw(st.lists(WIDTH, max_size=3)), 1),
        interaction=interaction,
        self_interaction=interaction == "dot" and draw(st.booleans()),
        pooling=draw(st.sampled_from(["sum", "mean"])),
        lookups=draw(st.integers(1, 3)),
        dropout=draw(st.sampled_from([0.0, 0.5])),
    )


@settings(max_examples=40)
@given(config=configs())
def test_the_counts_are_those_of_the_built_model(config):
    model = DLRM(config)
    built = {
        "embeddings": sum(p.numel() for p in model.tables.parameters()),
        "bottom MLP": sum(p.numel() for p in model.bottom.parameters()),
        "interaction": 0,
        "top MLP": sum(p.numel() for p in model.top.parameters()),
    }
    assert config.parameters() == built
    assert sum(built.values()) == sum(p.numel() for p in model.parameters())
    assert sum(config.bytes().values()) == sum(p.nbytes for p in model.parameters())
    assert model(random_batch(config, 3)).shape == (3,)
    assert model.describe(3) == config.describe(3)  # the shapes that came out are those expected


@pytest.mark.parametrize("name", PRESETS)
def test_scaled_presets_are_counted_as_they_are_built(name):
    config = PRESETS[name](1e-4)
    assert sum(config.parameters().values()) == sum(p.numel() for p in DLRM(config).parameters())


def test_kaggle_has_the_parameters_of_the_paper():
    config = kaggle()
    parameters = config.parameters()
    assert sum(config.cardinalities.values()) == 33_762_577
    assert parameters["embeddings"] == 540_201_232
    assert parameters["bottom MLP"] + parameters["top MLP"] == 155_984 + 320_001 == 475_985
    assert config.bottom_sizes == (13, 512, 256, 64, 16)
    assert config.top_sizes == (367, 512, 256, 1)
    assert parameters["embeddings"] / sum(parameters.values()) == pytest.approx(0.9991, abs=5e-5)
    assert replace(config, interaction="cat").top_input == 432
    five = sorted(config.cardinalities.values())[-5:]
    assert sum(five) / 33_762_577 == pytest.approx(0.983, abs=5e-4)


def fully_connected_flops(config, batch_size=1):
    flops = config.flops(batch_size)
    return flops["bottom MLP"] + flops["top MLP"]


def test_profile_has_the_work_and_the_bytes_of_the_paper():
    config = profile()
    forward_and_backward = 3 * fully_connected_flops(config, 2048)
    assert forward_and_backward == pytest.approx(30.7e9, abs=0.05e9)
    assert config.bytes(2048)["embeddings"] == 419_430_400
    assert config.n_dense == 512 and sum(config.cardinalities.values()) == 8_000_000


def test_terabyte_is_the_public_example():
    config = terabyte()
    assert sum(config.cardinalities.values()) == 177_944_275
    assert config.bytes()["embeddings"] == 4 * 128 * 177_944_275  # 91.1 GB
    mlps = config.parameters()["bottom MLP"] + config.parameters()["top MLP"]
    assert mlps == pytest.approx(2.37e6, rel=1e-3)
    assert config.top_input == 479


@pytest.mark.parametrize(
    ("preset", "flop", "read", "intensity"),
    [
        (rm1, 200_832, 81_920, 2.4516),
        (rm2, 639_104, 983_040, 0.6501),
        (rm3, 6_406_656, 25_600, 250.26),
    ],
)
def test_flop_per_byte_of_deeprecsys(preset, flop, read, intensity):
    """Forward FLOP of the fully connected parts per byte that is gathered."""
    config = preset()
    assert config.interaction == "cat"
    assert fully_connected_flops(config) == flop
    assert config.bytes(1)["embeddings"] == read
    assert flop / read == pytest.approx(intensity, rel=5e-5)


@settings(max_examples=20)
@given(config=configs(), rows=st.integers(1, 5))
def test_flops_of_the_mlps_are_those_torch_counts(config, rows):
    model, flops = DLRM(config), config.flops(rows)
    for part, network, width in (
        ("bottom MLP", model.bottom, config.n_dense),
        ("top MLP", model.top, config.top_input),
    ):
        with FlopCounterMode(display=False) as forward:
            out = network(torch.randn(rows, width, requires_grad=True))
        assert forward.get_total_flops() == flops[part]
        with FlopCounterMode(display=False) as backward:
            out.sum().backward()
        assert backward.get_total_flops() == 2 * flops[part]


def test_flops_and_bytes_of_the_other_parts_by_hand():
    config = replace(SMALL, lookups={"item": 5})
    assert config.lookups_by_table == {"user": 1, "item": 5}
    flops = config.flops(10)
    assert flops["embeddings"] == 10 * 4 * 4  # rows, additions of five vectors, width
    assert flops["interaction"] == 10 * 3 * 4 * 2  # rows, pairs, width, multiply and add
    assert replace(config, interaction="cat").flops(10)["interaction"] == 0
    assert replace(config, self_interaction=True).flops(10)["interaction"] == 10 * 6 * 4 * 2
    assert config.bytes(10)["embeddings"] == 10 * 6 * 4 * 4  # rows, ids, width, bytes
    assert config.bytes(10)["top MLP"] == config.bytes()["top MLP"] == 4 * (7 * 6 + 6 + 6 + 1)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"bottom": (8, 5)}, "change the last number of bottom to 4, or dim to 5"),
        ({"bottom": ()}, r"bottom has no layer; change it to at least \(4,\)"),
        ({"top": ()}, r"top has no layer; change it to at least \(1,\)"),
        ({"top": (6, 2)}, r"ends at 2, but a row has one logit: change top to \(6, 2, 1\)"),
        ({"n_dense": 0}, "change n_dense to 1"),
        ({"n_dense": -1}, "n_dense is -1; change it to a whole number of at least 1"),
        ({"dim": 0}, "dim is 0; change it to"),
        ({"dim": 4.0}, "dim is 4.0; change it to a whole number"),
        ({"bottom": (0, 4)}, r"bottom\[0\] is 0; change it to"),
        ({"top": (6, -3, 1)}, r"top\[1\] is -3; change it to"),
        ({"cardinalities": {}}, "change it to at least one sparse feature"),
        ({"cardinalities": {"user": 0}}, r"cardinalities\['user'\] is 0; change it to"),
        ({"interaction": "sum"}, "interaction is 'sum'; change it to 'dot' or 'cat'"),
        ({"pooling": "max"}, "pooling is 'max'; change it to 'sum' or 'mean'"),
        ({"interaction": "cat", "self_interaction": True}, "change self_interaction to False"),
        ({"lookups": 0}, "lookups is 0; change it to"),
        ({"lookups": {"user": 0}}, r"lookups\['user'\] is 0; change it to"),
        ({"lookups": {"movie": 2}}, "feature 'movie', .* change it to one of user, item"),
        ({"dropout": 1.0}, "dropout is 1.0; change it to at least 0 and less than 1"),
        ({"dropout": -0.1}, "dropout is -0.1"),
        ({"dropout": math.nan}, "dropout is nan"),
    ],
)
def test_what_does_not_fit_is_said_in_one_sentence(change, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        replace(SMALL, **change)
    assert "\n" not in str(caught.value) and str(caught.value).count(". ") == 0


def test_a_configuration_is_a_value():
    sizes = {"user": 9}
    config = DLRMConfig(3, sizes, 4, bottom=[8, 4], top=[1], lookups={"user": 2})
    sizes["user"] = 0
    assert config.cardinalities == {"user": 9} and config.bottom == (8, 4)
    assert DLRMConfig(**asdict(config)) == config
    with pytest.raises(FrozenInstanceError):
        config.dim = 5


def test_scale_shrinks_the_tables_but_leaves_each_a_row():
    small = kaggle(0.001)
    assert small.cardinalities["C3"] == 10_131 and small.cardinalities["C9"] == 1
    assert replace(small, cardinalities=kaggle().cardinalities) == kaggle()
    assert profile(2).cardinalities["table8"] == 2_000_000


@pytest.mark.parametrize("scale", [0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", PRESETS)
def test_a_scale_that_is_none_is_explained(name, scale):
    with pytest.raises(UserError, match=f"scale is {scale}; change it to a number above 0"):
        PRESETS[name](scale)


@pytest.mark.parametrize("name", PRESETS)
def test_a_description_is_a_table_that_fits(name):
    config = PRESETS[name]()
    lines = config.describe().splitlines()
    assert max(map(len, lines)) <= 88
    table = [line for line in lines if not line.startswith(("-", "A forward"))]
    assert len({len(line) for line in table if line.endswith("B")}) == 1  # aligned on the right
    assert f"{sum(config.parameters().values()):,}" in lines[-2]
    listed = [line for line in lines if " rows" in line and line.startswith("  ")]
    counts = [int(line.split()[-3].replace(",", "")) for line in listed]
    assert sum(counts) == config.parameters()["embeddings"]
    assert len(listed) <= 8


def test_a_description_in_full():
    config = replace(SMALL, lookups={"item": 5})
    names = {f"a_feature_with_a_long_name_{k}": 10**k for k in range(1, 3)}
    assert "  a_feature_w…: 100 rows" in replace(SMALL, cardinalities=names).describe()
    assert config.describe(10).splitlines() == [
        "step                                output shape            parameters       bytes",
        "-" * 82,
        "dense features                      (10, 3)",
        "bottom MLP                                                          68       272 B",
        "  3 -> 8, ReLU                      (10, 8)                         32       128 B",
        "  8 -> 4, ReLU                      (10, 4)                         36       144 B",
        "2 tables, sum pooling               (10, 2, 4)                      64       256 B",
        "  user: 9 rows                                                      36       144 B",
        "  item: 7 rows, 5 ids                                               28       112 B",
        "dense vector, 3 dot products        (10, 7)",
        "top MLP                                                             55       220 B",
        "  7 -> 6, ReLU                      (10, 6)                         48       192 B",
        "  6 -> 1                            (10, 1)                          7        28 B",
        "logits                              (10,)",
        "-" * 82,
        "total                                                              187       748 B",
        "A forward pass of 10 rows looks up 960 B of vectors and takes 2.48 kFLOP.",
    ]


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (999, "999 B"), (999.7, "1.00 kB"), (1500, "1.50 kB"), (65_792, "65.8 kB"),
     (419_430_400, "419 MB"), (2_162_708_868, "2.16 GB"), (5e15, "5000 TB")],
)  # fmt: skip
def test_units(number, text):
    assert human(number, "B") == text
