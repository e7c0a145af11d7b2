"""`train`, `evaluate` and `predict` as a reader types them, on a few thousand of the ratings."""

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from dlrm_mini import checkpoints, metrics
from dlrm_mini.datasets import movielens, splits
from dlrm_mini.datasets.clicks import click_task
from dlrm_mini.datasets.rating_features import rating_features
from dlrm_mini.datasets.splits import Split
from dlrm_mini.ladders import click_models, rating_models, rating_nets
from dlrm_mini.shell import arguments, evaluate, recipes, rows, train
from dlrm_mini.shell.models import KINDS, usual
from dlrm_mini.shell.rows import Rows
from tests.interruption import interrupted

N = 3000
EVERY = [(model, task) for model in arguments.MODELS for task in arguments.TASKS]


@pytest.fixture(scope="module")
def few():
    """The first ratings of the real data, with all users and movies."""
    ml = movielens.load()
    return replace(
        ml, user=ml.user[:N], item=ml.item[:N], rating=ml.rating[:N], timestamp=ml.timestamp[:N]
    )


@pytest.fixture(autouse=True)
def here(few, monkeypatch, tmp_path):
    monkeypatch.setattr(movielens, "load", lambda: few)
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)  # a command has its process for itself, and sets them


def weights(path: Path | str) -> dict[str, torch.Tensor]:
    return checkpoints.load(Path(path))["model"]


