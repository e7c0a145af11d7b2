"""Chapter 04's widgets: a network that imitates a product, and what a hidden unit sees."""

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from dlrm_mini.datasets.movielens import GENRES, MovieLens
from dlrm_mini.ladders import dot_product
from dlrm_mini.ladders.folded_product import representable
from dlrm_mini.models.mlp import EmbeddingMLP
from dlrm_mini.pictures import hidden_units
from dlrm_mini.pictures import the_mlp as pictures
from dlrm_mini.pictures.matrix_factorization import shorten
from dlrm_mini.widgets import Explorer, explore

WIDTHS = (2, 4, 8, 16, 32)
POINTS = (16, 64, 256, 1024, 4096)
NOISES = {"none": 0.0, "as strong as the product": 1.0, "as in ratings": 16.0}
SHOW = ("activation", "interaction")
SIDE = 160  # users and movies along the sides of a unit's picture
SHOWN = 5  # movies named at either end
LEAST_MOVIES = 20  # a genre with fewer is left out

RESTARTS, STEPS, BATCH, RATE = 4, 800, 64, 0.03


class Imitations:
    """Small networks that learned x y from a few points, one for each position of the controls.

    All networks of one width are trained together. Each position has several starts; the one
    with the lowest error on the points it learned from is kept, as somebody without the truth would
    choose.

    Args:
        seed: of the points, the noise, the first weights and the batches.
    """

    def __init__(self, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.points, product = dot_product.make(max(POINTS), 1, generator)
        noise = torch.randn(max(POINTS), generator=generator)
        strengths = torch.tensor(list(NOISES.values())).sqrt()
        self.labels = product + strengths[:, None] * noise  # (noises, n)
        self.sheets: dict[tuple[int, int, str], pictures.Sheet] = {}
        for width in WIDTHS:
            self._train(width, generator)
        self.hand = np.array([representable(1, width) for width in WIDTHS])
        self.missed = {key: self._missed(sheet) for key, sheet in self.sheets.items()}

    def _train(self, width: int, generator: torch.Generator) -> None:
        """All positions of one width at once: M = points x noises x starts networks."""
        shape = (len(POINTS), len(NOISES), RESTARTS)
        m = int(np.prod(shape))
        n, noise, _ = (part.reshape(-1) for part in np.indices(shape))
        counts, which = torch.tensor(POINTS)[n], torch.from_numpy(noise)  # (M,)

        def start(*size: int, std: float) -> Tensor:
            return (torch.randn(m, *size, generator=generator) * std).requires_grad_()

        first = start(3, width, std=(2 / (2 + width)) ** 0.5)  # the last row is the bias
        second, level = start(width, 1, std=(2 / (width + 1)) ** 0.5), start(1, 1, std=0.0)
        inputs = torch.cat([self.points, torch.ones(max(POINTS), 1)], dim=1)  # (n, 3)
        optimizer = torch.optim.Adam([first, second, level], lr=RATE, fused=True)
        falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS)
        for _ in range(STEPS):
            rows = (torch.rand(m, BATCH, generator=generator) * counts[:, None]).long()
            output = torch.relu(inputs[rows] @ first) @ second + level  # (M, BATCH, 1)
            wrong = output.squeeze(2) - self.labels[which[:, None], rows]
            optimizer.zero_grad(set_to_none=True)
            wrong.square().mean(1).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            falling.step()
        with torch.no_grad():
            output = (torch.relu(inputs @ first) @ second + level).squeeze(2)  # (M, n)
            seen = torch.arange(max(POINTS)) < counts[:, None]
            errors = ((output - self.labels[which]).square() * seen).sum(1) / counts
        for at in range(0, m, RESTARTS):
            best = at + int(errors[at : at + RESTARTS].argmin())
            weights = (part[best].detach().double().numpy() for part in (first, second, level))
            one, two, three = weights
            key = (width, POINTS[n[at]], list(NOISES)[noise[at]])
            self.sheets[key] = pictures.Sheet(one.T, two[:, 0], float(three[0, 0]))

    def _missed(self, sheet: pictures.Sheet) -> float:
        return dot_product.missed(lambda x: torch.from_numpy(sheet(x.double().numpy())), 1)

    def draw(self, width: int, points: int, noise: str) -> Figure:
        """The network of this width that learned from this many points."""
        missed = np.array([self.missed[one, points, noise] for one in WIDTHS])
        learned = self.points[:points].double().numpy()
        sheet, here = self.sheets[width, points, noise], WIDTHS.index(width)
        return pictures.imitation(sheet, learned, WIDTHS, missed, here, self.hand)

    def widget(self) -> Explorer:
        """Choose width, points and noise."""
        return explore(
            "an MLP imitates a product",
            self.draw,
            width=ipywidgets.SelectionSlider(options=WIDTHS, value=8, description="units"),
            points=ipywidgets.SelectionSlider(options=POINTS, value=1024, description="points"),
            noise=ipywidgets.Dropdown(options=list(NOISES), value="none", description="noise"),
        )


