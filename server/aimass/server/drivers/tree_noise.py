"""Histograms that have noise, made to agree on what they all count. Pure, over arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aimass.proto.boosting import Boosting

__all__ = ["agreed"]

Floats = npt.NDArray[np.float64]


def agreed(boosting: Boosting, histograms: Floats) -> Floats:
    """`histograms` [nodes, cells, ...] whose columns come to one sum in each node, as those of rows do.

    These are the closest ones, and of least variance (Hay et al. 2010): the sum is the mean of the columns', weighted
    by one over their cells, and each cell of a column takes an equal part of the difference.
    """
    sums = [histograms[:, cells].sum(axis=1, keepdims=True) for cells in boosting.columns]
    mean = np.average(sums, axis=0, weights=1 / np.array(boosting.widths))
    columns = zip(boosting.columns, sums, boosting.widths, strict=True)
    return np.concatenate([histograms[:, cells] + (mean - own) / width for cells, own, width in columns], axis=1)