def same(a: Path | str, b: Path | str) -> bool:
    one, other = weights(a), weights(b)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def left_behind(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(("model", "task"), EVERY)
def test_trained_evaluated_and_predicted(say, here, model, task):
    """The three commands agree to the last digit, whatever was trained on whatever."""
    status, trained, _ = say(f"train --model {model} --data movielens --task {task} --epochs 2")
    assert status == 0
    *_, wall, final = trained.splitlines()
    out = f"runs/{model}-{task}.pt"
    assert re.fullmatch(rf"2 epochs in \d+\.\d s; the model is in {out}", wall)
    status, said, _ = say(f"evaluate --checkpoint {out}")
    assert status == 0 and said.splitlines()[-1] == final
    assert say(f"predict --checkpoint {out} --out predictions.csv")[0] == 0
    assert left_behind(here) == ["predictions.csv", out]

    table = pd.read_csv("predictions.csv")
    test = splits.random_split(N).test
    ml = movielens.load()
    assert table["user"].tolist() == (ml.user[test] + 1).tolist()
    assert table["movie"].tolist() == (ml.item[test] + 1).tolist()
    prediction = torch.tensor(table["prediction"].to_numpy())
    if task == "ratings":
        assert table["rating"].tolist() == ml.rating[test].tolist()
        name, value = "rmse", metrics.rmse(prediction, torch.tensor(table["rating"].to_numpy()))
    else:
        assert table["click"].tolist() == (ml.rating[test] >= 4).int().tolist()
        name, value = "auc", metrics.auc(prediction, torch.tensor(table["click"].to_numpy()))
        assert prediction.min() > 0 and prediction.max() < 1
    assert f"{name} {value:.4f}" in final


RATINGS = {  # the ladder's fitters: data set, split and setting -> model
    "mf": lambda ml, split, setting: rating_models.fit_mf(ml, split.train, seed=3, setting=setting)[
        0
    ],
    "fm": lambda ml, split, setting: rating_models.fit_fm(ml, split.train, seed=3, setting=setting)[
        0
    ],
    "mlp": lambda ml, split, setting: rating_nets.fit_mlp(
        rating_features(ml, split), seed=3, setting=setting
    ),
    "dlrm": lambda ml, split, setting: rating_nets.fit_dlrm(
        rating_nets.dlrm_task(ml, split), seed=3, setting=setting
    ),
}


@pytest.mark.parametrize("name", arguments.MODELS)
def test_it_is_the_ratings_ladders_own_loop(say, few, name):
    """A model from the shell ends at the weights that the ladder measures."""
    say(f"train --model {name} --task ratings --split temporal --epochs 2 --seed 3 --out run.pt")
    setting = replace(KINDS[name, "ratings"].chosen("temporal"), epochs=2)
    model = RATINGS[name](few, splits.user_temporal_split(few), setting)
    assert model.state_dict().keys() == weights("run.pt").keys()
    for key, value in model.state_dict().items():
        assert torch.equal(weights("run.pt")[key], value), key


@pytest.mark.parametrize("name", arguments.MODELS)
def test_it_is_the_click_ladders_own_loop(say, few, name):
    say(f"train --model {name} --split temporal --epochs 2 --seed 3 --out run.pt")
    setting = replace(KINDS[name, "clicks"].chosen("temporal"), epochs=2)
    task = click_task(few, splits.user_temporal_split(few))
    model, _ = click_models.FITTERS[name](task, 3, setting)
    model = model.model if name == "mf" else model
    assert model.state_dict().keys() == weights("run.pt").keys()
    for key, value in model.state_dict().items():
        assert torch.equal(weights("run.pt")[key], value), key


def test_the_table_says_what_each_epoch_brought(say):
    _, said, _ = say("train --model mf --task ratings --epochs 3")
    head, *body = [line.split() for line in said.splitlines()[3:7]]
    assert head == ["epoch", "loss", "rmse", "mae", "seconds"]
    assert [line[0] for line in body] == ["1", "2", "3"]
    assert said.splitlines()[-1].startswith(f"rmse {body[-1][2]}  mae {body[-1][3]}  (600 test")


def test_a_seed_fixes_the_weights_and_another_changes_them(say):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        say(f"train --model dlrm --epochs 1 --seed {seed} --out {name}.pt")
    assert same("a.pt", "b.pt") and not same("a.pt", "c.pt")


@pytest.mark.parametrize(("model", "task"), [("mf", "ratings"), *EVERY[2:]])
def test_stopped_and_resumed_it_ends_at_the_same_bits(say, here, monkeypatch, model, task):
    """Ctrl-C in the third epoch, with that epoch's steps done and not yet saved."""
    command = f"train --model {model} --task {task} --epochs 4 --out "
    say(command + "whole.pt")
    with interrupted(monkeypatch, call=3):
        status, _, complaint = say(command + "cut.pt")
    assert status == 130 and "--resume" in complaint
    assert left_behind(here) == ["cut.pt", "whole.pt"]
    assert say("evaluate --checkpoint cut.pt")[0] == 0  # two epochs' worth, and whole
    torch.rand(7)  # another random state than the one that the checkpoint restores
    status, said, _ = say(command + "cut.pt --resume")
    assert status == 0 and "4 epochs in" in said
    assert same("whole.pt", "cut.pt")
    tables = [checkpoints.load(Path(name))["extra"]["table"] for name in ("whole.pt", "cut.pt")]
    whole, cut = [[row | {"seconds": 0} for row in table] for table in tables]
    assert whole == cut


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_resumed_run_knows_its_precision(say, monkeypatch, precision):
    command = f"train --model dlrm --task ratings --epochs 3 --precision {precision} --out "
    whole = say(command + "whole.pt")[1]
    assert whole.startswith(f"dlrm on movielens ratings, split random, seed 0, in {precision}\n")
    with interrupted(monkeypatch, call=2):
        say(command + "cut.pt")
    assert say("train --resume --out cut.pt")[0] == 0
    assert same("whole.pt", "cut.pt")
    scalers = [checkpoints.load(Path(name))["scaler"] for name in ("whole.pt", "cut.pt")]
    assert scalers[0] == scalers[1] and (scalers[0] is None) == (precision == "bfloat16")
    say("train --model dlrm --task ratings --epochs 3 --out plain.pt")
    assert not same("whole.pt", "plain.pt")


def test_a_checkpoint_that_names_no_precision_is_of_float32(say):
    say("train --model mf --task ratings --epochs 2 --out run.pt")
    content = checkpoints.load(Path("run.pt"))
    assert content["extra"]["recipe"].pop("precision") == "float32"
    checkpoints.save(Path("run.pt"), content)
    assert say("train --resume --out run.pt")[0] == 0
    assert say("evaluate --checkpoint run.pt")[0] == 0


def test_resume_alone_knows_the_rest(say):
    say("train --model fm --task ratings --dim 3 --epochs 2 --out run.pt")
    before = weights("run.pt")
    status, said, _ = say("train --resume --out run.pt")  # nothing left to do: how good it is
    assert status == 0 and "fm on movielens ratings" in said and "2 epochs in" in said
    assert all(torch.equal(before[name], value) for name, value in weights("run.pt").items())


def test_resume_without_a_checkpoint_begins_and_says_so(say):
    status, said, _ = say("train --model mf --task ratings --epochs 1 --resume --out new.pt")
    assert status == 0 and "no checkpoint at new.pt" in said and Path("new.pt").exists()


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("--dim 4", "has --dim 3, not 4. Leave --dim out"),
        ("--lr 0.5", "has --lr "),
        ("--model mf", "has --model fm, not mf"),
        ("--task clicks", "has --task ratings, not clicks"),
        ("--split temporal", "has --split random, not temporal"),
        ("--seed 1", "has --seed 0, not 1"),
        ("--validate", "has --validate False, not True"),
        ("--epochs 3", "has --epochs 2, not 3"),
        ("--precision bfloat16", "has --precision float32, not bfloat16"),
    ],
)
def test_another_run_is_not_gone_on_with(say, more, expected):
    say("train --model fm --task ratings --dim 3 --epochs 2 --out run.pt")
    before = Path("run.pt").read_bytes()
    status, _, complaint = say(f"train --resume --out run.pt {more}")
    assert status == 1 and expected in complaint
    assert Path("run.pt").read_bytes() == before


