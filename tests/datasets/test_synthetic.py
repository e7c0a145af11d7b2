"""The synthetic click log against slow references, exact laws and what it promises."""

import copy
import hashlib
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from dlrm_mini import metrics
from dlrm_mini.datasets import synthetic, synthetic_kernels, synthetic_teacher, synthetic_text
from dlrm_mini.datasets.synthetic import ClickLog, ClickLogConfig, Rows, criteo_cardinalities
from dlrm_mini.errors import UserError

MANY = 2**18
FIELDS = {"a": 40, "b": 300, "c": 5000, "d": 12, "e": 2, "f": 1}
SMALL = ClickLogConfig(
    FIELDS,
    n_dense=3,
    second=0.8,
    bags={"b": 3},
    third=0.6,
    n_pairs=4,
    n_triples=2,
    teacher_ids=20,
    seed=5,
)


@pytest.fixture(scope="module")
def small() -> ClickLog:
    return ClickLog(SMALL, threads=1)


@pytest.fixture(scope="module")
def many(small) -> Rows:
    return small.rows(0, MANY)


@pytest.fixture(scope="module")
def criteo() -> ClickLog:
    return ClickLog(ClickLogConfig(criteo_cardinalities(0.001)))


def bags(sparse, name: str) -> list[list[int]]:
    values, offsets = sparse[name]
    return [values[a:b].tolist() for a, b in pairwise(offsets.tolist())]


# The same rows, however they are asked for.


@settings(max_examples=15, deadline=None)
@given(
    start=st.integers(0, 2**62 - 20_000) | st.integers(0, 3000),
    lengths=st.lists(st.integers(0, 5000), min_size=1, max_size=4),  # 4096 rows: 4 threads
    threads=st.integers(1, 4),
)
def test_any_chunking_and_any_threads_give_the_same_rows(small, start, lengths, threads):
    log = copy.copy(small)
    log.threads = threads
    cuts = np.cumsum([start, *lengths]).tolist()
    whole = small.rows(cuts[0], cuts[-1])
    parts = [log.rows(a, b) for a, b in pairwise(cuts)]
    for name in ("dense", "labels", "probability"):
        together = torch.cat([getattr(part, name) for part in parts])
        assert torch.equal(together.nan_to_num(-9), getattr(whole, name).nan_to_num(-9))
    assert torch.equal(torch.cat([part.terms for part in parts], dim=1), whole.terms)
    for name in log.names:
        assert torch.equal(torch.cat([p.sparse[name][0] for p in parts]), whole.sparse[name][0])
    lengths = torch.cat([part.sparse.lengths() for part in parts], dim=1)
    assert torch.equal(lengths, whole.sparse.lengths())


def test_the_log_of_a_seed_never_changes():
    """Records hold figures of these rows: a change here makes them figures of another log."""
    rows = ClickLog(ClickLogConfig(criteo_cardinalities(0.01))).rows(10**10, 10**10 + 2000)
    digest = hashlib.sha256(rows.sparse.values.numpy().tobytes())
    digest.update(rows.dense.nan_to_num(-9).numpy().tobytes())
    digest.update(rows.labels.numpy().tobytes())
    assert digest.hexdigest()[:16] == "5dc99060403e9a3f"
    assert float(rows.probability.sum()) == pytest.approx(527.57001628, abs=1e-6)


def test_another_seed_is_another_log(small):
    other = ClickLog(replace(SMALL, seed=6)).rows(0, 1000)
    mine = small.rows(0, 1000)
    assert (other.sparse.ids("c") != mine.sparse.ids("c")).float().mean() > 0.5
    assert (other.labels != mine.labels).float().mean() > 0.2


# Ids, bags, dense features, missing values.


