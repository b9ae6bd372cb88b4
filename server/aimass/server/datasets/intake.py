"""What comes in is checked cell by cell: rows that fit go on, the others are counted, told of and left out."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.proto.column_statistics import CategoryStatistics, ColumnStatistics, NumberStatistics
from aimass.proto.data_sets import Quality
from aimass.proto.errors import BadInput, Refused
from aimass.proto.rows import Finding, Table, has_label
from aimass.proto.values import Value

__all__ = ["Intake", "Limits", "check_limits"]

_SHOWN: Final = 20


class Limits(Value, frozen=True):
    """What a data set may have at most, as shares of its rows; None does not ask.

    `dropped` are rows with a cell that does not fit, or no label; `missing` is in any one column; `rarest` is the
    least share that each label of the schema has to have.
    """

    dropped: float = 0.0
    duplicates: float | None = None
    leaked: float | None = None
    missing: float | None = None
    rarest: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """A finding with the file that it is in; `row` counts that file's rows from 1."""

    source: str
    finding: Finding

    def __str__(self) -> str:
        return f"{self.source} row {self.finding.row + 1}, {self.finding.column}: {self.finding.what}"


class Intake:
    """Counts of what came in. For one source after the other, in one thread."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.rows_read = 0
        self.dropped = 0
        self.findings: Counter[str] = Counter()
        self.shown: list[Place] = []

    def fits(self, table: Table, source: str, first_row: int) -> npt.NDArray[np.bool_]:
        """Which rows fit: bool [rows]; raises `BadInput` at once for one that does not where none may be dropped.

        `first_row` is where the table stands in its source.
        """
        label = table.schema.label.name
        found = [dataclasses.replace(each, row=each.row + first_row) for each in table.findings]
        bad = {each.row - first_row for each in found}
        unlabelled = [row for row in np.flatnonzero(~has_label(table)).tolist() if row not in bad]
        found += [Finding(row + first_row, label, "has no label") for row in unlabelled]
        self.rows_read += table.rows
        self.findings.update(each.column for each in found)
        self.shown += [Place(source, each) for each in found[: _SHOWN - len(self.shown)]]
        self.dropped += len(bad) + len(unlabelled)
        if self.dropped and not self._limits.dropped:
            raise self._does_not_fit(table.schema.name)
        fits = np.ones(table.rows, dtype=bool)
        fits[[*bad, *unlabelled]] = False
        return fits

    def _does_not_fit(self, schema: str) -> BadInput:
        return BadInput(
            f"{self.findings.total()} cells of the first {self.rows_read} rows do not fit the schema {schema}",
            code="dataset.rows",
            value="; ".join(map(str, self.shown)),
            cure="Correct the files, or leave such rows out up to a share of them: --drop 0.01.",
        )

    def quality(self, duplicates: int, leaked: int) -> Quality:
        """What was found in all."""
        return Quality(
            rows_read=self.rows_read,
            dropped=self.dropped,
            findings=dict(sorted(self.findings.items())),
            duplicates=duplicates,
            leaked=leaked,
        )


def check_limits(quality: Quality, statistics: tuple[ColumnStatistics, ...], limits: Limits) -> None:
    """Raise `Refused` that names every limit which a data set breaks."""
    broken = tuple(_broken(quality, statistics, limits))
    if broken:
        raise Refused(
            "the data set is not as good as it has to be",
            code="dataset.quality",
            value="; ".join(broken),
            cure="Correct the files, or loosen the limits. Nothing is committed, and shards that stand are taken up.",
        )


def _broken(quality: Quality, statistics: tuple[ColumnStatistics, ...], limits: Limits) -> Iterator[str]:
    kept = quality.rows_read - quality.dropped
    for what, count, of, most in (
        ("rows dropped", quality.dropped, quality.rows_read, limits.dropped),
        ("duplicates", quality.duplicates, kept, limits.duplicates),
        ("rows held out that are trained on", quality.leaked, kept, limits.leaked),
    ):
        if most is not None and count > most * of:
            yield f"{what}: {count / of:.3g} (allowed: {most:g})"
    for column in statistics:
        missing = column.missing if isinstance(column, NumberStatistics | CategoryStatistics) else 0
        if limits.missing is not None and missing > limits.missing * kept:
            yield f"missing in {column.column}: {missing / kept:.3g} (allowed: {limits.missing:g})"
    label = statistics[-1]
    if limits.rarest is not None and isinstance(label, CategoryStatistics):
        for value, count in label.counts.items():
            if count < limits.rarest * kept:
                yield f"label {value}: {count / kept:.3g} (at least: {limits.rarest:g})"
