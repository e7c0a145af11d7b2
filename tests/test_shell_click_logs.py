"""`criteo generate`, and `train` and `evaluate` on prepared click logs, as a reader types them."""

import gzip
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from dlrm_mini import checkpoints, cli
from dlrm_mini.datasets import synthetic_text
from dlrm_mini.datasets.criteo import Prepared
from dlrm_mini.datasets.synthetic import ClickLog
from dlrm_mini.ladders import click_logs
from dlrm_mini.ladders.click_log_training import (
    SCORES,
    fit_prepared,
    part_setting,
    score_prepared,
)
from dlrm_mini.shell import arguments, recipes
from dlrm_mini.shell.models import usual
from tests.interruption import interrupted

N = 4200  # rows, of which 3600 are to train on
TRAIN = "train --data criteo --from log --batch-size 900 --out "


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two generated logs, prepared in three ways, one too short, and a checkpoint of two epochs."""
    folder = tmp_path_factory.mktemp("made")
    threads = torch.get_num_threads()
    for name, rows, seed in (("log", N, 0), ("other", N, 1), ("short", 2, 0)):
        text = f"{folder}/{name}.txt"
        assert cli.main(f"criteo generate --rows {rows} --seed {seed} --out {text}".split()) == 0
        assert cli.main(f"criteo prepare {text} --out {folder}/{name}".split()) == 0
        hashed = f"criteo prepare {text} --out {folder}/{name}-hashed --buckets 20"
        assert cli.main(hashed.split()) == 0
    words = TRAIN.replace("--from log", f"--from {folder}/log") + f"{folder}/run.pt --epochs 2"
    assert cli.main(words.split()) == 0
    torch.set_num_threads(threads)
    return folder


@pytest.fixture(autouse=True)
def here(made, monkeypatch, tmp_path):
    """A folder of its own, where the prepared logs seem to be."""
    monkeypatch.chdir(tmp_path)
    for path in made.iterdir():
        if path.is_dir():
            (tmp_path / path.name).symlink_to(path)
    shutil.copy(made / "run.pt", tmp_path / "run.pt")
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)


def content(path: str) -> dict:
    return checkpoints.load(Path(path))


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def left_behind(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def test_generated_text_is_the_log_of_the_chapter(say, made, here):
    log = ClickLog(replace(click_logs.config(), seed=1))
    expected = synthetic_text.write(log, here / "expected.txt", 0, N).read_bytes()
    assert (made / "other.txt").read_bytes() == expected != (made / "log.txt").read_bytes()
    status, said, _ = say(f"criteo generate --rows {N} --seed 1 --out deep/er/log.txt.gz")
    assert status == 0 and f"deep/er/log.txt.gz: {N:,} rows" in said
    assert gzip.decompress(Path("deep/er/log.txt.gz").read_bytes()) == expected
    best = log.optimum(N - 300, N)  # half of the last seventh
    line = "auc {auc:.4f}  logloss {logloss:.4f}  ne {ne:.4f}".format(**best)
    assert line in said and "last 300 rows" in said
    assert Prepared.open(Path("other")).splits["test"] == 300


def test_a_generated_file_replaces_nothing_unless_told_so(say, here):
    Path("log.txt").write_text("precious")
    status, _, complaint = say("criteo generate --rows 5 --out log.txt")
    assert status == 1 and "log.txt is there already" in complaint and "--overwrite" in complaint
    assert Path("log.txt").read_text() == "precious"
    assert say("criteo generate --rows 5 --out log.txt --overwrite")[0] == 0
    assert len(Path("log.txt").read_text().splitlines()) == 5


@pytest.mark.parametrize("raised", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_half_a_generated_file_is_never_seen(say, here, monkeypatch, raised):
    before = left_behind(here)
    lines, calls = synthetic_text.lines, []

    def full(*args):
        calls.append(1)
        if len(calls) == 2:
            raise raised
        return lines(*args)

    monkeypatch.setattr(synthetic_text, "CHUNK", 3)
    monkeypatch.setattr(synthetic_text, "lines", full)
    status, _, complaint = say("criteo generate --rows 9 --out new.txt")
    assert len(calls) == 2 and left_behind(here) == before
    expected = {1: "new.txt cannot be written", 130: "The same command begins anew."}
    assert expected[status] in complaint and "Traceback" not in complaint


def test_evaluate_says_what_train_said(say, here):
    status, said, _ = say(TRAIN + "new.pt --epochs 2")
    assert status == 0
    *_, wall, valid, test = said.splitlines()
    assert re.fullmatch(r"2 epochs in \d+\.\d s; the model is in new\.pt", wall)
    assert valid.endswith("(300 validation rows)") and test.endswith("(300 test rows)")
    assert re.findall(r"([a-z]+) \d", test) == list(SCORES)
    title, *_, again = say("evaluate --checkpoint new.pt --from log")[1].splitlines()
    assert again == test and title == said.splitlines()[0]
    assert title == "dlrm on criteo clicks, split as prepared, seed 0"
    assert left_behind(here) == ["new.pt", "run.pt"]


def test_the_table_is_of_the_validation_rows(say):
    _, said, _ = say("train --from log --out run.pt --resume")
    _, _, about, head, first, last, _, valid, _ = [line.split() for line in said.splitlines()]
    assert "3,600" in about and "300" in about
    assert head == ["epoch", "loss", *SCORES, "seconds"]
    assert [first[0], last[0]] == ["1", "2"] and first[2:7] != last[2:7]
    assert last[2:7] == valid[1:10:2]


def test_it_is_the_ladders_own_loop(say):
    """The shell, one epoch at a time, ends where the chapter's function does."""
    assert say(TRAIN + "new.pt --epochs 2 --seed 3 --lr 0.05 --mlp-lr 0.02")[0] == 0
    how = replace(part_setting(3600), epochs=2, batch_size=900, table_rate=0.05, mlp_rate=0.02)
    prepared = Prepared.open(Path("log"))
    model, _ = fit_prepared(prepared, 3, how, progress=False)
    assert same(content("new.pt")["model"], model.state_dict())
    assert not same(content("new.pt")["model"], content("run.pt")["model"])
    found = content("new.pt")["extra"]["table"][-1]
    assert {name: found[name] for name in SCORES} == score_prepared(model, prepared, "valid")
    assert say(TRAIN + "other.pt --epochs 2")[0] == 0
    assert same(content("other.pt")["model"], content("run.pt")["model"])


