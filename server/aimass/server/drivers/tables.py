"""From a survey's sums to what people read: pure, a function for each survey.

Quantiles come from counts by bin: the value of rank ceil(share x rows), numpy's `inverted_cdf`, is in a bin for
certain, and within the bin it is set by its rank. So each is off by a bin's width at most; refined, by that over the
number of bins.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.proto.manifest import Category, Number, Schema
from aimass.proto.statistics import (
    CategoryCounts,
    Counts,
    Found,
    Histogram,
    Moment,
    Moments,
    NumberCounts,
    Present,
    Quantile,
    Quantiles,
)
from aimass.proto.surveys import MOMENTS, Survey
from aimass.proto.values import Value

__all__ = ["Place", "Places", "found", "places", "quantiles", "refined"]

Floats = npt.NDArray[np.float64]
Sums = Mapping[str, Floats]
_SLACK: Final = 1e-9
"""Of a rank: share x rows is rounded in binary."""


class Place(Value, frozen=True):
    """Where a quantile is: in which of the plan's bins, and with which share of that bin's rows at or below it."""

    bin: int
    share: float


Places = Sequence[Sequence[Place | None]]


def found(survey: Survey, sums: Sums, noise: float) -> Found:
    """What a survey's totals say; of quantiles, after their first step."""
    schema = survey.schema
    match survey.name:
        case "moments":
            columns = zip(schema.numbers, np.stack([sums[name] for name in MOMENTS]).T, strict=True)
            return Moments(numbers=tuple(_moment(column, powers, noise) for column, powers in columns))
        case "quantiles":
            return quantiles(survey, places(survey, sums), survey.options.bins)
        case "histogram":
            numbers = zip(schema.numbers, _tables(survey, sums, "numbers"), strict=True)
            categories = zip(schema.categories, _tables(survey, sums, "categories"), strict=True)
            return Histogram(
                numbers=tuple(_number(column, cells) for column, cells in numbers),
                categories=tuple(_category(column, cells[:-1], cells[-1]) for column, cells in categories),
                label=_label(schema, sums),
            )
        case _:
            named: tuple[Number | Category, ...] = (*schema.numbers, *schema.categories)
            cells = (*_tables(survey, sums, "numbers"), *_tables(survey, sums, "categories"))
            present = tuple(
                Present(column=column.name, present=float(pair[0]), missing=float(pair[1]))
                for column, pair in zip(named, cells, strict=True)
            )
            return Counts(columns=present, label=_label(schema, sums))


def _tables(survey: Survey, sums: Sums, name: str) -> list[Floats]:
    """A tensor's tables, one for each column."""
    widths = survey.tables.get(name, ())
    return np.split(sums[name], np.cumsum(widths)[:-1]) if widths else []


def _number(column: Number, cells: Floats) -> NumberCounts:
    return NumberCounts(
        column=column.name,
        minimum=column.minimum,
        maximum=column.maximum,
        counts=tuple(cells[:-1].tolist()),
        missing=float(cells[-1]),
    )


def _label(schema: Schema, sums: Sums) -> CategoryCounts | None:
    return _category(schema.label, sums["label"]) if isinstance(schema.label, Category) else None


def _category(column: Category, cells: Floats, missing: float = 0.0) -> CategoryCounts:
    return CategoryCounts(
        column=column.name, values=column.values, counts=tuple(cells.tolist()), missing=float(missing)
    )


def _moment(column: Number, powers: Floats, noise: float) -> Moment:
    """Central moments from raw ones of z, which lie in [-1, 1] whatever noise is in the sums.

    Of noised sums a column counts as measured in more rows than their noise is large.
    """
    count = float(powers[0])
    if count <= noise:
        return Moment(column=column.name, count=count, mean=None, deviation=None, skewness=None, kurtosis=None)
    m1, m2, m3, m4 = np.clip(powers[1:] / count, -1.0, 1.0).tolist()
    half = (column.maximum - column.minimum) / 2
    variance = m2 - m1 * m1
    spread = variance > 1e-12
    third, fourth = m3 - 3 * m1 * m2 + 2 * m1**3, m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
    return Moment(
        column=column.name,
        count=count,
        mean=(column.minimum + column.maximum) / 2 + half * m1,
        deviation=half * math.sqrt(max(variance, 0.0)),
        skewness=third / variance**1.5 if spread else None,
        kurtosis=fourth / variance**2 - 3 if spread else None,
    )


# ---------------------------------------------------------------- quantiles


def places(survey: Survey, sums: Sums) -> tuple[tuple[Place | None, ...], ...]:
    """For each number and share, where the quantile is; None where no row has a value."""
    tables = _tables(survey, sums, "numbers")
    return tuple(tuple(_place(counts, share) for share in survey.options.shares) for counts in tables)


def _place(counts: Floats, share: float) -> Place | None:
    counts = np.maximum(counts, 0.0)
    rows = float(counts.sum())
    return None if rows <= 0 else _at(counts, math.ceil(share * rows - _SLACK))


def _at(counts: Floats, rank: float) -> Place:
    """Where the value of this rank is, by counts that are not negative."""
    upto = np.cumsum(counts)
    one = min(int(np.searchsorted(upto, rank * (1 - _SLACK))), len(counts) - 1)
    before = float(upto[one] - counts[one])
    return Place(bin=one, share=min(max((rank - before) / max(float(counts[one]), _SLACK), 0.0), 1.0))


def quantiles(survey: Survey, at: Places, parts: int) -> Quantiles:
    """The values at places among so many equal parts of each range."""
    return Quantiles(
        numbers=tuple(
            Quantile(
                column=column.name,
                shares=survey.options.shares,
                values=tuple(_value(column, place, parts) for place in row),
                error=(column.maximum - column.minimum) / parts,
            )
            for column, row in zip(survey.schema.numbers, at, strict=True)
        )
    )


def refined(survey: Survey, at: Places, sums: Sums) -> Quantiles:
    """The values after the second step, which counted the parts of the bins that quantiles are in."""
    shares, tables = len(survey.options.shares), _tables(survey, sums, "numbers")
    finer = [tuple(_finer(row, tables[index * shares : (index + 1) * shares])) for index, row in enumerate(at)]
    return quantiles(survey, finer, survey.options.bins**2)


def _finer(row: Sequence[Place | None], tables: Sequence[Floats]) -> Iterator[Place | None]:
    """Each place with its bin's part: a bin's parts are counted with the first share that is in it."""
    for place in row:
        if place is None:
            yield None
            continue
        table = next(t for p, t in zip(row, tables, strict=True) if p is not None and p.bin == place.bin)
        counts = np.maximum(table, 0.0)
        inside = _at(counts, place.share * float(counts.sum())) if counts.sum() > 0 else Place(bin=0, share=place.share)
        yield Place(bin=place.bin * len(counts) + inside.bin, share=inside.share)


def _value(column: Number, place: Place | None, parts: int) -> float | None:
    if place is None:
        return None
    width = (column.maximum - column.minimum) / parts
    return column.minimum + width * (place.bin + place.share)
