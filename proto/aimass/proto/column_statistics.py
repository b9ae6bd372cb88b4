"""What the columns of a data set hold: small values that are computed shard by shard and merged in shard order.

Merged in the same order they give the same bits, however the rows were read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Annotated

import msgspec

from aimass.proto.values import Value

__all__ = [
    "CategoryStatistics",
    "ColumnStatistics",
    "ImageStatistics",
    "MaskStatistics",
    "NumberStatistics",
    "TextStatistics",
    "added",
    "merge",
    "merge_all",
]

Count = Annotated[int, msgspec.Meta(ge=0)]


class NumberStatistics(Value, frozen=True, tag="number", tag_field="kind"):
    """Of a number's values: `mean`, and `squares`, the sum of squared deviations from it; 0 without values.

    `counts` are by equal parts of the schema's range, both ends in. `minimum` and `maximum` are None without values.
    """

    column: str
    present: Count
    missing: Count
    minimum: float | None
    maximum: float | None
    mean: float
    squares: float
    counts: tuple[Count, ...]

    @property
    def deviation(self) -> float:
        """Standard deviation of the values, as of a population."""
        return math.sqrt(self.squares / self.present) if self.present else 0.0


class CategoryStatistics(Value, frozen=True, tag="category", tag_field="kind"):
    """Rows by value, those that occur, and rows without one."""

    column: str
    present: Count
    missing: Count
    counts: dict[str, Count]


class ImageStatistics(Value, frozen=True, tag="image", tag_field="kind"):
    """Sums over all pixels of all rows: how many, of their values and of the squares, exact."""

    column: str
    present: Count
    pixels: Count
    total: Count
    squares: Count


class MaskStatistics(Value, frozen=True, tag="mask", tag_field="kind"):
    """Pixels of masks: how many are of each class, and how many nobody has labelled."""

    column: str
    present: Count
    unlabelled: Count
    pixels: dict[str, Count]


class TextStatistics(Value, frozen=True, tag="text", tag_field="kind"):
    """Characters of texts: the shortest and longest, and of all together."""

    column: str
    present: Count
    shortest: Count
    longest: Count
    characters: Count


ColumnStatistics = NumberStatistics | CategoryStatistics | ImageStatistics | MaskStatistics | TextStatistics


def merge_all(parts: Iterable[tuple[ColumnStatistics, ...]]) -> tuple[ColumnStatistics, ...]:
    """The columns of several parts, part after part in their order; empty without any."""
    return reduce(_merge_columns, parts, ())


def _merge_columns(
    one: tuple[ColumnStatistics, ...], other: tuple[ColumnStatistics, ...]
) -> tuple[ColumnStatistics, ...]:
    return tuple(merge(*pair) for pair in zip(one, other, strict=True)) if one else other


def merge(one: ColumnStatistics, other: ColumnStatistics) -> ColumnStatistics:
    """What two parts of one column hold together; raises `ValueError` for parts of different columns."""
    match one, other:
        case NumberStatistics(), NumberStatistics():
            return _merge_numbers(one, other)
        case CategoryStatistics(), CategoryStatistics():
            return CategoryStatistics(
                column=one.column,
                present=one.present + other.present,
                missing=one.missing + other.missing,
                counts=added(one.counts, other.counts),
            )
        case ImageStatistics(), ImageStatistics():
            return ImageStatistics(
                column=one.column,
                present=one.present + other.present,
                pixels=one.pixels + other.pixels,
                total=one.total + other.total,
                squares=one.squares + other.squares,
            )
        case MaskStatistics(), MaskStatistics():
            return MaskStatistics(
                column=one.column,
                present=one.present + other.present,
                unlabelled=one.unlabelled + other.unlabelled,
                pixels=added(one.pixels, other.pixels),
            )
        case TextStatistics(), TextStatistics():
            return TextStatistics(
                column=one.column,
                present=one.present + other.present,
                shortest=min(one.shortest, other.shortest),
                longest=max(one.longest, other.longest),
                characters=one.characters + other.characters,
            )
    raise ValueError(f"{one.column!r} and {other.column!r} are columns of different kinds")


def added(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """Counts by name, summed."""
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


def _merge_numbers(one: NumberStatistics, other: NumberStatistics) -> NumberStatistics:
    """Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances"."""
    present = one.present + other.present
    apart = other.mean - one.mean
    weight = other.present / present if present else 0.0
    return NumberStatistics(
        column=one.column,
        present=present,
        missing=one.missing + other.missing,
        minimum=min((value for value in (one.minimum, other.minimum) if value is not None), default=None),
        maximum=max((value for value in (one.maximum, other.maximum) if value is not None), default=None),
        mean=one.mean + apart * weight,
        squares=one.squares + other.squares + apart * apart * one.present * weight,
        counts=tuple(map(sum, zip(one.counts, other.counts, strict=True))),
    )
