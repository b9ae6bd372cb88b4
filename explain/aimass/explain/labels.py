"""Which labels fit a model: the one check for every question that holds predictions against what was true."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from aimass.explain.models import Model
from aimass.explain.rows import Rows
from aimass.proto.errors import BadInput

__all__ = ["checked_labels"]

_CURE = (
    "Give labels as whole numbers from 0, in the order of the model's outputs, or with `classes` that name them; in a "
    "file as words or whole numbers, 1 and not 1.0."
)


def checked_labels(model: Model, rows: Rows) -> npt.NDArray[Any]:
    """The labels [n], which are places in the outputs of a model that classifies, and numbers of any other.

    Raises `BadInput` for labels of the other kind, for one that is none of the outputs, and where any is missing:
    compared with predictions they would count as wrong, or as not this class.
    """
    labels = rows.need_labels()
    if not model.classifies:
        return _numbers(rows, labels)
    if labels.dtype.kind not in "iu":
        raise _kinds(f"numbers ({labels.dtype})", "classes")
    odd = labels[(labels < 0) | (labels >= len(model.outputs))]
    if len(odd):
        raise BadInput(
            "a label is none of the model's classes",
            code="explain.labels",
            value=f"{odd[0]} and {len(odd) - 1:,} more" if len(odd) > 1 else str(odd[0]),
            limit=f"0 to {len(model.outputs) - 1}",
            cure=_CURE + " Leave out rows whose outcome nobody knows.",
        )
    return labels


def _numbers(rows: Rows, labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Places of classes that are named by their number are that number."""
    if labels.dtype.kind not in "iuf" or rows.classes != tuple(map(str, range(len(rows.classes)))):
        raise _kinds("classes", "numbers")
    odd = int((~np.isfinite(labels)).sum())
    if odd:
        raise BadInput(
            "labels are missing",
            code="explain.labels",
            value=f"{odd:,} of {len(labels):,} rows",
            cure="Leave out rows whose outcome nobody knows.",
        )
    return labels


def _kinds(value: str, limit: str) -> BadInput:
    return BadInput(
        "labels and predictions are of different kinds", code="explain.labels", value=value, limit=limit, cure=_CURE
    )
