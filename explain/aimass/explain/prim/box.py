"""A box as people read it: bounds of numbers and values of categories, joined by `and`."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.prim.coding import Column
from aimass.explain.prim.peeling import Keep
from aimass.explain.rows import Feature, Rows
from aimass.explain.words import joined
from aimass.proto.values import Value

__all__ = ["Condition", "conditions_of", "contains", "sentence", "short_between"]

Floats = npt.NDArray[np.float64]
_WORDS: Final = 4
_MOST_DIGITS: Final = 17
_THOUSANDS: Final = 10_000
"""Below, digits stand together: 2021 is a year."""


class Condition(Value, frozen=True):
    """Of one feature: a number from `low` to `high`, both within, or a category at one of `places`, or `missing`.

    Of a number without both ends it is the missing cells alone, or all but those.
    """

    feature: Feature
    low: float | None = None
    high: float | None = None
    places: tuple[int, ...] = ()
    missing: bool = False

    def holds(self, cells: Floats) -> npt.NDArray[np.bool_]:
        """Which cells bool [n] are within."""
        found: npt.NDArray[np.bool_]
        if self.feature.kind == "category":
            found = np.isin(cells, self.places)
        elif self.low is None and self.high is None:
            found = np.isnan(cells) == self.missing
            return found
        else:
            low = -math.inf if self.low is None else self.low
            high = math.inf if self.high is None else self.high
            found = (cells >= low) & (cells <= high)
        return found | (np.isnan(cells) & self.missing)

    def says(self) -> str:
        """age >= 57 years."""
        words = [self._range()] if self.feature.kind == "number" else self._values()
        return joined([one for one in (*words, f"{self.feature.name} is missing" * self.missing) if one], "or")

    def _values(self) -> list[str]:
        if len(self.places) >= max(2, len(self.feature.values)):
            return [f"{self.feature.name} is known"]
        names = [self.feature.told(float(place)) for place in self.places]
        if len(names) > _WORDS:
            names = [*names[:_WORDS], f"{len(names) - _WORDS} more"]
        return [f"{self.feature.name} is {joined(names, 'or')}"] if names else []

    def _range(self) -> str:
        name, unit = self.feature.name, f" {self.feature.unit}".rstrip()
        match self.low, self.high:
            case None, None:
                return "" if self.missing else f"{name} is known"
            case low, None:
                return f"{name} >= {_exact(low)}{unit}"
            case None, high:
                return f"{name} <= {_exact(high)}{unit}"
            case low, high if low == high:
                return f"{name} = {_exact(low)}{unit}"
            case low, high:
                return f"{_exact(low)} <= {name} <= {_exact(high)}{unit}"


def _exact(value: float | None) -> str:
    """All digits of a bound, which is short by choice."""
    if value is None:
        return ""
    return f"{value + 0.0:,.15g}" if abs(value) >= _THOUSANDS else f"{value + 0.0:.15g}"


def conditions_of(columns: tuple[Column, ...], keeps: tuple[Keep, ...]) -> tuple[Condition, ...]:
    """Of the columns that a box bounds; what never occurred when it was found is not within."""
    return tuple(_condition(column, keep) for column, keep in zip(columns, keeps, strict=True) if not keep.all())


def _condition(column: Column, keep: Keep) -> Condition:
    kept = np.flatnonzero(keep[:-1])
    missing = bool(keep[-1]) and column.missing
    if not column.ordered:
        places = tuple(int(column.levels[place]) for place in kept)
        return Condition(feature=column.feature, places=places, missing=missing)
    low = high = None
    levels = column.levels
    if len(kept) and kept[0] > 0:
        low = short_between(levels[kept[0] - 1], levels[kept[0]])
    if len(kept) and kept[-1] < len(levels) - 1:
        high = -short_between(-levels[kept[-1] + 1], -levels[kept[-1]])
    return Condition(feature=column.feature, low=low, high=high, missing=missing)


def short_between(below: float, upto: float) -> float:
    """The number with the fewest digits in (below, upto]: of 56.71 and 57.34 it is 57."""
    for digits in range(1, _MOST_DIGITS):
        unit = 10.0 ** (math.ceil(math.log10(upto - below)) + 1 - digits)
        found = float(f"{math.floor(upto / unit + 1e-12) * unit:.15g}")
        if below < found <= upto:
            return found
    return float(upto)


def contains(conditions: tuple[Condition, ...], rows: Rows) -> npt.NDArray[np.bool_]:
    """Which rows bool [n] lie in the box of these conditions."""
    found = np.ones(len(rows), bool)
    for one in conditions:
        found &= one.holds(rows.column(one.feature.name))
    return found


def sentence(conditions: tuple[Condition, ...]) -> str:
    """age >= 57 years and oldpeak >= 1.6."""
    words = [one.says() for one in conditions]
    return " and ".join(f"({word})" if " or " in word and len(words) > 1 else word for word in words) or "all rows"
