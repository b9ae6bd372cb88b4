"""What is explained: anything that says numbers of rows, behind one seam.

A task's model, a version of a registry, a model that is served elsewhere, an estimator of scikit-learn, a booster, a
plain function: each is a `Model`. `asked` is how the views ask it: in chunks, counted, and never believed where it
answers what is no number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from aimass.explain.lineage import Lineage, software
from aimass.explain.networks import TableNetwork, table_network_of
from aimass.explain.rows import Feature, Rows, features_of
from aimass.explain.work import Work
from aimass.proto.errors import BadInput
from aimass.proto.predictors import Predictor
from aimass.proto.task import Task
from aimass.proto.tensors import Blob

__all__ = [
    "FunctionModel",
    "Model",
    "Predict",
    "asked",
    "lineage_of",
    "model_of_estimator",
    "model_of_function",
    "model_of_task",
]

Floats = npt.NDArray[np.float64]
Predict = Callable[[Floats], Floats]
"""float64 [n, features] to float64 [n, outputs]."""
_BLOCK = 4_096
"""Rows that a task's network computes at once: a quarter faster than 1,024 where a view asks for very many."""
_ROW_BYTES = 2_048
"""What a row costs underway in a small network, beside its cells."""
_TOLERANCE = 1e-4
"""By how much a probability may leave 0 to 1: rounding of half precision."""
_SUM_TOLERANCE = 5e-3
"""By how much probabilities of one row may miss 1 together: those that were written with few digits do."""


class Model(Protocol):
    """What says something of rows of `features`. `outputs` names what: the classes, or one number."""

    @property
    def name(self) -> str:
        """By which people know it."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 of its parameters, empty where nobody knows them."""
        ...

    @property
    def features(self) -> tuple[Feature, ...]:
        """Its columns in order."""
        ...

    @property
    def outputs(self) -> tuple[str, ...]:
        """The labels whose probabilities it gives, or the name of the number that it predicts."""
        ...

    @property
    def classifies(self) -> bool:
        """Whether the outputs are probabilities."""
        ...

    def predict(self, values: Floats) -> Floats:
        """float64 [n, outputs] of float64 [n, features]."""
        ...


@dataclasses.dataclass(frozen=True)
class FunctionModel:
    """A function with the names of what goes in and comes out; `network` is what it asks, where that is one."""

    function: Predict
    features: tuple[Feature, ...]
    outputs: tuple[str, ...]
    classifies: bool
    name: str = "model"
    digest: str = ""
    run: str = ""
    round: int | None = None
    network: TableNetwork | None = None

    def predict(self, values: Floats) -> Floats:
        """What the function says; one number a row may come as [n]."""
        said = np.asarray(self.function(values), np.float64)
        return said[:, None] if said.ndim == 1 else said


def model_of_function(
    function: Callable[[Any], Any],
    features: Sequence[Feature] | Sequence[str],
    outputs: Sequence[str] = ("prediction",),
    *,
    name: str = "model",
    classifies: bool | None = None,
) -> FunctionModel:
    """Any function of float64 [n, features]. With several outputs they count as probabilities unless said otherwise.

    A function that gives the probability of the second of two classes, as [n], is told by two `outputs`.
    """
    known = tuple(one if isinstance(one, Feature) else Feature(name=one) for one in features)
    chances = len(outputs) > 1 if classifies is None else classifies

    def both(values: Floats) -> Floats:
        said = np.asarray(function(values), np.float64)
        if len(outputs) == 2 and (said.ndim == 1 or said.shape[1] == 1):
            said = said.reshape(-1)
            return np.stack([1.0 - said, said], axis=1)
        return said

    return FunctionModel(both, known, tuple(outputs), chances, name)


def model_of_estimator(estimator: Any, features: Sequence[Feature] | Sequence[str], *, name: str = "") -> FunctionModel:
    """What has `predict_proba` and `classes_`, as scikit-learn's classifiers and XGBoost's, or `predict` alone."""
    called = name or type(estimator).__name__
    if hasattr(estimator, "predict_proba"):
        classes = [_class_name(one) for one in estimator.classes_]
        return model_of_function(estimator.predict_proba, features, classes, name=called, classifies=True)
    if hasattr(estimator, "predict"):
        return model_of_function(estimator.predict, features, name=called)
    raise BadInput("this predicts nothing: it has neither `predict_proba` nor `predict`", code="explain.model")


