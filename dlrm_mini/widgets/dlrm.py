"""Chapter 05's widgets: DLRM built step by step, and what the pairs of one prediction do."""

from typing import Any

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from dlrm_mini import style
from dlrm_mini.datasets.batches import Batch, SparseFeatures
from dlrm_mini.datasets.clicks import ClickTask
from dlrm_mini.datasets.movielens import MovieLens
from dlrm_mini.interactions import dot_interaction, pair_indices
from dlrm_mini.models.dlrm import DLRM
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.models.dlrm_drawing import STAGES, draw
from dlrm_mini.pictures import dlrm as pictures
from dlrm_mini.widgets import Explorer, explore

AVERAGED = 1000  # test rows behind the averages
USERS = 12  # users to choose from
LEAST_RATINGS = 50  # of a movie to choose; the vectors of rarer ones are mostly chance

OF_MOVIE = ("item", "decade", "genres", "year", "item_log_count", "item_mean")


class Steps:
    """Draws a DLRM that grows: its picture up to a step, and the line of code of each step.

    Args:
        config: the sizes of a DLRM with the dot interaction.
        batch_size: B, for the shapes.
    """

    def __init__(self, config: DLRMConfig, batch_size: int) -> None:
        self.config = config
        shapes, labels = config.shapes(batch_size), f"({batch_size},)"
        together = (batch_size, config.n_vectors, config.dim)
        dense, vectors = shapes["dense"], shapes["tables"]
        self.lines = [
            ("dense, sparse = batch.dense, batch.sparse", f"{dense}, {vectors[1]} features"),
            ("vectors = tables(sparse)", f"{vectors}"),
            ("z = bottom(dense)", f"{dense} -> {(batch_size, config.dim)}"),
            ("together = torch.cat([z[:, None], vectors], 1)", f"{together}"),
            ("x = torch.cat([z, pairs(together @ together.mT)], 1)", f"{shapes['interaction']}"),
            ("logits = top(x).squeeze(1)", f"{shapes['interaction']} -> {shapes['logits']}"),
            ("loss = logloss(sigmoid(logits), labels)", f"{shapes['logits']}, {labels} -> ()"),
        ]

    def draw(self, step: int) -> Figure:
        """The picture after this many steps, 1 to 7."""
        picture = draw(self.config, step)
        picture.set_size_inches(10, 7)
        picture.axes[0].set_position((0, 0.25, 1, 0.7))
        for number, (code, shape) in enumerate(self.lines, start=1):
            colour = style.INK if number <= step else "#C4C4C4"
            y = 0.225 - 0.031 * (number - 1)
            weight = "bold" if number == step else "normal"
            look: dict[str, Any] = {"color": colour, "fontweight": weight, "va": "center",
                                    "fontsize": 10.5, "family": "monospace"}  # fmt: skip
            picture.text(0.03, y, f"{number}  {code}", **look)
            if number <= step:
                picture.text(0.62, y, f"# {shape}", **look)
        return picture

    def widget(self, step: int) -> Explorer:
        """Build the model step by step."""
        slider = ipywidgets.IntSlider(step, 1, len(STAGES), description="step")
        return explore("DLRM, built step by step", self.draw, step=slider)


def pair_effects(model: DLRM, batch: Batch, average: Tensor) -> Tensor:
    """How each pair moved the logit: the logit as it is, minus that with the pair at its average.

    Args:
        model: a trained model with the dot interaction, in evaluation mode.
        batch: B rows.
        average: (n_pairs,), what each dot product is on average.

    Returns:
        (B, n_pairs), in the order of `pair_indices`.
    """
    with torch.no_grad():
        whole = dot_interaction(*model.interact(batch))  # (B, D + n_pairs)
        place = torch.arange(whole.shape[1] - len(average), whole.shape[1])
        swapped = whole[:, None].repeat(1, len(average), 1)  # (B, n_pairs, D + n_pairs)
        swapped[:, torch.arange(len(average)), place] = average
        effects: Tensor = model.top(whole) - model.top(swapped).squeeze(2)  # (B, n_pairs)
    return effects