def test_validation_rows_come_from_the_training_rows_alone(few):
    plain, aside = (
        Rows(few, "fm", "clicks", "random", validate=validate) for validate in (False, True)
    )
    assert torch.equal(plain.test_rows, aside.test_rows)
    together = torch.cat([aside.train_rows, aside.valid_rows])
    assert torch.equal(together.sort().values, plain.train_rows)
    assert len(aside.valid) == 240 and len(plain.valid) == 0
    for part in ("train", "valid", "test"):
        labels = (few.rating[getattr(aside, f"{part}_rows")] >= 4).float()
        assert torch.equal(getattr(aside, part).labels, labels)


def test_validation_rows_of_a_split_by_time_are_each_users_last(few):
    aside = Rows(few, "mf", "clicks", "temporal", validate=True)
    assert len(aside.valid_rows) > 50
    for row in aside.valid_rows.tolist():
        of_user = few.user[aside.train_rows] == few.user[row]
        assert (few.timestamp[aside.train_rows][of_user] <= few.timestamp[row]).all()


def test_the_table_is_of_the_validation_rows_when_there_are_some(say):
    _, said, _ = say("train --model mf --task ratings --epochs 1 --validate")
    assert "2,160 training rows" in said and "240 validation rows" in said
    last = said.splitlines()[4].split()[2]
    assert f"rmse {last}" not in said.splitlines()[-1] and "600 test rows" in said.splitlines()[-1]


def test_nothing_is_lost_unless_told_so(say):
    say("train --model mf --task ratings --epochs 1")
    before = Path("runs/mf-ratings.pt").read_bytes()
    for command in (
        "train --model mf --task ratings --seed 1 --epochs 1",
        "predict --checkpoint runs/mf-ratings.pt --out runs/mf-ratings.pt",
    ):
        status, _, complaint = say(command)
        assert status == 1 and "runs/mf-ratings.pt is there already" in complaint
        assert "--overwrite" in complaint
        assert Path("runs/mf-ratings.pt").read_bytes() == before
    assert say("train --model mf --task ratings --seed 1 --epochs 1 --overwrite")[0] == 0
    assert Path("runs/mf-ratings.pt").read_bytes() != before