class Units:
    """What the hidden units of a trained `EmbeddingMLP` see, those with most interaction first.

    The first layer multiplies the user's and the movie's vector by weights of its own and adds: a
    unit's input is a push of the user plus a push of the movie, with the bias on the movie's side.

    Args:
        ml: the data set.
        model: trained, with one hidden layer, on the features "user" and "item" in this order.
        items: (m,) int64, the movies to look at: those with ratings enough to be placed well.
    """

    def __init__(self, ml: MovieLens, model: EmbeddingMLP, items: Tensor) -> None:
        first = model.mlp[0]
        assert isinstance(first, torch.nn.Linear) and model.tables.names == ("user", "item")
        with torch.no_grad():
            of_user, of_item = first.weight.chunk(2, dim=1)  # (H, D) each
            users = model.tables.tables["user"] @ of_user.T  # (n, H)
            movies = model.tables.tables["item"][items] @ of_item.T + first.bias  # (m, H)
        self.users, self.movies = users.double().numpy(), movies.double().numpy()
        self.weights = model.output.weight[0].detach().double().numpy()  # (H,)
        self.titles = np.array(ml.movies["title"].tolist())[items.numpy()]
        self.flags = ml.genres[items.numpy()].astype(bool)  # (m, 19)
        n_units = len(self.weights)
        self.variances = np.array([self.parts(k).variances() for k in range(n_units)])  # (H, 3)
        self.order = np.argsort(-(self.weights**2) * self.variances[:, 2])

    def parts(self, k: int) -> hidden_units.Parts:
        """Unit k over all users and movies, taken apart."""
        return hidden_units.take_apart(np.maximum(self.users[:, k, None] + self.movies[:, k], 0))

    def unit(self, k: int) -> hidden_units.Unit:
        """Unit k, made ready to be drawn."""
        push = self.movies[:, k]
        by_push = np.argsort(push)
        scaled = (push - push.mean()) / (push.std() or 1.0)
        counts = self.flags.sum(0)
        genres = {
            GENRES[g]: (float(scaled[self.flags[:, g]].mean()), 2 / float(counts[g]) ** 0.5)
            for g in np.flatnonzero(counts >= LEAST_MOVIES)
        }
        return hidden_units.Unit(
            users=np.quantile(self.users[:, k], np.linspace(0, 1, SIDE)),
            movies=np.quantile(push, np.linspace(0, 1, SIDE)),
            weight=float(self.weights[k]),
            loudest=self._first(by_push[::-1]),
            quietest=self._first(by_push),
            genres=dict(sorted(genres.items(), key=lambda pair: -pair[1][0])),
        )

    def _first(self, movies: NDArray[np.int64]) -> list[str]:
        """The first few titles; some movies are in the data twice, and named once."""
        titles = dict.fromkeys(self.titles[movies[: 2 * SHOWN]])
        return [shorten(title, 28) for title in titles][:SHOWN]

    def draw(self, rank: int, show: str) -> Figure:
        """The unit of this rank, from 1, by the interaction that it brings to the output."""
        k = int(self.order[rank - 1])
        return hidden_units.unit(self.unit(k), f"unit {rank}", interaction=show == SHOW[1])

    def widget(self, rank: int = 1) -> Explorer:
        """Choose a unit, and what of it to draw."""
        return explore(
            "what a hidden unit sees",
            self.draw,
            rank=ipywidgets.IntSlider(rank, 1, min(20, len(self.order)), description="unit"),
            show=ipywidgets.Dropdown(options=SHOW, value=SHOW[0], description="show"),
        )
