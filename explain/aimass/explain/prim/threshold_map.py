"""Where predictions fall: in which bands, over partners or time, and over two features."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aimass.explain.charts.picture import MOST_POINTS
from aimass.explain.labels import checked_labels
from aimass.explain.models import Model, asked, lineage_of
from aimass.explain.prim.band_view import Bands
from aimass.explain.prim.bands import histogram, score_edges
from aimass.explain.prim.cells import cell_means, edges_of, placed, telling_pair, two_way_dependence
from aimass.explain.prim.groups import groups_of
from aimass.explain.prim.map_view import BandMap
from aimass.explain.prim.options import PrimOptions, thresholds_of
from aimass.explain.prim.target import output_of
from aimass.explain.results import Check
from aimass.explain.rows import Rows
from aimass.explain.work import Work

__all__ = ["band_map", "bands"]

Floats = npt.NDArray[np.float64]
_STEPS = 60
_HELD = "Two cells and the band of {:,} single rows stand in it, {}: keep it as you keep the rows."


def bands(model: Model, rows: Rows, said: Floats, options: PrimOptions, work: Work) -> Bands:
    """Of predictions `said` float64 [n, outputs] of these rows, one row at least."""
    place = output_of(model, said, options.output)
    scores = said[:, place].clip(0, 1) if model.classifies else said[:, place]
    cuts = thresholds_of(options.thresholds, scores, classifies=model.classifies)
    edges = score_edges(cuts) if model.classifies else score_edges(cuts, scores)
    truth = None
    if rows.labels is not None:
        labels = checked_labels(model, rows)
        truth = (labels == place).astype(np.float64) if model.classifies else labels.astype(np.float64)
    names, groups = groups_of(rows, options.beside)
    found = histogram(scores, edges, truth, groups, len(names))
    lost = abs(int(found.counts.sum()) - len(rows))
    return Bands(
        lineage=lineage_of(model, rows, work, seeded=False),
        caveats=_caveats(model, rows, options, model.outputs[place]),
        checks=(Check(name="rows that no band holds", error=float(lost), limit=0.0),),
        output=model.outputs[place],
        chances=model.classifies,
        thresholds=cuts,
        groups=names,
        beside=options.beside or ("partner" if "partner" in rows.beside else ""),
        edges=edges,
        counts=found.counts,
        predicted=found.predicted,
        outcomes=found.outcomes,
        squares=found.squares,
    )


def _caveats(model: Model, rows: Rows, options: PrimOptions, output: str) -> tuple[str, ...]:
    said = []
    if len(model.outputs) > 2 and not options.output:
        said.append(f"Of {len(model.outputs):,} outputs this is {output}, which is predicted most often.")
    if rows.labels is None:
        said.append("The rows have no labels, so nothing is said of what was true.")
    if rows.held_out is False:
        said.append("The model was trained on these rows: on others its bands mean less.")
    return tuple(said)


def band_map(model: Model, rows: Rows, said: Floats, options: PrimOptions, work: Work) -> BandMap:
    """Of predictions `said` float64 [n, outputs] of these rows, over the two features of the options."""
    place = output_of(model, said, options.output)
    scores = said[:, place]
    pair = telling_pair(rows, scores, options.x, options.y)
    x, y = (rows.features[one] for one in pair)
    at = np.column_stack([placed(rows.features[one], rows.values[:, one]) for one in pair])
    edges = edges_of(x, at[:, 0], options.grid), edges_of(y, at[:, 1], options.grid)
    counts, means = cell_means(at, scores, *edges)
    known = ~np.isnan(at).any(axis=1)
    cuts = thresholds_of(options.thresholds, scores, classifies=model.classifies)
    points = np.column_stack([at, scores])[known]
    if not options.with_rows:
        points = points[:0] if "category" in (x.kind, y.kind) else _rounded(points, cuts, edges)
    points = points if len(points) <= MOST_POINTS else points[:0]
    caveats = _unseen(len(rows), int(known.sum()), chosen=not (options.x and options.y))
    if len(points):
        caveats += (_HELD.format(len(points), "as they are" if options.with_rows else "rounded"),)
    return BandMap(
        lineage=lineage_of(model, rows, work),
        caveats=caveats,
        output=model.outputs[place],
        chances=model.classifies,
        thresholds=cuts,
        x=x,
        y=y,
        x_edges=edges[0],
        y_edges=edges[1],
        counts=counts,
        means=means,
        surface=two_way_dependence(asked(model, work), rows, pair, edges, place, work),
        points=points,
        with_rows=options.with_rows,
    )


def _rounded(points: Floats, cuts: Floats, edges: tuple[Floats, Floats]) -> Floats:
    """The same dots in steps of 1/60 of the map, in order, each with the end of its band for a prediction."""
    found = points.copy()
    for place, ends in enumerate(edges):
        step = (ends[-1] - ends[0]) / _STEPS or 1.0
        cell = np.clip(np.floor((points[:, place] - ends[0]) / step), 0, _STEPS - 1)
        found[:, place] = ends[0] + (cell + 0.5) * step
    begins = np.append(np.nextafter(cuts[0], -np.inf), cuts) if len(cuts) else np.zeros(1)
    found[:, 2] = begins[np.searchsorted(cuts, points[:, 2], side="right")]
    return found[np.lexsort(found.T)]


def _unseen(rows: int, known: int, *, chosen: bool) -> tuple[str, ...]:
    said = []
    if chosen:
        said.append("Features that nobody named are those whose bins tell most of the predictions' variance, alone.")
    if known < rows:
        said.append(f"{rows - known:,} of {rows:,} rows miss one of the two features and are not on the map.")
    return tuple(said)
