"""One schema-checked reader of CSV and Parquet, for a partner's shard, for splitting and for an analyst's rows.

A table is columns as arrays: numbers as float64 with NaN for missing, categories as the index of their value with -1
for missing, images and masks as unsigned bytes, texts as they are. What does not fit the schema is reported by row and
column; the cell's own text is kept apart in `Finding.cell`, which never leaves the machine.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import io
import math
import re
import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from aimass.proto.cells import Finding, convert, persons_of
from aimass.proto.errors import BadInput
from aimass.proto.manifest import UNLABELLED, Category, Mask, Number, Schema

__all__ = [
    "Batch",
    "Finding",
    "Report",
    "Table",
    "blank_labels",
    "check",
    "check_columns",
    "column_names",
    "encode",
    "has_label",
    "held_out_mask",
    "read_table",
    "require",
    "row_hashes",
    "rows_by_label",
    "typed",
    "unreadable",
]

Array = npt.NDArray[Any]
_MAX_FINDINGS: Final = 20
_CODE: Final = "rows.schema"
_SAFE_TO_SAY: Final = re.compile(
    r"(?:Row #(?P<line>\d+): )?(?P<wrong>Expected \d+ columns, got \d+)"
    r"|Empty CSV file|invalid UTF8 data|Parquet magic bytes not found"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """Typed columns of equal length, label included, and what did not fit (such cells count as missing).

    `persons` says whose each row is, as text, where the data set has a column for it.
    """

    schema: Schema
    columns: Mapping[str, Array]
    findings: tuple[Finding, ...]
    persons: Array | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.columns[self.schema.label.name])

    def take(self, rows: Array | slice) -> Table:
        """The rows at these positions or under this mask."""
        columns = {name: column[rows] for name, column in self.columns.items()}
        persons = None if self.persons is None else self.persons[rows]
        return dataclasses.replace(self, columns=columns, persons=persons)


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """What a person should know of a shard before its first run; stays at the partner.

    `rows_by_person`, ascending, is empty where the data set does not say whose its rows are.
    """

    rows: int
    labels: Mapping[str, int]
    missing: Mapping[str, int]
    duplicates: int
    findings: tuple[Finding, ...]
    rows_by_person: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """Rows as a model takes them.

    `numbers` float32 [n, numbers] with NaN for missing; `categories` int64 [n, categories] with -1 for missing;
    `images` uint8 [n, *shape] or None; `labels` int64 [n], float64 where the label is a number, or uint8 [n, h, w] of
    masks; `texts` object [n] of str or None.
    """

    numbers: Array
    categories: Array
    images: Array | None
    labels: Array
    texts: Array | None = None

    def take(self, rows: Array | slice) -> Batch:
        """Only these rows, by position or by a mask."""
        images = None if self.images is None else self.images[rows]
        texts = None if self.texts is None else self.texts[rows]
        return Batch(self.numbers[rows], self.categories[rows], images, self.labels[rows], texts)

    @property
    def size_bytes(self) -> int:
        """What its rows hold, a text by its characters."""
        arrays = (self.numbers, self.categories, self.images, self.labels)
        texts = 0 if self.texts is None else sum(map(len, self.texts))
        return sum(array.nbytes for array in arrays if array is not None) + texts


def read_table(
    schema: Schema,
    sources: Iterable[IO[bytes]],
    format_: str,
    person: str | None = None,
    *,
    unlabelled: bool = False,
) -> Table:
    """Read files of one schema, in their order; `person` is the column beside it that says whose each row is.

    A file that is `unlabelled` may lack the label's column: its labels are missing then. Raises `BadInput` for a file
    that cannot be read or lacks a column; other columns are ignored.
    """
    import pyarrow as pa  # noqa: PLC0415  (a hundred milliseconds that only readers of rows pay)

    names = column_names(schema, person)
    lines, spare = bool(schema.texts), schema.label.name if unlabelled else None
    parts = [_read_arrow(source, format_, names, lines=lines, spare=spare) for source in sources]
    try:
        arrow = pa.concat_tables([part.select(names) for part in parts], promote_options="permissive")
    except pa.ArrowException as error:
        raise BadInput(
            "the files of a data set cannot be read together: a column has another type in each",
            code="rows.types",
            value=type(error).__name__,
            cure="Write all files of the set with the same column types.",
        ) from error
    return typed(schema, arrow, person)


def column_names(schema: Schema, person: str | None = None) -> list[str]:
    """The columns that are read; raises `BadInput` where `person` is one that a model sees."""
    names = [column.name for column in (*schema.columns, schema.label)]
    if person is None:
        return names
    if person in names:
        raise BadInput(
            "the column that says whose a row is stands in the task's schema: a model would see it",
            code="rows.person",
            value=person,
            cure="Name a column beside the schema's as `person` of the data set.",
        )
    return [*names, person]


def typed(schema: Schema, arrow: Any, person: str | None = None) -> Table:
    """An Arrow table or batch as typed columns; those beside the schema and `person` are ignored."""
    findings: list[Finding] = []
    columns = {
        column.name: convert(column, arrow.column(column.name), findings) for column in (*schema.columns, schema.label)
    }
    persons = None if person is None else persons_of(person, arrow.column(person), findings)
    return Table(schema, columns, tuple(findings), persons)


def _read_arrow(source: IO[bytes], format_: str, names: list[str], *, lines: bool, spare: str | None = None) -> Any:
    """The file's columns; of CSV, `lines` lets a quoted cell go over several. Without a `spare` one it is empty."""
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import csv, parquet  # noqa: PLC0415

    try:
        if format_ == "parquet":
            table = parquet.read_table(source, use_threads=False)
        else:
            options = csv.ConvertOptions(
                column_types={name: pa.string() for name in names},
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
            )
            # Its readers' threads may outlive the table, and abort a process that ends at once.
            reading = csv.ReadOptions(use_threads=False)
            parsing = csv.ParseOptions(newlines_in_values=lines)
            table = csv.read_csv(io.BytesIO(source.read()), reading, parsing, options)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(format_, error) from error
    if spare is not None and spare not in table.column_names:
        table = table.append_column(spare, pa.nulls(len(table), pa.string()))
    check_columns(table.column_names, names)
    return table


