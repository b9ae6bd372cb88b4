"""Rows that a viewer brings: held in their session alone, bounded, checked against the task, and never in a log."""

from __future__ import annotations

import dataclasses
import io
import threading
from pathlib import PurePosixPath
from typing import Any, Final

import streamlit as st

from aimass.explain.app.bare import bare
from aimass.explain.app.house import Here
from aimass.explain.app.shell import told_error
from aimass.explain.app.upload_trial import too_much, tried_rows
from aimass.explain.opening import Subject
from aimass.explain.opening.tables import NamedFile, check_cells
from aimass.explain.rows import Rows, rows_of_table
from aimass.proto.errors import AimassError, BadInput, LimitExceeded
from aimass.proto.manifest import Schema
from aimass.proto.rows import read_table

__all__ = ["read_upload", "uploaded"]

_MIB: Final = 1 << 20
_READ: Final = "_uploaded"
_TRIAL_BYTES: Final = 64 << 20
_TIMES: Final = 8
"""Reading a file may take `_TRIAL_BYTES` and so many times the largest upload of memory, however large it is itself."""
_MOST_ROWS: Final = 200_000
_MOST_BESIDE: Final = 4_096
"""Columns of a CSV file beside the task's: a reader keeps some ten kilobytes for each, though it be empty."""
_READING: Final = threading.Semaphore(2)
"""For all sessions: what it takes of memory to read a file is not taken by many at once."""
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
        rows = _read_once(file, subject.schema, limit * _MIB)
    except AimassError as error:
        told_error(error)
        return None
    return dataclasses.replace(rows, held_out=_HELD[seen])


def _read_once(file: Any, schema: Schema, most_bytes: int) -> Rows:
    """The session's newest file is read, or refused, once: a page runs anew at whatever its viewer does."""
    key = f"{file.file_id} {schema.name}"
    held: dict[str, Rows | AimassError] = st.session_state.setdefault(_READ, {})
    if key not in held:
        held.clear()
        try:
            held[key] = read_upload(file, file.name, file.size, schema, most_bytes)
        except (BadInput, LimitExceeded) as error:
            held[key] = bare(error)
    found = held[key]
    if isinstance(found, AimassError):
        raise bare(found)
    return found


def read_upload(
    source: Any, name: str, size: int, schema: Schema, most_bytes: int, *, held_out: bool | None = None
) -> Rows:
    """Rows of a file that fit the schema; raises `BadInput` by row and column, and never by what stands there.

    `LimitExceeded` where the file, or what it takes to read it, is more than one session may have.
    """
    if size > most_bytes:
        raise too_much(f"{size / _MIB:.0f} MiB", f"{most_bytes / _MIB:.0f} MiB")
    file = NamedFile(PurePosixPath(name).stem[:64], PurePosixPath(name))  # type: ignore[arg-type]
    with _READING:
        data = source.getvalue()
        if file.format == "csv":
            _check("columns", _csv_columns(data), _MOST_BESIDE + len(schema.columns) + 1)
        memory_bytes = _TRIAL_BYTES + _TIMES * most_bytes
        _check("rows", tried_rows(schema, data, file.format, memory_bytes), _MOST_ROWS)
        table = read_table(schema, [io.BytesIO(data)], file.format, unlabelled=True)
        check_cells(table, file)
        rows = rows_of_table(table, file.name)
    if not len(rows):
        raise BadInput("the file holds no row", code="explain.no_rows", value=file.name)
    return dataclasses.replace(rows, held_out=held_out)


def _csv_columns(data: bytes) -> int:
    """Columns of the line of names, which CSV ends by a line feed, a carriage return or both; never too few.

    Names in quotation marks that hold line ends are counted in part: what they take is for the trial to find.
    """
    ends = [place for end in (b"\n", b"\r") if (place := data.find(end)) >= 0]
    return data.count(b",", 0, min(ends, default=len(data))) + 1


def _check(what: str, found: int, most: int) -> None:
    if found > most:
        raise too_much(f"{found:,} {what}", f"{most:,} {what}")
