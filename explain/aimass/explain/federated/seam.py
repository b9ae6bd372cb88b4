"""How explanations that are written over a model and rows become analyses, which partners run.

A partner has a task, parameters and a batch. `model_at` and `rows_at` make of them what every view is written for. An
analyst has the sums, which a `FederatedView` reads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from aimass.explain.federated.sums import Release
from aimass.explain.images import FunctionImageModel, Images, image_column, image_model_of_task
from aimass.explain.lineage import Lineage
from aimass.explain.models import FunctionModel, model_of_task
from aimass.explain.results import Result
from aimass.explain.rows import Rows, features_of
from aimass.proto.analysis import Analysis, AtPartner, Summed
from aimass.proto.asks import Ask
from aimass.proto.errors import BadInput
from aimass.proto.manifest import Number
from aimass.proto.values import Value

__all__ = ["FederatedView", "image_model_at", "images_at", "model_at", "outputs_of", "rows_at"]

Floats = npt.NDArray[np.float64]
_TOGETHER: Final = 64


@runtime_checkable
class FederatedView(Analysis, Protocol):
    """An analysis with what its sums say. `asks` is its question, as a person would put it."""

    @property
    def asks(self) -> str:
        """One line for help."""
        ...

    @property
    def options(self) -> type[Value]:
        """The kind of a stage's options; all have a default."""
        ...

    def read(self, ask: Ask, found: Sequence[Summed], lineage: Lineage, release: Release) -> Result:
        """The result of all phases' sums, over the partners that the last of them counted."""
        ...


def outputs_of(ask: Ask) -> tuple[str, ...]:
    """What the task's model says: chances of the label's classes, or the number that is the label."""
    return ask.schema.classes or (ask.schema.label.name,)


def model_at(at: AtPartner) -> FunctionModel:
    """The model that is asked about; raises `BadInput` for one of images or texts.

    What it says of a row is the same to the last bit whatever rows are asked with it, so that partners' sums are the
    pooled ones: matrices of few rows are multiplied in another order, and `_TOGETHER` are never few.
    """
    model = model_of_task(at.task, at.model, name="model", digest="")
    predict = model.predict

    def steady(values: Floats) -> Floats:
        missing = -len(values) % _TOGETHER
        if not missing or not len(values):
            return predict(values)
        return predict(np.concatenate([values, np.repeat(values[:1], missing, axis=0)]))[: len(values)]

    return dataclasses.replace(model, function=steady)


def rows_at(ask: Ask, at: AtPartner) -> Rows:
    """The partner's rows; raises `BadInput` for columns of images or texts."""
    schema, batch, features = ask.schema, at.rows, features_of(ask.schema)
    numbers, categories = iter(batch.numbers.T), iter(batch.categories.T)
    values = np.empty((len(batch.labels), len(schema.columns)))
    for place, column in enumerate(schema.columns):
        if isinstance(column, Number):
            values[:, place] = next(numbers)
        else:
            codes = next(categories)
            values[:, place] = np.where(codes < 0, np.nan, codes)
    return Rows(features, values, batch.labels, schema.classes, held_out=ask.rows == "held_out")


def image_model_at(at: AtPartner) -> FunctionImageModel:
    """The model of images that is asked about; raises `BadInput` for one of tables or texts."""
    return image_model_of_task(at.task, at.model, name="model", digest="")


def images_at(ask: Ask, at: AtPartner) -> Images:
    """The partner's images, with a label or a mask each."""
    image_column(ask.schema)
    pixels = at.rows.images
    if pixels is None:
        raise BadInput("these rows hold no images", code="explain.images", value=len(at.rows.labels))
    masks = ask.schema.segments
    return Images(
        pixels,
        ask.schema.classes,
        None if masks else at.rows.labels,
        at.rows.labels if masks else None,
        held_out=ask.rows == "held_out",
    )