@pytest.mark.parametrize("zipf", [0.0, 0.6, 1.0, 1.05, 2.5])
def test_ids_come_as_often_as_said(zipf):
    config = ClickLogConfig(
        {"x": 60, "y": 10_000_000}, n_dense=0, zipf=zipf, n_pairs=1, dense_pairs=0
    )
    log = ClickLog(config)
    sparse = log.rows(0, MANY).sparse
    chance = log.id_probability("x", torch.arange(60))
    assert float(chance.sum()) == pytest.approx(1, abs=1e-12)
    assert float(chance[59]) == config.missing_sparse  # the last id is "missing"
    edges = torch.arange(1, 61, dtype=torch.float64)
    cuts = edges.log() if zipf == 1 else edges ** (1 - zipf)
    law = cuts.diff() / (cuts[-1] - cuts[0]) * (1 - config.missing_sparse)
    torch.testing.assert_close(chance[:59], law, rtol=1e-9, atol=1e-12)
    counts = torch.bincount(sparse.ids("x"), minlength=60)
    z = (counts - MANY * chance) / (MANY * chance * (1 - chance)).sqrt()
    assert z.abs().max() < 4.5
    # The long field, in decades.
    for low, high in pairwise([0, 10, 1000, 100_000, 9_999_999]):
        share = float(log.id_probability("y", torch.arange(low, high)).sum())
        ids = sparse.ids("y")
        found = float(((ids >= low) & (ids < high)).double().mean())
        assert abs(found - share) < 4.5 * (share / MANY) ** 0.5 + 1e-9
    assert int(sparse.ids("y").max()) == 9_999_999


def test_bags_have_every_length_equally_often_and_no_id_for_missing(small, many):
    lengths = many.sparse.lengths()[small.names.index("b")]
    counts = torch.bincount(lengths)
    assert len(counts) == 7 and abs(float(lengths.double().mean()) - 3) < 0.02
    assert ((counts / MANY - 1 / 7).abs() < 4.5 * (1 / 7 / MANY) ** 0.5).all()
    values, offsets = many.sparse["b"]
    chance = small.id_probability("b", torch.arange(300))
    assert float(chance.sum()) == pytest.approx(1, abs=1e-12)
    expected = len(values) * chance
    assert ((torch.bincount(values, minlength=300) - expected) / expected.sqrt()).abs().max() < 4.5
    first = values[offsets[:-1][lengths > 1]], values[offsets[:-1][lengths > 1] + 1]
    top = chance[0]
    both = float(((first[0] == 0) & (first[1] == 0)).double().mean())
    assert both == pytest.approx(float(top**2), abs=4.5 * float(top) / len(first[0]) ** 0.5)


def test_fields_are_independent_of_each_other_and_of_the_row_before(many):
    a, c, d = (many.sparse.ids(name).double() for name in "acd")
    columns = torch.stack([a[1:], a[:-1], c[1:].log1p(), d[1:], many.dense[1:, 0].isnan().double()])
    off_diagonal = torch.corrcoef(columns) - torch.eye(5)
    assert off_diagonal.abs().max() < 4.5 / MANY**0.5


def test_a_single_id_has_no_room_for_missing(many):
    assert int(many.sparse.ids("f").max()) == 0


def test_missing_values_come_as_often_as_said(small, many):
    limit = 4.5 * 0.5 / MANY**0.5
    for name in "acde":
        share = float((many.sparse.ids(name) == FIELDS[name] - 1).double().mean())
        assert share == pytest.approx(0.11, abs=limit)
    assert (many.dense.isnan().double().mean(0) - 0.21).abs().max() < limit + 2**-12


def test_dense_features_are_counts_with_heavy_tails(many):
    seen = many.dense.nan_to_num(0)
    assert torch.equal(seen, seen.round())
    assert sorted(seen[:, 1].unique().tolist())[:2] == [-2, -1]
    assert seen[:, [0, 2]].min() >= 0
    for column in many.dense.T:
        assert column[~column.isnan()].max() > 20 * column.nanmedian()


def test_a_batch_is_the_rows_transformed(small):
    rows = small.rows(100, 3000)
    batch, probability = small.batch(100, 3000)
    expected = rows.dense.double().clamp(min=0).nan_to_num(0).log1p().float()
    torch.testing.assert_close(batch.dense, expected, rtol=1e-6, atol=0)
    assert torch.equal(batch.sparse.values, rows.sparse.values)
    assert torch.equal(batch.labels, rows.labels) and torch.equal(probability, rows.probability)
    assert batch.dense.dtype == batch.labels.dtype == torch.float32


