"""What a model answered, for people: a label with its probability, a number, or what each pixel is."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

from aimass.proto.errors import WrongState
from aimass.proto.servable import Array, TensorSpec
from aimass.server.serving.dispatch.requests import Answer
from aimass.server.serving.http.features import Features

__all__ = ["prediction"]


def prediction(answer: Answer, features: Features, outputs: Mapping[str, TensorSpec]) -> dict[str, Any]:
    """The document of `/predict`: of one row its label beside the model's name, of several a list of `rows`."""
    rows = [_row(place, answer.tensors, features, outputs) for place in range(features.rows)]
    named = {"model": answer.model, "version": answer.version}
    return named | (rows[0] if features.single else {"rows": rows})


def _row(
    place: int, tensors: Mapping[str, Array], features: Features, outputs: Mapping[str, TensorSpec]
) -> dict[str, Any]:
    row = _said(place, tensors, outputs)
    warnings = features.warnings.get(place)
    return row | {"warnings": warnings} if warnings else row


def _said(place: int, tensors: Mapping[str, Array], outputs: Mapping[str, TensorSpec]) -> dict[str, Any]:
    if "prediction" in tensors:
        return {"prediction": float(tensors["prediction"][place])}
    if "mask" in tensors:
        return _segmented(tensors["mask"][place], outputs["mask"].labels)
    if "probabilities" not in tensors:
        raise WrongState(
            "this model answers in tensors alone",
            code="predict.tensors",
            cure="Ask it by /v2/models/NAME/infer; its metadata says what it takes and gives.",
        )
    chances = [float(chance) for chance in tensors["probabilities"][place]]
    labels = outputs["probabilities"].labels
    best = max(range(len(chances)), key=chances.__getitem__)
    return {
        "label": labels[best],
        "probability": chances[best],
        "probabilities": dict(zip(labels, chances, strict=True)),
    }


def _segmented(mask: Array, values: tuple[str, ...]) -> dict[str, Any]:
    """What each pixel is, as base64 of bytes that are places in `values`, and the share of each value."""
    counts = np.bincount(mask.reshape(-1), minlength=len(values))
    return {
        "mask": base64.b64encode(mask.tobytes()).decode(),
        "shape": list(mask.shape),
        "values": list(values),
        "shares": dict(zip(values, (counts / mask.size).tolist(), strict=True)),
    }