def test_stopped_and_resumed_it_ends_at_the_same_bits(say, here, monkeypatch):
    """Ctrl-C in the third epoch, with that epoch's steps done and not yet saved."""
    say(TRAIN + "whole.pt --epochs 4")
    with interrupted(monkeypatch, call=3):
        status, _, complaint = say(TRAIN + "cut.pt --epochs 4")
    assert status == 130 and "--resume" in complaint
    assert left_behind(here) == ["cut.pt", "run.pt", "whole.pt"]
    assert content("cut.pt")["loader"]["epoch"] == 2
    assert say("evaluate --checkpoint cut.pt --from log")[0] == 0
    torch.rand(7)  # another random state than the one that the checkpoint restores
    status, said, _ = say("train --resume --from log --out cut.pt")  # it knows the rest
    assert status == 0 and "4 epochs in" in said
    whole, cut = content("whole.pt"), content("cut.pt")
    assert same(whole["model"], cut["model"])
    for one in (whole, cut):
        one["extra"]["table"] = [row | {"seconds": 0} for row in one["extra"]["table"]]
    assert whole["extra"] == cut["extra"] and whole["schedule"] == cut["schedule"]
    sums = [one["optimizer"]["state"] for one in (whole, cut)]
    assert all(torch.equal(sums[0][i]["sum"], sums[1][i]["sum"]) for i in sums[0])


def test_resume_without_a_checkpoint_begins_and_says_so(say):
    status, said, _ = say(TRAIN + "new.pt --epochs 1 --resume")
    assert status == 0 and "no checkpoint at new.pt" in said and Path("new.pt").exists()


def test_unsaid_it_goes_where_its_name_says(say):
    assert say("train --data criteo --from log --epochs 1")[0] == 0
    setting = content("runs/dlrm-criteo.pt")["extra"]["recipe"]["setting"]
    expected = asdict(replace(part_setting(3600), epochs=1))
    assert setting == {name: expected[name] for name in expected if name != "threshold"}
    assert say("train --data criteo --from log --epochs 1 --overwrite --seed 1")[0] == 0
    assert content("runs/dlrm-criteo.pt")["loader"]["seed"] == 1


