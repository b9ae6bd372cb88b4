"""The background: rows that a prediction is held against, drawn from many or standing for them."""

from __future__ import annotations

import dataclasses
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from aimass.explain.rows import Feature, Rows
from aimass.explain.work import Work
from aimass.proto.errors import BadInput

__all__ = ["Background", "BackgroundBy", "background_of"]

Floats = npt.NDArray[np.float64]
BackgroundBy = Literal["sample", "kmeans"]
_ROUNDS: Final = 30


@dataclasses.dataclass(frozen=True)
class Background:
    """`values` float64 [m, features] with `weights` [m]; `drawn` of rows at random, else centres that stand for all.

    `says` is how a person would call it.
    """

    values: Floats
    weights: Floats
    drawn: bool
    says: str


def background_of(rows: Rows, number: int, by: BackgroundBy, work: Work) -> Background:
    """At most `number` references of `rows`: all of them, a sample without replacement, or centres of k-means.

    A centre has the mean of its rows' numbers and the most frequent category, and weighs as many rows as it stands for.
    """
    if not len(rows):
        raise BadInput("the background is empty", code="explain.background", cure="Give rows to hold against.")
    if len(rows) <= number:
        return Background(rows.values, np.ones(len(rows)), True, f"all {len(rows):,} rows of {rows.name}")
    if by == "sample":
        drawn = np.sort(work.rng("lpi", "background").choice(len(rows), number, replace=False))
        return Background(
            rows.values[drawn], np.ones(number), True, f"{number:,} of {len(rows):,} rows of {rows.name}, drawn"
        )
    values, weights = _centres(rows, number, work)
    says = f"{len(values):,} centres that stand for {len(rows):,} rows of {rows.name}"
    return Background(values, weights, False, says)


def _centres(rows: Rows, number: int, work: Work) -> tuple[Floats, Floats]:
    """Lloyd's k-means, begun by k-means++ (Arthur & Vassilvitskii 2007), over cells of like scale."""
    points = np.concatenate([_coded(feature, rows.values[:, i]) for i, feature in enumerate(rows.features)], axis=1)
    rng = work.rng("lpi", "centres")
    centres = points[_plus_plus(points, number, rng)]
    nearest = np.full(len(points), -1)
    for _ in range(_ROUNDS):
        work.check()
        before, nearest = nearest, _nearest(points, centres)
        if (before == nearest).all():
            break
        for place in np.unique(nearest):
            centres[place] = points[nearest == place].mean(axis=0)
    kept, weights = np.unique(nearest, return_counts=True)
    cells = [[_centre(f, rows.values[nearest == place, i]) for i, f in enumerate(rows.features)] for place in kept]
    return np.array(cells), weights.astype(np.float64)


def _plus_plus(points: Floats, number: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    chosen = [int(rng.integers(len(points)))]
    far = np.full(len(points), np.inf)
    for _ in range(number - 1):
        far = np.minimum(far, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
        if far.sum() == 0:
            break  # fewer distinct rows than centres
        chosen.append(int(rng.choice(len(points), p=far / far.sum())))
    return np.array(chosen)


def _nearest(points: Floats, centres: Floats) -> npt.NDArray[np.int64]:
    # |p - c|^2 less |p|^2, which does not change which is nearest
    found: npt.NDArray[np.int64] = ((centres**2).sum(axis=1) - 2 * points @ centres.T).argmin(axis=1)
    return found


def _coded(feature: Feature, cells: Floats) -> Floats:
    """float64 [n, columns] of like scale; what is missing stands in the middle of numbers and beside categories."""
    known = cells[~np.isnan(cells)]
    if feature.kind == "category":
        hot: Floats = (cells[:, None] == np.unique(known)[None, :]) / np.sqrt(2.0)
        return hot
    spread = known.std() if len(known) else 0.0
    if spread == 0.0:
        return np.isnan(cells)[:, None].astype(np.float64)
    missing = np.isnan(cells)
    middle = np.where(missing, 0.0, (np.where(missing, 0.0, cells) - known.mean()) / spread)
    return np.stack([middle, missing.astype(np.float64)], axis=1)


def _centre(feature: Feature, cells: Floats) -> float:
    """The most frequent cell of a category, missing among them; the mean of a number unless most are missing."""
    missing = np.isnan(cells)
    if 2 * missing.sum() > len(cells):
        return float("nan")
    if feature.kind == "number":
        return float(cells[~missing].mean())
    values, counts = np.unique(cells[~missing], return_counts=True)
    return float(values[counts.argmax()])
