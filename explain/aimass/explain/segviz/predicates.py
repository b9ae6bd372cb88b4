"""What rows can be told apart by: "age >= 57 years", "thal = reversable defect", "ca is missing".

A slice is a conjunction of predicates. A number gives one for each side of each cut, so that a slice says a half-line
as people do, not a bin.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from aimass.explain.rows import Feature, Rows
from aimass.explain.words import cell
from aimass.proto.values import Value

__all__ = ["Predicate", "holds", "path_sentence", "predicates_of", "sentence"]

Floats = npt.NDArray[np.float64]
_OR_MISSING: Final = " or missing"


class Predicate(Value, frozen=True):
    """One column's cell is below a number, at least a number, a category's place, or missing.

    `otherwise` says what the rows have in common that do not meet it.
    """

    column: str
    test: Literal["below", "at_least", "equals", "missing"]
    says: str
    otherwise: str = ""
    value: float = 0.0

    def of(self, cells: Floats) -> npt.NDArray[np.bool_]:
        """bool [n] of cells float64 [n]; a missing cell is only ever missing."""
        found: npt.NDArray[np.bool_]
        match self.test:
            case "below":
                found = cells < self.value
            case "at_least":
                found = cells >= self.value
            case "equals":
                found = cells == self.value
            case "missing":
                found = np.isnan(cells)
        return found


def sentence(predicates: tuple[Predicate, ...]) -> str:
    """All that holds, in words."""
    return " and ".join(one.says for one in predicates) or "all rows"


def path_sentence(steps: Sequence[tuple[Predicate, bool]]) -> str:
    """All that holds along a path of predicates that are met or not: one bound a side of each column, the tightest."""
    lacking = {one.column for one, meets in steps if one.test == "missing" and meets}
    known = {one.column for one, meets in steps if meets != (one.test == "missing")}
    bounds: dict[tuple[str, str], tuple[float, str]] = {}
    for one, meets in steps:
        side = _side(one, meets)
        if one.column in lacking and one.test != "missing":
            continue  # a missing cell is beyond no bound, and was let through
        said = (one.says if meets else one.otherwise).removesuffix(_OR_MISSING if one.column in known else "")
        tight = -one.value if side == "high" else one.value
        if (one.column, side) not in bounds or tight > bounds[one.column, side][0]:
            bounds[one.column, side] = tight, said
    bounded = {column for column, side in bounds if side in {"low", "high"}}
    words = [said for (column, side), (_, said) in bounds.items() if side != "known" or column not in bounded]
    return " and ".join(f"({word})" if _OR_MISSING in word and len(words) > 1 else word for word in words) or "all rows"


def _side(one: Predicate, meets: bool) -> str:
    match one.test:
        case "below":
            return "high" if meets else "low"
        case "at_least":
            return "low" if meets else "high"
        case "missing":
            return "missing" if meets else "known"
    return f"{one.value} {meets}"


def holds(predicates: tuple[Predicate, ...], rows: Rows) -> npt.NDArray[np.bool_]:
    """bool [n]: for which rows all hold."""
    found = np.ones(len(rows), np.bool_)
    for one in predicates:
        found &= one.of(rows.column(one.column))
    return found


def predicates_of(rows: Rows, cuts: int) -> tuple[Predicate, ...]:
    """Every predicate that some of these rows meet and some do not; numbers are cut at `cuts` of their quantiles."""
    found: list[Predicate] = []
    for place, feature in enumerate(rows.features):
        cells = rows.values[:, place]
        known = cells[~np.isnan(cells)]
        lacking = 0 < len(known) < len(cells)
        if len(known) and feature.kind == "number":
            found += _sides(feature, known, cuts, _OR_MISSING if lacking else "")
        elif lacking or len(np.unique(known)) > 1:
            found += [_equals(feature, value) for value in np.unique(known).tolist()]
        if lacking:
            says, otherwise = f"{feature.name} is missing", f"{feature.name} is known"
            found.append(Predicate(column=feature.name, test="missing", says=says, otherwise=otherwise))
    return tuple(found)


def _sides(feature: Feature, known: Floats, cuts: int, beside: str) -> list[Predicate]:
    found = []
    for cut, told in _cuts(known, cuts):
        words = f"{told} {feature.unit}".rstrip()
        low, high, column = f"{feature.name} < {words}", f"{feature.name} >= {words}", feature.name
        found.append(Predicate(column=column, test="below", value=cut, says=low, otherwise=high + beside))
        found.append(Predicate(column=column, test="at_least", value=cut, says=high, otherwise=low + beside))
    return found


def _cuts(known: Floats, cuts: int) -> list[tuple[float, str]]:
    """Where to cut, as it is written: rounded to as few digits as keep the cuts apart, so that the words are exact."""
    distinct = np.unique(known)
    shares = np.arange(1, cuts + 1) / (cuts + 1)
    at = distinct[1:] if len(distinct) <= cuts + 1 else np.unique(np.quantile(known, shares, method="higher"))
    at = at[at > distinct[0]]
    for digits in range(3, 18):
        rounded = np.array([float(f"{cut:.{digits}g}") for cut in at])
        apart = np.searchsorted(distinct, rounded)
        if len(np.unique(apart)) == len(at) and (apart > 0).all() and (apart < len(distinct)).all():
            return [(cut, cell(cut, digits)) for cut in rounded.tolist()]
    return [(cut, repr(cut)) for cut in at.tolist()]


def _equals(feature: Feature, value: float) -> Predicate:
    told = feature.told(value)
    return Predicate(
        column=feature.name,
        test="equals",
        value=value,
        says=f"{feature.name} = {told}",
        otherwise=f"{feature.name} is not {told}",
    )
