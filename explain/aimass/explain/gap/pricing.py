"""What predictions cost: the losses of changed rows, asked in chunks of which only the losses are kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, cast, get_args

import numpy as np
import numpy.typing as npt

from aimass.explain.labels import checked_labels
from aimass.explain.losses import LossName, loss_of, losses
from aimass.explain.models import Model, asked
from aimass.explain.rows import Rows
from aimass.explain.work import Work
from aimass.proto.errors import BadInput

__all__ = ["LOSSES", "Price", "checked_loss", "losses_for", "price_of"]

Floats = npt.NDArray[np.float64]
Price = Callable[[Floats, npt.NDArray[Any]], Floats]
"""float64 [m], the losses of rows float64 [m, features] whose labels are [m]."""

LOSSES: tuple[str, ...] = get_args(LossName)
_MOST_ROWS = 1 << 16
"""As many rows at once fill the processor; more only push one another out of its cache."""


def checked_loss(model: Model, rows: Rows, name: str = "") -> LossName:
    """The loss of this name, or the one that the model is trained by; it can be taken of these rows, or `BadInput`."""
    allowed = losses_for(model)
    loss = name or allowed[0]
    if loss not in allowed:
        raise BadInput("this loss is none of this model's", code="explain.loss", value=loss, limit=", ".join(allowed))
    checked_labels(model, rows)
    return cast("LossName", loss)


def losses_for(model: Model) -> tuple[str, ...]:
    """Those that can be taken of its predictions, the one that it is trained by first."""
    own = loss_of(model)
    fitting = {known for known in LOSSES if known.endswith("ed_error") or known == "absolute_error"}
    return (own, *(known for known in LOSSES if (known in fitting) != model.classifies and known != own))


def price_of(model: Model, loss: LossName, work: Work) -> Price:
    """How the losses of rows are found, by all workers; the work is stopped and bounded within."""
    alone = dataclasses.replace(work.muted(), workers=1, memory_bytes=max(work.memory_bytes // work.workers, 1 << 20))
    predict = asked(model, alone)
    row_bytes = 8 * (3 * len(model.outputs) + len(model.features))

    def price(values: Floats, labels: npt.NDArray[Any]) -> Floats:
        most = min(_MOST_ROWS, -(-len(values) // work.workers)) or 1
        parts = work.chunks(len(values), max(row_bytes, work.memory_bytes // work.workers // most))
        found = work.muted().each(lambda part: losses(predict(values[part]), labels[part], loss), parts)
        return np.concatenate(found) if found else np.zeros(0)

    return price
