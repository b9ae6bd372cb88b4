"""What a partner sums for gradient boosted trees: counts that bins are made of, and the histograms of a level's nodes.

Pure, over arrays. Nothing has to be kept from one step to the next: where each row is follows from the model, the edges
of its bins and the levels of the round so far, all of which come with the step. What the steps of a round have in
common (`Ground`) can be.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.client.coarse import EXACT, Coarseness, coarse_rows
from aimass.privacy.dp.gaussian import GridNoise, noised
from aimass.privacy.dp.streams import NoiseStream
from aimass.proto.boosting import SUMS, Boosting, on_grid
from aimass.proto.contribution import Contribution, Group
from aimass.proto.errors import BadInput
from aimass.proto.plan_settings import TREES
from aimass.proto.rows import Batch
from aimass.proto.tensors import Blob
from aimass.proto.tree_scores import features, margins, predictions
from aimass.proto.trees import Ensemble, Objective, decode, feature_sizes

__all__ = ["Ground", "counted", "derivatives", "grounded", "noisy", "summed"]

Floats = npt.NDArray[np.float64]
Cells = npt.NDArray[np.int64]
Edges = npt.NDArray[np.float32]
_DRAWN: Final = b"AIMass rows of a round of trees v1\0"
_LEAST: Final = 1e-16
"""Hessians of a logistic loss are no smaller, as XGBoost has it; on the grid that is 0."""


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Ground:
    """What the steps of a round have in common: the cells of each row [rows, columns], as `coarseness` joins them, and
    the derivatives of its loss by the model's outputs, on the grid. `model` and `edges` are the digests of the inputs
    that these follow from."""

    boosting: Boosting
    rows: Batch
    coarseness: Coarseness
    model: str
    edges: str
    cells: Cells
    gradients: Floats
    hessians: Floats

    def same(self, boosting: Boosting, rows: Batch, coarseness: Coarseness, inputs: Sequence[Blob]) -> bool:
        """Whether these come to it too."""
        of = boosting, coarseness, inputs[0].digest, inputs[1].digest
        return self.rows is rows and of == (self.boosting, self.coarseness, self.model, self.edges)


def counted(boosting: Boosting, rows: Batch, coarseness: Coarseness = EXACT) -> Contribution:
    """Rows by part of each number's range, and by what their labels count for."""
    parts, coarse = boosting.options.grid, coarse_rows(boosting.schema, rows, coarseness)
    bins = boosting.binned(coarse.numbers, boosting.grid())
    grid = [np.bincount(column[column < parts], minlength=parts) for column in bins.T]
    labels = np.bincount(boosting.targeted(rows.labels), minlength=len(boosting.targets))
    return _contribution({"grid": np.array(grid).reshape(-1, parts), "labels": labels})


def grounded(
    boosting: Boosting,
    rows: Batch,
    inputs: Sequence[Blob],
    coarseness: Coarseness = EXACT,
    objective: Objective | None = None,
    before: Ground | None = None,
) -> Ground:
    """What a step of a level stands on, by the model and the bins that its inputs begin with; `before` if it is that.

    The model is to have the task's `objective`: by another loss gradients would have no bound, and one sum of them
    could tell of each row by itself. Its margins too are of the joined rows: by thresholds of its own a server could
    tell apart what no bin does.

    Raises `BadInput` where they are no model of trees, or not the bins of such a round.
    """
    if before is not None and before.same(boosting, rows, coarseness, inputs):
        return before
    model, edges = inputs[:2]
    ensemble, coarse = _ensemble(boosting, model, objective), coarse_rows(boosting.schema, rows, coarseness)
    gradients, hessians = derivatives(ensemble.objective, margins(ensemble, features(coarse)), rows.labels)
    return Ground(
        boosting=boosting,
        rows=rows,
        coarseness=coarseness,
        model=model.digest,
        edges=edges.digest,
        cells=boosting.cells(coarse, _edges(boosting, edges)),
        gradients=on_grid(gradients),
        hessians=on_grid(hessians),
    )


def summed(ground: Ground, levels: Sequence[Blob], seed: bytes) -> Contribution:
    """Gradients, Hessians and rows by node and cell of the level after `levels`; `seed` is the round's, and known to
    the server.

    Where a split leaves fewer than the least rows here on a side, they count with those of the other: what is on the
    one side would follow from the node and the other.

    Raises `BadInput` for levels of no such round.
    """
    boosting, outputs = ground.boosting, ground.gradients.shape[1]
    nodes = np.where(_taken(boosting, ground.rows, seed)[:, None], 0, -1).repeat(outputs, axis=1)
    for number, level in enumerate(levels):
        down = _descended(boosting, nodes, ground.cells, level, number)
        nodes = _with_siblings(down, 2 << number, ground.coarseness.least)
    values = dict(zip(SUMS, (ground.gradients, ground.hessians, np.ones_like(ground.gradients)), strict=True))
    return _contribution(
        {name: _summed(boosting, nodes, ground.cells, len(levels), values[name]) for name in boosting.sums}
    )


def noisy(made: Contribution, noise: GridNoise, objective: Objective, stream: NoiseStream) -> Contribution:
    """The same sums, each with fresh noise. Raises `BadInput` for a loss by which there is no bound on a row."""
    if objective is Objective.SQUARED_ERROR:
        raise BadInput(
            "a squared error has gradients without a bound, which no noise hides", code="trainer.trees", value=objective
        )
    (group,) = made.groups.values()
    flat = noised(noise, np.concatenate([tensor.reshape(-1) for tensor in group.tensors.values()]), stream)
    ends = np.cumsum([tensor.size for tensor in group.tensors.values()])[:-1]
    parts = zip(group.tensors.items(), np.split(flat, ends), strict=True)
    return _contribution({name: part.reshape(tensor.shape) for (name, tensor), part in parts})


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
        few = np.asarray((rows < least).any(axis=1)).repeat(2)
        into = np.where(few, most.repeat(2), np.arange(count))
        tree[tree >= 0] = into[tree[tree >= 0]]
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