def test_a_run_that_diverges_keeps_its_last_good_epoch(say, here, monkeypatch):
    fit, calls = train.fit, []

    def explodes(model, *args, **keywords):
        calls.append(1)
        if len(calls) == 2:
            with torch.no_grad():
                next(model.parameters()).fill_(float("inf"))
        return fit(model, *args, **keywords)

    monkeypatch.setattr(train, "fit", explodes)
    status, _, complaint = say("train --model dlrm --epochs 3 --out run.pt")
    assert status == 1 and "in epoch 2" in complaint and "learning rate" in complaint
    assert left_behind(here) == ["run.pt"]
    assert all(torch.isfinite(value).all() for value in weights("run.pt").values())


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("train", "no model was named; expected --model and one of mf, fm, mlp, dlrm"),
        ("train --model mf --epochs 0", "--epochs is 0; expected at least 1"),
        ("train --model mf --dim 0", "--dim is 0; expected at least 1"),
        ("train --model mf --batch-size -3", "--batch-size is -3; expected at least 1"),
        ("train --model mf --lr 0", "--lr is 0; expected a number above 0"),
        ("train --model mf --lr nan", "--lr is nan; expected a number above 0"),
        ("train --model mf --l2 -1", "--l2 is -1; expected 0 or a number above"),
        ("train --model mf --seed -1", "--seed is -1; expected 0 or more"),
        ("train --model mf --out folder", "folder is a folder; expected the name of a file"),
        ("train --model mf --out file/run.pt", "nothing can be written into file"),
        ("evaluate --checkpoint none.pt", "no checkpoint at none.pt"),
        ("evaluate --checkpoint file", "file is not a checkpoint"),
        ("evaluate --checkpoint weights.pt", "weights.pt does not say what was trained"),
        ("evaluate --checkpoint future.pt", "future.pt says it holds transformer on"),
        ("evaluate --checkpoint other.pt", "other.pt is of another model"),
        ("predict --checkpoint mf.pt", "expected one of three: --user ID --movie ID"),
        ("predict --checkpoint mf.pt --user 1", "expected one of three"),
        ("predict --checkpoint mf.pt --movie 1", "expected one of three"),
        ("predict --checkpoint mf.pt --user 1 --movie 1 --top 2", "expected one of three"),
        ("predict --checkpoint mf.pt --user 1 --out x.csv", "expected one of three"),
        ("predict --checkpoint mf.pt --user 0 --movie 1", "no user 0; expected an id as in"),
        ("predict --checkpoint mf.pt --user 944 --top 1", "no user 944; expected an id"),
        ("predict --checkpoint mf.pt --user 1 --movie 1683", "no movie 1683; expected"),
        ("predict --checkpoint mf.pt --user 1 --top 0", "--top is 0; expected at least 1"),
        ("predict --checkpoint mf.pt --out folder", "folder is a folder"),
    ],
)
def test_what_cannot_be_is_a_sentence_and_leaves_nothing(say, here, command, expected):
    (here / "folder").mkdir()
    (here / "file").write_text("user,movie\n1,2\n")
    recipe = {"model": "mf", "data": "movielens", "task": "ratings", "split": "random", "seed": 0,
              "validate": False, "setting": usual("mf", "ratings", "random")}  # fmt: skip
    say("train --model mf --task ratings --epochs 1 --dim 2 --out mf.pt")
    model = weights("mf.pt")
    checkpoints.save(here / "weights.pt", {"model": model})
    for name, changed in (("future", {"model": "transformer"}), ("other", {})):
        content = {"model": model, "extra": {"recipe": recipe | changed, "table": []}}
        checkpoints.save(here / f"{name}.pt", content)
    before = left_behind(here)
    status, _, complaint = say(command)
    assert status == 1 and complaint.startswith("dlrm-mini: ") and expected in complaint
    assert left_behind(here) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_named(say):
    status, _, complaint = say("train --model mf --device cuda")
    assert status == 1 and "The device is cuda, but torch finds no GPU here" in complaint


def test_a_flag_that_a_model_has_no_use_for(say):
    status, _, complaint = say("train --model fm --mlp-lr 0.1")
    assert status == 1 and "fm has no use for --mlp-lr here: leave it out" in complaint


def test_flags_reach_the_model(say):
    say("train --model fm --epochs 1 --dim 5 --batch-size 100 --lr 0.03 --l2 0.5 --out fm.pt")
    content = checkpoints.load(Path("fm.pt"))
    assert content["model"]["vectors.tables.user"].shape == (943, 5)
    assert content["optimizer"]["param_groups"][0]["initial_lr"] == 0.03
    setting = content["extra"]["recipe"]["setting"]
    assert (setting["l2"], setting["batch_size"], setting["epochs"]) == (0.5, 100, 1)
    say("train --model dlrm --epochs 1 --lr 0.03 --mlp-lr 0.004 --out dlrm.pt")
    groups = checkpoints.load(Path("dlrm.pt"))["optimizer"]["param_groups"]
    assert [group["initial_lr"] for group in groups] == [0.03, 0.004]
    assert len(groups[0]["params"]) == 10  # the tables


def test_rows_of_another_split_that_were_learnt_from_do_not_count(say, few, monkeypatch):
    say("train --model mf --task ratings --epochs 1 --out mf.pt")
    learnt = set(splits.random_split(N).train.tolist())
    fresh = set(splits.user_temporal_split(few).test.tolist()) - learnt
    status, said, _ = say("evaluate --checkpoint mf.pt --split temporal")
    assert status == 0 and f"{len(fresh)} test rows of split temporal" in said
    nothing_new = Split(torch.arange(0), splits.random_split(N).train[:7])
    monkeypatch.setattr(evaluate, "named_split", lambda ml, name: nothing_new)
    status, _, complaint = say("evaluate --checkpoint mf.pt --split u2")
    assert status == 1 and "has learnt from all 7 test rows of split u2" in complaint


