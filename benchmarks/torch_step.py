"""Plain torch's side of a training step, see step_side.py.

What is timed is `nn.EmbeddingBag(sparse=True)` and `torch.optim.SGD`, whatever the plan's rule:
plain torch has no row-wise Adagrad. `check:reference` trains with dense gradients by the plan's
rule written out, which the other sides are held to.
"""

import torch
from torch import Tensor, nn

from benchmarks.step_side import Plain, Plan, Rows, Side, serve, step_of

TIMED = "torch-sparse"


class Bags(nn.Module):
    """A bag of torch's for each table."""

    def __init__(self, plan: Plan, *, sparse: bool = True) -> None:
        super().__init__()
        self.bags = nn.ModuleList(
            nn.EmbeddingBag(n, plan.dim, mode="sum", sparse=sparse, include_last_offset=True)
            for n in plan.rows
        )

    def forward(self, ids: Tensor, offsets: Tensor) -> Tensor:
        """The pooled vectors (B, F, D)."""
        rows = (len(offsets) - 1) // len(self.bags)
        starts = offsets[::rows].tolist()
        pooled = []
        for place, bag in enumerate(self.bags):
            first, last = starts[place : place + 2]
            own = offsets[place * rows : (place + 1) * rows + 1] - first
            pooled.append(bag(ids[first:last], own))
        return torch.stack(pooled, dim=1)  # (B, F, D)


class RowWise(torch.optim.Optimizer):
    """Row-wise Adagrad with dense gradients: the mean of squares of a row is summed up."""

    def __init__(self, parameters: list[Tensor], lr: float, eps: float) -> None:
        super().__init__(parameters, {"lr": lr, "eps": eps})

    @torch.no_grad()
    def step(self) -> None:
        """Change every table that has a gradient."""
        for group in self.param_groups:
            for table in group["params"]:
                state = self.state[table]
                state["sum"] = state.get("sum", 0) + table.grad.square().mean(1, keepdim=True)
                table -= group["lr"] * table.grad / (state["sum"].sqrt() + group["eps"])


def build(plan: Plan) -> Side:
    """One model, and two ways to train it."""
    tables = Bags(plan)
    model = Plain(plan, tables)
    weights = [bag.weight for bag in tables.bags]
    sgd = torch.optim.SGD(model.parameters(), lr=plan.lr)
    by_rule: list[torch.optim.Optimizer] = [sgd]
    if plan.rule == "rowwise_adagrad":
        mlps = [*model.bottom.parameters(), *model.top.parameters()]
        adagrad = torch.optim.Adagrad(mlps, lr=plan.lr, eps=plan.eps)
        by_rule = [adagrad, RowWise(weights, plan.lr, plan.eps)]
    reference = step_of(model, by_rule)

    def dense(rows: Rows) -> Tensor:
        for bag in tables.bags:
            bag.sparse = False
        return reference(rows)

    steps = {TIMED: step_of(model, [sgd]), "reference": dense}
    return Side(steps, weights, model.linear())


if __name__ == "__main__":
    serve(build, "torch", "numpy")
