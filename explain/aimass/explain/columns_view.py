"""What the columns of a data set hold, as its service counted it when the set was cut: a picture a column."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aimass.explain.charts.picture import Axis, Band, Bars, Panel, Picture, names_axis
from aimass.explain.lineage import Lineage, software
from aimass.explain.results import Columns, Part, Result
from aimass.explain.words import number, percent
from aimass.proto.column_statistics import CategoryStatistics, ColumnStatistics, NumberStatistics
from aimass.proto.data_sets import DataSetManifest
from aimass.proto.manifest import Number

__all__ = ["ColumnsView", "columns_view"]

Floats = npt.NDArray[np.float64]
_MOST_VALUES = 12
_NOT_SHOWN = "Which values go together, and whether a value is true: each column is counted by itself."


class Held(Part, frozen=True, kw_only=True, eq=False):
    """A column: rows with a value and without; numbers by equal parts from `low` to `high`, or values by name."""

    column: str
    present: int
    missing: int
    unit: str = ""
    low: float = 0.0
    high: float = 0.0
    mean: float | None = None
    deviation: float | None = None
    values: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()


class ColumnsView(Result, frozen=True, kw_only=True, eq=False, tag="data.columns"):
    """Of one version of a data set."""

    columns: tuple[Held, ...]
    rows: int

    def describe(self) -> tuple[str, ...]:
        """Where values are missing most, and which columns hold one value alone."""
        gaps = sorted((one for one in self.columns if one.missing), key=lambda one: -one.missing)
        said = [
            f"{one.column} has no value in {one.missing:,} of {self.rows:,} rows ({percent(one.missing / self.rows)})."
            for one in gaps[:3]
        ] or ["No value is missing."]
        said += [f"{one.column} holds one value alone." for one in self.columns if sum(map(bool, one.counts)) == 1]
        return tuple(said)

    def picture(self) -> Picture:
        """Numbers as histograms, categories by their most frequent values."""
        panels = tuple(_panel(one) for one in self.columns if one.counts)
        return Picture(
            "What the columns hold",
            panels or (Panel("no column is counted", Axis(""), Axis(""), ()),),
            "A bar counts the rows of a value, or of a part of a number's range, which is the schema's.",
            _NOT_SHOWN,
            columns=3,
        )

    def to_columns(self) -> Columns:
        """A line a column."""
        return {
            "column": [one.column for one in self.columns],
            "present": [one.present for one in self.columns],
            "missing": [one.missing for one in self.columns],
            "mean": [one.mean for one in self.columns],
            "deviation": [one.deviation for one in self.columns],
        }


def columns_view(manifest: DataSetManifest) -> ColumnsView:
    """Of what its manifest counts; images, masks and texts have no bars."""
    units = {column.name: column for column in (*manifest.data_schema.columns, manifest.data_schema.label)}
    lineage = Lineage(
        model="no model", data=f"{manifest.name}@{manifest.version}", rows=manifest.rows, software=software()
    )
    held = tuple(_held(one, units.get(one.column)) for one in manifest.statistics)
    return ColumnsView(lineage=lineage, caveats=(_NOT_SHOWN,), columns=held, rows=manifest.rows)


def _held(one: ColumnStatistics, column: object) -> Held:
    match one:
        case NumberStatistics():
            low, high, unit = (
                (column.minimum, column.maximum, column.unit) if isinstance(column, Number) else (0, 0, "")
            )
            return Held(
                column=one.column, present=one.present, missing=one.missing, unit=unit, low=low, high=high,
                mean=one.mean if one.present else None, deviation=one.deviation if one.present else None,
                counts=one.counts,
            )  # fmt: skip
        case CategoryStatistics():
            most = sorted(one.counts.items(), key=lambda item: -item[1])
            shown, rest = most[:_MOST_VALUES], sum(count for _, count in most[_MOST_VALUES:])
            named = [*shown, *([(f"{len(most) - _MOST_VALUES} others", rest)] if rest else [])]
            return Held(
                column=one.column, present=one.present, missing=one.missing,
                values=tuple(value for value, _ in named), counts=tuple(count for _, count in named),
            )  # fmt: skip
        case _:
            return Held(column=one.column, present=one.present, missing=getattr(one, "missing", 0))


def _panel(one: Held) -> Panel:
    counts = np.array(one.counts, np.float64)
    gone = f", {one.missing:,} missing" if one.missing else ""
    if one.values:
        says = tuple(f"{value}: {count:,}" for value, count in zip(one.values, one.counts, strict=True))
        bars = Bars(np.arange(len(counts)), counts, says=says)
        return Panel(f"{one.column}{gone}", Axis("rows"), names_axis(one.values), (bars,))
    edges = np.linspace(one.low, one.high, len(counts) + 1)
    return _histogram(one, counts, edges, gone)


def _histogram(one: Held, counts: Floats, edges: Floats, gone: str) -> Panel:
    """Each part of the range as high as it holds rows."""
    high = np.repeat(counts, 2)
    band = Band(np.repeat(edges, 2)[1:-1], np.zeros(len(high)), high)
    unit = one.unit or one.column  # a third of a page is wide: the column's name stands above
    mean = "" if one.mean is None else f", mean {number(one.mean)}"
    return Panel(f"{one.column}{gone}", Axis(f"{unit}{mean}"), Axis("rows"), (band,), height=160)
