"""Sharded checkpoints: the same bits under any plan, all or nothing, and damage found."""

import json
import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch

from dlrm_mini.embeddings import FusedEmbeddingTables
from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm import DLRM
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.optimizers import SGD, Adagrad, RowWiseAdagrad
from dlrm_mini.parallel import shard_files, sharded_checkpoints
from dlrm_mini.parallel.held import held, replicated
from dlrm_mini.parallel.sharded_checkpoints import gather, load, save
from dlrm_mini.parallel.sharded_model import ShardedDLRM
from dlrm_mini.parallel.sharding import FORMS, Placement, Plan
from dlrm_mini.parallel.simulated import SimulatedCluster

CONFIG = DLRMConfig(2, {"a": 7, "b": 3, "c": 11}, 4, bottom=(5, 4), top=(3, 1))
RULES = {"sgd": SGD, "adagrad": Adagrad, "rowwise_adagrad": RowWiseAdagrad}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Without waiting for a disk, hundreds of times."""
    monkeypatch.setattr(os, "fsync", lambda number: None)


def a_plan(size: int, seed: int) -> Plan:
    """Any form on any ranks for every table."""
    draw, placements = random.Random(seed), {}
    for name, rows in CONFIG.cardinalities.items():
        form = draw.choice(FORMS)
        most = {"table-wise": 1, "row-wise": rows, "column-wise": CONFIG.dim}.get(form, 0)
        number = min(size, draw.randint(1, most)) if most else 0
        placements[name] = Placement(form, tuple(draw.sample(range(size), number)))
    return Plan(size, CONFIG.cardinalities, CONFIG.dim, placements)


def whole(rule: str, seed: int = 0, state: bool = True, dtype=torch.float64):
    """A trained model on one device: every number of weights and state another one."""
    torch.manual_seed(seed)
    model = DLRM(CONFIG).to(dtype)
    optimizer = RULES[rule](model.parameters(), 0.1 + seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.randn_like(parameter))
            if rule != "sgd" and state:
                by_row = rule == "rowwise_adagrad" and name.startswith("tables.")
                shape = parameter.shape[:1] if by_row else parameter.shape
                optimizer.state[parameter]["sum"] = torch.rand(shape, dtype=dtype)
    return model, optimizer


def split(plan: Plan, communicator, rule: str, dtype=torch.float64, fused: bool = False):
    model = ShardedDLRM(CONFIG, plan, communicator, seed=5, dtype=dtype, fused=fused)
    return model, RULES[rule](model.parameters(), 9.0)


def same(one, other) -> bool:
    """Whether weights, state and rates of two whole models are the same bits."""
    pairs = [(one[0].state_dict(), other[0].state_dict())]
    for p, q in zip(one[0].parameters(), other[0].parameters(), strict=True):
        pairs.append((one[1].state.get(p, {}), other[1].state.get(q, {})))
    rates = [[group["lr"] for group in optimizer.param_groups] for _, optimizer in (one, other)]
    return rates[0] == rates[1] and all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) for a, b in pairs
    )


def carried(folder: Path, sizes_and_plans, rule: str, extra=None, **options):
    """From the folder into a split model and back into the folder, once for each plan."""
    for size, plan in sizes_and_plans:

        def once(communicator, plan=plan):
            model, optimizer = split(plan, communicator, rule, **options)
            extra = load(folder, model, optimizer, communicator)
            save(folder, model, optimizer, communicator, extra)
            return extra

        found = SimulatedCluster(size).run(once)
        assert all(each == extra for each in found)


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(0, 10**6)), min_size=1, max_size=3),
    st.sampled_from(sorted(RULES)),
    st.booleans(),
)
def test_any_plan_to_any_other_keeps_every_bit(tmp_path_factory, chosen, rule, state):
    folder = tmp_path_factory.mktemp("carried") / "shards"
    model, optimizer = whole(rule, state=state)
    extra = {"epoch": 3, "table": [{"loss": 0.1}], "shape": (1, 2)}
    save(folder, model, optimizer, extra=extra)
    carried(folder, [(size, a_plan(size, seed)) for size, seed in chosen], rule, extra)
    again, its = whole(rule, seed=1)
    assert load(folder, again, its) == extra
    if not state:  # what no gradient has made yet is as good as zeros
        for p in again.parameters():
            assert not its.state.get(p) or not its.state[p]["sum"].any()
            its.state.pop(p, None)
    assert same((model, optimizer), (again, its))
    found = gather(folder)
    assert list(found) == list(model.state_dict())
    assert all(torch.equal(found[name], value) for name, value in model.state_dict().items())


def test_each_form_holds_its_own_rectangle_of_the_state(tmp_path):
    """One number a row is the same for all pieces of columns; one an entry is cut as weights."""
    placements = {"a": Placement("column-wise", (1, 0)), "b": Placement("data-parallel"),
                  "c": Placement("row-wise", (0, 1))}  # fmt: skip
    plan = Plan(2, CONFIG.cardinalities, CONFIG.dim, placements)
    for rule in ("rowwise_adagrad", "adagrad"):
        model, optimizer = whole(rule)
        save(tmp_path / rule, model, optimizer)
        state = {name: optimizer.state[table]["sum"] for name, table in model.tables.tables.items()}

        def check(communicator, rule=rule, state=state, model=model):
            mine, its = split(plan, communicator, rule)
            load(tmp_path / rule, mine, its, communicator)
            for piece in held(mine):
                cut = tuple(slice(*ends) for ends in (piece.shard.rows, piece.shard.columns))
                expected = state[piece.shard.table]
                expected = expected[cut[: expected.ndim]]
                assert torch.equal(its.state[piece.parameter]["sum"], expected)
                table = model.tables.tables[piece.shard.table]
                assert torch.equal(piece.weight, table[cut])
            return len(held(mine))

        assert SimulatedCluster(2).run(check) == [3, 3]


def test_shards_of_fused_tables_lie_in_one_parameter(tmp_path):
    model, optimizer = whole("rowwise_adagrad", dtype=torch.float32)
    save(tmp_path, model, optimizer, extra={})
    plans = [(3, a_plan(3, seed)) for seed in range(4)]
    carried(tmp_path, plans, "rowwise_adagrad", {}, dtype=torch.float32, fused=True)
    again, its = whole("rowwise_adagrad", seed=1, dtype=torch.float32)
    load(tmp_path, again, its)
    assert same((model, optimizer), (again, its))
    fused = DLRM(CONFIG, tables=FusedEmbeddingTables(CONFIG.cardinalities, CONFIG.dim))
    rule = RowWiseAdagrad(fused.parameters(), 0.1)
    load(tmp_path, fused, rule)
    save(tmp_path, fused, rule)
    again, its = whole("rowwise_adagrad", seed=1, dtype=torch.float32)
    load(tmp_path, again, its)
    assert same((model, optimizer), (again, its))


def test_torchs_own_adagrad_keeps_its_steps(tmp_path):
    """Its state has a number beside the sums."""

    def made():
        model = DLRM(CONFIG)
        return model, torch.optim.Adagrad(model.parameters(), 0.1, initial_accumulator_value=1e-3)

    model, optimizer = made()
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    save(tmp_path, model, optimizer)

    def moved(communicator):
        mine = ShardedDLRM(CONFIG, a_plan(3, 2), communicator)
        its = torch.optim.Adagrad(mine.parameters(), 7.0)
        load(tmp_path, mine, its, communicator)
        save(tmp_path, mine, its, communicator)

    SimulatedCluster(3).run(moved)
    again = made()
    load(tmp_path, *again)
    assert same((model, optimizer), again)


def test_a_rank_reads_only_the_files_it_needs(tmp_path, monkeypatch):
    placements = {"a": Placement("table-wise", (0,)), "b": Placement("table-wise", (1,)),
                  "c": Placement("row-wise", (2, 3))}  # fmt: skip
    plan = Plan(4, CONFIG.cardinalities, CONFIG.dim, placements)
    model, optimizer = whole("adagrad")
    save(tmp_path, model, optimizer)
    carried(tmp_path, [(4, plan)], "adagrad", {})
    opened: list[tuple[int, str]] = []

    def check(communicator):
        def noted(path, manifest, keep=shard_files.open_tensors):
            opened.append((communicator.rank, path.name))
            return keep(path, manifest)

        with monkeypatch.context() as patch:
            patch.setattr(shard_files, "open_tensors", noted)
            mine, its = split(plan, communicator, "adagrad")
            load(tmp_path, mine, its)  # without a collective: the patch is this rank's

    SimulatedCluster(4).run(check)
    assert opened == [(rank, f"rank-{rank:05d}.pt") for rank in range(4)]


# All or nothing.

CHANGES = ("begin", "write", "publish", "forget")


class Stopped(BaseException):
    """A run that is killed."""


def stopping(monkeypatch, stop: Callable[[], None], call: int, when: str) -> list[str]:
    """Stop before, in or after the `call`-th change of the disk; the changes as they happen."""
    seen: list[str] = []

    def wrapped(name, change):
        def changed(*arguments):
            seen.append(name)
            if len(seen) != call:
                return change(*arguments)
            if when == "in" and name == "write":
                arguments[0].write_bytes(b"half of")
            elif when == "in" and name == "forget":
                next(p for p in sorted(arguments[0].rglob("*")) if p.is_file()).unlink()
            elif when == "after":
                change(*arguments)
            return stop()

        return changed

    for name in CHANGES:
        monkeypatch.setattr(shard_files, name, wrapped(name, getattr(shard_files, name)))
    return seen


def stop() -> None:
    raise Stopped


def count_changes(tmp_path, plan, monkeypatch) -> int:
    with monkeypatch.context() as patch:
        seen = stopping(patch, stop, 0, "before")
        carried(tmp_path, [(2, plan)], "adagrad", {})
    return len(seen)


def test_killed_at_any_moment_a_whole_checkpoint_is_left(tmp_path, monkeypatch):
    plan = a_plan(2, 3)
    old, new = whole("adagrad", seed=0), whole("adagrad", seed=1)
    save(tmp_path / "old", *old, extra={})
    save(tmp_path / "new", *new, extra={})
    changes = count_changes(Path(shutil.copytree(tmp_path / "old", tmp_path / "n")), plan,
                            monkeypatch)  # fmt: skip
    assert changes == 9  # begin, two files a rank, two of rank 0, the name, the old one
    kept = {"old": 0, "new": 0}
    for call in range(1, changes + 1):
        for when in ("before", "in", "after"):
            folder = Path(shutil.copytree(tmp_path / "old", tmp_path / f"{call}-{when}"))

            def replace(communicator, folder=folder):
                model, optimizer = split(plan, communicator, "adagrad")
                load(tmp_path / "new", model, optimizer, communicator)
                save(folder, model, optimizer, communicator)

            with monkeypatch.context() as patch, pytest.raises(Stopped):
                stopping(patch, stop, call, when)
                SimulatedCluster(2).run(replace)
            found = whole("adagrad", seed=2)
            load(folder, *found)
            is_old, is_new = same(old, found), same(new, found)
            assert is_old != is_new
            kept["new" if is_new else "old"] += 1
            SimulatedCluster(2).run(replace)  # and the next one clears up
            assert len(list(folder.iterdir())) == 1
            load(folder, *found)
            assert same(new, found)
    assert kept == {"old": 23, "new": 4}  # the name is the moment


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_process_that_is_killed_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    old = whole("rowwise_adagrad")
    save(tmp_path, *old)
    for call in (1, 3, 5, 6):
        child = os.fork()
        if not child:
            stopping(monkeypatch, lambda: os.kill(os.getpid(), signal.SIGKILL), call, "in")
            save(tmp_path, *whole("rowwise_adagrad", seed=1))
            os._exit(0)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        found = whole("rowwise_adagrad", seed=2)
        load(tmp_path, *found)
        assert same(old, found)


def test_a_full_disk_on_one_rank_is_said_on_all_and_leaves_what_there_was(tmp_path, monkeypatch):
    plan = Plan(3, CONFIG.cardinalities, CONFIG.dim,
                dict.fromkeys(CONFIG.cardinalities, Placement("row-wise", (0, 1, 2))))  # fmt: skip
    model, optimizer = whole("sgd")
    save(tmp_path, model, optimizer)
    before = sorted(path.name for path in tmp_path.rglob("*"))

    def full(path, content, keep=shard_files.write):
        if path.name == "rank-00001.pt":
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        keep(path, content)

    monkeypatch.setattr(shard_files, "write", full)
    said = {}

    def attempt(communicator):
        mine, its = split(plan, communicator, "sgd")
        try:
            save(tmp_path, mine, its, communicator)
        except UserError as error:
            said[communicator.rank] = str(error)

    SimulatedCluster(3).run(attempt)
    assert "could not be written: No space left on device" in said[1]
    assert "rank 1 could not do its part" in said[0] and said[0] == said[2]
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("strange", [np.float64(0.5), Path("log.csv")])
def test_what_could_not_be_read_again_is_refused_and_what_there_was_stays(tmp_path, strange):
    model, optimizer = whole("sgd")
    save(tmp_path, model, optimizer, extra={"epoch": 1})

    def attempt(communicator):
        mine, its = split(a_plan(2, 3), communicator, "sgd")
        with pytest.raises(UserError) as found:
            save(tmp_path, mine, its, communicator, {"rows": [{"auc": strange}]})
        return str(found.value)

    said = SimulatedCluster(2).run(attempt)
    assert "numbers, strings, lists, dicts and tensors" in said[0]
    assert "rank 0 could not do its part" in said[1]
    assert sharded_checkpoints.extra_of(tmp_path) == {"epoch": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000001"]


def test_ranks_that_do_not_share_a_folder_are_told(tmp_path):
    plan = a_plan(2, 3)
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "checkpoint-00000001.part").mkdir()  # of another node, at the same place

    def attempt(communicator):
        mine, its = split(plan, communicator, "sgd")
        with pytest.raises(UserError) as found:
            save(tmp_path / str(communicator.rank), mine, its, communicator)
        return str(found.value)

    said = SimulatedCluster(2).run(attempt)
    assert "rank 0 does not find it" in said[0] and "shared file system" in said[0]
    assert not sharded_checkpoints.exists(tmp_path / "0")


# Damage.


@pytest.fixture
def written(tmp_path):
    """A folder whose checkpoint two ranks have written."""
    save(tmp_path, *whole("adagrad"), extra={"epoch": 1})
    carried(tmp_path, [(2, a_plan(2, 3))], "adagrad", {"epoch": 1})
    return tmp_path


def test_every_byte_counts(written, tmp_path_factory):
    """Wherever a byte changes or a file ends early, a sentence; and nothing has been changed."""
    (checkpoint,) = written.iterdir()
    files = sorted(path.name for path in checkpoint.iterdir())
    assert len(files) == 6
    draw = random.Random(0)
    harmless = 0
    for name in files:
        good = (checkpoint / name).read_bytes()
        places = sorted(draw.sample(range(len(good)), 25))
        changes = [good[:place] + bytes([good[place] ^ 65]) + good[place + 1 :] for place in places]
        changes += [good[:-1], good[: len(good) // 2], b"", None, good + b"\0"]
        for bad in changes:
            if bad is None:
                (checkpoint / name).unlink()
            else:
                (checkpoint / name).write_bytes(bad)
            mine = whole("adagrad", seed=4)
            before = whole("adagrad", seed=4)
            try:
                load(written, *mine)
                harmless += 1
                assert same(mine, whole("adagrad"))  # padding between tensors: the same bits
            except UserError as error:
                assert "cannot be used" in str(error) and "Nothing was changed" in str(error)
                assert same(mine, before)
            (checkpoint / name).write_bytes(good)
    assert harmless < 50


def test_damage_that_one_rank_sees_stops_all(written):
    (checkpoint,) = written.iterdir()
    placements = dict.fromkeys(CONFIG.cardinalities, Placement("table-wise", (0,)))
    placements["c"] = Placement("table-wise", (1,))
    plan = Plan(2, CONFIG.cardinalities, CONFIG.dim, placements)
    carried(written, [(2, plan)], "adagrad", {"epoch": 1})
    (checkpoint,) = written.iterdir()
    data = checkpoint / "rank-00001.pt"
    data.write_bytes(data.read_bytes()[:-8])

    def attempt(communicator):
        mine, its = split(plan, communicator, "adagrad")
        before = [p.detach().clone() for p in mine.parameters()]
        with pytest.raises(UserError) as found:
            load(written, mine, its, communicator)
        assert all(torch.equal(p, q) for p, q in zip(before, mine.parameters(), strict=True))
        return str(found.value)

    said = SimulatedCluster(2).run(attempt)
    assert "rank-00001.pt has" in said[1] and "rank 1 could not do its part" in said[0]


def test_another_model_rule_or_format_is_a_sentence(written, tmp_path):
    (checkpoint,) = written.iterdir()
    others = {
        "table 'b' it holds 3 rows, this one 4 rows": {"cardinalities": {"a": 7, "b": 4}},
        "the tables' width it holds 4, this one 6": {"dim": 6, "bottom": (5, 6)},
        "'top.0.weight' it holds shape (3, 10), this one shape (2, 10)": {"top": (2, 1)},
    }
    for words, change in others.items():
        config = DLRMConfig(**{**vars(CONFIG), **change})
        model = DLRM(config).double()
        with pytest.raises(UserError) as found:
            load(written, model, Adagrad(model.parameters(), 0.1))
        assert words in str(found.value)
    with pytest.raises(UserError, match="it holds float64, this one float32"):
        load(written, *whole("adagrad", dtype=torch.float32))
    with pytest.raises(UserError, match="trained with adagrad, and is to go on with sgd"):
        load(written, *whole("sgd"))
    model, _ = whole("adagrad")
    groups = [{"params": [p]} for p in model.parameters()]
    with pytest.raises(UserError, match=r"1 groups of parameters .* the optimizer 11"):
        load(written, model, Adagrad(groups, 0.1))
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    (checkpoint / "manifest.json").write_text(json.dumps(manifest | {"format": "another"}))
    with pytest.raises(UserError, match="its format is 'another'"):
        load(written, *whole("adagrad"))
    with pytest.raises(UserError, match="there is no sharded checkpoint in"):
        gather(tmp_path / "nowhere")


def test_large_tables_are_checked_in_blocks(monkeypatch, tmp_path):
    """Damage in rows that a rank does not read is none of its business."""
    monkeypatch.setattr(shard_files, "CHECKED", 64)  # bytes: two rows
    placements = dict.fromkeys(CONFIG.cardinalities, Placement("table-wise", (0,)))
    placements["c"] = Placement("row-wise", (0, 1))
    plan = Plan(2, CONFIG.cardinalities, CONFIG.dim, placements)
    model, optimizer = whole("sgd")
    save(tmp_path, model, optimizer)
    (checkpoint,) = tmp_path.iterdir()
    data = checkpoint / "rank-00000.pt"
    last = model.tables.tables["c"][-1].detach().numpy().tobytes()
    good = data.read_bytes()
    assert good.count(last) == 1
    data.write_bytes(good.replace(last, bytes(len(last))))

    def attempt(communicator):
        mine, its = split(plan, communicator, "sgd")
        try:
            load(tmp_path, mine, its)
        except UserError as error:
            return "numbers in it have changed" in str(error)
        return None

    assert SimulatedCluster(2).run(attempt) == [None, True]


def test_what_all_ranks_have_alike_is_the_mlps(written):
    model, _ = whole("sgd")
    names = [name for name in model.state_dict() if not name.startswith("tables.")]
    assert list(replicated(model)) == names
