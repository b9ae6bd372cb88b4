"""A server's folder made from a backup, in a new place, and what its open runs have to wait for."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import secrets
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from aimass.proto.durable import disk_errors, fsync_folder, make_folder
from aimass.proto.errors import Conflict, IntegrityError, NotFound, VersionRefused
from aimass.proto.values import canonical_json, decode_json
from aimass.proto.views import ParticipantState, RunState
from aimass.server.backup_manifest import Manifest, NoProgress, Progress, read_manifest, verify
from aimass.server.runs import Run
from aimass.server.store import known_schemas

__all__ = ["Restored", "restore", "to_be_heard"]

_BLOCK: Final = 1 << 20
_DATA: Final = ("runs.sqlite", "spool")


@dataclasses.dataclass(frozen=True, slots=True)
class Restored:
    """What came of a restore: the backup's manifest, its open runs, and whether the keys are there."""

    manifest: Manifest
    open_runs: tuple[str, ...]
    keys: bool


def to_be_heard(run: Run) -> Run:
    """An open run as a restored server takes it up.

    Whoever may have been told of entries that were signed after the backup is heard before another entry is.
    """
    told = {ParticipantState.JOINED, ParticipantState.EXCLUDED}
    if run.state is RunState.WAITING:
        told.add(ParticipantState.INVITED)
    names = tuple(sorted(name for name, member in run.participants.items() if member.state in told))
    return run if run.state.final else msgspec.structs.replace(run, unheard=names)


def restore(folder: Path, target: Path, progress: Progress = NoProgress) -> Restored:
    """Make the server's folder `target`, which must not exist or be empty, from the backup in `folder`.

    Every digest is checked before anything is made; `target` is there whole or not at all. Raises `Conflict` for a
    folder that holds something, `IntegrityError` for a damaged backup, `VersionRefused` for a newer release's.
    """
    manifest = read_manifest(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Conflict(
            "a server is not restored over anything", code="restore.not_empty", value=target, cure="Name a new folder."
        )
    if manifest.schema not in known_schemas():
        raise VersionRefused(
            "a newer release made this backup",
            code="restore.schema",
            value=f"{manifest.software}, tables {manifest.schema}",
            limit=", ".join(known_schemas()),
            cure="Restore it with that release.",
        )
    verify(folder, manifest, lambda done, of: progress(done, 2 * of))
    target.parent.mkdir(parents=True, exist_ok=True)
    stage = make_folder(target.with_name(f".{target.name}.{secrets.token_hex(4)}.part"))
    try:
        total = done = sum(entry.bytes for entry in manifest.files.values())
        for name, entry in sorted(manifest.files.items()):
            _copy(folder / name, stage / _place(name, manifest.state), entry.sha256)
            done += entry.bytes
            progress(done, 2 * total)
        open_runs = _wait_for_partners(stage / "data" / "runs.sqlite")
        for path in sorted(stage.rglob("*"), reverse=True):
            if path.is_dir():
                fsync_folder(path)
        fsync_folder(stage)
        stage.replace(target)
        fsync_folder(target.parent)
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise
    return Restored(manifest, open_runs, manifest.keys)


def _place(name: str, state: str) -> PurePosixPath:
    """Where a file of the backup stands in a server's folder."""
    path = PurePosixPath(name)
    if path.parts[0] == state:
        path = path.relative_to(state)
        return PurePosixPath("data") / path if path.parts[0] in _DATA else path
    return PurePosixPath("data") / path


def _copy(source: Path, target: Path, digest: str) -> None:
    make_folder(target.parent)
    hasher = hashlib.sha256()
    try:
        with (
            source.open("rb") as file,
            disk_errors("a restored file"),
            os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as copy,
        ):
            while block := file.read(_BLOCK):
                copy.write(block)
                hasher.update(block)
            copy.flush()
            os.fsync(copy.fileno())
    except FileNotFoundError as error:
        raise NotFound("a file of the backup is gone", code="backup.damaged", value=source) from error
    if hasher.hexdigest() != digest:
        raise IntegrityError(
            "a file of the backup changed while it was restored", code="backup.damaged", value=source, limit=digest
        )


def _wait_for_partners(store: Path) -> tuple[str, ...]:
    """Note in the store's open runs who is to be heard; their ids."""
    waiting = []
    with closing(sqlite3.connect(store, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("BEGIN IMMEDIATE")
        for run_id, snapshot in connection.execute("SELECT run_id, snapshot FROM runs").fetchall():
            run = decode_json(Run, snapshot, "a stored run")
            if not run.state.final:
                waiting.append(run_id)
                changed = canonical_json(to_be_heard(run))
                connection.execute("UPDATE runs SET snapshot = ? WHERE run_id = ?", (changed, run_id))
        connection.execute("COMMIT")
    return tuple(waiting)
