"""A trained model and its rows, from what `train` left in a file."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from dlrm_mini import checkpoints, training
from dlrm_mini.datasets import movielens
from dlrm_mini.datasets.batches import Batch
from dlrm_mini.errors import UserError
from dlrm_mini.shell import recipes
from dlrm_mini.shell.models import build, prepare
from dlrm_mini.shell.rows import Rows


class Trained(NamedTuple):
    """A model as it was saved, the recipe it was made by, and the rows it was made on."""

    model: nn.Module
    recipe: recipes.Recipe
    rows: Rows

    @classmethod
    def load(cls, path: Path, device: str) -> Trained:
        """What `train` left in `path`.

        Raises:
            UserError: there is no such checkpoint or device, or the checkpoint is not of `train`
                on MovieLens.
        """
        place = prepare(device)
        content = checkpoints.load(path)
        recipe = recipes.from_checkpoint(content, path)
        if recipe.data != "movielens":
            raise UserError(
                f"{path} was trained on a click log, whose rows name no user and no movie; "
                "expected a model of MovieLens. `evaluate --checkpoint FILE --from DIR` says how "
                "good it is."
            )
        rows = recipe.rows(movielens.load())
        model = build(recipe.model, recipe.task, recipe.setting, rows.made, place).model
        checkpoints.load_weights(model, content["model"], path)
        return cls(model, recipe, rows)

    def scores(self, batch: Batch) -> Tensor:
        """Stars, not clipped to the scale, or probabilities of a click, (B,) float32."""
        raw = training.predict(self.model, batch)
        return raw.sigmoid() if self.recipe.task == "clicks" else raw
