"""A consistent copy of a run store that a server may be writing, and the reading of a store without changing it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

import sqlalchemy as sa

from aimass.proto.durable import UNINTERRUPTED
from aimass.proto.errors import IntegrityError, OutOfSpace, Unavailable
from aimass.server.backup_manifest import NoProgress, Progress
from aimass.server.store import Store, known_schemas, of_another_release

__all__ = ["copy_store", "inspecting", "reading", "schema_of"]

_PAGES: Final = 2_000
_LOCK_WAIT_S: Final = 10.0


def copy_store(source: Path, target: Path, progress: Progress = NoProgress) -> None:
    """Copy the store at `source` as it is at one moment to the new file `target`, checked and flushed.

    SQLite's online backup, inside one read transaction: in WAL mode writers neither wait for it nor change what it
    copies (https://www.sqlite.org/backup.html). Raises `IntegrityError` for a damaged store, `OutOfSpace`,
    `Unavailable` where it stays locked.
    """
    try:
        with (
            closing(sqlite3.connect(_uri(source, "rw"), uri=True, timeout=_LOCK_WAIT_S, isolation_level=None)) as live,
            closing(sqlite3.connect(target, isolation_level=None)) as copy,
        ):
            size = live.execute("PRAGMA page_size").fetchone()[0]
            live.execute("BEGIN")
            live.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the moment: here the transaction reads
            live.backup(copy, pages=_PAGES, progress=lambda _, left, of: progress((of - left) * size, of * size))
            live.execute("ROLLBACK")
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, nothing beside it
            found = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:
        raise _named(error) from error
    except sqlite3.DatabaseError as error:
        raise _damaged(source, str(error)) from error
    if found != "ok":
        raise _damaged(source, found)
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def reading(path: Path) -> Iterator[Store]:
    """A copied store, read and not changed: its tables stay those of the release that wrote them."""
    engine = sa.create_engine("sqlite://", creator=lambda: sqlite3.connect(_uri(path, "ro"), uri=True))
    try:
        yield Store(engine, UNINTERRUPTED)
    finally:
        engine.dispose()


@contextmanager
def inspecting(path: Path) -> Iterator[Store]:
    """The store of a server, running or not, read as it lies there.

    Raises `WrongState` where its tables are not those of this release, and leaves them so; `IntegrityError` for what is
    no store, `Unavailable` where it cannot be read now.
    """
    try:
        found, known = schema_of(path), known_schemas()
        if found != known[-1]:
            raise of_another_release(found, known)
        with reading(path) as store:
            yield store
    except (sqlite3.OperationalError, sa.exc.OperationalError) as error:
        raise Unavailable(
            f"the run store cannot be read: {getattr(error, 'orig', error)}",
            code="store.unreadable",
            value=path,
            cure="Look at the rights of this file and its folder; of a store that was never written, start the server.",
        ) from error
    except (sqlite3.DatabaseError, sa.exc.DatabaseError) as error:
        raise IntegrityError(
            "the run store is no database, or a damaged one",
            code="store.damaged",
            value=path,
            cure="Restore it from a copy; moved away, the server begins without runs.",
        ) from error


def schema_of(path: Path) -> str:
    """The revision of a store's tables."""
    with closing(sqlite3.connect(_uri(path, "ro"), uri=True)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def _uri(path: Path, mode: str) -> str:
    return f"file:{quote(str(path.resolve()))}?mode={mode}"


def _damaged(path: Path, found: str) -> IntegrityError:
    return IntegrityError(
        "the run store is no database, or a damaged one",
        code="store.damaged",
        value=f"{path}: {found}",
        cure="Keep the last backup that verified; this store is not copied over it.",
    )


def _named(error: sqlite3.OperationalError) -> OutOfSpace | Unavailable:
    if "full" in str(error):
        return OutOfSpace("no space left for the copy of the run store", code="disk.full", cure="Free space there.")
    return Unavailable(f"the run store cannot be copied: {error}", code="store.busy", cure="Try again.")