def unreadable(format_: str, error: Exception) -> BadInput:
    """A file that is not of its format, as far as the reader's error says so without quoting the file."""
    return BadInput(
        f"a data file is not readable as {format_}",
        code="rows.unreadable",
        value=_without_cells(error),
        cure="A CSV file is UTF-8 text with commas, one line of names, and as many cells in every line."
        if format_ == "csv"
        else "Write the file anew: it is damaged, or of another format.",
    )


def check_columns(found: Sequence[str], wanted: Sequence[str]) -> None:
    """Raise `BadInput` where a file does not have each wanted column once."""
    twice = [name for name in wanted if found.count(name) > 1]
    if twice:
        raise BadInput(
            "a data file has a column twice", code="rows.columns", value=", ".join(twice), cure="Remove one of them."
        )
    absent = [name for name in wanted if name not in found]
    if absent:
        raise BadInput(
            "a data file lacks columns of the schema, or the one of persons",
            code="rows.columns",
            value=", ".join(absent),
            cure="Rename or add the columns; their names are case-sensitive, and commas stand between them.",
        )


def _without_cells(error: Exception) -> str:
    """What the reader says was wrong, as far as it quotes nothing of the file; it counts the line of names as a row."""
    said = _SAFE_TO_SAY.search(str(error))
    if said is None:
        return type(error).__name__
    return f"row {int(said['line']) - 1}: {said['wrong']}" if said["line"] else said.group()


def check(table: Table) -> Report:
    """Counts and findings of a table, for the partner's own eye."""
    labels = table.columns[table.schema.label.name]
    missing = {
        column.name: int(np.isnan(values).sum() if isinstance(column, Number) else (values < 0).sum())
        for column in table.schema.columns
        if isinstance(column, Number | Category)
        for values in [table.columns[column.name]]
    } | {table.schema.label.name: int((~has_label(table)).sum())}
    hashes = row_hashes(table)
    return Report(
        rows=table.rows,
        labels=rows_by_label(table.schema, labels),
        missing=missing,
        duplicates=len(hashes) - len(set(hashes)),
        findings=table.findings,
        rows_by_person=() if table.persons is None else tuple(sorted(Counter(table.persons).values())),
    )


def require(table: Table) -> Table:
    """The table itself, or `BadInput` that counts what does not fit and names rows and columns, never cells."""
    if table.rows == 0:
        raise BadInput("the data set has no rows", code="rows.empty")
    unlabelled = int((~has_label(table)).sum())
    if table.findings or unlabelled:
        shown = "; ".join(f"row {f.row + 1}, {f.column}: {f.what}" for f in table.findings[:_MAX_FINDINGS])
        raise BadInput(
            f"{len(table.findings)} cells do not fit the schema {table.schema.name}, {unlabelled} rows have no label",
            code=_CODE,
            value=shown or None,
            cure="Run `aimass client data check` to see them, and correct the file.",
        )
    return table


def has_label(table: Table) -> npt.NDArray[np.bool_]:
    """Which rows have a label: bool [rows]."""
    labels = table.columns[table.schema.label.name]
    if table.schema.segments:
        return np.asarray((labels != UNLABELLED).any(axis=(1, 2)))
    return labels >= 0 if table.schema.classes else ~np.isnan(labels)