# The teacher.


def slow_terms(log: ClickLog, rows: Rows) -> np.ndarray:
    """The three orders, row by row, in the words of the teacher's docstring."""
    teacher, plan = log._teacher, log._plan
    terms = np.zeros((3, len(rows.labels)))
    ids = {name: bags(rows.sparse, name) for name in log.names}
    for r in range(len(rows.labels)):
        vectors = {}
        for place, name in enumerate(log.names):
            sums = np.zeros(1 + log.config.teacher_dim)
            for i in ids[name][r]:
                own = i if i < plan.head[place] else plan.head[place]
                own = plan.head[place] + 1 if i == plan.missing[place] else own
                sums += plan.table[plan.row[place] + own]
            terms[0, r] += sums[0]
            vectors[name] = sums[1:]
        for place, name in enumerate(log.dense_names):
            column = np.log1p(np.maximum(np.nan_to_num(teacher.counts[place]), 0)).astype(
                np.float64
            )
            value = np.log1p(max(float(rows.dense[r, place].nan_to_num(0)), 0))
            standard = (value - column.mean()) / column.std()
            terms[0, r] += standard * plan.dense_table[place, 0]
            vectors[name] = standard * plan.dense_table[place, 1:]
        for pair, scale in zip(log.pairs, plan.pair_scale, strict=True):
            terms[1, r] += scale * np.prod([vectors[name] for name in pair], axis=0).sum()
        for triple, scale in zip(log.triples, plan.triple_scale, strict=True):
            terms[2, r] += scale * np.prod([vectors[name] for name in triple], axis=0).sum()
    return terms


def test_terms_are_those_of_a_row_by_row_reference(small):
    rows = small.rows(77, 677)
    np.testing.assert_allclose(rows.terms.numpy(), slow_terms(small, rows), rtol=1e-6, atol=1e-6)


def test_each_order_has_its_strength_and_knows_nothing_of_the_others(many):
    strengths = torch.tensor([SMALL.first, SMALL.second, SMALL.third], dtype=torch.float64)
    torch.testing.assert_close(many.terms.std(1), strengths, rtol=0.02, atol=0)
    assert (many.terms.mean(1) / strengths).abs().max() < 4.5 / MANY**0.5
    assert (torch.corrcoef(many.terms) - torch.eye(3)).abs().max() < 0.02


def test_a_lower_order_sees_nothing_of_a_higher_one(small, many):
    """The mean of the second order given any one id is 0, of the third given any two."""
    second, third = many.terms[1], many.terms[2]
    for name in "acd":
        groups = many.sparse.ids(name).clamp(max=25)
        counts = torch.bincount(groups)
        means = torch.zeros(len(counts), dtype=torch.float64).index_add(0, groups, second) / counts
        assert (means.abs() * counts.sqrt())[counts > 500].max() < 6 * float(second.std())
    a, b = small.triples[0][0], small.triples[0][1]
    if "b" not in (a, b):
        groups = many.sparse.ids(a).clamp(max=5) * 6 + many.sparse.ids(b).clamp(max=5)
        counts = torch.bincount(groups, minlength=36)
        means = torch.zeros(len(counts), dtype=torch.float64).index_add(0, groups, third) / counts
        assert (means.abs() * counts.sqrt())[counts > 500].max() < 6 * float(third.std())


def test_what_is_planted_adds_up(small):
    names, matrix = small.planted_pairs()
    assert names == ("dense", *FIELDS) and torch.equal(matrix, matrix.T)
    assert float(matrix.square().sum() / 2) == pytest.approx(SMALL.second**2)
    assert int((matrix > 0).sum()) == 2 * len(small.pairs) and matrix[0].max() > 0
    assert sum(value**2 for value in small.planted_triples().values()) == pytest.approx(0.36)
    assert sum(value**2 for value in small.planted_first().values()) == pytest.approx(0.64)
    assert set(small.planted_first()) == {"I1", "I3", *"abcde"}
    strengths = list(small.planted_triples().values())
    assert strengths == sorted(strengths, reverse=True) and strengths[-1] / strengths[0] == 0.5


