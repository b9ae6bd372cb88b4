"""Rows of named features, as a person writes them, become a model's tensors; what does not fit is said by name.

A cell means what it means in a file that a partner trains on (`aimass.proto.cells`): what does not fit there counts as
missing, and so it does here, with a warning, unless the settings refuse it. What no training row could say either is
always refused: a feature that the model does not have, a text where a number belongs.
"""

from __future__ import annotations

import base64
import dataclasses
import difflib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec
import numpy as np

from aimass.proto.cells import Finding, typed_cells
from aimass.proto.errors import BadInput, LimitExceeded
from aimass.proto.manifest import Category, Column, Image, Number, Schema, Text
from aimass.proto.servable import Array
from aimass.server.serving.input_rules import InputRules

__all__ = ["Features", "Problem", "read_rows", "soon_read"]

_SOON_BYTES: Final = 32 << 10
_SOON_CELLS: Final = 2_000
"""Up to so many bytes and cells reading a body holds nobody else up."""
_SHOWN: Final = 20
_LONGEST: Final = 80
"""Letters of a name that nobody knows, in an error."""
_DECODER: Final = msgspec.json.Decoder()
_PLAIN: Final = (bool, int, float, str, type(None))


Kind = Literal["category", "missing", "range", "form"]


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one feature of one row. It names neither the value nor anything of it."""

    row: int
    feature: str
    kind: Kind
    what: str

    def __str__(self) -> str:
        return f"{self.feature} {self.what}"


@dataclasses.dataclass(frozen=True, slots=True)
class Features:
    """Tensors by input, and what was tolerated, by row. `single` is whether one row was written, and not a list."""

    tensors: Mapping[str, Array]
    rows: int
    single: bool
    warnings: Mapping[int, tuple[str, ...]]


def read_rows(body: bytes, schema: Schema, rules: InputRules) -> Features:
    """An object of features, or a list of such, as tensors.

    Raises `BadInput` that names each feature which is refused, `LimitExceeded` for too many rows or cells.
    """
    rows, single = _rows(body, rules.rows)
    if (cells := len(rows) * len(schema.columns)) > rules.cells:
        raise LimitExceeded("too many cells in one request", code="predict.cells", value=cells, limit=rules.cells)
    problems, untold = _unknown_features(rows, schema)
    tensors: dict[str, Array] = {}
    for column in schema.columns:
        findings: list[Finding] = []
        values = typed_cells(column, [_cell(column, row.get(column.name)) for row in rows], 0, findings)
        tensors[column.name] = _tensor(column, values)
        faulty = {found.row for found in findings}
        problems += [_problem(column, found, rows[found.row].get(column.name)) for found in findings]
        problems += [
            Problem(place, column.name, "missing", "is missing")
            for place, row in enumerate(rows)
            if column.name not in row and place not in faulty
        ]
    refused = [problem for problem in problems if _refused(problem, rules)]
    if refused:
        raise _do_not_fit(refused, untold, single=single)
    return Features(tensors, len(rows), single, _by_row(problems))


def soon_read(body: bytes, schema: Schema) -> bool:
    """Whether a body is read in a few milliseconds. Each row has a brace; cells that are left out cost as much."""
    return len(body) <= _SOON_BYTES and body.count(b"{") * len(schema.columns) <= _SOON_CELLS


def _rows(body: bytes, most: int) -> tuple[list[dict[str, Any]], bool]:
    try:
        said = _DECODER.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"the request is not JSON: {error}", code="predict.json") from error
    single = isinstance(said, dict)
    rows = [said] if single else said
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise BadInput(
            "the request has to be an object of named features, or a list of such objects",
            code="predict.form",
            cure="/docs shows an example that works.",
        )
    if len(rows) > most:
        raise LimitExceeded("too many rows in one request", code="predict.rows", value=len(rows), limit=most)
    return rows, single


def _cell(column: Column, said: object) -> object:
    """A cell as a file has it: pixels are base64 of their bytes, or numbers from 0 to 255 in lists."""
    if not isinstance(column, Image):
        return said
    if isinstance(said, str):
        try:
            return base64.b64decode(said, validate=True)
        except ValueError:  # no base64, or no ASCII
            return None
    try:
        pixels = np.asarray(said)
    except ValueError:  # lists of differing lengths
        return None
    whole = pixels.dtype.kind in "iu" and pixels.size > 0 and pixels.min() >= 0 and pixels.max() <= 255
    return pixels.astype(np.uint8).tobytes() if whole else None


def _tensor(column: Column, values: Array) -> Array:
    """As `RowsServable` takes it: numbers with NaN for missing, texts in UTF-8, empty for missing."""
    if isinstance(column, Category):
        names = np.array([*(value.encode() for value in column.values), b""], dtype=object)
        return names[values]  # -1 is the last
    if isinstance(column, Text):
        return np.array([text.encode() for text in values], dtype=object)
    return values


def _unknown_features(rows: Sequence[Mapping[str, Any]], schema: Schema) -> tuple[list[Problem], int]:
    """The first of the features that the model does not have, and how many more there are: a name costs a search."""
    known = [column.name for column in schema.columns]
    names = frozenset(known)
    unknown = ((place, name) for place, row in enumerate(rows) for name in row if name not in names)
    shown = [
        Problem(place, name[:_LONGEST], "form", _not_a_feature(name[:_LONGEST], known, schema.label.name))
        for place, name in itertools.islice(unknown, _SHOWN)
    ]
    return shown, sum(1 for _ in unknown)


def _not_a_feature(name: str, known: Sequence[str], label: str) -> str:
    if name == label:
        return "is what the model predicts: leave it out"
    near = difflib.get_close_matches(name, known, 1)
    return f"is no feature of the model: did you mean {near[0]}?" if near else "is no feature of the model"


def _problem(column: Column, found: Finding, said: object) -> Problem:
    """What a finding of the reader's is to somebody who asks."""
    if said in (None, "") and not isinstance(column, Image):
        return Problem(found.row, column.name, "form", found.what)  # it is required
    match column:
        case Number() if found.what.startswith("lies outside"):
            return Problem(found.row, column.name, "range", found.what)
        case Category() if isinstance(said, _PLAIN):
            return Problem(found.row, column.name, "category", f"is none of {', '.join(column.values[:_SHOWN])}")
        case _:
            return Problem(found.row, column.name, "form", found.what)


def _refused(problem: Problem, rules: InputRules) -> bool:
    match problem.kind:
        case "category":
            return rules.category == "refuse"
        case "missing":
            return rules.missing == "refuse"
        case "range":
            return rules.range == "refuse"
        case "form":
            return True


def _do_not_fit(refused: Sequence[Problem], untold: int, *, single: bool) -> BadInput:
    shown = [str(one) if single else f"row {one.row + 1}: {one}" for one in refused[:_SHOWN]]
    more = len(refused) - len(shown) + untold
    return BadInput(
        "the features do not fit the model",
        code="predict.features",
        value="; ".join([*shown, *([f"and {more} more"] if more else [])]),
        cure="/docs shows an example that works.",
    )


def _by_row(problems: Sequence[Problem]) -> Mapping[int, tuple[str, ...]]:
    found: dict[int, list[str]] = {}
    for problem in problems:
        said = str(problem) if problem.kind == "missing" else f"{problem}: it counts as missing"
        found.setdefault(problem.row, []).append(said)
    return {row: tuple(said) for row, said in found.items()}
