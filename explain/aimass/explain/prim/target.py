"""Which number of each row is looked at: what the model says, how wrong it is, or what was true."""

from __future__ import annotations

import dataclasses
from typing import cast

import numpy as np
import numpy.typing as npt

from aimass.explain.labels import checked_labels
from aimass.explain.losses import LossName, losses
from aimass.explain.models import Model
from aimass.explain.outputs import output_of, output_title
from aimass.explain.prim.options import PrimOptions
from aimass.explain.rows import Rows
from aimass.explain.words import number, percent
from aimass.proto.errors import BadInput

__all__ = ["Target", "output_of", "target_of", "told"]

Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Target:
    """`values` float64 [n]; `name` is what their mean is called. `share` says that a mean is told in percent.

    `binary` says that each value is 0 or 1, so that a mean is a proportion.
    """

    name: str
    values: Floats
    share: bool
    binary: bool


def target_of(model: Model, rows: Rows, said: Floats, place: int, options: PrimOptions) -> Target:
    """What boxes are to be high in, of predictions float64 [n, outputs]."""
    output = model.outputs[place]
    match options.target:
        case "prediction":
            return Target(output_title(model, place), said[:, place], model.classifies, binary=False)
        case "label":
            labels = checked_labels(model, rows)
            if model.classifies:
                return Target(f"rate of {output}", (labels == place).astype(np.float64), share=True, binary=True)
            return Target(output, labels.astype(np.float64), share=False, binary=False)
        case _:
            loss = _error(model, options.loss)
            values = losses(said, checked_labels(model, rows), loss)
            binary = loss == "error_rate"
            return Target(loss.replace("_", " "), values, share=binary, binary=binary)


def _error(model: Model, loss: str) -> LossName:
    chosen = loss or ("error_rate" if model.classifies else "absolute_error")
    if model.classifies == (chosen in {"squared_error", "absolute_error"}):
        raise BadInput(
            "this loss is of another kind of model",
            code="explain.loss",
            value=chosen,
            limit="log_loss, brier, error_rate" if model.classifies else "squared_error, absolute_error",
        )
    return cast("LossName", chosen)


def told(mean: float, *, share: bool) -> str:
    """A mean as people say it."""
    return "none" if np.isnan(mean) else percent(mean) if share else number(mean)
