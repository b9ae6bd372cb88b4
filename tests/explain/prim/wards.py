"""The four hospitals' rows with the hospital beside them, and models whose bands and boxes are known."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from aimass.explain.models import FunctionModel, model_of_function
from aimass.explain.rows import Rows
from tests.explain.federated.hospitals import HOSPITALS, hospitals, pooled

__all__ = ["classifier", "uniform", "wards"]

Floats = npt.NDArray[np.float64]


@functools.cache
def wards() -> Rows:
    """All 920 rows, each with its hospital."""
    parts = hospitals()
    names = np.repeat(np.array(HOSPITALS), [len(part.rows) for part in parts])
    return dataclasses.replace(pooled(parts).rows, name="hospitals", beside={"partner": names})


def uniform(count: int, features: int, seed: int, chance: Callable[[Floats], Floats]) -> Rows:
    """Rows that are uniform on [0, 1], with labels of this chance."""
    rng = np.random.default_rng(seed)
    values = rng.random((count, features))
    return Rows.of(values, labels=(rng.random(count) < chance(values)).astype(np.int64), classes=("no", "yes"))


def classifier(features: int, chance: Callable[[Floats], Floats]) -> FunctionModel:
    """Says a chance of `yes`."""
    return model_of_function(chance, [f"x{place + 1}" for place in range(features)], ("no", "yes"), name="known")