class Pairs:
    """The interaction matrix of a trained DLRM: on average, and of one user with one movie.

    Args:
        ml: the data set.
        task: the click task the model was trained on.
        test: (N,) int64, the rows of the data set that `task.test` holds.
        model: a DLRM with the dot interaction and without self-interaction.
    """

    def __init__(self, ml: MovieLens, task: ClickTask, test: Tensor, model: DLRM) -> None:
        self.task, self.model = task, model.eval()  # no dropout
        self.names = model.vector_names
        rows = torch.randperm(len(task.test), generator=torch.Generator().manual_seed(0))
        self.sample = task.test.select(rows[:AVERAGED])
        with torch.no_grad():
            products = model.interaction_matrix(self.sample)  # (B, n, n)
        self.lower = pair_indices(len(self.names))
        self.mean = products.mean(0)  # (n, n)
        most_active = ml.user[test].bincount().argsort(descending=True, stable=True)[:USERS]
        self.user_rows = {
            _person(ml, user): int((ml.user[test] == user).nonzero()[0])
            for user in most_active.tolist()
        }
        often = torch.bincount(ml.item, minlength=ml.n_items) >= LEAST_RATINGS
        titles = ml.movies["title"].tolist()
        first = np.unique(ml.item[test].numpy(), return_index=True)
        self.movie_rows = {
            titles[item]: row for item, row in zip(*map(list, first), strict=True) if often[item]
        }

    def average(self) -> Figure:
        """Mean dot products, and the mean size of what they do to the logit."""
        effects = pair_effects(self.model, self.sample, self.mean[self.lower])
        size = self._matrix(effects.abs().mean(0))
        title = f"Average of {len(self.sample):,} test rows"
        return pictures.pair_matrices(
            self.names, self.mean.double().numpy(), size, title=title, effect_label="mean |change|"
        )

    def draw(self, user: str, movie: str) -> Figure:
        """One user with one movie: dot products above or below average, and what that does."""
        batch = self.example(user, movie)
        with torch.no_grad():
            products = self.model.interaction_matrix(batch)[0] - self.mean
            click = float(torch.sigmoid(self.model(batch))[0])
        effects = self._matrix(pair_effects(self.model, batch, self.mean[self.lower])[0])
        return pictures.pair_matrices(
            self.names,
            products.double().numpy(),
            effects,
            title=f"{user}, and “{movie}”: chance of a click {click:.2f}",
            effect_label="change of the logit",
            deviation=True,
        )

    def widget(self, user: str, movie: str) -> Explorer:
        """Choose a user and a movie, see which pairs spoke for a click and which against."""
        return explore(
            "what the pairs of one prediction do",
            self.draw,
            user=ipywidgets.Dropdown(options=list(self.user_rows), value=user, description="user"),
            movie=ipywidgets.Dropdown(
                options=sorted(self.movie_rows), value=movie, description="movie"
            ),
        )

    def example(self, user: str, movie: str) -> Batch:
        """One row that never was: the user's features with the movie's, at the user's hour."""
        rows = torch.tensor([self.user_rows[user], self.movie_rows[movie]])
        two = self.task.test.select(rows)
        columns = {
            name: two.sparse.select(torch.tensor([int(name in OF_MOVIE)]))[name]
            for name in two.sparse.names
        }
        of_movie = torch.tensor([name in OF_MOVIE for name in self.task.dense_names])
        dense = torch.where(of_movie, two.dense[1], two.dense[0])[None]
        return Batch(dense, SparseFeatures.from_columns(columns), two.labels[:1])

    def _matrix(self, pairs: Tensor) -> np.ndarray:
        """(n_pairs,) values as the strictly lower triangle of an (n, n) matrix."""
        matrix = torch.zeros(len(self.names), len(self.names), dtype=torch.float64)
        matrix[self.lower] = pairs.double()
        return matrix.numpy()


def _person(ml: MovieLens, user: int) -> str:
    of = ml.users.iloc[user]
    return f"{str(of['occupation']).capitalize()}, {of['age']}, user {user}"
