"""A factorization machine averaged over its posterior, by Gibbs sampling.

Training looks for the one set of weights that explains the ratings best. But a movie with five
ratings can be explained by many vectors, and the best one of them is not the typical one. A Gibbs
sampler wanders among all weights that explain the ratings, visiting each as often as it is
probable; the predictions of the places it visits are averaged.

The model is that of Freudenthaler, Schmidt-Thieme and Rendle 2011, "Bayesian Factorization
Machines" (libFM's MCMC, Rendle 2012): a rating is the machine's output plus normal noise, the
weights of a field are normal around a mean of their own with a precision of their own, and noise,
means and precisions are drawn too, so that there is no regularisation left to choose. They draw one
number at a time. Here all of an id, its weight and its vector, is drawn at once: with the other
fields held still the output is *linear* in it, hence what is drawn from is a Bayesian linear
regression, and ids that share no row do not know of each other and are drawn in one step.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Gamma

from dlrm_mini import metrics
from dlrm_mini.datasets.batches import Batch
from dlrm_mini.embeddings import check_ids
from dlrm_mini.errors import UserError
from dlrm_mini.models.factorization_machine import FactorizationMachine
from dlrm_mini.progress import bar
from dlrm_mini.training import predict, set_seed


class Posterior(NamedTuple):
    """What the samples after the burn-in say together.

    Attributes:
        mean: (N_test,) float32, each prediction averaged over the samples.
        std: (N_test,) float32, its standard deviation over the samples: how sure the model is of
            its output. The noise of a single rating comes on top.
        rmse_single: of each sample alone on the test rows, the burn-in's first.
        rmse_average: of the average so far, from the first sample after the burn-in on.
        noise: standard deviation of the noise in stars, of each sample, the burn-in's first.
    """

    mean: Tensor
    std: Tensor
    rmse_single: list[float]
    rmse_average: list[float]
    noise: list[float]


class Conditional(NamedTuple):
    """The normal distributions of k ids, given everything else; d = 1 + D."""

    mean: Tensor  # (k, d) float64: the weight, then the vector
    factor: Tensor  # (k, d, d) float64: the Cholesky factor L of the precision L L^T

    def draw(self) -> Tensor:
        """One sample of each, (k, d)."""
        normal = torch.randn_like(self.mean)[:, :, None]
        away: Tensor = torch.linalg.solve_triangular(self.factor.mT, normal, upper=True)
        return self.mean + away.squeeze(2)


@dataclass
class Group:
    """Ids of one field of which no row has two, with the n rows that have one, sorted by id."""

    ids: Tensor  # (k,) int64
    counts: list[int]  # how many rows have each of these ids
    rows: Tensor  # (n,) int64
    values: Tensor | None  # (n, 1) float32: x, the weight of the id in that row; None: all are 1

    def per_row(self, of_id: Tensor) -> Tensor:
        """What is given for each id (k, d), for each of its rows and times x, (n, d) float32."""
        counts = torch.tensor(self.counts)
        rows = of_id.float().repeat_interleave(counts, 0, output_size=len(self.rows))
        return rows if self.values is None else rows * self.values


class Field:
    """A table or a dense column: its parameters, and what is believed about them beforehand.

    Attributes:
        theta: (N_t, d) float64, of each id its linear weight and then its vector.
        prior_mean: (d,) float64, and `prior_precision`: the normal that each column comes from.
        groups: what can be drawn in one step; a single group unless rows have several ids.
    """

    def __init__(self, theta: Tensor, groups: list[Group]) -> None:
        self.theta, self.groups = theta.double(), groups
        self.prior_mean = theta.new_zeros(theta.shape[1], dtype=torch.float64)
        self.prior_precision = torch.ones_like(self.prior_mean)

    def draw_prior(self) -> None:
        """Draw mean and precision of each column given the ids' parameters.

        They are normal-gamma: a precision is Gamma(1/2, 1/2) and a mean normal around 0 with that
        precision beforehand, as if one id with all zeros had been seen already.
        """
        n = len(self.theta)
        spread = (self.theta - self.prior_mean).square().sum(0) + self.prior_mean.square()
        shape = torch.full_like(spread, (n + 2) / 2)
        self.prior_precision = Gamma(shape, (spread + 1) / 2).sample()
        centre, deviation = self.theta.sum(0) / (n + 1), ((n + 1) * self.prior_precision).rsqrt()
        self.prior_mean = centre + deviation * torch.randn_like(centre)


def conditional(
    inputs: Tensor,
    residual: Tensor,
    old: Tensor,
    counts: list[int],
    noise: float,
    prior_mean: Tensor,
    prior_precision: Tensor,
) -> Conditional:
    """Bayesian linear regression of each id's targets on its inputs, for k ids at once.

    With X the inputs of an id's rows, its targets are what the id has explained so far and what
    nobody explains, t = X old + residual. The precision is diag(prior_precision) + noise X^T X, and
    that times the mean is prior_precision * prior_mean + noise X^T t.

    Args:
        inputs: (n, d), the first id's rows first.
        residual: (n,), in the same order.
        old: (k, d) float64, the ids' present parameters.
        counts: k numbers of rows, together n; an id without rows keeps its prior.
        noise: the precision of the noise.
        prior_mean: (d,) float64.
        prior_precision: (d,) float64.
    """
    gram = inputs.new_empty(*old.shape, old.shape[1])  # (k, d, d)
    moment = torch.empty_like(gram[:, 0])  # (k, d)
    parts = zip(torch.split(inputs, counts), torch.split(residual, counts), strict=True)
    for j, (x, r) in enumerate(parts):
        torch.mm(x.T, x, out=gram[j])
        torch.mv(x.T, r, out=moment[j])
    gram = gram.double()
    moment = moment.double() + (gram @ old[:, :, None])[:, :, 0]  # X^T t
    factor = torch.linalg.cholesky(noise * gram + prior_precision.diag())
    right = noise * moment + prior_precision * prior_mean
    return Conditional(torch.cholesky_solve(right[:, :, None], factor)[:, :, 0], factor)


class Sampler:
    """The state of the chain over a machine's weights, given training rows.

    `residual` (N,) is what is left of the labels, and `sums` (N, d) holds a 1 and the sum of all
    vectors of each row. Both are kept up to date in float32 while fields are drawn by turns.
    """

    def __init__(self, model: FactorizationMachine, train: Batch) -> None:
        self.model, self.n_rows = model, len(train)
        self.fields = _fields(model, train)
        with torch.no_grad():
            self.residual = train.labels - predict(model, train)
            vectors = model.look_up(train).vectors.sum(1)  # (N, n, D) -> (N, D)
        self.sums = torch.cat([torch.ones(len(train), 1), vectors], dim=1)
        self.bias = float(model.bias.detach())
        self.noise = 1.0  # the precision

    def step(self) -> None:
        """Draw everything once: the noise, w_0, and every field with its prior."""
        squares = self.residual.double().square().sum()
        self.noise = float(Gamma((1 + self.n_rows) / 2, (1 + squares) / 2).sample())
        precision = self.noise * self.n_rows + 1
        centre = self.noise * float((self.residual.double() + self.bias).sum()) / precision
        bias = centre + float(torch.randn(())) * precision**-0.5
        self.residual -= bias - self.bias
        self.bias = bias
        for field in self.fields:
            field.draw_prior()
            for group in field.groups:
                self.draw(field, group)

    def draw(self, field: Field, group: Group) -> None:
        """Draw the weights and vectors of a group given everything else.

        With `others` the sum of a row's other vectors, the output is something without this id plus
        x * (w + <v, others>): linear in (w, v), with inputs x * (1, others).
        """
        old = field.theta[group.ids]  # (k, d)
        sums = self.sums.index_select(0, group.rows)  # (n, d)
        others = sums - group.per_row(old)
        others[:, 0] = 1
        inputs = others if group.values is None else others * group.values
        residual = self.residual[group.rows]  # (n,)
        prior = field.prior_mean, field.prior_precision
        new = conditional(inputs, residual, old, group.counts, self.noise, *prior).draw()
        field.theta[group.ids] = new
        change = group.per_row(new - old)  # (n, d)
        self.residual[group.rows] = residual - torch.einsum("nd,nd->n", others, change)
        change[:, 0] = 0
        self.sums.index_copy_(0, group.rows, sums + change)

    @torch.no_grad()
    def write(self) -> FactorizationMachine:
        """The machine, with the weights that the chain is at."""
        model, n_tables = self.model, len(self.model.vectors.names)
        model.bias.fill_(self.bias)
        for name, field in zip(model.vectors.names, self.fields, strict=False):
            model.linear.tables[name].copy_(field.theta[:, :1])
            model.vectors.tables[name].copy_(field.theta[:, 1:])
        for column, field in enumerate(self.fields[n_tables:]):
            model.dense_linear[column] = field.theta[0, 0]
            model.dense_vectors[column] = field.theta[0, 1:]
        return model


def sample(
    model: FactorizationMachine,
    train: Batch,
    test: Batch,
    *,
    samples: int,
    burn_in: int,
    seed: int,
    progress: bool = True,
) -> Posterior:
    """Sample a machine's weights given the training rows and average the test rows' predictions.

    The labels of the test rows are used for the two traces of RMSE and for nothing else.

    Args:
        model: where the chain starts; it ends with the weights of the last sample.
        train: the rows to learn from, labels are ratings.
        test: the rows to predict.
        samples: how many samples to average.
        burn_in: how many to leave out first, while the chain still remembers its start.
        seed: of all draws.
        progress: show a bar.

    Raises:
        UserError: no samples; an id without a row; a bag that holds an id twice.
    """
    if samples < 1 or burn_in < 0:
        raise UserError(f"{samples} samples after {burn_in}; expected at least 1 after at least 0.")
    set_seed(seed)
    sampler = Sampler(model, train)
    total, squares = torch.zeros(len(test)).double(), torch.zeros(len(test)).double()
    posterior = Posterior(torch.empty(0), torch.empty(0), [], [], [])
    steps = bar(range(-burn_in, samples), desc="Gibbs", unit="sample", disable=not progress)
    for step in steps:
        sampler.step()
        prediction = predict(sampler.write(), test).double()
        posterior.rmse_single.append(metrics.rmse(prediction, test.labels))
        posterior.noise.append(sampler.noise**-0.5)
        if step >= 0:
            total += prediction
            squares += prediction.square()
            posterior.rmse_average.append(metrics.rmse(total / (step + 1), test.labels))
    mean = total / samples
    deviation = (squares / samples - mean.square()).clamp(min=0).sqrt()
    return posterior._replace(mean=mean.float(), std=deviation.float())


def _fields(model: FactorizationMachine, train: Batch) -> list[Field]:
    """The machine's fields in the order of its `field_names`, with their groups of ids."""
    tables = model.linear.tables, model.vectors.tables
    fields = []
    for name in model.vectors.names:
        theta = torch.cat([table[name].detach() for table in tables], dim=1)  # (N_t, d)
        fields.append(Field(theta, list(_groups(name, train, len(theta)))))
    rows = torch.arange(len(train))
    for column in range(model.n_dense):
        theta = torch.cat([model.dense_linear[column, None], model.dense_vectors[column]])
        group = Group(torch.tensor([0]), [len(rows)], rows, train.dense[:, column, None])
        fields.append(Field(theta.detach()[None], [group]))
    return fields


