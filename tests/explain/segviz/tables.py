"""Tables and models whose errors are known, for the tests of where a model is wrong."""

from __future__ import annotations

import numpy as np

from aimass.explain.models import FunctionModel, model_of_function
from aimass.explain.rows import Feature, Rows

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
FEATURES = (
    Feature(name="age", unit="years"),
    Feature(name="oldpeak", unit="mm"),
    Feature(name="thal", kind="category", values=("normal", "fixed", "reversable")),
)


def chances(values: Floats) -> Floats:
    return np.where(values[:, 0] >= 50, 0.9, 0.1)


MODEL: FunctionModel = model_of_function(chances, FEATURES, ("no", "yes"), name="by age")


def rows(count: int, seed: int = 0, *, wrong: float = 0.1, planted: float = 0.6) -> Rows:
    """Rows whose labels the model misses in a share `wrong`, or `planted` where oldpeak >= 2 and thal is reversable.

    A third of them is Basel's, who hold twice as many of the planted as others.
    """
    random = np.random.default_rng(seed)
    values = np.stack(
        [random.integers(30, 70, count), random.integers(0, 4, count), random.integers(0, 3, count)], axis=1
    ).astype(np.float64)
    bad = (values[:, 1] >= 2) & (values[:, 2] == 2)
    missed = random.random(count) < np.where(bad, planted, wrong)
    labels = (values[:, 0] >= 50) ^ missed
    partner = np.where(random.random(count) < np.where(bad, 0.8, 0.3), "Basel", "Bern")
    return Rows(FEATURES, values, labels.astype(np.int64), ("no", "yes"), "planted", True, {"partner": partner})
