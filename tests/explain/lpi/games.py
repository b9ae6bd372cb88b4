"""Games for the tests: models with known attributions, and Shapley's definition, slowly."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "by_definition", "rows_of", "tangled"]

Floats = npt.NDArray[np.float64]


def tangled(values: Floats) -> Floats:
    """Two outputs in which features interact."""
    x = np.nan_to_num(values, nan=0.5)
    one = np.tanh(x[:, 0] * x[:, 1]) + np.abs(x).max(axis=1) - x[:, 2] ** 2
    return np.stack([one, x.prod(axis=1) + x[:, 0]], axis=1)


def rows_of(seed: int, rows: int, features: int, *, levels: int = 0) -> Floats:
    """Random cells: normal, or of as many levels, so that rows share cells."""
    rng = np.random.default_rng(seed)
    if levels:
        return rng.integers(0, levels, (rows, features)).astype(np.float64)
    return rng.normal(size=(rows, features))


def by_definition(
    predict: Callable[[Floats], Floats], row: Floats, background: Floats, groups: Sequence[Sequence[int]]
) -> Floats:
    """float64 [groups, outputs]: the mean over all orders of what joining changes (Shapley 1953)."""
    orders = list(itertools.permutations(range(len(groups))))
    found = np.zeros((len(groups), predict(background).shape[1]))
    for order in orders:
        cells = background.copy()
        before = predict(cells).mean(axis=0)
        for group in order:
            cells[:, list(groups[group])] = row[list(groups[group])]
            after = predict(cells).mean(axis=0)
            found[group] += (after - before) / len(orders)
            before = after
    return found