def blank_labels(schema: Schema, rows: int) -> Array:
    """Labels that nobody looks at, of rows that are only asked about: the first class or 0, or blank masks."""
    if isinstance(schema.label, Mask):
        return np.full((rows, *schema.label.shape), UNLABELLED, np.uint8)
    return np.zeros(rows, np.int64 if schema.classes else np.float64)


def rows_by_label(schema: Schema, labels: Array) -> dict[str, int]:
    """How many rows have each label; of masks, how many hold it anywhere. None where the label is a number."""
    flat = labels.reshape(len(labels), -1) if len(labels) else labels.reshape(0, 1)
    return {value: int((flat == place).any(axis=1).sum()) for place, value in enumerate(schema.classes)}


def encode(table: Table) -> Batch:
    """The table's rows as a model takes them; several columns of images or of texts are refused until a task needs
    them."""
    schema, columns = table.schema, table.columns
    if len(schema.images) > 1:
        raise BadInput("more than one image column", code="rows.images", value=len(schema.images), limit=1)
    if len(schema.texts) > 1:
        raise BadInput("more than one text column", code="rows.texts", value=len(schema.texts), limit=1)
    rows = table.rows
    numbers = [columns[column.name] for column in schema.numbers]
    categories = [columns[column.name] for column in schema.categories]
    return Batch(
        numbers=np.stack(numbers, axis=1).astype(np.float32) if numbers else np.zeros((rows, 0), np.float32),
        categories=np.stack(categories, axis=1) if categories else np.zeros((rows, 0), np.int64),
        images=columns[schema.images[0].name] if schema.images else None,
        labels=columns[schema.label.name],
        texts=columns[schema.texts[0].name] if schema.texts else None,
    )


def held_out_mask(
    table: Table, salt: bytes, fraction: float, *, independent: bool = False, hashes: Sequence[bytes] | None = None
) -> npt.NDArray[np.bool_]:
    """Which rows are held out: bool [rows], stratified by label where it is a category.

    Within a label, or of all where it is no category, rows are ordered by HMAC-SHA256(salt, row hash and its
    occurrence) and the first round(fraction * n) are held out: the choice depends on the rows' values and the salt, not
    on their order.

    If `independent`, those rows are held out whose HMAC lies below the fraction, whatever their label: about as many,
    and one row more or less moves no other to the other side.

    Where it is known whose each row is, a person's rows go together: those of whom HMAC-SHA256(salt, person) lies
    below the fraction. So one person more or less moves nobody else to the other side.

    `hashes` are those of `row_hashes`, where the caller has them.
    """
    if table.persons is not None:
        held = {person for person in set(table.persons) if _held(person, salt, fraction)}
        return np.array([person in held for person in table.persons], dtype=bool)
    seen: dict[bytes, int] = {}
    keys: list[bytes] = []
    for row_hash in row_hashes(table) if hashes is None else hashes:
        occurrence = seen[row_hash] = seen.get(row_hash, -1) + 1
        keys.append(hmac.digest(salt, row_hash + struct.pack(">I", occurrence), "sha256"))
    if independent:
        return np.array([_below(key, fraction) for key in keys], dtype=bool)
    stratified = isinstance(table.schema.label, Category)
    labels = table.columns[table.schema.label.name] if stratified else np.zeros(table.rows)
    mask = np.zeros(table.rows, dtype=bool)
    for label in np.unique(labels):
        members = sorted(np.flatnonzero(labels == label), key=lambda row: keys[row])
        mask[members[: int(fraction * len(members) + 0.5)]] = True
    return mask


def _held(person: str, salt: bytes, fraction: float) -> bool:
    return _below(hmac.digest(salt, b"person\0" + person.encode(), "sha256"), fraction)


def _below(digest: bytes, fraction: float) -> bool:
    return int.from_bytes(digest[:8], "big") < math.ldexp(fraction, 64)


def row_hashes(table: Table) -> list[bytes]:
    """SHA-256 of each row's typed values, label included: equal for equal rows, whatever file they came from."""
    if table.rows == 0:
        return []
    columns = [
        np.ascontiguousarray(_canonical(table.columns[column.name])).reshape(table.rows, -1).view(np.uint8)
        for column in (*table.schema.columns, table.schema.label)
    ]
    rows = np.concatenate(columns, axis=1)
    return [hashlib.sha256(row.tobytes()).digest() for row in rows]


def _canonical(values: Array) -> Array:
    if values.dtype == object:  # texts: one width for all, by their digests
        digests = b"".join(hashlib.sha256(text.encode()).digest() for text in values)
        return np.frombuffer(digests, dtype=np.uint8).reshape(len(values), -1)
    if values.dtype.kind != "f":
        return values
    clean = values.astype("<f8") + 0.0  # no negative zero
    clean[np.isnan(clean)] = np.nan  # one NaN
    return clean
