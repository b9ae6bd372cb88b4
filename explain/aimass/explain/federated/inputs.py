"""What a later step works with, held against what an honest one has, before a row is looked at.

It comes from the server, and a server may lie. Edges and cuts have to be those of the schema's public bins, so that no
question is finer than they are; what is odd is an error with a name, the same whatever rows there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.federated.marginals import FINE, edges_of
from aimass.explain.rows import Feature
from aimass.proto.analysis import AtPartner
from aimass.proto.errors import BadInput

__all__ = ["input_of", "marginals_in", "odd_input", "steps_in"]

Floats = npt.NDArray[np.float64]
_MOST: Final = 2.0**53
"""Rows in a cell."""


def input_of(at: AtPartner, name: str, shape: tuple[int | None, ...]) -> Floats:
    """A float64 array of this shape, of which None is any number; raises `BadInput` for another, or for none."""
    found = at.inputs.get(name)
    if found is None:
        raise odd_input("is not there", name)
    fits = len(found.shape) == len(shape) and all(
        most in (None, size) for size, most in zip(found.shape, shape, strict=True)
    )
    if found.dtype != np.float64 or not fits:
        raise odd_input("has another shape than the step has", f"{name} {found.dtype} {list(found.shape)}")
    return found


def marginals_in(at: AtPartner, shape: tuple[int, int]) -> Floats:
    """Counts by feature and cell, which noise may have made negative; raises `BadInput` for what is no number."""
    found = input_of(at, "marginals", shape)
    if not (np.abs(found) <= _MOST).all():
        raise odd_input("holds what is no count", "marginals")
    return found


def steps_in(at: AtPartner, name: str, features: Sequence[Feature], width: int) -> Floats:
    """float64 [features, width] as `ale.steps_of` cuts it: some of each one's own values, ascending, then NaN.

    Of a number these are edges of its bins. Raises `BadInput` for anything else.
    """
    found = input_of(at, name, (len(features), width))
    for feature, row in zip(features, found, strict=True):
        steps = row[~np.isnan(row)]
        own = np.arange(len(feature.values)) if feature.kind == "category" else edges_of(feature, FINE)
        if np.isnan(row[: len(steps)]).any() or not np.isin(steps, own).all() or not (np.diff(steps) > 0).all():
            raise odd_input("does not ascend over the column's own edges", f"{name} of {feature.name}")
    return found


def odd_input(what: str, value: str) -> BadInput:
    """An error that says nothing of any row."""
    return BadInput(
        f"what the server sent for this step {what}",
        code="explain.inputs",
        value=value,
        cure="Nothing leaves. An honest server makes it from the sums of the steps before.",
    )
