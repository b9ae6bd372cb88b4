"""What the histograms of trees must hold: of a partner's, and of all together. Exact, as the sums are.

What one row can add follows from the loss and from the model that it is of.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.proto.boosting import SUMS, UNIT, Boosting
from aimass.proto.errors import BadInput
from aimass.proto.manifest import Number, Schema
from aimass.proto.trees import LEAF, Ensemble, Objective

__all__ = ["ANY_ROW", "RowBounds", "check_histograms", "row_bounds"]

Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class RowBounds:
    """The least and the largest that a row adds to a sum of gradients, and of Hessians."""

    gradients: tuple[float, float]
    hessians: tuple[float, float]


ANY_ROW: Final = RowBounds((-np.inf, np.inf), (0.0, 1.0))
"""Whatever the loss and the model."""


def row_bounds(ensemble: Ensemble, schema: Schema) -> RowBounds:
    """Of rows of the schema, by the ensemble's loss: see `aimass.client.trees.derivatives`.

    A chance p lies between 0 and 1, and p (1 - p) is 1/4 at most. A squared error's gradient is the margin less the
    label, and no margin lies beyond the sum of each tree's furthest leaf.
    """
    match ensemble.objective:
        case Objective.LOGISTIC:
            return RowBounds((-1.0, 1.0), (0.0, 0.25))
        case Objective.SOFTMAX:
            return RowBounds((-1.0, 1.0), (0.0, 0.5))
        case Objective.SQUARED_ERROR:
            label = schema.label
            first, last = (label.minimum, label.maximum) if isinstance(label, Number) else (0, len(label.values) - 1)
            leaves = [tree.value[tree.feature == LEAF].astype(np.float64) for tree in ensemble.trees]
            base, off = float(ensemble.base[0]), UNIT * (1 + len(leaves))  # (margins are added up in another order)
            least = base + sum(float(each.min()) for each in leaves) - last
            most = base + sum(float(each.max()) for each in leaves) - first
            return RowBounds((least - off, most + off), (1.0, 1.0))


def check_histograms(boosting: Boosting, tensors: Mapping[str, Floats], bounds: RowBounds = ANY_ROW) -> None:
    """Raise `BadInput` where a node's cells do not come to the same sums in every column: each row is in one of each.

    Cells are of whole rows, each of which adds what lies within `bounds`, and where there is none there is no gradient.
    """
    rows = tensors["rows"]
    _check_cells("rows", (rows < 0) | (rows != np.rint(rows)))
    for name, (least, most) in (("hessians", bounds.hessians), ("gradients", bounds.gradients)):
        sums, held = tensors[name], np.maximum(rows, 1.0)
        _check_cells(name, np.where(rows > 0, (sums < least * held) | (sums > most * held), sums != 0))
    starts = np.array(boosting.offsets[:-1])
    for name in SUMS:
        sums = np.add.reduceat(tensors[name], starts, axis=1)
        if (odd := np.asarray((sums != sums[:, :1]).any(axis=1))).any():
            raise _spoilt("do not sum to the counts of their nodes", name, odd)


def _check_cells(name: str, wrong: npt.NDArray[np.bool_]) -> None:
    if (odd := np.asarray(wrong.any(axis=1))).any():
        raise _spoilt("of a cell are none that its rows could have", name, odd)


def _spoilt(what: str, name: str, nodes: npt.NDArray[np.bool_]) -> BadInput:
    return BadInput(
        f"a contribution was refused: its histograms {what}",
        code="contribution.histogram",
        value=f"{name}, node {int(nodes.argmax())}",
    )
