"""Which outputs an analysis looks at, and how far two predictions can be apart: what bounds the sums of a row."""

from __future__ import annotations

import dataclasses
import math
from typing import Final

import numpy as np

from aimass.explain.federated.seam import model_at, outputs_of
from aimass.explain.losses import LEAST, LossName
from aimass.explain.models import FunctionModel
from aimass.proto.analysis import AtPartner
from aimass.proto.asks import Ask
from aimass.proto.errors import BadInput, NotFound
from aimass.proto.manifest import Number, Schema

__all__ = ["bounded_model_at", "largest_loss", "loss_in", "span", "targets_of"]

_OF_CLASSES: Final[dict[str, LossName]] = {"log_loss": "log_loss", "brier": "brier", "error_rate": "error_rate"}
_OF_NUMBERS: Final[dict[str, LossName]] = {"squared_error": "squared_error", "absolute_error": "absolute_error"}


def targets_of(ask: Ask, output: str = "") -> tuple[int, ...]:
    """Places of the outputs that are looked at: the one of this name, the second of two classes, else all.

    Raises `NotFound` for a name that is none of them.
    """
    outputs = outputs_of(ask)
    if output:
        if output not in outputs:
            known = ", ".join(outputs[:20])
            raise NotFound("the model has no such output", code="explain.output", value=output, limit=known)
        return (outputs.index(output),)
    return (1,) if len(outputs) == 2 else tuple(range(len(outputs)))


def span(schema: Schema) -> float:
    """By how much two predictions differ at most: 1 of probabilities, of a number the schema's bounds."""
    return schema.label.maximum - schema.label.minimum if isinstance(schema.label, Number) else 1.0


def loss_in(schema: Schema, name: str, of_classes: LossName, of_numbers: LossName) -> LossName:
    """The loss of this name, or the one that is usual for the label; raises `BadInput` for one of another kind."""
    loss = name or (of_classes if schema.classes else of_numbers)
    known = _OF_CLASSES if schema.classes else _OF_NUMBERS
    if loss not in known:
        raise BadInput("this loss is of another kind of label", code="explain.loss", value=loss, limit=", ".join(known))
    return known[loss]


def largest_loss(schema: Schema, loss: LossName) -> float:
    """The most that a row's loss can be, as `losses` has it."""
    of = {"log_loss": -math.log(LEAST), "brier": 2.0, "error_rate": 1.0, "absolute_error": span(schema)}
    return of.get(loss, span(schema) ** 2)


def bounded_model_at(ask: Ask, at: AtPartner) -> FunctionModel:
    """The model; what it predicts is cut to the bounds of a number, or of a chance, so that sums have a bound."""
    model, label = model_at(at), ask.schema.label
    low, high = (label.minimum, label.maximum) if isinstance(label, Number) else (0.0, 1.0)
    predict = model.predict
    return dataclasses.replace(model, function=lambda values: np.clip(predict(values), low, high))