def test_orders_that_are_not_wanted_are_not_there():
    log = ClickLog(ClickLogConfig(FIELDS, n_dense=0, first=0, second=0, n_pairs=0, dense_pairs=0))
    rows = log.rows(0, 1000)
    assert log.pairs == log.triples == () and not rows.terms.any()
    assert float(rows.probability.std()) < 1e-12 and rows.dense.shape == (1000, 0)


@pytest.mark.parametrize("base_rate", [0.03, 0.256, 0.5])
def test_base_rate(base_rate):
    rows = ClickLog(replace(SMALL, base_rate=base_rate)).rows(0, MANY)
    limit = 4.5 * (base_rate / MANY) ** 0.5
    assert float(rows.probability.mean()) == pytest.approx(base_rate, abs=2 * limit)
    assert float(rows.labels.mean()) == pytest.approx(float(rows.probability.mean()), abs=limit)


@pytest.mark.parametrize("noise", [0.0, 0.5, 2.0, 5.0])
def test_the_probability_is_the_mean_over_the_noise(noise):
    logits = np.linspace(-20, 20, 2001) + 0.001234
    found = np.empty_like(logits)
    synthetic_kernels.click_probability(logits, synthetic_teacher.curve(noise), found)
    nodes, weights = np.polynomial.legendre.leggauss(400)
    z = 10 * nodes
    density = 10 * weights * np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    expected = (density / (1 + np.exp(-(logits[:, None] + noise * z)))).sum(1)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-11)


def test_the_series_are_powers_and_logarithms():
    @njit
    def both(x, logs, powers):
        for k in range(len(x)):
            logs[k], powers[k] = synthetic_kernels.log2(x[k]), synthetic_kernels.exp2(x[k])

    x = np.concatenate([np.linspace(1e-9, 40, 100_001), np.exp2(np.arange(-50.0, 9))])
    logs, powers = np.empty_like(x), np.empty_like(x)
    both(x, logs, powers)
    np.testing.assert_allclose(logs, np.log2(x), rtol=0, atol=1e-13)
    np.testing.assert_allclose(powers, np.exp2(x), rtol=1e-13)


# The optimum.


