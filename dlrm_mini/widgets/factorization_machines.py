"""Chapter 03's widgets: a prediction taken apart, and features switched on and off."""

from collections.abc import Mapping

import ipywidgets
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from dlrm_mini import style
from dlrm_mini.datasets import clicks
from dlrm_mini.datasets.batches import Batch, SparseFeatures
from dlrm_mini.datasets.movielens import GENRES, MovieLens
from dlrm_mini.datasets.rating_features import GROUPS, TENURES, RatingTask
from dlrm_mini.datasets.sparse import Column
from dlrm_mini.datasets.splits import Split
from dlrm_mini.errors import UserError
from dlrm_mini.models.factorization_machine import FactorizationMachine
from dlrm_mini.pictures import factorization_machines as pictures
from dlrm_mini.widgets import Explorer, explore

_SIDES = {  # 0 the user's, 1 the movie's, 2 of the time
    **dict.fromkeys(("user", *GROUPS["user"], *GROUPS["history"]), 0),
    **dict.fromkeys(("item", *GROUPS["movie"]), 1),
    **dict.fromkeys(GROUPS["time"], 2),
}
_GROUP_NAMES = {
    "user": "the user's side",
    "movie": "the movie's side",
    "time": "time",
    "history": "history",
}
_MOVIES, _USERS = 80, 40  # in the drop-down lists: the most-rated movies, some users


def id_names(ml: MovieLens) -> dict[str, list[str]]:
    """Field -> a name for each of its ids, for the fields of `rating_features` but the history."""
    weeks = int(ml.timestamp.max() - ml.timestamp.min()) // (7 * 86_400) + 1
    return {
        "user": [f"user {user}" for user in range(ml.n_users)],
        "item": ml.movies["title"].tolist(),
        "age_bucket": [f"age {bucket}" for bucket in clicks.AGE_BUCKETS],
        "gender": ["F", "M"],
        "occupation": [f"job: {job}" for job in sorted(ml.users["occupation"].unique())],
        "zip_prefix": [f"zip {prefix}" for prefix in clicks.ZIP_PREFIXES],
        "decade": list(clicks.DECADES),
        "genres": list(GENRES),
        "week": [f"week {week}" for week in range(weeks)],
        "weekday": list(clicks.WEEKDAYS),
        "hour": [f"{hour} h" for hour in range(24)],
        "tenure": [f"here: {tenure}" for tenure in TENURES],
    }


