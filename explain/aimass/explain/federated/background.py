"""What all partners hold predictions against: rows that are nobody's.

They come with the plan, so that a partner approves them with it, and are of one of three kinds: public rows, rows made
from the schema alone, or rows drawn from a release with noise. Which it is stands in the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.federated.marginals import drawn, marginals_of, uniforms
from aimass.explain.rows import Rows, features_of
from aimass.proto.asks import Ask, Shared
from aimass.proto.errors import BadInput
from aimass.proto.manifest import Schema
from aimass.proto.tensors import Array

__all__ = ["background_of", "noised_background", "public_background", "synthetic_background", "told_background"]

Floats = npt.NDArray[np.float64]
_NAME: Final = "background"
_SYNTHETIC: Final = "equally likely values within the schema's bounds, each feature by itself"
_NOISED: Final = "drawn from histograms that partners released with noise, each feature by itself"


def public_background(rows: Rows, says: str) -> Shared:
    """Rows that everybody knows, `says` where from; raises `BadInput` for what no plan can hold."""
    try:
        return Shared.of("public", says, {_NAME: rows.values})
    except ValueError as error:
        raise BadInput(
            f"this cannot be shared: {error}",
            code="explain.background",
            cure="Share fewer rows, and say where they are from in plain words.",
        ) from error


def synthetic_background(schema: Schema, rows: int = 100, seed: int = 0) -> Shared:
    """Rows made from the schema alone."""
    columns = []
    for place, feature in enumerate(features_of(schema)):
        at = uniforms(np.arange(rows, dtype=np.uint64), "background", seed, place)
        if feature.kind == "category":
            columns.append(np.floor(at * len(feature.values)))
        else:
            low, high = feature.minimum or 0.0, 1.0 if feature.maximum is None else feature.maximum
            columns.append(low + at * (high - low))
    return Shared.of("synthetic", _SYNTHETIC, {_NAME: np.stack(columns, axis=1)})


def noised_background(schema: Schema, counts: Array, says: str, rows: int = 100, seed: int = 0) -> Shared:
    """Rows drawn from noised counts [features, cells] as of `marginals`; `says` of which release."""
    keys = np.arange(rows, dtype=np.uint64)
    columns = [
        marginal.values[drawn(marginal, uniforms(keys, "background", seed, place))]
        for place, marginal in enumerate(marginals_of(schema, counts))
    ]
    return Shared.of("noised", f"{_NOISED}: {says}", {_NAME: np.stack(columns, axis=1)})


def background_of(ask: Ask) -> Floats:
    """float64 [m, features] that the plan shares; raises `BadInput` where it shares none, or none that fits."""
    shared: Mapping[str, Array] = ask.background()
    found = np.asarray(shared.get(_NAME, np.empty((0, len(ask.schema.columns)))), np.float64)
    if found.ndim != 2 or found.shape[1] != len(ask.schema.columns) or np.isinf(found).any():
        raise BadInput(
            "the background does not fit the schema",
            code="explain.background",
            value=str(found.shape),
            limit=f"[rows, {len(ask.schema.columns)}]",
        )
    if not len(found):
        raise BadInput(
            "the background is empty",
            code="explain.background",
            cure="Share public rows, synthetic ones, or some drawn from a noised release.",
        )
    return found


def told_background(ask: Ask) -> str:
    """The sentence of a result that says what it was held against."""
    shared = ask.shared
    if shared is None:
        return "Nothing was shared but the schema."
    return f"Predictions are held against a background that is {shared.kind}: {shared.says}."
