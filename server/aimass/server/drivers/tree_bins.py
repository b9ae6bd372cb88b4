"""What trees begin with, from counts of all rows: the edges of the bins, and the first margins. Pure."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.proto.boosting import Boosting
from aimass.proto.trees import Objective

__all__ = ["chosen_edges", "first_margins"]

Floats = npt.NDArray[np.float64]
_FEWEST: Final = 0.5
"""What a label counts that no row has: its first margin stays finite."""


def first_margins(objective: Objective, labels: Floats, targets: Floats) -> npt.NDArray[np.float32]:
    """float32 [outputs]: the constant margins of least loss, by how many rows have labels of each target."""
    counts = np.maximum(labels, _FEWEST)
    match objective:
        case Objective.SQUARED_ERROR:
            margins = np.array([labels @ targets / max(labels.sum(), 1.0)])
        case Objective.LOGISTIC:
            margins = np.log(counts[1:] / counts[:1])
        case Objective.SOFTMAX:
            margins = np.log(counts / counts.sum())
    return margins.astype(np.float32)


def chosen_edges(boosting: Boosting, counts: Floats) -> npt.NDArray[np.float32]:
    """float32 [numbers, bins + 1]: bins of about as many rows each, by `counts` [numbers, grid] of the grid's parts.

    Of counts with noise the sums up to each part count, as far as they grow. A part that is heavier than a bin should
    be is a bin of its own, and takes nothing from the others. Edges lie in the middle of empty parts; where there are
    fewer bins than the plan has, the last ones are empty.
    """
    bins, grid = boosting.options.bins, boosting.grid()
    edges = np.repeat(grid[:, -1:], bins + 1, axis=1)
    upto = np.maximum(np.maximum.accumulate(np.cumsum(counts, axis=1), axis=1), 0.0)
    for row, (at, found) in enumerate(zip(grid, np.diff(upto, axis=1, prepend=0.0), strict=True)):
        held = np.flatnonzero(found)
        upto = np.cumsum(np.minimum(found[held], found.sum() / bins))
        ends = np.arange(len(held))
        if len(held) > bins:
            ends = np.unique(np.searchsorted(upto, np.arange(1, bins) * upto[-1] / bins))
        ends = ends[ends < len(held) - 1]
        edges[row, 0] = at[0]
        edges[row, 1 : len(ends) + 1] = at[(held[ends] + held[ends + 1] + 1) // 2]
    return edges
