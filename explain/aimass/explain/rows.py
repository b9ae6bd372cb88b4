"""The rows that are explained: one table of float64 for every kind of model, with the names that people know.

A number stands as it is, NaN where it is missing. A category stands as the place of its value, NaN where it is missing,
so that a change of value is a change of one cell whatever the column is.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from aimass.explain.words import apart
from aimass.explain.words import cell as cell_told
from aimass.proto.errors import BadInput, NotFound
from aimass.proto.manifest import Category, Number, Schema
from aimass.proto.rows import Batch, Table
from aimass.proto.values import Value, canonical_json

__all__ = ["WIDEST", "Feature", "Rows", "features_of", "rows_of_table"]

Floats = npt.NDArray[np.float64]
WIDEST: Final = 1e30
"""The bound of a column whose range nobody has told: its feature has none."""


class Feature(Value, frozen=True):
    """A column. A category's cells are places in `values`; a number's `minimum` and `maximum` are public, if known."""

    name: str
    kind: Literal["number", "category"] = "number"
    values: tuple[str, ...] = ()
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None

    def told(self, cell: float, digits: int = 3) -> str:
        """A cell as a person reads it: with its unit, or the category's own word; see `words.cell` for `digits`."""
        if np.isnan(cell):
            return "missing"
        if self.kind == "category":
            place = int(cell)
            return self.values[place] if 0 <= place < len(self.values) else f"value {place}"
        return f"{cell_told(cell, digits)} {self.unit}".rstrip()

    def between(self, low: float, high: float) -> str:
        """A range of a number, its ends told apart: 36.96 to 37 °C."""
        return f"{' to '.join(apart((low, high)))} {self.unit}".rstrip()

    @property
    def title(self) -> str:
        """The name with the unit, for an axis."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


@dataclasses.dataclass(frozen=True)
class Rows:
    """`values` float64 [n, features]; `labels` int64 [n] places in `classes`, float64 [n] without classes, or None.

    `beside` are columns that no model sees, by name [n]: a partner, a time, a place. `held_out` says whether the model
    was trained without these rows; None where that is not known.
    """

    features: tuple[Feature, ...]
    values: Floats
    labels: npt.NDArray[Any] | None = None
    classes: tuple[str, ...] = ()
    name: str = "rows"
    held_out: bool | None = None
    beside: Mapping[str, npt.NDArray[Any]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [feature.name for feature in self.features]
        if len(set(names)) != len(names):
            raise BadInput("two features share a name", code="explain.rows", value=", ".join(names))
        if self.values.ndim != 2 or self.values.shape[1] != len(names):
            raise BadInput(
                "rows have other columns than features",
                code="explain.rows",
                value=str(self.values.shape),
                limit=f"[rows, {len(names)}]",
            )
        if np.isinf(self.values).any():
            raise BadInput("a cell is infinite", code="explain.infinite", cure="Leave what is missing as NaN.")
        for name, column in (("labels", self.labels), *self.beside.items()):
            if column is not None and len(column) != len(self.values):
                raise BadInput(
                    f"{name} has another number of rows", code="explain.rows", value=len(column), limit=len(self.values)
                )

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: npt.NDArray[Any] | slice) -> Rows:
        """The rows at these positions or under this mask."""
        labels = None if self.labels is None else self.labels[rows]
        beside = {name: column[rows] for name, column in self.beside.items()}
        return dataclasses.replace(self, values=self.values[rows], labels=labels, beside=beside)

    def labelled(self, classes: Sequence[str]) -> Rows:
        """The same rows with their labels as places in `classes`, by name; raises `BadInput` for one that is none.

        A class that no row has may be absent. A label that is no place stays none: -1.
        """
        if self.labels is None or not self.classes or tuple(classes) == self.classes:
            return self
        used = [self.classes[place] for place in np.unique(self.labels) if 0 <= place < len(self.classes)]
        absent = [name for name in used if name not in classes]
        if absent:
            raise BadInput(
                "these rows have an outcome that the model does not know",
                code="explain.classes",
                value=", ".join(absent[:10]),
                limit=", ".join(list(classes)[:10]),
                cure="Leave such rows out, or name the outcomes as the model does.",
            )
        where = {name: place for place, name in enumerate(classes)}
        places = np.array([where.get(name, -1) for name in self.classes] + [-1], np.int64)  # the last of what is none
        known = (self.labels >= 0) & (self.labels < len(self.classes))
        return dataclasses.replace(self, labels=places[np.where(known, self.labels, -1)], classes=tuple(classes))

    def column(self, name: str) -> Floats:
        """float64 [n]; raises `NotFound` for a name that is none of the features'."""
        return self.values[:, self.place(name)]

    def place(self, name: str) -> int:
        """Which feature has this name; raises `NotFound`."""
        for place, feature in enumerate(self.features):
            if feature.name == name:
                return place
        known = ", ".join(feature.name for feature in self.features)
        raise NotFound("no such feature", code="explain.feature", value=name, limit=known)

    def need_labels(self) -> npt.NDArray[Any]:
        """The labels, or `BadInput` where the question cannot be answered without."""
        if self.labels is None:
            raise BadInput("these rows have no labels", code="explain.labels", cure="Give rows with known outcomes.")
        return self.labels

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of features, cells, labels and classes; of neither the name nor what stands beside."""
        found = hashlib.sha256(b"AIMass rows v1\0")
        for part in (canonical_json(self.features), canonical_json(self.classes), _bytes(self.values)):
            found.update(len(part).to_bytes(8, "big") + part)
        found.update(b"" if self.labels is None else _bytes(self.labels.astype(np.float64)))
        return found.hexdigest()

    @staticmethod
    def of(
        values: npt.ArrayLike,
        names: Sequence[str] | None = None,
        labels: npt.ArrayLike | None = None,
        classes: Sequence[str] = (),
        **more: Any,
    ) -> Rows:
        """Rows of numbers [n, features] as any library holds them.

        Names are those of a data frame, else x1, x2, ... where none are given. Labels that are words count as places in
        `classes`, or in their sorted words; integers or truth values without `classes` as places of classes named by
        their number. Raises `BadInput` for one row where several could be meant, for cells that are no numbers, and for
        labels that are none of the classes.
        """
        if names is None and hasattr(values, "columns"):
            names = list(values.columns)
        cells = _numbers(values)
        if cells.ndim == 1 and len(cells) and (names is None or len(names) != len(cells)):
            raise BadInput(
                "one list of numbers is neither rows nor columns",
                code="explain.rows",
                value=f"[{len(cells)}]",
                limit="[rows, features]",
                cure="Give `values[:, None]` of one feature, `values[None]` of one row.",
            )
        cells = np.atleast_2d(cells)
        called = [f"x{place + 1}" for place in range(cells.shape[1])] if names is None else map(str, names)
        found = tuple(Feature(name=name) for name in called)
        if labels is None:
            return Rows(found, cells, None, tuple(classes), **more)
        said = np.asarray(labels)
        if said.dtype.kind in "OUS":
            said, classes = _places(said, classes)
        elif classes and said.dtype.kind == "f" and not (np.isfinite(said) & (said == np.round(said))).all():
            raise BadInput(
                "a label is no place among the classes",
                code="explain.labels",
                value="missing" if np.isnan(said).any() else "a fraction",
                cure="Give words, or whole numbers from 0; leave out rows whose outcome nobody knows.",
            )
        if not classes and said.dtype.kind in "iub" and len(said) and said.min() >= 0:
            classes = [str(place) for place in range(int(said.max()) + 1)]
        return Rows(found, cells, said.astype(np.int64 if classes else np.float64), tuple(classes), **more)

    def batch(self) -> Batch:
        """The rows as a task's model takes them: numbers before categories, as the schema has each."""
        numbers = [place for place, feature in enumerate(self.features) if feature.kind == "number"]
        codes = [place for place, feature in enumerate(self.features) if feature.kind == "category"]
        places = np.where(np.isnan(self.values[:, codes]), -1, self.values[:, codes]).astype(np.int64)
        labels = np.zeros(len(self.values), np.int64) if self.labels is None else self.labels
        return Batch(self.values[:, numbers].astype(np.float32), places, None, labels)