def _class_name(value: Any) -> str:
    """A class that is a whole number is named as one, also where training had it as 1.0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def model_of_task(
    task: Task, parameters: Blob, *, name: str, digest: str, run: str = "", round_: int | None = None
) -> FunctionModel:
    """A task's model under these parameters; raises `BadInput` for one of images or texts."""
    features = features_of(task.schema)
    predictor: Predictor = task.predictor(parameters)
    return FunctionModel(
        lambda values: predictor(Rows(features, values).batch(), _BLOCK),
        features,
        task.schema.classes or (task.schema.label.name,),
        bool(task.schema.classes),
        name,
        digest,
        run,
        round_,
        table_network_of(task, parameters),
    )


def asked(model: Model, work: Work, what: str = "") -> Predict:
    """How a view asks: float64 [n, outputs] of any number of rows, in chunks within the work's memory.

    The function raises `BadInput` where the model answers with another shape, with what is no number, or, where its
    outputs are to be probabilities, with what is none.
    """
    outputs, row_bytes = len(model.outputs), _ROW_BYTES + 8 * (len(model.features) + len(model.outputs))

    def one(values: Floats) -> Floats:
        said = model.predict(values)
        if said.shape != (len(values), outputs):
            raise BadInput(
                "the model answers in another shape",
                code="explain.shape",
                value=str(said.shape),
                limit=f"({len(values)}, {outputs})",
            )
        if not np.isfinite(said).all():
            odd = int((~np.isfinite(said)).any(axis=1).sum())
            raise BadInput(
                "the model answers what is no number",
                code="explain.not_finite",
                value=f"{odd} of {len(values)} rows",
                cure="Look at these rows with the model alone: a missing value that it was not trained for, say.",
            )
        if model.classifies:
            _check_probabilities(said)
        return said

    def predict(values: Floats) -> Floats:
        parts = work.chunks(len(values), row_bytes)
        if len(parts) == 1:
            work.check()
            return one(values)
        found = work.each(lambda part: one(values[part]), parts, what)
        return np.concatenate(found) if found else np.zeros((0, outputs))

    return predict


def _check_probabilities(said: Floats) -> None:
    """Of [n, outputs]: each lies between 0 and 1, and those of one row sum to 1, but for rounding."""
    if not said.size:
        return
    low, high = float(said.min()), float(said.max())
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        value, limit = f"{low:g} to {high:g}", "0 to 1"
    else:
        sums = said.sum(axis=1)
        worst = float(sums[np.abs(sums - 1).argmax()])
        if said.shape[1] == 1 or abs(worst - 1) <= _SUM_TOLERANCE:
            return
        value, limit = f"a row whose outputs sum to {worst:g}", "1"
    raise BadInput(
        "the model answers no probabilities",
        code="explain.probabilities",
        value=value,
        limit=limit,
        cure="Give a function that ends in a softmax or a sigmoid, or one of numbers: `classifies=False`.",
    )


def lineage_of(model: Model, rows: Rows, work: Work, *, seeded: bool = True) -> Lineage:
    """Of a result about `model` over `rows`."""
    if [feature.name for feature in model.features] != [feature.name for feature in rows.features]:
        raise BadInput(
            "the rows have other columns than the model",
            code="explain.columns",
            value=", ".join(feature.name for feature in rows.features),
            limit=", ".join(feature.name for feature in model.features),
        )
    _check_classes(model, rows)
    return Lineage(
        model=model.name,
        model_digest=model.digest,
        data=rows.name,
        data_digest=rows.digest,
        rows=len(rows),
        held_out=rows.held_out,
        run=getattr(model, "run", ""),
        round=getattr(model, "round", None),
        seed=work.seed if seeded else None,
        software=software(),
    )


def _check_classes(model: Model, rows: Rows) -> None:
    """Labels are places: a class that stands elsewhere among the outputs would be taken for another one."""
    moved = [name for name, other in zip(rows.classes, model.outputs, strict=False) if name != other]
    if model.classifies and set(moved) & set(model.outputs):
        raise BadInput(
            "the rows' classes stand in another order than the model's outputs",
            code="explain.classes",
            value=", ".join(rows.classes),
            limit=", ".join(model.outputs),
            cure="Give `rows.labelled(model.outputs)`.",
        )
