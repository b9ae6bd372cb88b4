"""The robust rules themselves: plain functions over n updates of which f may be anything (`proto.robust`: of which n).

Two kinds. A rule of coordinates looks at the n values of one coordinate. A rule of whole updates gives each of them a
coefficient c_i, and its result is sum_i c_i x_i; all that it looks at is the Gram matrix G = X X^T, in which all norms
and distances are: ||x_i - x_j||^2 = G_ii + G_jj - 2 G_ij. So one pass over the updates is enough, however often a rule
looks again. Nobody's weight counts, for who lies about its update lies about its rows too. The bits of a result
are those of its updates and their order alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from aimass.proto.tensors import Array

__all__ = [
    "ITERATIONS",
    "OF_COORDINATES",
    "OF_UPDATES",
    "SMOOTHING",
    "clipped_mean",
    "gram_of",
    "median",
    "squares_of",
    "trimmed_mean",
]

ITERATIONS: Final = 100
"""Of Weiszfeld's algorithm: on n^2 numbers they cost nothing beside the pass over the updates."""
SMOOTHING: Final = 1e-6
"""No distance counts as less than this part of the median norm, near what a distance from G can be wrong by."""
_TINY: Final = 1e-150
"""In the place of a norm of zero where one divides by it."""


# ------------------------------------------------------------------- coordinates: values [n, k] -> [k]


def trimmed_mean(values: Array, f: int) -> Array:
    """The mean without the f largest and the f smallest (Yin et al. 2018, definition 2)."""
    kept = np.sort(values, axis=0)[f : len(values) - f]
    total: Array = kept[0].copy()
    for row in kept[1:]:  # in order, so that a coordinate's bits do not depend on its neighbours
        total += row
    total /= len(kept)
    return total


def median(values: Array, _f: int = 0) -> Array:
    """The middle value, or the mean of both (Yin et al. 2018, definition 1): all others are trimmed."""
    return trimmed_mean(values, (len(values) - 1) // 2)


OF_COORDINATES: Final[Mapping[str, Callable[[Array, int], Array]]] = {"median": median, "trimmed": trimmed_mean}


# ------------------------------------------------------------------- whole updates: G [n, n] -> c [n]


def krum(gram: Array, f: int) -> Array:
    """The update with the lowest score, the sum of its n - f - 2 smallest squared distances to others; of several the
    first (Blanchard et al. 2017, section 4)."""
    return _mean_of_best(gram, f, 1)


def multi_krum(gram: Array, f: int) -> Array:
    """The mean of the n - f - 2 updates with the lowest scores (Blanchard et al. 2017, section 4, "Multi-Krum")."""
    return _mean_of_best(gram, f, len(gram) - f - 2)


def _mean_of_best(gram: Array, f: int, m: int) -> Array:
    squares = np.diag(gram)
    distances = np.maximum(squares[:, None] + squares - 2 * gram, 0)
    np.fill_diagonal(distances, np.inf)
    scores = np.sort(distances, axis=1)[:, : len(gram) - f - 2].sum(axis=1)
    coefficients = np.zeros(len(gram))
    coefficients[np.argsort(scores, kind="stable")[:m]] = 1 / m
    return coefficients


def clipped_mean(squares: Array) -> Array:
    """From the diagonal of G: the mean of updates that are clipped to the median of their norms (norm clipping: Sun et
    al. 2019, with the bound taken from the updates themselves)."""
    norms = np.sqrt(squares)
    coefficients: Array = np.minimum(1, np.median(norms) / np.maximum(norms, _TINY)) / len(squares)
    return coefficients


def geometric_median(gram: Array, _f: int) -> Array:
    """The point of least summed distance, by the smoothed Weiszfeld algorithm (Pillutla et al. 2022, algorithm 2).

        v <- sum_i b_i x_i / sum_i b_i,  b_i = 1 / max(nu, ||v - x_i||)

    It begins at zero, the model as it was, so that a bound on ||v|| holds after every iteration and however far away a
    lie is: the sum of distances never grows.
    """
    squares = np.diag(gram)
    nu = max(SMOOTHING * float(np.median(np.sqrt(squares))), _TINY)
    distances: Array = np.sqrt(squares)
    weights: Array = np.empty(0)
    for _ in range(ITERATIONS):
        weights = 1 / np.maximum(distances, nu)
        weights /= weights.sum()
        to_all = (gram * weights).sum(axis=1)
        distances = np.sqrt(np.maximum(squares - 2 * to_all + (weights * to_all).sum(), 0))
    return weights


def squares_of(rows: Array) -> Array:
    """The diagonal of G for float64 [n, k]."""
    squares: Array = (rows * rows).sum(axis=1)
    return squares


def gram_of(rows: Array) -> Array:
    """G for float64 [n, k], by n^2 k / 2 products.

    A library of linear algebra would be quicker and add in an order that depends on the processor and its threads.
    """
    gram = np.empty((len(rows), len(rows)))
    products = np.empty_like(rows)
    for i, row in enumerate(rows):
        np.multiply(rows[: i + 1], row, out=products[: i + 1])
        gram[i, : i + 1] = gram[: i + 1, i] = products[: i + 1].sum(axis=1)
    return gram


OF_UPDATES: Final[Mapping[str, Callable[[Array, int], Array]]] = {
    "krum": krum,
    "multi-krum": multi_krum,
    "geometric-median": geometric_median,
}