def _numbers(values: npt.ArrayLike) -> Floats:
    try:
        return np.array(values, np.float64)
    except (ValueError, TypeError) as error:
        raise BadInput(
            "these cells are no numbers",
            code="explain.cells",
            value=type(values).__name__,
            limit="[rows, features] of numbers, NaN where one is missing",
            cure="Give categories as places, with a `Feature` of its `values`, or a file to `open_rows`.",
        ) from error


def _places(words: npt.NDArray[Any], classes: Sequence[str]) -> tuple[npt.NDArray[np.int64], Sequence[str]]:
    """Labels that are words as places, in their sorted words where no classes are given."""
    if lacking := sum(one is None or one != one for one in words.tolist()):  # noqa: PLR0124
        raise BadInput(
            "labels are missing",
            code="explain.labels",
            value=f"{lacking:,} of {len(words):,} rows",
            cure="Leave out rows whose outcome nobody knows.",
        )
    told = [one.decode() if isinstance(one, bytes) else str(one) for one in words.tolist()]
    where = {str(name): place for place, name in enumerate(classes or sorted(set(told)))}
    if odd := sorted(set(told) - set(where)):
        raise BadInput(
            "a label is none of the classes",
            code="explain.labels",
            value=", ".join(odd[:10]),
            limit=", ".join(list(where)[:10]),
        )
    return np.array([where[one] for one in told], np.int64), tuple(where)


def features_of(schema: Schema) -> tuple[Feature, ...]:
    """The columns of a schema of numbers and categories, in its order; raises `BadInput` for images and texts."""
    return tuple(map(_feature, schema.columns))


def _feature(column: object) -> Feature:
    match column:
        case Number():
            low, high = (None if abs(end) >= WIDEST else end for end in (column.minimum, column.maximum))
            return Feature(name=column.name, unit=column.unit, minimum=low, maximum=high)
        case Category():
            return Feature(name=column.name, kind="category", values=column.values)
        case _:
            raise BadInput(
                "a column is neither a number nor a category",
                code="explain.table",
                value=getattr(column, "name", None),
                cure="Images and texts have views of their own.",
            )


def rows_of_table(
    table: Table, name: str = "rows", *, held_out: bool | None = None, **beside: npt.NDArray[Any]
) -> Rows:
    """Typed columns as rows; a label that is missing everywhere counts as none."""
    schema = table.schema
    features = features_of(schema)
    values = np.empty((table.rows, len(features)))
    for place, column in enumerate(schema.columns):
        cells = table.columns[column.name]
        values[:, place] = cells if isinstance(column, Number) else np.where(cells < 0, np.nan, cells)
    labels = table.columns[schema.label.name]
    known = labels >= 0 if schema.classes else ~np.isnan(labels)
    return Rows(
        features,
        values,
        labels if known.all() and len(known) else None,
        schema.classes,
        name,
        held_out,
        beside,
    )


def _bytes(values: Floats) -> bytes:
    clean = np.ascontiguousarray(values, "<f8") + 0.0  # no negative zero
    clean[np.isnan(clean)] = np.nan  # one NaN
    return clean.tobytes()