def _groups(name: str, train: Batch, n_ids: int) -> Iterator[Group]:
    """The ids of a table that can be drawn together: all of them, or one by one if rows share."""
    bag = train.sparse.bag(name)
    check_ids(name, bag.ids, n_ids)
    lengths = bag.offsets.diff()
    order = bag.ids.argsort(stable=True)
    rows = torch.arange(len(train)).repeat_interleave(lengths)[order]
    weights = bag.weights  # 1 where another feature has weights and this one has none
    values = None if weights is None or bool((weights == 1).all()) else weights[order, None]
    counts = bag.ids.bincount(minlength=n_ids).tolist()
    if not len(lengths) or int(lengths.max()) <= 1:
        yield Group(torch.arange(n_ids), counts, rows, values)
        return
    ends = [0, *bag.ids.bincount(minlength=n_ids).cumsum(0).tolist()]
    for j in range(n_ids):
        mine = slice(ends[j], ends[j + 1])
        repeated = rows[mine].diff() == 0
        if bool(repeated.any()):
            row = int(rows[mine][1:][repeated][0])
            raise UserError(
                f"Row {row} of feature '{name}' has the id {j} twice; expected each id once in a "
                "bag. Give it once, with the sum of its weights."
            )
        own = None if values is None else values[mine]
        yield Group(torch.tensor([j]), counts[j : j + 1], rows[mine], own)
