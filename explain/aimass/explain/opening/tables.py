"""An analyst's rows: CSV and Parquet files by a task's schema, each under a name, or files that say all themselves."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from aimass.explain.rows import WIDEST, Rows, rows_of_table
from aimass.explain.words import counted
from aimass.proto.cache import cache_folder
from aimass.proto.errors import BadInput, NotFound
from aimass.proto.manifest import Category, Number, Schema
from aimass.proto.rows import Table, read_table, unreadable

__all__ = ["PARTNER", "NamedFile", "check_cells", "named_files", "open_rows"]

Array = npt.NDArray[Any]
LabelKind = Literal["", "number", "classes"]
"""What an outcome is; empty where the file shall say."""
PARTNER: Final = "partner"
"""The column beside the rows that says which file each came from."""
_FORMATS: Final = {".csv": "csv", ".parquet": "parquet", ".pq": "parquet"}
_MOST_CLASSES: Final = 100
_SHOWN: Final = 10


@dataclasses.dataclass(frozen=True)
class NamedFile:
    """A file of rows and the name that they go by."""

    name: str
    path: Path

    @property
    def format(self) -> str:
        """As `read_table` knows it; what has no known ending is taken for CSV."""
        return _FORMATS.get(self.path.suffix.lower(), "csv")


def open_rows(
    named: Sequence[str],
    schema: Schema | None,
    *,
    held_out: bool | None = None,
    beside: Sequence[str] = (),
    label: str = "",
    label_is: LabelKind = "",
) -> Rows:
    """Rows of files that are named as `PATH`, `NAME=PATH`, a folder, or a set that `aimass data get` has fetched.

    Where there are several, `beside["partner"]` says which each row is of; `beside` names more columns that no model
    sees. Without a schema the files say what their columns are, `label` which of them is the outcome, and `label_is`
    whether that is a number or classes, where few whole numbers could be either and count as classes. Raises
    `BadInput` for cells that do not fit the schema, by row and column, never by what stands there.
    """
    files = [file for one in named for file in named_files(one)]
    if not files:
        raise BadInput("no file of rows is named", code="explain.rows", cure="Give --rows FILE, or --rows NAME=FILE.")
    fitting = schema or _guessed([file.path for file in files], label, label_is, frozenset(beside))
    parts = [_read(file, fitting, beside) for file in files]
    names = list(dict.fromkeys(file.name for file in files))
    whole = _joined(parts, " + ".join(names) if len(names) < 4 else f"{len(names)} files", held_out)
    if not len(whole):
        raise BadInput("the files hold no row", code="explain.no_rows", value=whole.name, cure="Give others.")
    if schema is None and not label:
        whole = dataclasses.replace(whole, labels=None, classes=())
    return whole


def named_files(named: str) -> list[NamedFile]:
    """What one `--rows` means; a name is what stands before the first `=`, unless a file is called so."""
    name, _, rest = named.partition("=")
    if Path(named).exists() or not rest:
        name, rest = "", named
    path = Path(rest)
    if not path.exists() and (cached := cache_folder() / "data" / rest).is_dir() and "/" not in rest:
        path = cached
    if path.is_dir():
        found = sorted(each for each in path.iterdir() if each.suffix.lower() in _FORMATS)
        return [NamedFile(name or each.stem, each) for each in found]
    if path.is_file():
        return [NamedFile(name or path.stem, path)]
    raise NotFound(
        "there is no such file of rows",
        code="explain.rows_file",
        value=rest,
        cure="Give a CSV or Parquet file; `aimass data get heart` fetches a set that `--rows heart` then names.",
    )


def _read(file: NamedFile, schema: Schema, beside: Sequence[str]) -> Rows:
    try:
        with file.path.open("rb") as source:
            table = read_table(schema, [source], file.format, unlabelled=True)
    except BadInput as error:  # the reader has bytes alone: which file it is, of many, is known here
        raise BadInput(
            f"{error.what} ({file.path.name})", code=error.code, value=error.value, limit=error.limit, cure=error.cure
        ) from error
    check_cells(table, file)
    more = _more(file, beside)
    more[PARTNER] = np.full(table.rows, file.name, object)
    return dataclasses.replace(rows_of_table(table, file.name), beside=more)


def check_cells(table: Table, file: NamedFile) -> None:
    """Raise `BadInput` for cells that do not fit, by row and column alone.

    An outcome may be unknown, also where no partner could train on such a row.
    """
    label = table.schema.label.name
    faulty = [one for one in table.findings if one.column != label or one.cell]
    if not faulty:
        return
    shown = "; ".join(f"row {one.row + 1}, {one.column}: {one.what}" for one in faulty[:_SHOWN])
    raise BadInput(
        f"{counted(len(faulty), 'cell')} of {file.path.name} {'does' if len(faulty) == 1 else 'do'} not fit the schema "
        f"{table.schema.name}",
        code="explain.cells",
        value=shown,
        cure="Correct the file; an empty cell is a missing value.",
    )


def _joined(parts: Sequence[Rows], name: str, held_out: bool | None) -> Rows:
    """All rows under one name; labels where all parts have them."""
    labels = [part.labels for part in parts]
    known = [one for one in labels if one is not None]
    beside = {column: _of_one_kind([part.beside[column] for part in parts]) for column in parts[0].beside}
    if len(parts) == 1:
        beside.pop(PARTNER)
    return dataclasses.replace(
        parts[0],
        values=np.concatenate([part.values for part in parts]),
        labels=np.concatenate(known) if len(known) == len(labels) else None,
        name=name,
        held_out=held_out,
        beside=beside,
    )


def _more(file: NamedFile, names: Sequence[str]) -> dict[str, Array]:
    """Columns beside the schema's: numbers, times, or words."""
    if not names:
        return {}
    arrow = _arrow(file.path, file.format)
    for name in names:
        if name not in arrow.column_names:
            raise BadInput(
                f"{file.path.name} has no such column", code="explain.beside", value=name, limit=arrow.column_names
            )
    return {name: _cells(arrow.column(name)) for name in names}


