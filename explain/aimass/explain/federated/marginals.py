"""How each feature is spread over the federation: counts by bin, from which grids, edges and draws are made.

Bins are parts of the schema's public bounds, so a count tells of a range and never of a value. What is drawn or
cut from them is as fine as the bins are.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.prim.box import short_between
from aimass.explain.rows import Feature, Rows, features_of
from aimass.proto.asks import Cells, Phase
from aimass.proto.manifest import Schema
from aimass.proto.surveys import bins_of
from aimass.proto.tensors import Array

__all__ = [
    "FINE",
    "Marginal",
    "cells_of",
    "counted",
    "drawn",
    "edges_of",
    "marginal_phase",
    "marginals_of",
    "marginals_of_rows",
    "uniforms",
    "width_of",
]

Floats = npt.NDArray[np.float64]
Keys = npt.NDArray[np.uint64]
FINE: Final = 64
"""Bins of a number."""


@dataclasses.dataclass(frozen=True)
class Marginal:
    """One feature's `values` [k], middles of bins or places of categories, and NaN, with their `shares` of 1 [k].

    `edges` [bins + 1] are a number's; empty for a category.
    """

    values: Floats
    shares: Floats
    edges: Floats

    def quantiles(self, shares: Floats) -> Floats:
        """Of a number that is not missing: each is linear within its bin. The bounds, where nothing is known."""
        counts = self.shares[: len(self.edges) - 1]
        if counts.sum() <= 0:
            return np.asarray(np.interp(shares, (0.0, 1.0), (self.edges[0], self.edges[-1])))
        held = np.flatnonzero(counts > 0)
        below = np.concatenate([[0.0], np.cumsum(counts[held])]) / counts.sum()
        place = np.clip(np.searchsorted(below, shares, side="right") - 1, 0, len(held) - 1)
        within = (shares - below[place]) / (below[place + 1] - below[place])
        low, high = self.edges[held[place]], self.edges[held[place] + 1]
        found: Floats = low + np.clip(within, 0.0, 1.0) * (high - low)
        return found


def width_of(features: Sequence[Feature]) -> int:
    """Cells of the feature that has most: bins or values, and one of what is missing."""
    return max((FINE if one.kind == "number" else len(one.values)) + 1 for one in features)


def marginal_phase(schema: Schema) -> Phase:
    """One table of counts for each feature."""
    shape = (len(schema.columns), width_of(features_of(schema)))
    return Phase(cells=(Cells(name="marginals", shape=shape, counts=True, tables=1),))


def counted(rows: Rows) -> Mapping[str, Array]:
    """Rows by feature and cell."""
    cells = [cells_of(feature, rows.values[:, place]) for place, feature in enumerate(rows.features)]
    width = width_of(rows.features)
    return {"marginals": np.stack([np.bincount(one, minlength=width) for one in cells]).astype(np.float64)}


def cells_of(feature: Feature, values: Floats) -> npt.NDArray[np.int64]:
    """int64 [n]: which bin, or which value, each is; what is missing comes behind the last."""
    if feature.kind == "category":
        return np.where(np.isnan(values), len(feature.values), values).astype(np.int64)
    found = bins_of(values, edges_of(feature, FINE))
    return np.where(found < 0, FINE, found)


def edges_of(feature: Feature, bins: int) -> Floats:
    """float64 [bins + 1]: about equal parts of a number's public bounds, cut at numbers of few digits."""
    low, high = feature.minimum or 0.0, 1.0 if feature.maximum is None else feature.maximum
    return _cut(low, high, bins)


@functools.lru_cache(maxsize=512)
def _cut(low: float, high: float, bins: int) -> Floats:
    at, half = np.linspace(low, high, bins + 1), (high - low) / bins / 2
    found = np.array([low, *(short_between(one - half, one + half) for one in at[1:-1]), high])
    found.flags.writeable = False
    return found


def marginals_of(schema: Schema, counts: Array) -> tuple[Marginal, ...]:
    """From float64 [features, cells] counts; negative ones, of noise, count as none."""
    return tuple(_marginal(one, counts[place]) for place, one in enumerate(features_of(schema)))


def marginals_of_rows(schema: Schema, values: Floats) -> tuple[Marginal, ...]:
    """Of the rows of a background float64 [m, features]: each value as often as it is there."""
    found = []
    for column, known in zip(
        values.T, marginals_of(schema, counted(Rows(features_of(schema), values))["marginals"]), strict=True
    ):
        there, counts = np.unique(column, return_counts=True, equal_nan=True)
        found.append(Marginal(there, counts / counts.sum(), known.edges))
    return tuple(found)


def _marginal(feature: Feature, counts: Array) -> Marginal:
    if feature.kind == "category":
        values, edges = np.append(np.arange(len(feature.values), dtype=np.float64), np.nan), np.empty(0)
    else:
        edges = edges_of(feature, FINE)
        values = np.append((edges[1:] + edges[:-1]) / 2, np.nan)
    kept = np.maximum(np.asarray(counts[: len(values)], np.float64), 0.0)
    total = kept.sum()
    return Marginal(values, kept / total if total > 0 else np.full(len(kept), 1.0 / len(kept)), edges)


def uniforms(keys: Keys, *purpose: str | int) -> Floats:
    """float64 [n] in [0, 1), one for each key: the same wherever the row lies, and another for each purpose.

    A key, with the purpose's digest mixed in, goes twice through the finaliser of SplitMix64 (Steele, Lea and Flood
    2014), a bijection whose every output bit depends on every input bit.
    """
    name = "\0".join(map(str, purpose)).encode()
    first, second = np.frombuffer(hashlib.sha256(b"AIMass draw v1\0" + name).digest()[:16], np.uint64)
    mixed = _mixed(_mixed(keys ^ first) + second)
    return (mixed >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def _mixed(keys: Keys) -> Keys:
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))


def drawn(marginal: Marginal, at: Floats) -> npt.NDArray[np.int64]:
    """Places [n] in the values, at uniform numbers [n]: their distribution is the marginal's."""
    below = np.cumsum(marginal.shares)
    place = np.searchsorted(below, at * below[-1], side="right")
    found: npt.NDArray[np.int64] = np.minimum(place, np.flatnonzero(marginal.shares)[-1])
    return found