def test_no_other_answer_is_better_than_the_true_probability(many):
    best = torch.logit(many.probability)
    truth = metrics.logloss(best, many.labels)
    noise = torch.randn(MANY, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for other in (best + 0.1, best - 0.1, best * 1.1, best * 0.9, best + 0.2 * noise):
        assert metrics.logloss(other, many.labels) > truth
    assert metrics.auc(best + 0.2 * noise, many.labels) < metrics.auc(best, many.labels)


def test_the_true_probability_is_calibrated(many):
    order = many.probability.argsort()
    for rows in order.chunk(40):
        p = many.probability[rows]
        error = many.labels[rows].double().sum() - p.sum()
        assert abs(float(error)) < 4.5 * float((p * (1 - p)).sum()) ** 0.5


def test_the_optimum_is_what_the_labels_give_up_to_chance(small, many):
    found, logits = small.optimum(0, MANY), torch.logit(many.probability)
    assert found["logloss"] == pytest.approx(metrics.logloss(logits, many.labels), abs=0.004)
    assert found["ne"] == pytest.approx(metrics.normalised_entropy(logits, many.labels), abs=0.004)
    assert found["auc"] == pytest.approx(metrics.auc(logits, many.labels), abs=0.004)
    parts = [small.optimum(a, b)["logloss"] for a, b in pairwise(range(0, MANY + 1, MANY // 4))]
    assert np.mean(parts) == pytest.approx(found["logloss"], abs=1e-12)


@given(st.lists(st.sampled_from([0.1, 0.25, 0.5, 0.9, 0.95]), min_size=2, max_size=12))
def test_expected_auc_is_the_sum_over_pairs(chances):
    above = total = 0.0
    for i, p in enumerate(chances):
        for j, q in enumerate(chances):
            if i != j:
                above += p * (1 - q) * (1.0 if p > q else 0.5 if p == q else 0.0)
                total += p * (1 - q)
    found = synthetic._auc(torch.tensor(chances, dtype=torch.float64))
    assert found == pytest.approx(above / total, abs=1e-12)


# Text.


def test_text_says_what_the_rows_say(criteo, tmp_path, capsys):
    n = synthetic_text.CHUNK + 500
    path = synthetic_text.write(criteo, tmp_path / "train.txt", 5, 5 + n)
    assert [file.name for file in tmp_path.iterdir()] == ["train.txt"]
    assert f"train.txt: {n / 1000:.1f}k/" in capsys.readouterr().err
    lines = path.read_bytes().decode("ascii").split("\n")
    assert lines.pop() == "" and len(lines) == n
    rows = criteo.rows(5, 5 + n)
    fields = [line.split("\t") for line in lines]
    assert {len(line) for line in fields} == {40}
    assert [float(line[0]) for line in fields] == rows.labels.tolist()
    integers = [[int(x) if x else -9 for x in line[1:14]] for line in fields]
    assert torch.equal(torch.tensor(integers).float(), rows.dense.nan_to_num(-9))
    for place, name in enumerate(criteo.names):
        ids, words = rows.sparse.ids(name), [line[14 + place] for line in fields]
        assert synthetic_text.tokens(criteo, name, ids) == words
        missing = ids == criteo.config.cardinalities[name] - 1
        if criteo.config.cardinalities[name] > 1:
            assert [word == "" for word in words] == missing.tolist()
        assert {len(word) for word in words} <= {0, 8}
        assert len(set(words)) == len(ids.unique())  # no two ids share a word
    assert path.stat().st_size <= n * synthetic_text.MOST_BYTES


def test_text_is_the_same_in_any_pieces(criteo, tmp_path):
    cuts = [0, 7, 20_000, 33_000]
    parts = [
        synthetic_text.write(criteo, tmp_path / str(a), a, b).read_bytes()
        for a, b in pairwise(cuts)
    ]
    assert synthetic_text.write(criteo, tmp_path / "x", 0, 33_000).read_bytes() == b"".join(parts)
    assert synthetic_text.write(criteo, tmp_path / "x", 3, 3).read_bytes() == b""  # replaced


def test_text_that_cannot_be_written_leaves_what_was_there(criteo, small, tmp_path, monkeypatch):
    path = tmp_path / "train.txt"
    path.write_text("mine")
    chunks = iter([np.frombuffer(b"0\n", np.uint8)])

    def full(log, rows):
        for chunk in chunks:
            return chunk
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"3 dense columns and 6 fields, 1 of them bags"):
        synthetic_text.write(small, path, 0, 10)
    with pytest.raises(UserError, match=r"Rows -1\.\.10 were asked for"):
        synthetic_text.write(criteo, path, -1, 10)
    with pytest.raises(UserError, match=r"nowhere.*No such file.*room for about 0 MB"):
        synthetic_text.write(criteo, tmp_path / "nowhere" / "x", 0, 10)
    monkeypatch.setattr(synthetic_text, "lines", full)
    with pytest.raises(UserError, match=r"train\.txt cannot be written.*No space left.*10 MB"):
        synthetic_text.write(criteo, path, 0, 40_000)
    assert path.read_text() == "mine" and list(tmp_path.iterdir()) == [path]


def test_text_that_does_not_fit_is_not_begun(criteo, tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic_text, "lines", None)
    with pytest.raises(UserError, match=r"Rows 0\.\.99999999999999999999 were asked for"):
        synthetic_text.write(criteo, tmp_path / "train.txt", 0, 99999999999999999999)
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(
        UserError, match=r"40,001 rows are about 10 MB, and its disk has room for 10"
    ):
        synthetic_text.write(criteo, tmp_path / "train.txt", 7, 40_008)
    monkeypatch.undo()
    synthetic_text.write(criteo, tmp_path / "train.txt.gz", 7, 8)
    assert [path.name for path in tmp_path.iterdir()] == ["train.txt.gz"]


# What is refused, and what it costs to ask.


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"cardinalities": {}}, "There are no cardinalities"),
        ({"cardinalities": {"a": 0}}, "cardinality of a is 0; expected a whole number, in 1"),
        ({"cardinalities": {"a": 2.5}}, "cardinality of a is 2.5"),
        ({"cardinalities": {"I2": 5}}, "'I2', which is the name of dense features"),
        ({"n_dense": -1}, "n_dense is -1; expected a whole number, 0 or more"),
        ({"zipf": float("nan")}, "zipf is nan; expected a number in 0..4"),
        ({"bags": {"z": 2}}, "bags names 'z', which is no field; there are a, b, c"),
        ({"bags": {"a": 0}}, "mean length of the bags of a is 0"),
        ({"missing_dense": 1.0}, "missing_dense is 1.0; expected a number in 0..0.9"),
        ({"missing_sparse": -0.1}, "missing_sparse is -0.1"),
        ({"noise": -1}, "noise is -1"),
        ({"base_rate": 0}, "base_rate is 0; expected a number in 0.0001..0.9999"),
        ({"seed": -1}, "seed is -1"),
        ({"teacher_dim": 0}, "teacher_dim is 0"),
        ({"teacher_ids": 1}, "teacher_ids is 1; expected a whole number, in 2..1,048,576"),
        ({"second": 1.0, "n_pairs": 0}, "plant a pair, or set second to 0"),
        ({"third": 1.0, "n_triples": 0}, "plant a triple, or set third to 0"),
        ({"n_pairs": 12, "dense_pairs": 1}, "at most 10 pairs of fields and 15 of a dense column"),
        ({"n_pairs": 1, "dense_pairs": 2}, "n_pairs is 1, dense_pairs 2 of them"),
        ({"third": 1.0, "n_triples": 11}, "5 fields with two ids or more have at most 10 triples"),
        ({"cardinalities": {"a": 1}, "n_dense": 0}, "every field has one id only"),
    ],
)
def test_a_configuration_that_makes_no_log_is_refused(change, sentence):
    with pytest.raises(UserError) as caught:
        replace(SMALL, **{"bags": {}, **change})
    assert sentence in str(caught.value)


