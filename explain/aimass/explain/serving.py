"""Why a served model answered so: Shapley values of the asked rows, for `/explain` of `aimass serve`.

Who serves a model holds nobody's rows. So a prediction is held against rows that are drawn from the public ranges of
its schema: synthetic, always the same for one schema, and said in the answer.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.explain.lpi.sampling import sampled_shapley
from aimass.explain.lpi.shapley import MOST_PLAYERS, Shapley, exact_shapley
from aimass.explain.models import Predict
from aimass.explain.rows import Feature, features_of
from aimass.explain.work import Work
from aimass.proto.errors import BadInput, LimitExceeded
from aimass.proto.explaining import ToExplain
from aimass.proto.manifest import Schema
from aimass.proto.servable import Array

__all__ = ["ShapleyExplainer", "explainer", "synthetic_rows"]

Floats = npt.NDArray[np.float64]
_BACKGROUND: Final = 100
_ROWS: Final = 8
"""Of one request; each asks the model for some hundred thousand others, and all are to end within `infer_s`."""
_AT_ONCE: Final = 4
"""Explanations underway, one for each caller: they share the model with everybody who only wants an answer."""
_CHUNK: Final = 2_048
"""Rows that the model is asked for at once: some milliseconds, so that others' requests come in between."""
_MISSING: Final = 0.1
_SHOWS_NOT: Final = "What would change the outcome: a contribution is the model's, and no cause."


class ShapleyExplainer:
    """Exact to 13 features, above by random orders with their standard errors."""

    def __init__(self, at_once: int = _AT_ONCE) -> None:
        self._at_once, self._underway = at_once, set[str]()

    async def explain(self, asked: ToExplain) -> Mapping[str, Any]:
        """For each row its contributions, largest first; raises `BadInput` for models of images and texts,
        `LimitExceeded` for too many rows, or while others are explained. Computes in a thread, which ends with the
        call."""
        if asked.version.schema is None:
            raise BadInput("this model declares no columns", code="explain.table")
        schema = asked.version.schema
        features = features_of(schema)
        _bound(asked.rows, _ROWS, "too many rows to explain in one request", "explain.rows")
        if asked.caller in self._underway:
            _bound(2, 1, "another row of yours is explained at the moment", "explain.busy")
        _bound(len(self._underway) + 1, self._at_once, "others are explained at the moment", "explain.busy")
        ended, loop = threading.Event(), asyncio.get_running_loop()

        def predict(values: Floats) -> Floats:
            parts = [values[start : start + _CHUNK] for start in range(0, len(values), _CHUNK)]
            return np.concatenate([_asked(asked, features, part, loop) for part in parts])

        self._underway.add(asked.caller)
        try:
            work = Work(stopped=ended.is_set)
            rows = _values(features, asked.tensors, asked.rows)
            found = await asyncio.to_thread(_shapley, predict, rows, synthetic_rows(schema), work)
        finally:
            self._underway.discard(asked.caller)
            ended.set()
        return _document(schema, features, rows, found)


def _bound(value: int, limit: int, what: str, code: str) -> None:
    if value > limit:
        raise LimitExceeded(what, code=code, value=value, limit=limit, cure="Ask for fewer, or again in a moment.")


def _asked(asked: ToExplain, features: Sequence[Feature], values: Floats, loop: asyncio.AbstractEventLoop) -> Floats:
    """What the served version says of rows, asked from another thread than its loop's."""
    tensors = {feature.name: _tensor(feature, values[:, place]) for place, feature in enumerate(features)}
    answer = asyncio.run_coroutine_threadsafe(_predicted(asked, tensors), loop).result()
    said = answer["probabilities"] if "probabilities" in answer else answer["prediction"]
    return np.asarray(said, np.float64).reshape(len(values), -1)


async def _predicted(asked: ToExplain, tensors: Mapping[str, Array]) -> Mapping[str, Array]:
    return await asked.predict(tensors)


def _shapley(predict: Predict, rows: Floats, background: Floats, work: Work) -> Shapley:
    if rows.shape[1] <= MOST_PLAYERS:
        return exact_shapley(predict, rows, background, work=work)
    return sampled_shapley(predict, rows, background, work=work)


def synthetic_rows(schema: Schema, rows: int = _BACKGROUND) -> Floats:
    """float64 [rows, columns] that are nobody's: each column by itself, evenly over its public range or values.

    A column that may be missing is so in a tenth of them. The same schema gives the same rows.
    """
    work, found = Work(), np.empty((rows, len(schema.columns)))
    for place, feature in enumerate(features_of(schema)):
        rng = work.rng("explain", "synthetic", schema.digest, feature.name)
        if feature.kind == "category":
            found[:, place] = rng.integers(len(feature.values), size=rows)
        else:
            low, high = feature.minimum or 0.0, feature.maximum or 0.0
            found[:, place] = rng.uniform(low, max(low, high), size=rows)
        if not getattr(schema.columns[place], "required", False):
            found[rng.random(rows) < _MISSING, place] = np.nan
    return found


def _values(features: Sequence[Feature], tensors: Mapping[str, Array], rows: int) -> Floats:
    """The asked rows as the explanation has them: categories as places, NaN for missing."""
    found = np.empty((rows, len(features)))
    for place, feature in enumerate(features):
        cells = tensors[feature.name].reshape(-1)
        if feature.kind == "category":
            places = {value.encode(): float(code) for code, value in enumerate(feature.values)}
            found[:, place] = [places.get(cell, np.nan) for cell in cells]
        else:
            found[:, place] = cells
    return found


def _tensor(feature: Feature, cells: Floats) -> Array:
    if feature.kind == "number":
        return cells
    names = np.array([*(value.encode() for value in feature.values), b""], dtype=object)
    return names[np.where(np.isnan(cells), -1, cells).astype(np.int64)]


def _document(schema: Schema, features: Sequence[Feature], rows: Floats, found: Shapley) -> dict[str, Any]:
    exact = found.errors is None
    return {
        "method": "exact Shapley values" if exact else "Shapley values by random orders, with standard errors",
        "background": f"{_BACKGROUND} synthetic rows, drawn evenly from the schema's ranges: nobody's",
        "explanations": [_of_row(schema, features, cells, found, row) for row, cells in enumerate(rows)],
        "largest_gap": found.gap,
        "shows_not": _SHOWS_NOT,
    }


def _of_row(schema: Schema, features: Sequence[Feature], cells: Floats, found: Shapley, row: int) -> dict[str, Any]:
    """The output that the model says, and what each feature adds to its mean over the background."""
    best = int(found.said[row].argmax()) if schema.classes else 0
    order = np.argsort(-np.abs(found.values[row, :, best]), kind="stable")
    return {
        ("label" if schema.classes else "of"): schema.classes[best] if schema.classes else schema.label.name,
        ("probability" if schema.classes else "prediction"): float(found.said[row, best]),
        "average": float(found.base[best]),
        "contributions": [_contribution(features[place], cells[place], found, (row, place, best)) for place in order],
    }


def _contribution(feature: Feature, cell: float, found: Shapley, at: tuple[int, int, int]) -> dict[str, Any]:
    told = {"feature": feature.name, "value": feature.told(float(cell)), "contribution": float(found.values[at])}
    return told if found.errors is None else told | {"standard_error": float(found.errors[at])}


explainer = ShapleyExplainer()