def _cells(column: Any) -> Array:
    """Numbers, with NaN where some are missing; dates and times as datetime64 [s] in UTC, with NaT; else words."""
    import pyarrow as pa  # noqa: PLC0415

    kind, found = column.type, None
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        found = column.to_numpy()
    elif pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        zone = kind.tz if pa.types.is_timestamp(kind) else None
        found = column.cast(pa.timestamp("s", tz=zone), safe=False).to_numpy()
    return _words(column.to_pylist()) if found is None else np.asarray(found)


def _words(cells: Sequence[Any]) -> Array:
    """Object [n] of texts, empty where nothing stands."""
    return np.array(["" if cell is None or cell != cell else str(cell) for cell in cells], object)  # noqa: PLR0124


def _of_one_kind(columns: Sequence[Array]) -> Array:
    """One column of several files, as words where one has numbers and another has none."""
    kinds = {"f" if column.dtype.kind in "iu" else column.dtype.kind for column in columns}
    return np.concatenate([_words(column.tolist()) for column in columns] if len(kinds) > 1 else list(columns))


def _arrow(path: Path, format_: str) -> Any:
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import csv, parquet  # noqa: PLC0415

    try:
        if format_ == "parquet":
            found = parquet.read_table(path, use_threads=False)
        else:
            found = csv.read_csv(path, csv.ReadOptions(use_threads=False))
    except (pa.ArrowException, OSError) as error:
        raise unreadable(format_, error) from error
    if twice := [name for name, count in Counter(found.column_names).items() if count > 1]:
        raise BadInput(
            f"{path.name} has two columns of one name",
            code="explain.columns",
            value=", ".join(twice[:_SHOWN]),
            cure="Rename one of them, or leave it out.",
        )
    return found


def _guessed(paths: Sequence[Path], label: str, label_is: LabelKind, beside: frozenset[str]) -> Schema:
    """A schema from the files themselves: numbers as they are, texts and truth values as categories."""
    import pyarrow as pa  # noqa: PLC0415

    arrow = pa.concat_tables(
        [_arrow(path, _FORMATS.get(path.suffix.lower(), "csv")) for path in paths], promote_options="permissive"
    )
    if label and label not in arrow.column_names:
        raise BadInput("the rows have no such column", code="explain.label", value=label, limit=arrow.column_names)
    names = [name for name in arrow.column_names if name not in beside and name != label]
    outcome = (
        _outcome(label, arrow.column(label), label_is) if label else Number(name="no_label", minimum=-1.0, maximum=1.0)
    )
    return Schema(name="rows/1", columns=tuple(_column(name, arrow.column(name)) for name in names), label=outcome)


def _outcome(name: str, cells: Any, label_is: LabelKind) -> Number | Category:
    """What it is said to be; else few whole numbers, texts and truth values are classes, anything else a number."""
    import pyarrow as pa  # noqa: PLC0415

    whole = pa.types.is_integer(cells.type)
    if label_is == "number" and not whole and not pa.types.is_floating(cells.type):
        raise BadInput("this outcome is no number", code="explain.label", value=name, cure="Leave out --label-is.")
    if label_is == "classes" and pa.types.is_floating(cells.type):
        raise BadInput(
            "an outcome of fractions names no classes",
            code="explain.label",
            value=name,
            cure="Write classes as words or whole numbers, 1 and not 1.0.",
        )
    if whole and label_is != "number" and (label_is == "classes" or len(cells.unique()) <= _MOST_CLASSES):
        values = sorted(value for value in cells.unique().to_pylist() if value is not None)
        return Category(name=name, values=tuple(map(str, values)))
    return _column(name, cells)


def _column(name: str, cells: Any) -> Number | Category:
    import pyarrow as pa  # noqa: PLC0415

    if pa.types.is_integer(cells.type) or pa.types.is_floating(cells.type):
        return Number(name=name, minimum=-WIDEST, maximum=WIDEST)
    if pa.types.is_boolean(cells.type):
        return Category(name=name, values=("false", "true"))
    values = sorted({str(value) for value in cells.unique().to_pylist() if value is not None})
    return Category(name=name, values=tuple(values) or ("missing",))