def test_everything_that_can_be_planted_can_be():
    log = ClickLog(replace(SMALL, n_pairs=25, dense_pairs=15, n_triples=10))
    assert len(set(log.pairs)) == 25 and len(set(log.triples)) == 10


def test_questions_without_an_answer_are_refused(small):
    with pytest.raises(UserError, match=r"Rows 5\.\.4 were asked for"):
        small.batch(5, 4)
    with pytest.raises(UserError, match=r"Rows 5\.\.5 are none"):
        small.optimum(5, 5)
    with pytest.raises(UserError, match="no field 'z'; there are a, b"):
        small.id_probability("z", torch.tensor([0]))
    with pytest.raises(UserError, match=r"a has no id 40; expected ids in 0\.\.39"):
        small.id_probability("a", torch.tensor([0, 40]))
    with pytest.raises(UserError, match="threads is 0"):
        ClickLog(SMALL, threads=0)
    with pytest.raises(UserError, match="scale is 0"):
        criteo_cardinalities(0)
    assert len(small.rows(9, 9).labels) == 0


def test_criteo_is_the_default():
    config = ClickLogConfig()
    assert len(config.cardinalities) == 26 and config.n_dense == 13
    assert sum(config.cardinalities.values()) == 33_762_577
    assert min(criteo_cardinalities(1e-9).values()) == 1


def test_a_configuration_imports_nothing_heavy():
    code = (
        "import sys, dlrm_mini.datasets.synthetic_config; "
        "print([m for m in ('torch', 'numpy', 'numba') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
