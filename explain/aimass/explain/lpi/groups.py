"""Which columns are one feature to a person: the columns of a one-hot code, those named together, or the correlated."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.explain.association import clusters
from aimass.explain.rows import Feature, Rows
from aimass.explain.words import joined
from aimass.proto.errors import BadInput

__all__ = ["Group", "groups_of"]

Floats = npt.NDArray[np.float64]
_MOST_DIGITS: Final = 18
_LEAST_ROWS: Final = 10
"""Fewer say nothing of how columns go together."""


@dataclasses.dataclass(frozen=True)
class Group:
    """Columns that are one feature. `hot` holds the words of a one-hot code, one a column."""

    name: str
    columns: tuple[int, ...]
    hot: tuple[str, ...] = ()

    def told(self, features: Sequence[Feature], cells: Floats, digits: int = 3) -> str:
        """Its cells of one row [features] as a person reads them; see `Feature.told` for `digits`."""
        if self.hot:
            on = [word for word, column in zip(self.hot, self.columns, strict=True) if cells[column] == 1]
            return on[0] if on else "none"
        words = [features[column].told(cells[column], digits) for column in self.columns]
        if len(self.columns) == 1:
            return words[0]
        return ", ".join(f"{features[c].name} {word}" for c, word in zip(self.columns, words, strict=True))

    def changed(self, features: Sequence[Feature], before: Floats, after: Floats) -> tuple[str, str]:
        """Its cells of two rows that differ in it, with as many digits as show that they do."""
        for digits in range(3, _MOST_DIGITS):
            told = self.told(features, before, digits), self.told(features, after, digits)
            if told[0] != told[1]:
                break
        return told


def groups_of(rows: Rows, named: Sequence[str] = (), correlated: float = 1.0) -> tuple[Group, ...]:
    """Every column in one group, in the order of first columns.

    `named` are like `heart=trestbps,thalch`. Of the rest, columns `stem=value` or `stem_value` of zeros and ones of
    which each row (of ten or more) has one at most are one; then those that are associated by `correlated` or more,
    see `association`; 1 leaves them apart. Raises `BadInput` of a group that cannot be.
    """
    groups = [_named(rows, text) for text in named]
    taken = {column for group in groups for column in group.columns}
    if sum(len(group.columns) for group in groups) != len(taken):
        raise BadInput("a feature is in two groups", code="explain.groups", value=", ".join(named))
    groups += _one_hot(rows, taken)
    taken = {column for group in groups for column in group.columns}
    rest = [column for column in range(len(rows.features)) if column not in taken]
    groups += _correlated(rows, rest, correlated)
    return tuple(sorted(groups, key=lambda group: min(group.columns)))


def _named(rows: Rows, text: str) -> Group:
    name, sign, columns = text.partition("=")
    if not sign or not columns:
        raise BadInput("a group is written as name=feature,feature", code="explain.groups", value=text)
    return Group(name.strip(), tuple(rows.place(column.strip()) for column in columns.split(",")))


def _one_hot(rows: Rows, taken: set[int]) -> list[Group]:
    stems: dict[str, list[tuple[int, str]]] = {}
    for column, feature in enumerate(rows.features):
        sign = "=" if "=" in feature.name else "_"
        stem, _, value = feature.name.rpartition(sign)
        if stem and value and column not in taken and feature.kind == "number":
            stems.setdefault(stem, []).append((column, value))
    found = []
    for stem, places in stems.items():
        cells = rows.values[:, [column for column, _ in places]]
        exclusive = len(cells) >= _LEAST_ROWS and np.isin(cells, (0.0, 1.0)).all() and (cells.sum(axis=1) <= 1).all()
        if len(places) > 1 and exclusive:
            columns, words = zip(*places, strict=True)
            found.append(Group(stem, columns, words))
    return found


def _correlated(rows: Rows, columns: list[int], least: float) -> list[Group]:
    left = Rows(tuple(rows.features[column] for column in columns), rows.values[:, columns])
    tied = clusters(left, least) if least < 1.0 else ()
    alone = set(range(len(columns))) - {place for cluster in tied for place in cluster}
    return [
        Group(joined([left.features[place].name for place in some]), tuple(columns[place] for place in some))
        for some in (*tied, *((place,) for place in sorted(alone)))
    ]
