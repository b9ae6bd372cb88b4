"""What a partner sums for gradient boosted trees: counts that bins are made of, and the histograms of a level's nodes.

Pure, over arrays. Nothing is kept from one step to the next: where each row is follows from the model, the edges of its
bins and the levels of the round so far, all of which come with the step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.client.coarse import coarse_rows
from aimass.proto.boosting import SUMS, Boosting, level_of, on_grid
from aimass.proto.contribution import Contribution, Group
from aimass.proto.errors import BadInput
from aimass.proto.plan_settings import TREES
from aimass.proto.rows import Batch
from aimass.proto.tensors import Blob
from aimass.proto.tree_scores import features, margins, predictions
from aimass.proto.trees import Ensemble, Objective, decode, feature_sizes

__all__ = ["derivatives", "summed"]

Floats = npt.NDArray[np.float64]
Cells = npt.NDArray[np.int64]
Edges = npt.NDArray[np.float32]
_DRAWN: Final = b"AIMass rows of a round of trees v1\0"
_LEAST: Final = 1e-16
"""Hessians of a logistic loss are no smaller, as XGBoost has it; on the grid that is 0."""


def summed(
    boosting: Boosting,
    rows: Batch,
    inputs: Sequence[Blob],
    seed: bytes,
    least: int = 1,
    objective: Objective | None = None,
    parts: int = 4096,
) -> Contribution:
    """The sums of a step on these inputs: see `boosting.level_of`; `seed` is the round's, and known to the server.

    Where a split leaves fewer than `least` of the rows here on a side, none of the node's count any further in this
    round: what is on the one side would follow from the node and the other. The model is to have the task's
    `objective`: by another loss gradients would have no bound, and one sum of them could tell of each row by itself.

    Raises `BadInput` where they are no model of trees, or not the bins and levels of such a round.
    """
    rows = coarse_rows(boosting.schema, rows, parts, least)
    if level_of(boosting, inputs) is None:
        return _counted(boosting, rows)
    model, edges, *levels = inputs
    return _histograms(
        boosting, rows, _ensemble(boosting, model, objective), _edges(boosting, edges), levels, seed, least
    )


def _counted(boosting: Boosting, rows: Batch) -> Contribution:
    """Rows by part of each number's range, and by what their labels count for."""
    parts = boosting.options.grid
    bins = boosting.binned(rows.numbers, boosting.grid())
    grid = [np.bincount(column[column < parts], minlength=parts) for column in bins.T]
    labels = np.bincount(boosting.targeted(rows.labels), minlength=len(boosting.targets))
    return _contribution({"grid": np.array(grid).reshape(-1, parts), "labels": labels})


def _histograms(
    boosting: Boosting, rows: Batch, ensemble: Ensemble, edges: Edges, levels: Sequence[Blob], seed: bytes, least: int
) -> Contribution:
    """Gradients, Hessians and rows by node and cell of the level after `levels`."""
    cells = boosting.cells(rows, edges)
    gradients, hessians = derivatives(ensemble.objective, margins(ensemble, features(rows)), rows.labels)
    nodes = np.where(_taken(boosting, rows, seed)[:, None], 0, -1).repeat(gradients.shape[1], axis=1)
    for number, level in enumerate(levels):
        nodes = _with_siblings(_descended(boosting, nodes, cells, level, number), 2 << number, least)
    sums = [
        _summed(boosting, nodes, cells, len(levels), values)
        for values in (on_grid(gradients), on_grid(hessians), np.ones_like(gradients))
    ]
    return _contribution(dict(zip(SUMS, sums, strict=True)))


def derivatives(objective: Objective, margin: Floats, labels: npt.NDArray[Any]) -> tuple[Floats, Floats]:
    """First and second derivative of each row's loss by its margins, float64 [rows, outputs].

    Logistic and softmax cross-entropy, and half the squared error to the label's number or place; the softmax's Hessian
    is twice its diagonal (Friedman 2001, algorithm 6; XGBoost).
    """
    match objective:
        case Objective.SQUARED_ERROR:
            return margin - labels[:, None], np.ones_like(margin)
        case Objective.LOGISTIC:
            chance = predictions(objective, margin)[:, 1:]
            return chance - labels[:, None], np.maximum(chance * (1.0 - chance), _LEAST)
        case Objective.SOFTMAX:
            chance = predictions(objective, margin)
            hot = labels[:, None] == np.arange(margin.shape[1])
            return chance - hot, np.maximum(2.0 * chance * (1.0 - chance), _LEAST)


