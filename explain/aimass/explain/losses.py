"""What a prediction costs by row: the loss that importance, slices and bands are measured in."""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from aimass.explain.models import Model

__all__ = ["LEAST", "LossName", "loss_of", "losses"]

Floats = npt.NDArray[np.float64]
LossName = Literal["log_loss", "brier", "error_rate", "squared_error", "absolute_error"]
LEAST: Final = 1e-12
"""What a probability counts as at least, so that a log loss is a number."""


def loss_of(model: Model) -> LossName:
    """The loss that a model of this kind is trained by."""
    return "log_loss" if model.classifies else "squared_error"


def losses(said: Floats, labels: npt.NDArray[Any], loss: LossName) -> Floats:
    """float64 [n]: the loss of each row, of predictions float64 [n, outputs] and labels as `Rows` has them.

    Log loss in nats of a probability cut at 1e-12; the Brier score sums over all classes (Brier 1950).
    """
    found: Floats
    match loss:
        case "squared_error":
            found = (said[:, 0] - labels) ** 2
        case "absolute_error":
            found = np.abs(said[:, 0] - labels)
        case "error_rate":
            found = (said.argmax(axis=1) != labels).astype(np.float64)
        case "log_loss":
            found = -np.log(np.clip(said[np.arange(len(labels)), labels], LEAST, 1.0))
        case "brier":
            found = (said**2).sum(axis=1) - 2 * said[np.arange(len(labels)), labels] + 1
            found = np.minimum(found, 2.0)  # (more it is of no chances, which sum to 1)
    return found