def test_an_epoch_shows_the_time_left(say, monkeypatch):
    monkeypatch.setenv("DLRM_MINI_PROGRESS", "on")
    _, _, shown = say(TRAIN + "new.pt --epochs 1")
    assert re.search(r"^epoch 1: 3.60k/3.60k rows after [\d:]+, 00:00 left", shown, re.M)


def test_hashed_ids_mean_the_same_in_another_log(say):
    """A vocabulary belongs to its log, a hash function to nobody."""
    train_ = TRAIN.replace("--from log", "--from log-hashed")
    assert say(train_ + "hashed.pt --epochs 1")[0] == 0
    one, other = (
        say(f"evaluate --checkpoint hashed.pt --from {name}-hashed") for name in ("log", "other")
    )
    assert one[0] == other[0] == 0 and one[1] != other[1]


def test_rows_it_has_learnt_from_are_not_to_test_on(say, made):
    """The ids of a hashed log are the same, however its rows are split."""
    assert say(TRAIN.replace("--from log", "--from log-hashed") + "hashed.pt --epochs 1")[0] == 0
    text = made / "log.txt"
    shutil.copy(text, "renamed.txt")
    for source, out in ((text, "random"), ("renamed.txt", "renamed"), (made / "other.txt", "far")):
        split = f"--out {out} --buckets 20 --random-split 1"
        assert say(f"criteo prepare {source} {split}")[0] == 0
    assert say("criteo prepare renamed.txt --out again --buckets 20")[0] == 0
    for out in ("random", "renamed"):
        status, said, complaint = say(f"evaluate --checkpoint hashed.pt --from {out}")
        assert status == 1 and not said and "split random, seed 1, expected seven days" in complaint
        assert f"{out} holds the rows of the log that hashed.pt was trained on" in complaint
    for out in ("far", "again", "log-hashed"):
        assert say(f"evaluate --checkpoint hashed.pt --from {out}")[0] == 0


def test_a_full_disk_and_a_foreign_checkpoint_get_sentences_of_our_own(say, monkeypatch):
    Path("a.txt").write_text("0\t1\n")
    status, _, complaint = say("evaluate --checkpoint a.txt --from log")
    assert status == 1 and "a.txt is not a checkpoint that can be read. It may be" in complaint
    assert "weights_only" not in complaint

    def full(*_):
        raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", full)
    status, _, complaint = say(TRAIN + "new.pt --epochs 1")
    assert status == 1 and "new.pt could not be written: is the disk full" in complaint
    assert "unexpected pos" not in complaint


def test_the_best_auc_of_one_row_is_words(say):
    _, said, _ = say("criteo generate --rows 7 --out few.txt")
    assert "auc (not defined on a single row)  logloss 0." in said and "nan" not in said
    assert "nan" not in say("criteo generate --rows 15 --out more.txt")[1]


def test_a_batch_size_beyond_all_rows_is_all_rows(say):
    words = TRAIN.replace("--batch-size 900", f"--batch-size {10**18}")
    assert say(words + "new.pt --epochs 1")[0] == 0