def _taken(boosting: Boosting, rows: Batch, seed: bytes) -> npt.NDArray[np.bool_]:
    """Which rows take part in a round.

    The server knows the seed, and must not know them: each round's counts would be a linear equation in single rows,
    and as many rounds as there are rows would give back every one of them. So they are drawn from the rows too.
    """
    count = len(rows.labels)
    if boosting.options.subsample == 1:
        return np.ones(count, bool)
    drawn = hashlib.sha256(_DRAWN + seed)
    for array in (rows.numbers, rows.categories, rows.labels):
        drawn.update(np.ascontiguousarray(array).data)
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(drawn.digest()[:16], "big")))
    return generator.random(count) < boosting.options.subsample


def _descended(boosting: Boosting, nodes: Cells, cells: Cells, level: Blob, number: int) -> Cells:
    """int64 [rows, outputs]: the node of each row one level further down; -1 where its node was not split."""
    columns, left = level.numpy("columns"), level.numpy("left")
    count = nodes.shape[1] << number
    if columns.shape != (count,) or left.shape != (count, max(boosting.widths)) or columns.max() >= cells.shape[1]:
        raise BadInput(
            "a level is none of this round's trees", code="trainer.trees", value=str(left.shape), limit=count
        )
    at = nodes + (np.arange(nodes.shape[1]) << number)
    column = np.where(nodes < 0, -1, columns[at])
    found = np.take_along_axis(cells, np.maximum(column, 0), axis=1)
    down = 2 * nodes + np.where(left[at, found] != 0, 0, 1)
    return np.where(column < 0, -1, down)


def _with_siblings(nodes: Cells, count: int, least: int) -> Cells:
    """The same with the rows of a node that has fewer than `least` in its sibling, or in the left of two such."""
    found = nodes.copy()
    for tree in found.T:
        rows = np.bincount(tree[tree >= 0], minlength=count).reshape(-1, 2)
        most = np.arange(0, count, 2) + rows.argmax(axis=1)
        into = np.where((rows < least).any(axis=1)[:, None], most[:, None], np.arange(count).reshape(-1, 2))
        tree[tree >= 0] = into.reshape(-1)[tree[tree >= 0]]
    return found


def _summed(boosting: Boosting, nodes: Cells, cells: Cells, level: int, values: Floats) -> Floats:
    """float64 [trees x nodes, cells]: `values` [rows, outputs] by node and cell."""
    outputs, width = values.shape[1], boosting.offsets[-1]
    total = np.zeros((outputs << level) * width)
    for tree in range(outputs):
        open_ = nodes[:, tree] >= 0
        at = ((tree << level) + nodes[open_, tree]) * width
        for column, offset in enumerate(boosting.offsets[:-1]):
            total += np.bincount(at + offset + cells[open_, column], values[open_, tree], minlength=len(total))
    return total.reshape(-1, width)


def _ensemble(boosting: Boosting, blob: Blob, objective: Objective | None) -> Ensemble:
    ensemble, sizes = decode(blob), feature_sizes(boosting.schema)
    labels = len(boosting.schema.classes)
    if ensemble.sizes.tolist() != sizes.tolist() or len(ensemble.base) not in (1, labels):
        raise BadInput("the trees are of other columns or labels", code="trainer.trees", limit=f"{sizes} {labels}")
    if objective is not None and ensemble.objective is not objective:
        raise BadInput(
            "the trees are of another loss than the task's",
            code="trainer.trees",
            value=ensemble.objective,
            limit=objective,
        )
    return ensemble


def _edges(boosting: Boosting, blob: Blob) -> Edges:
    edges = blob.numpy("edges")
    wanted = len(boosting.schema.numbers), boosting.options.bins + 1
    on = edges.shape == wanted and edges.dtype == np.float32 and (np.diff(edges) >= 0).all()
    if not on or not all(np.isin(at, grid).all() for at, grid in zip(edges, boosting.grid(), strict=True)):
        raise BadInput("the bins are not on the plan's grid", code="trainer.bins", value=str(edges.shape), limit=wanted)
    return edges


def _contribution(tensors: dict[str, npt.NDArray[np.generic]]) -> Contribution:
    return Contribution({TREES: Group(1.0, {name: one.astype(np.float64) for name, one in tensors.items()})}, {}, {})
