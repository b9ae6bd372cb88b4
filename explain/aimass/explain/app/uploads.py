"""Rows that a viewer brings: held in their session alone, bounded, checked against the task, and never in a log."""

from __future__ import annotations

import dataclasses
import io
from pathlib import PurePosixPath
from typing import Any, Final

import streamlit as st

from aimass.explain.app.house import Here
from aimass.explain.app.shell import told_error
from aimass.explain.opening import Subject
from aimass.explain.opening.tables import NamedFile, check_cells
from aimass.explain.rows import Rows, rows_of_table
from aimass.proto.errors import AimassError, BadInput, LimitExceeded
from aimass.proto.manifest import Schema
from aimass.proto.rows import read_table, unreadable

__all__ = ["read_upload", "uploaded"]

_MIB: Final = 1 << 20
_READ: Final = "_uploaded"
_UNPACKED: Final = 8
"""So many times its size a Parquet file may hold: packed bytes say little of what is read."""
_MOST_ROWS: Final = 200_000
_BATCH: Final = 1_024
_WIDTHS: Final = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT96": 12}
"""Bytes of a cell by its physical type; 8 where it is none of these."""
_HELD: Final = {"not known": None, "no, they are held out": True, "yes, it was trained on them": False}


def uploaded(here: Here, subject: Subject) -> Rows | None:
    """The rows of a file that the viewer chooses; None until they have."""
    if subject.kind != "rows" or subject.schema is None:
        st.info("Tables alone can be uploaded here; the command `aimass explain` takes images and texts.")
        return None
    limit = here.settings.upload_mib
    file = st.file_uploader(
        "CSV or Parquet, with the columns of the task",
        type=["csv", "parquet", "pq"],
        max_upload_size=limit,
        key="upload",
        help="It stays in this session: it is not written to disk, not logged, and gone when you leave.",
    )
    if file is None:
        return None
    seen = st.selectbox("Did the model see these rows in training?", list(_HELD), key="upload-held-out")
    try:
        key = f"{file.file_id} {subject.schema.name}"
        held: dict[str, Rows] = st.session_state.setdefault(_READ, {})
        if key not in held:
            held.clear()
            held[key] = read_upload(file, file.name, file.size, subject.schema, limit * _MIB)
        return dataclasses.replace(held[key], held_out=_HELD[seen])
    except AimassError as error:
        told_error(error)
        return None


def read_upload(
    source: Any, name: str, size: int, schema: Schema, most_bytes: int, *, held_out: bool | None = None
) -> Rows:
    """Rows of a file that fit the schema; raises `BadInput` by row and column, and never by what stands there."""
    if size > most_bytes:
        raise LimitExceeded(
            "the file is too large to be uploaded",
            code="app.upload",
            value=f"{size / _MIB:.0f} MiB",
            limit=f"{most_bytes / _MIB:.0f} MiB",
            cure="Ask about a part of it, or have it named with --rows when the app is started.",
        )
    file = NamedFile(PurePosixPath(name).stem[:64], PurePosixPath(name))  # type: ignore[arg-type]
    data = source.getvalue()
    if file.format == "parquet":
        _check_parquet(data, _UNPACKED * most_bytes)
    else:
        _check_rows(data.count(b"\n"))
    table = read_table(schema, [io.BytesIO(data)], file.format, unlabelled=True)
    check_cells(table, file)
    rows = rows_of_table(table, file.name)
    if not len(rows):
        raise BadInput("the file holds no row", code="explain.no_rows", value=file.name)
    return dataclasses.replace(rows, held_out=held_out)


def _check_rows(rows: int) -> None:
    if rows > _MOST_ROWS:
        raise _too_much(f"{rows:,} rows", f"{_MOST_ROWS:,} rows")


def _check_parquet(data: bytes, most_bytes: int) -> None:
    """Raise `LimitExceeded` for more rows, or more bytes once they are read, than one session may have.

    What a file says of its own size is not enough: a text that stands in it once may be the cell of every row. So texts
    are counted as they would be read, by pieces, and the first piece too many ends it.
    """
    import pyarrow as pa  # noqa: PLC0415  (loaded where somebody brings such a file)
    from pyarrow import parquet  # noqa: PLC0415

    try:
        file = parquet.ParquetFile(pa.BufferReader(data))
        _check_rows(file.metadata.num_rows)
        groups = [file.metadata.row_group(place) for place in range(file.metadata.num_row_groups)]
        leaves = [file.schema.column(place) for place in range(file.metadata.num_columns)]
        if any(leaf.max_repetition_level for leaf in leaves):
            raise BadInput("columns of lists cannot be uploaded", code="app.upload_lists", cure="Leave them out.")
        _check_bytes(sum(group.total_byte_size for group in groups), most_bytes)
        held = file.metadata.num_rows * sum(map(_width, leaves))
        _check_bytes(held, most_bytes)
        texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
        pieces = parquet.ParquetFile(pa.BufferReader(data), read_dictionary=texts)
        for batch in pieces.iter_batches(_BATCH, columns=texts, use_threads=False) if texts else ():
            held += sum(map(_text_bytes, batch.columns))
            _check_bytes(held, most_bytes)
    except (pa.ArrowException, OSError) as error:
        raise unreadable("parquet", error) from error


def _check_bytes(held: int, most: int) -> None:
    if held > most:
        raise _too_much(f"more than {held / _MIB:.0f} MiB unpacked", f"{most / _MIB:.0f} MiB unpacked")


def _too_much(value: str, limit: str) -> LimitExceeded:
    return LimitExceeded(
        "the file holds more than may be uploaded",
        code="app.upload",
        value=value,
        limit=limit,
        cure="Ask about a part of it, or have it named with --rows when the app is started.",
    )


def _width(leaf: Any) -> int:
    """Bytes of each cell that is not a text."""
    return int(leaf.length) if leaf.physical_type == "FIXED_LEN_BYTE_ARRAY" else _WIDTHS.get(leaf.physical_type, 8)


def _text_bytes(cells: Any) -> int:
    """Of cells once each has its own text, which in `cells` stand once however often they come."""
    from pyarrow import compute, types  # noqa: PLC0415  (as above)

    if not types.is_dictionary(cells.type):
        return int(cells.nbytes)
    lengths = compute.binary_length(cells.dictionary).take(cells.indices)
    return int(compute.sum(lengths).as_py() or 0)