@pytest.mark.parametrize(("model", "task"), EVERY)
def test_an_imagined_row_is_what_the_row_would_be(few, model, task):
    """Each user's last rating, when held out, has the features of the same pair imagined."""
    held = Rows(few, model, task, "temporal", validate=False)
    checked = 0
    for place, row in enumerate(held.test_rows.tolist()):
        user = int(few.user[row])
        if few.timestamp[row] == few.timestamp[few.user == user].max():
            imagined = held.imagined(user, few.item[row : row + 1])
            real = held.test.select(torch.tensor([place]))
            torch.testing.assert_close(imagined.dense, real.dense)
            assert torch.equal(imagined.sparse.values, real.sparse.values)
            assert torch.equal(imagined.sparse.offsets, real.sparse.offsets)
            checked += 1
            if checked == 20:
                return
    raise AssertionError("no user's last rating is held out")


def test_one_prediction_says_what_the_data_says(say, few):
    say("train --model mf --task ratings --epochs 1 --out mf.pt")
    split = splits.random_split(N)
    ask = "predict --checkpoint mf.pt --user {} --movie {}"
    for part, words in ((split.train, "has learnt"), (split.test, "has not learnt")):
        row = part[3]
        _, said, _ = say(ask.format(few.user[row] + 1, few.item[row] + 1))
        assert f"{few.rating[row]:g} stars" in said and f"{words} from this" in said
    _, said, _ = say(ask.format(196, 267))
    assert "user 196 and movie 267, unknown" in said and "no rating" in said
    w = weights("mf.pt")
    by_hand = (
        w["global_mean"]
        + w["user_bias.weight"][195, 0]
        + w["item_bias.weight"][266, 0]
        + w["user_vectors.weight"][195] @ w["item_vectors.weight"][266]
    )
    assert f"prediction: {by_hand:.4f}, in stars" in said


@pytest.mark.parametrize("model", ["mf", "dlrm"])
def test_the_best_movies_are_unseen_in_order_and_named(say, few, model):
    say(f"train --model {model} --epochs 1 --out run.pt")
    user = int(few.user.mode().values)
    _, said, _ = say(f"predict --checkpoint run.pt --user {user + 1} --top 5000")
    lines = [line.split(maxsplit=5) for line in said.splitlines()[4:-2]]
    split = splits.random_split(N)
    learnt = few.item[split.train][few.user[split.train] == user] + 1
    movies = [int(line[2]) for line in lines]
    assert sorted(movies + learnt.tolist()) == list(range(1, 1683))
    scores = [float(line[1]) for line in lines]
    assert scores == sorted(scores, reverse=True)
    held = {
        int(few.item[row]) + 1: f"{few.rating[row]:g}"
        for row in split.test
        if few.user[row] == user
    }
    assert {int(line[2]): line[4] for line in lines if line[4] != "-"} == held != {}
    star_wars = next(line for line in lines if line[2] == "50")
    assert star_wars[5] == "Star Wars (1977)"
    assert int(star_wars[3]) == int((few.item[split.train] == 49).sum())
    _, said, _ = say(f"predict --checkpoint run.pt --user {user + 1} --top 2")
    assert [line.split()[2] for line in said.splitlines()[4:-2]] == [str(m) for m in movies[:2]]


def test_a_full_disk_leaves_no_half_of_a_table(say, here, monkeypatch):
    say("train --model mf --task ratings --epochs 1 --out mf.pt")
    (here / "old.csv").write_text("precious")

    def full(self, path, **keywords):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    status, _, complaint = say("predict --checkpoint mf.pt --out old.csv --overwrite")
    assert status == 1 and "No space left" in complaint
    assert (here / "old.csv").read_text() == "precious"
    assert left_behind(here) == ["mf.pt", "old.csv"]


def test_every_word_on_the_command_line_is_known(few):
    assert all(usual(model, task, name) for model, task in EVERY for name in arguments.SPLITS)
    assert recipes.METRICS.keys() == set(arguments.TASKS)
    everything = replace(few, rating=torch.zeros(splits.N_RATINGS))
    for name in set(arguments.SPLITS) - {"temporal"}:
        assert len(rows.named_split(everything, name).test) == 20_000
    assert torch.equal(rows.named_split(everything, "u3").test, splits.canonical_fold(3).test)