REFUSED = [
    ("train --data criteo", "no click log was named; expected --from DIR"),
    ("train --from log", "--from is log, a folder for --data criteo, but --data is movielens"),
    ("train --model mf --data movielens --from log", "Say --data criteo, or leave --from out"),
    ("train --data criteo --from none", "none is no prepared click log"),
    ("train --data criteo --from short", "short has no validation rows among its 2"),
    ("train --data criteo --from log --model fm", "--model is fm, but with --data criteo only"),
    ("train --data criteo --from log --task ratings", "--task is ratings, but with --data criteo"),
    ("train --data criteo --from log --split u1", "--split is u1, but with --data criteo its rows"),
    ("train --data criteo --from log --validate", "--validate is given, but with --data criteo a"),
    ("train --data criteo --from log --dim 8", "dlrm has no use for --dim here: leave it out"),
    ("train --data criteo --from log --l2 1", "dlrm has no use for --l2 here: leave it out"),
    ("train --data criteo --from log --seed -1", "--seed is -1; expected 0 or more"),
    ("train --data criteo --from log --epochs 0", "--epochs is 0; expected at least 1"),
    ("train --data criteo --from log --lr nan", "--lr is nan; expected a number above 0"),
    ("train --data criteo --from log --out log", "log is a folder; expected the name of a file"),
    ("train --data criteo --from log --out run.pt", "run.pt is there already and would be lost"),
    ("train --resume --out run.pt", "no click log was named; expected --from DIR"),
    ("train --resume --out run.pt --data movielens", "has --data criteo, not movielens"),
    ("train --resume --out run.pt --from log --lr 0.5", "has --lr 0.1, not 0.5"),
    ("train --resume --out run.pt --from log --epochs 3", "has --epochs 2, not 3"),
    ("train --resume --out run.pt --from log --seed 1", "has --seed 0, not 1"),
    ("train --resume --out run.pt --from log --split u1", "has --split as prepared, not u1"),
    ("train --resume --out run.pt --from other", "run.pt is on another click log than other"),
    ("train --resume --out run.pt --from log-hashed", "ids of C1 21, expected"),
    ("train --resume --out mf.pt --data criteo --from log", "has --data movielens, not criteo"),
    ("train --resume --out mf.pt --from log", "--from is log, a folder for --data criteo"),
    ("evaluate --checkpoint run.pt", "run.pt was trained on a click log; expected --from DIR"),
    ("evaluate --checkpoint run.pt --from none", "none is no prepared click log"),
    ("evaluate --checkpoint run.pt --from log --split u1", "--split is u1, but the rows of log"),
    ("evaluate --checkpoint run.pt --from log-hashed", "ids in log-hashed are not those that run"),
    ("evaluate --checkpoint run.pt --from other", "the ids in other are not those that run.pt"),
    ("evaluate --checkpoint mf.pt --from log", "mf.pt was trained on movielens, and its rows are"),
    ("evaluate --checkpoint future.pt --from log", "future.pt says it holds dlrm on imagenet"),
    ("predict --checkpoint run.pt --user 1 --top 3", "run.pt was trained on a click log, whose"),
    ("predict --checkpoint run.pt --out x.csv", "evaluate --checkpoint FILE --from DIR"),
    ("criteo generate --rows 0 --out new.txt", "--rows is 0; expected at least 1"),
    ("criteo generate --rows 99999999999999999999 --out new.txt", "Rows 0..9999999999999999999"),
    (
        "criteo generate --rows 4000000000000000000 --out new.txt",
        "rows are about 1,000,000,000,000",
    ),
    ("criteo generate --rows 5 --seed -1 --out new.txt", "seed is -1; expected a whole number"),
    ("criteo generate --rows 5 --out log", "log is a folder; expected the name of a file"),
    ("criteo generate --rows 5 --out run.pt/new", "nothing can be written into run.pt"),
]


@pytest.mark.parametrize(("command", "expected"), REFUSED)
def test_what_cannot_be_is_a_sentence_and_leaves_nothing(say, here, command, expected):
    setting = usual("mf", "ratings", "random")
    mf = recipes.Recipe("mf", "movielens", "ratings", "random", 0, False, "float32", setting)
    future = asdict(mf) | {"model": "dlrm", "data": "imagenet"}
    for name, recipe in (("mf", asdict(mf)), ("future", future)):
        checkpoints.save(here / f"{name}.pt", {"model": {}, "extra": {"recipe": recipe}})
    before, weights = left_behind(here), Path("run.pt").read_bytes()
    status, _, complaint = say(command)
    assert status == 1 and complaint.startswith("dlrm-mini: ") and expected in complaint
    assert left_behind(here) == before and Path("run.pt").read_bytes() == weights


def test_as_many_ids_of_other_words_are_other_ids(say, here, made):
    Path("changed").mkdir()
    for path in (made / "log").iterdir():
        shutil.copy(path, "changed")
    assert say("evaluate --checkpoint run.pt --from changed")[0] == 0
    words = bytearray(Path("changed/C7.words").read_bytes())
    words[0] ^= 1
    Path("changed/C7.words").write_bytes(words)
    for command in ("evaluate --checkpoint run.pt", "train --resume --out run.pt"):
        status, _, complaint = say(f"{command} --from changed")
        assert status == 1 and "checksum of C7.words" in complaint


def test_every_word_on_the_command_line_is_known():
    assert recipes.USUAL.keys() == set(arguments.DATA)
