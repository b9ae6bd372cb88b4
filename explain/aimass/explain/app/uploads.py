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
_MOST_ROWS: Final = 500_000
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
    if file.format == "parquet":
        _check_parquet(source.getvalue(), most_bytes)
    table = read_table(schema, [io.BytesIO(source.getvalue())], file.format, unlabelled=True)
    check_cells(table, file)
    rows = rows_of_table(table, file.name)
    if not len(rows):
        raise BadInput("the file holds no row", code="explain.no_rows", value=file.name)
    return dataclasses.replace(rows, held_out=held_out)


def _check_parquet(data: bytes, most_bytes: int) -> None:
    """Raise `LimitExceeded` for more rows, or more bytes once unpacked, than may be read into one session."""
    import pyarrow as pa  # noqa: PLC0415  (loaded where somebody brings such a file)
    from pyarrow import parquet  # noqa: PLC0415

    try:
        found = parquet.ParquetFile(pa.BufferReader(data)).metadata
    except (pa.ArrowException, OSError) as error:
        raise unreadable("parquet", error) from error
    unpacked = sum(found.row_group(place).total_byte_size for place in range(found.num_row_groups))
    if found.num_rows > _MOST_ROWS or unpacked > _UNPACKED * most_bytes:
        raise LimitExceeded(
            "the file holds more than may be uploaded",
            code="app.upload",
            value=f"{found.num_rows:,} rows, {unpacked / _MIB:.0f} MiB unpacked",
            limit=f"{_MOST_ROWS:,} rows, {_UNPACKED * most_bytes / _MIB:.0f} MiB unpacked",
            cure="Ask about a part of it, or have it named with --rows when the app is started.",
        )
