"""What all partners hold predictions against: rows that are nobody's.

They come with the plan, so that a partner approves them with it, and are of one of three kinds: public rows, rows made
from the schema alone, or rows drawn from a release with noise. Which it is stands in the result. What is said to be
made from the schema is made again wherever it is used; of the others there is the word of who asks.
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

__all__ = [
    "background_of",
    "noised_background",
    "nothing_shared",
    "public_background",
    "synthetic_background",
    "told_background",
]

Floats = npt.NDArray[np.float64]
_NAME: Final = "background"
_SEED: Final = "seed"
"""What synthetic rows were made with, so that they can be made again."""
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
    """Rows made from the schema alone, in a way that a partner can repeat."""
    return Shared.of("synthetic", _SYNTHETIC, {_NAME: _made(schema, rows, seed), _SEED: np.array(seed, np.int64)})


def _made(schema: Schema, rows: int, seed: int) -> Floats:
    columns = []
    for place, feature in enumerate(features_of(schema)):
        at = uniforms(np.arange(rows, dtype=np.uint64), "background", seed, place)
        if feature.kind == "category":
            columns.append(np.floor(at * len(feature.values)))
        else:
            low, high = feature.minimum or 0.0, 1.0 if feature.maximum is None else feature.maximum
            columns.append(low + at * (high - low))
    return np.stack(columns, axis=1)


def noised_background(schema: Schema, counts: Array, says: str, rows: int = 100, seed: int = 0) -> Shared:
    """Rows drawn from noised counts [features, cells] as of `marginals`; `says` of which release."""
    keys = np.arange(rows, dtype=np.uint64)
    columns = [
        marginal.values[drawn(marginal, uniforms(keys, "background", seed, place))]
        for place, marginal in enumerate(marginals_of(schema, counts))
    ]
    return Shared.of("noised", f"{_NOISED}: {says}", {_NAME: np.stack(columns, axis=1)})


def background_of(ask: Ask) -> Floats:
    """float64 [m, features] that the plan shares; raises `BadInput` where it shares none, or none that fits.

    Nor is anything taken that stands beside it, or is said to be synthetic and is not.
    """
    shared: Mapping[str, Array] = ask.background()
    synthetic = ask.shared is not None and ask.shared.kind == "synthetic"
    known = {_NAME, _SEED} if synthetic else {_NAME}
    if odd := sorted(shared.keys() - known):
        raise BadInput(
            "more is shared than a background",
            code="explain.background",
            value=", ".join(odd[:5]),
            limit=", ".join(sorted(known)),
        )
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
    for place, feature in enumerate(features_of(ask.schema)):
        cells = found[~np.isnan(found[:, place]), place]
        if feature.kind == "category" and not np.isin(cells, np.arange(len(feature.values))).all():
            raise BadInput(
                "the background has a value that its column has not",
                code="explain.background",
                value=feature.name,
                limit=f"0 to {len(feature.values) - 1}",
            )
    if synthetic:
        _check_synthetic(ask, shared, found)
    return found


def _check_synthetic(ask: Ask, shared: Mapping[str, Array], found: Floats) -> None:
    """Raise `BadInput` unless these are, to the bit, the rows that the schema gives with this seed."""
    seed = shared.get(_SEED, np.empty(0, np.int64))
    whole = seed.shape == () and seed.dtype == np.int64 and shared[_NAME].dtype == np.float64
    made = _made(ask.schema, len(found), int(seed)) if whole else np.empty(0)
    if ask.shared is None or ask.shared.says != _SYNTHETIC or made.tobytes() != found.tobytes():
        raise BadInput(
            "the background is said to be synthetic and is not what the schema gives",
            code="explain.background",
            value="other rows" if whole else "no seed",
            limit=_SYNTHETIC,
            cure="Make it by `--background synthetic`, with the same release of AIMass as the partners have.",
        )


def nothing_shared(ask: Ask) -> None:
    """Raise `BadInput` where a plan shares what its analysis has no use for: nobody would look at it."""
    if ask.shared is not None:
        raise BadInput(
            "this analysis computes with nothing that is shared",
            code="explain.background",
            value=ask.shared.told,
            cure="Ask without --background.",
        )


def told_background(ask: Ask) -> str:
    """The sentence of a result that says what it was held against."""
    shared = ask.shared
    if shared is None:
        return "Nothing was shared but the schema."
    return f"Predictions are held against a background that is {shared.told}."
