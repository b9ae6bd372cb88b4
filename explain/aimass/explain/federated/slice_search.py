"""Which slices a search over a federation asks about next: predicates from counts, and SliceLine's levels replayed.

Nothing is kept between steps but their sums: the search is played again from the first, which takes milliseconds.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.federated.inputs import odd_input
from aimass.explain.federated.marginals import FINE, Marginal, edges_of
from aimass.explain.federated.sums import Floats
from aimass.explain.rows import Feature
from aimass.explain.segviz.predicates import Predicate
from aimass.explain.segviz.sliceline import Measured, levels
from aimass.explain.work import Work
from aimass.proto.tensors import Array

__all__ = ["Replay", "SliceSearch", "check_table", "predicate_table", "predicates_in", "replayed"]

Places = npt.NDArray[np.int64]
_TESTS: Final = ("below", "at_least", "equals", "missing")


@dataclasses.dataclass(frozen=True)
class SliceSearch:
    """What stays the same from step to step; `most` is the largest error of a row, `size` the slices of a step."""

    columns: Places
    most: float
    size: int
    count: int
    depth: int
    alpha: float
    least_share: float
    fewest: int

    def least(self, rows: int) -> int:
        """Rows of a slice at least, among those that search."""
        return max(self.fewest, math.ceil(self.least_share * rows))


@dataclasses.dataclass(frozen=True)
class Replay:
    """The slices of each step in the order that they were `asked`, and those `wanted` next; None at the end."""

    asked: tuple[Places, ...]
    wanted: Places | None


def predicate_table(features: Sequence[Feature], spread: Sequence[Marginal], cuts: int) -> Floats:
    """float64 [predicates, 3]: the feature's place, the test's and its value, of what tells some rows from others.

    A number is cut at so many quantiles, at the lower edge of the bin that each lies in. The edge's place in the
    public ones is the value: whatever a server asks, no predicate is finer than the bins are.
    """
    found: list[tuple[int, int, float]] = []
    for place, (feature, one) in enumerate(zip(features, spread, strict=True)):
        held, missing = one.shares[:-1] > 0, one.shares[-1] > 0
        if feature.kind == "number" and held.any():
            for cut in _cuts(one, cuts):
                found += [(place, 0, float(cut)), (place, 1, float(cut))]
        elif held.sum() > 1 or (held.any() and missing):
            found += [(place, 2, value) for value in one.values[:-1][held]]
        if held.any() and missing:
            found.append((place, 3, 0.0))
    return np.array(found, np.float64).reshape(-1, 3)


def _cuts(spread: Marginal, cuts: int) -> npt.NDArray[np.int64]:
    held = np.flatnonzero(spread.shares[:-1] > 0)
    at = spread.quantiles(np.arange(1, cuts + 1) / (cuts + 1))
    bins = np.unique(np.clip(np.searchsorted(spread.edges, at, side="right") - 1, 0, len(spread.edges) - 2))
    return bins[bins > held[0]] if len(held) > 1 else bins[:0]


def check_table(features: Sequence[Feature], table: Floats, cuts: int) -> None:
    """Raise `BadInput` unless each line is a predicate: a test that the feature has, of an edge or a value of its."""
    if len(table) > sum(2 * cuts + 1 if one.kind == "number" else len(one.values) + 1 for one in features):
        raise odd_input("has more predicates than the columns have", f"predicates {len(table)}")
    for place, test, value in table:
        feature = features[int(place)] if place in range(len(features)) else None
        if feature is None or test not in range(len(_TESTS)):
            raise odd_input("names no predicate", f"predicates {place:g}, {test:g}")
        number = feature.kind == "number"
        of = {"below": range(1, FINE), "at_least": range(1, FINE)} if number else {"equals": range(len(feature.values))}
        if value not in ({"missing": range(1)} | of).get(_TESTS[int(test)], ()):
            raise odd_input("names no edge and no value of the column", f"predicates of {feature.name}")


def predicates_in(features: Sequence[Feature], table: Floats) -> tuple[Predicate, ...]:
    """The predicates of a table, in words too."""
    return tuple(_told(features[int(place)], _TESTS[int(test)], float(value)) for place, test, value in table)


def _told(feature: Feature, test: str, value: float) -> Predicate:
    cuts = test in ("below", "at_least")
    return _predicate(feature, test, float(edges_of(feature, FINE)[int(value)]) if cuts else value)


def _predicate(feature: Feature, test: str, value: float) -> Predicate:
    words = f"{value:,.15g} {feature.unit}".rstrip()
    match test:
        case "below":
            return Predicate(column=feature.name, test="below", value=value, says=f"{feature.name} < {words}")
        case "at_least":
            return Predicate(column=feature.name, test="at_least", value=value, says=f"{feature.name} >= {words}")
        case "equals":
            says = f"{feature.name} = {feature.told(value)}"
            return Predicate(column=feature.name, test="equals", value=value, says=says)
        case _:
            return Predicate(column=feature.name, test="missing", says=f"{feature.name} is missing")


def replayed(search: SliceSearch, found: Sequence[Mapping[str, Array]]) -> Replay:
    """The search as far as these steps' sums go. How many rows there are, and their errors, the first one says."""
    rows = round(float(found[0]["searched"])) if found else 1
    total = float(found[0]["searched_total"]) if found else 1.0
    questions = levels(
        search.columns, rows, total, Work(),
        count=search.count, depth=search.depth, least=search.least(rows), alpha=search.alpha,
    )  # fmt: skip
    asked: list[Places] = []
    try:
        slices = next(questions)
        while len(slices):
            measured = []
            for start in range(0, len(slices), search.size):
                part = slices[start : start + search.size]
                if len(asked) == len(found):
                    return Replay(tuple(asked), part)
                measured.append(_measured(search, part, found[len(asked)]))
                asked.append(part)
            slices = questions.send(_together(measured))
    except StopIteration:
        pass
    return Replay(tuple(asked), None)


def _measured(search: SliceSearch, slices: Places, sums: Mapping[str, Array]) -> Measured:
    """Of one step; noise below zero counts as nothing, and no error is known to be less than the largest."""
    sizes, errors = (np.maximum(np.asarray(sums[f"searched_{of}"])[: len(slices)], 0.0) for of in ("sizes", "errors"))
    return Measured(sizes, errors, np.full(len(slices), search.most))


def _together(parts: Sequence[Measured]) -> Measured:
    return Measured(
        np.concatenate([part.sizes for part in parts]),
        np.concatenate([part.sums for part in parts]),
        np.concatenate([part.most for part in parts]),
    )