class Explanations:
    """Single predictions of a factorization machine, taken apart pair by pair.

    A user and a movie that are in no rating together are put together from two ratings: the movie's
    side from any of that movie, all else from the user's last one.

    Args:
        ml: the data set.
        model: trained on `task`.
        split: all ratings, some of them to train on.
        task: their features.
    """

    def __init__(
        self, ml: MovieLens, model: FactorizationMachine, split: Split, task: RatingTask
    ) -> None:
        self.ml, self.model, self.split, self.task = ml, model, split, task
        self.names = id_names(ml)
        sides = np.array([_SIDES[name] for name in model.field_names])
        self.order = np.argsort(sides, kind="stable")  # the user's fields first, then the movie's
        self.groups = sides[self.order].tolist()

    def batch(self, user: int, movie: int) -> Batch:
        """One row: this user and this movie. The label is the rating, NaN if there is none."""
        of_user, of_movie = self.ml.user == user, self.ml.item == movie
        if bool((of_user & of_movie).any()):
            return self._example((of_user & of_movie).int().argmax())
        last = self._example((self.ml.timestamp * of_user).argmax()).sparse
        any_of_movie = self._example(of_movie.int().argmax()).sparse
        columns: dict[str, Column] = {
            name: (any_of_movie if _SIDES[name] == 1 else last).bag(name)[:2] for name in last.names
        }
        nothing = torch.full((1,), torch.nan)
        return Batch(torch.empty(1, 0), SparseFeatures.from_columns(columns), nothing)

    def _example(self, row: Tensor) -> Batch:
        """The features of one rating of `ml`."""
        split, task = self.split, self.task
        for rows, examples in ((split.train, task.train), (split.test, task.test)):
            place = (rows == row).nonzero().squeeze(1)
            if len(place):
                return examples.select(place)
        raise UserError(f"Rating {int(row)} is not in the split; expected one that has them all.")

    def draw(self, user: int, movie: int) -> Figure:
        """Every pair's push on the prediction for this user and this movie.

        Args:
            user: an id.
            movie: an id.
        """
        batch = self.batch(user, movie)
        with torch.no_grad():
            bias, linear, pairs = self.model.contributions(batch)
        order, stars = self.order, batch.labels.item()
        fields = [self._name(self.model.field_names[field], batch, user) for field in order]
        truth = "has not rated it" if np.isnan(stars) else f"gave it {stars:.0f} of 5 stars"
        return pictures.interaction_matrix(
            fields,
            linear[0].double().numpy()[order],
            pairs[0].double().numpy()[np.ix_(order, order)],
            bias=bias.item(),
            groups=self.groups,
            title=f"{self._user(user)} and {self.ml.movies['title'].iloc[movie]}: {truth}",
            truth=None if np.isnan(stars) else stars,
        )

    def widget(self, user: int, movie: int) -> Explorer:
        """Pick a user and a movie."""
        counts = torch.bincount(self.ml.item, minlength=self.ml.n_items)
        known = sorted({movie, *counts.argsort(descending=True)[:_MOVIES].tolist()})
        movies = sorted((str(self.ml.movies["title"].iloc[m]), m) for m in known)
        some = range(0, self.ml.n_users, self.ml.n_users // _USERS)
        users = [(self._user(u), u) for u in sorted({user, *some})]
        return explore(
            "a prediction taken apart",
            self.draw,
            user=ipywidgets.Dropdown(options=users, value=user, description="user"),
            movie=ipywidgets.Dropdown(options=movies, value=movie, description="movie"),
        )

    def _user(self, user: int) -> str:
        who = self.ml.users.iloc[user]
        return f"User {user} ({who['occupation']}, {who['gender']}, {who['age']})"

    def _name(self, field: str, batch: Batch, user: int) -> str:
        """What the field holds in this row, in words."""
        if field == "history":
            assert self.task.histories is not None
            return f"{int(self.task.histories.lengths()[0, user])} rated movies"
        return ", ".join(self.names[field][i] for i in batch.sparse.bag(field).ids.tolist())


class Switches:
    """What groups of features buy, read from the record of all their combinations.

    Args:
        models: group names joined by "+" -> kind of test rows -> RMSE.
        kinds: kind of test rows -> its title and how many ratings it has.
        reference: kind of test rows -> RMSE of matrix factorization.
    """

    def __init__(
        self,
        models: Mapping[str, Mapping[str, float]],
        kinds: Mapping[str, tuple[str, int]],
        reference: Mapping[str, float],
    ) -> None:
        self.models, self.kinds = models, kinds
        self.reference = np.array([reference[kind] for kind in kinds])
        self.every = np.array([[rmse[kind] for kind in kinds] for rmse in models.values()])

    def draw(self, **on: bool) -> Figure:
        """The model with the groups that are on, among all others.

        Args:
            on: group of `GROUPS` -> whether it is switched on.
        """
        chosen = [group for group in GROUPS if on[group]]
        here = [self.models["+".join(chosen)][kind] for kind in self.kinds]
        picture = Figure(figsize=(9.6, 4.2))
        picture.set_layout_engine("none")  # laying out would slow each redraw
        for number, (title, ratings) in enumerate(self.kinds.values()):
            axes = picture.add_axes((0.085 + 0.236 * number, 0.1, 0.155, 0.64))
            self._panel(axes, number, here[number])
            gain = here[number] - self.reference[number]
            axes.set_title(f"{title}\n{gain:+.3f} against MF", fontsize=10)
            axes.set_xlabel(f"{ratings:,} test ratings")
        picture.supylabel("RMSE, stars", fontsize=11, x=0.005)
        words = ", ".join(_GROUP_NAMES[group] for group in chosen) or "nothing else"
        title = f"FM of user and movie, with {words}"
        picture.suptitle(title, fontsize=12, fontweight="bold", x=0.02, ha="left")
        return picture

    def _panel(self, axes: Axes, number: int, here: float) -> None:
        every, mf = self.every[:, number], float(self.reference[number])
        axes.plot(np.linspace(-0.25, 0.25, len(every)), every, "o", color="#C9C9C9", markersize=4)
        axes.axhline(mf, color=style.INK, linestyle="--", linewidth=1.4)
        colour = style.BLUE if here <= mf else style.RED
        axes.plot([0, 0], [mf, here], color=colour, linewidth=6, alpha=0.5)
        axes.plot(0, here, "o", color=colour, markersize=12)
        paper = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        axes.annotate(f"{here:.3f}", (0, here), xytext=(11, 0), textcoords="offset points",
                      va="center", fontsize=10, fontweight="bold", bbox=paper)  # fmt: skip
        values = np.append(every, mf)
        margin = 0.08 * float(np.ptp(values)) + 0.002
        axes.set(xlim=(-0.5, 0.9), ylim=(values.min() - margin, values.max() + margin), xticks=[])
        axes.tick_params(axis="y", labelsize=8.5)

    def widget(self, **on: bool) -> Explorer:
        """A check box for each group of features, set as `on` says."""
        boxes = {
            group: ipywidgets.Checkbox(on[group], description=_GROUP_NAMES[group], indent=False)
            for group in GROUPS
        }
        return explore("features on and off", self.draw, **boxes)
