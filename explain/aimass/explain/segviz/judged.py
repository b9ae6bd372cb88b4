"""What a model says of rows whose truth is known: how wrong it is in each, and in which way.

Asked in chunks of which only a few numbers a row are kept, so ten thousand classes cost no more memory than two.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from aimass.explain.labels import checked_labels
from aimass.explain.losses import LossName, losses
from aimass.explain.models import Model, asked
from aimass.explain.outputs import output_title
from aimass.explain.rows import Rows
from aimass.explain.work import Work
from aimass.proto.errors import BadInput, NotFound

__all__ = ["CONFUSION", "Judged", "LossChoice", "judge", "output_of"]

Floats = npt.NDArray[np.float64]
LossChoice = Literal["", "error_rate", "log_loss", "brier", "squared_error", "absolute_error"]
CONFUSION = ("true positive", "false positive", "false negative", "true negative")
_RIGHT = ("right", "wrong")
_SIDES = ("near", "too high", "too low")


@dataclasses.dataclass(frozen=True)
class Judged:
    """`said` float64 [n]: the probability of the outcome, of the class that is likeliest, or the number predicted.

    `cells` int64 [n] are places in `names`: the kinds of right and wrong. `errors` float64 [n] >= 0 are in `loss`.
    """

    said: Floats
    title: str
    cells: npt.NDArray[np.int64]
    names: tuple[str, ...]
    errors: Floats
    loss: LossName

    @property
    def share(self) -> bool:
        """Whether an error is 0 or 1, and their mean the share of wrong rows."""
        return self.loss == "error_rate"


def output_of(model: Model, output: str) -> int | None:
    """The class whose probability is cut: the one that is named, the last of two, none of more or of a number."""
    if not model.classifies:
        return None
    if output:
        if output not in model.outputs:
            raise NotFound(
                "the model tells no such class", code="explain.output", value=output, limit=", ".join(model.outputs)
            )
        return model.outputs.index(output)
    return 1 if len(model.outputs) == 2 else None


def judge(model: Model, rows: Rows, work: Work, *, output: str, threshold: float, loss: LossChoice) -> Judged:
    """Every row; raises `BadInput` for labels that are none of the model's classes, or an error of another kind."""
    labels, place, named = checked_labels(model, rows), output_of(model, output), _loss(model, loss)
    predict, found = asked(model, work), []
    for part in work.chunks(len(rows), 32 * len(model.outputs)):
        said, truth = predict(rows.values[part]), labels[part]
        found.append((*_cells(said, truth, place, threshold, classifies=model.classifies), losses(said, truth, named)))
    if not found:
        raise BadInput("there are no rows", code="explain.rows", value=0, cure="Give at least one row.")
    said, cells, errors = (np.concatenate(parts) for parts in zip(*found, strict=True))
    if not model.classifies:
        off = said - labels
        near = float(np.median(np.abs(off)))
        cells = np.where(np.abs(off) <= near, 0, np.where(off > 0, 1, 2))
        return Judged(said, output_title(model, 0), cells, _SIDES, errors, named)
    if place is None:
        return Judged(said, "probability of the likeliest class", cells, _RIGHT, errors, named)
    if named == "error_rate":
        errors = ((cells == 1) | (cells == 2)).astype(np.float64)  # under the threshold that was asked for
    return Judged(said, f"predicted chance of {model.outputs[place]}", cells, CONFUSION, errors, named)


def _cells(
    said: Floats, labels: npt.NDArray[Any], place: int | None, threshold: float, *, classifies: bool
) -> tuple[Floats, npt.NDArray[np.int64]]:
    if not classifies:
        return said[:, 0], np.zeros(len(said), np.int64)
    if place is None:
        return said.max(axis=1), (said.argmax(axis=1) != labels).astype(np.int64)
    positive, true = said[:, place] >= threshold, labels == place
    return said[:, place], np.where(positive, np.where(true, 0, 1), np.where(true, 2, 3))


def _loss(model: Model, loss: LossChoice) -> LossName:
    if not loss:
        return "error_rate" if model.classifies else "absolute_error"
    if (loss in {"squared_error", "absolute_error"}) == model.classifies:
        raise BadInput(
            "this loss is of another kind of model",
            code="explain.loss",
            value=loss,
            limit="error_rate, log_loss or brier" if model.classifies else "squared_error or absolute_error",
        )
    return loss
