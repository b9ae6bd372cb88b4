"""A backup of a server's folder while the server runs: the run store first, then everything that its state needs.

The copied store is a moment, in which the server deletes nothing; blobs never change, and what an open run needs is
held open from then on, so that a newer model which supersedes it does not take it away. Contributions of open steps go
along where they are whole: partners send the others again. A backup is whole or is not there: what is new stands under
a temporary name until it is flushed, and the manifest, which names all files, is replaced last.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Final

import msgspec

from aimass.privacy.keys import load_keys
from aimass.privacy.trust_bundle import Root, open_bundle
from aimass.proto.clock import Clock, SystemClock
from aimass.proto.durable import UNINTERRUPTED, Durability, disk_errors, fsync_folder, make_folder, only_one, write_file
from aimass.proto.errors import BadInput, Conflict, IntegrityError, NotFound, Unavailable
from aimass.proto.values import canonical_json
from aimass.server.backup_manifest import FORMAT, MANIFEST, FileEntry, Manifest, NoProgress, Progress, read_manifest
from aimass.server.backup_models import models_of
from aimass.server.engine import spool_key
from aimass.server.flower.journal import replies_of
from aimass.server.retention import in_use
from aimass.server.settings import ServerSettings, load_settings
from aimass.server.standstill import standstill
from aimass.server.store import RunRow
from aimass.server.store_copy import copy_store, reading, schema_of

__all__ = ["back_up"]

APPS: Final = "apps"
SETTINGS: Final = ("server.toml", "server.request", "root.pem", "previous-root.pem", "bundle.json")
_ALL: Final = 1_000_000
_BLOCK: Final = 1 << 20
_TRIES: Final = 5
_PRIVATE: Final = ("tls.key", "identity.key")


class _SupersededError(Exception):
    """A model that the copied store's state needs is gone: a newer copy of the store may not need it."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Contents:
    """What a copied store refers to: blobs that open runs need, all others, and acknowledged contributions.

    Of those that are needed, `lasting` ones stay until their run ends, and may be many.
    """

    rows: tuple[RunRow, ...]
    needed: frozenset[str]
    lasting: frozenset[str]
    other: frozenset[str]
    contributions: dict[str, str]


def back_up(
    folder: Path,
    to: Path,
    *,
    with_keys: bool = False,
    clock: Clock | None = None,
    progress: Progress = NoProgress,
    durability: Durability = UNINTERRUPTED,
) -> Manifest:
    """Back up the server's `folder`, running or not, into `to`; blobs that `to` holds already are not copied again.

    Raises `NotFound` where there is no server, `Conflict` where `to` holds something else, `IntegrityError` where the
    store is damaged or an open run's model is gone for good.
    """
    settings = load_settings(folder)
    if not (folder / "data" / "runs.sqlite").is_file():
        raise NotFound(
            "this server has not run yet",
            code="server.no_store",
            value=folder,
            cure="Its keys and settings are files: copy the folder.",
        )
    _check_target(folder, to)
    held = _check_same(to, _identity(folder))
    with only_one(to, "backup"):
        _sweep(to, held)
        for _ in range(_TRIES):
            taking = _Backup(folder, to, settings, progress, durability)
            with contextlib.suppress(_SupersededError):
                manifest = taking.take(with_keys=with_keys, now=(clock or SystemClock()).now())
                _sweep(to, manifest)
                return manifest
    raise Unavailable(
        "models are superseded faster than they can be copied", code="backup.too_fast", value=f"{_TRIES} tries",
        cure="Pause the runs (aimass run pause), back up, resume them; or raise keep.models in server.toml.",
    )  # fmt: skip


def _check_target(folder: Path, to: Path) -> None:
    here, there = folder.resolve(), to.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise BadInput(
            "a backup stands beside the server's folder, not in it or around it",
            code="backup.inside",
            value=to,
            cure="Name a folder on another disk.",
        )
    if to.exists() and not to.is_dir():
        raise BadInput("a file stands where the backup's folder would", code="backup.folder", value=to)


def _identity(folder: Path) -> str:
    return load_keys(folder / "keys").identity.public_key().public_bytes_raw().hex()


def _check_same(to: Path, identity: str) -> Manifest | None:
    """The backup that `to` holds, if any; raises `Conflict` where it is another server's, or something else."""
    if (to / MANIFEST).is_file():
        held = read_manifest(to)
        if held.identity != identity:
            raise Conflict(
                "this folder holds the backup of a server with other keys",
                code="backup.other_server",
                value=held.server,
                cure="Give each server a folder of its own.",
            )
        return held
    strangers = [path.name for path in to.iterdir() if not _ours(path)] if to.is_dir() else []
    if strangers:
        raise Conflict(
            "this folder holds something else than a backup",
            code="backup.not_empty",
            value=", ".join(sorted(strangers)[:5]),
            cure="Name a new folder, or an empty one.",
        )
    return None


def _ours(path: Path) -> bool:
    return path.name in (".lock", "blobs") or path.name.startswith(("state-", ".state-", f".{MANIFEST}."))


def _sweep(to: Path, held: Manifest | None) -> None:
    """Delete what no manifest names: earlier states, blobs that no run keeps any more, what a crash or Ctrl-C cut."""
    wanted = {to / name for name in held.files} if held else set()
    for path in list(to.glob(f".{MANIFEST}.*")):
        path.unlink()
    for path in [*to.glob("state-*"), *to.glob(".state-*")]:
        if held is None or path.name != held.state:
            shutil.rmtree(path)
    if held is not None:  # without one, the blobs of a backup that was cut are what the next one need not copy again
        for path in to.glob("blobs/??/*"):
            if path not in wanted:
                path.unlink()
    for path in to.glob("blobs/??/.*.part"):
        path.unlink(missing_ok=True)


class _Backup:
    """One try."""

    def __init__(
        self, folder: Path, to: Path, settings: ServerSettings, progress: Progress, durability: Durability
    ) -> None:
        self._folder, self._data, self._to = folder, folder / "data", to
        self._settings, self._progress, self._durability = settings, progress, durability
        self._name = f"state-{secrets.token_hex(8)}"
        self._stage = make_folder(to / f".{self._name}.part")
        self._cache = to / f".{self._name}.cache"
        self._models = models_of(self._data, settings.blobs, self._cache, to)
        self._files: dict[str, FileEntry] = {}
        self._left_out: dict[str, str] = {}
        self._done = self._of = 0

    def take(self, *, with_keys: bool, now: float) -> Manifest:
        """All of it; the manifest once it is on the disk. Whatever ends it early leaves the backup before as it was."""
        try:
            store = self._stage / "runs.sqlite"
            with contextlib.ExitStack() as stack:
                with standstill(self._data):  # newer models take their elders away
                    copy_store(self._data / "runs.sqlite", store, self._progress)
                    contents = _read(store)
                    held = self._hold(stack, contents)
                self._note("runs.sqlite", _digest_of(store), store.stat().st_size)
                self._count(contents)
                for digest, file in held.items():
                    self._blob(digest, file)
                for digest in sorted(contents.lasting):
                    with self._needed(digest) as file:
                        self._blob(digest, file)
                for key, digest in sorted(contents.contributions.items()):
                    self._contribution(key, digest)
                for digest in sorted(contents.other - contents.needed):
                    with contextlib.suppress(FileNotFoundError), self._models.open(digest) as file:
                        self._blob(digest, file)
            for name in SETTINGS:
                if (self._folder / name).is_file():
                    self._copy(self._folder / name, name)
            for path in sorted((self._folder / APPS).glob("*/*/**/*")):  # open runs go on with the same ones
                if path.is_file() and not any(part[0] == "." for part in path.relative_to(self._folder).parts):
                    self._copy(path, path.relative_to(self._folder).as_posix())
            for name in _PRIVATE if with_keys else ():
                self._copy(self._folder / "keys" / name, f"keys/{name}")
            manifest = self._manifest(contents, schema_of(store), with_keys=with_keys, now=now)
            self._commit(manifest)
        except BaseException:
            shutil.rmtree(self._stage, ignore_errors=True)
            raise
        finally:
            shutil.rmtree(self._cache, ignore_errors=True)
        return manifest

    def _hold(self, stack: contextlib.ExitStack, contents: _Contents) -> dict[str, IO[bytes]]:
        """What open runs need, open: it can be read to its end, whatever is deleted meanwhile."""
        return {
            digest: stack.enter_context(self._needed(digest)) for digest in sorted(contents.needed - contents.lasting)
        }

    def _needed(self, digest: str) -> IO[bytes]:
        """A blob that an open run needs; raises where it is gone, and what that means."""
        try:
            return self._models.open(digest)
        except FileNotFoundError:
            again = self._stage / "again.sqlite"
            copy_store(self._data / "runs.sqlite", again)
            if digest not in _read(again).needed:
                raise _SupersededError from None
            raise IntegrityError(
                "a model that an open run needs is gone",
                code="backup.model_lost",
                value=digest[:16],
                cure="That run cannot go on: aimass run stop it, then back up again.",
            ) from None

    def _count(self, contents: _Contents) -> None:
        """How many bytes there are to copy, for whoever looks on."""
        for digest in contents.needed | contents.other:
            with contextlib.suppress(FileNotFoundError):
                self._of += self._models.size(digest)
        for key in contents.contributions:
            with contextlib.suppress(FileNotFoundError):
                self._of += (self._data / "spool" / key).stat().st_size

    def _note(self, name: str, digest: str, size: int) -> None:
        self._files[f"{self._name}/{name}"] = FileEntry(sha256=digest, bytes=size)

    def _moved(self, size: int) -> None:
        self._done += size
        self._progress(min(self._done, self._of), self._of)

    def _blob(self, digest: str, file: IO[bytes]) -> None:
        name = f"blobs/{digest[:2]}/{digest}"
        size = os.fstat(file.fileno()).st_size
        place = self._to / name
        if place.is_file() and place.stat().st_size == size:
            self._moved(size)
        else:
            make_folder(place.parent)
            part = place.with_name(f".{digest}.part")
            found = self._write(file, part)
            if found != digest:
                part.unlink()
                raise IntegrityError(
                    "a stored blob has changed on the disk",
                    code="storage.changed",
                    value=found,
                    limit=digest,
                    cure="Keep the last backup that verified, and restore this blob from it.",
                )
            part.replace(place)
            fsync_folder(place.parent)
        self._files[name] = FileEntry(sha256=digest, bytes=size)

    def _contribution(self, key: str, digest: str) -> None:
        """What is not whole is left out: the partner is asked again."""
        target = make_folder(self._stage / "spool") / key
        try:
            with (self._data / "spool" / key).open("rb") as file:
                found = self._write(file, target)
        except FileNotFoundError:
            self._left_out[f"{self._name}/spool/{key}"] = "its step was committed meanwhile, or it was lost"
            return
        if found != digest:
            target.unlink()
            self._left_out[f"{self._name}/spool/{key}"] = "it has changed on the disk"
            return
        self._note(f"spool/{key}", digest, target.stat().st_size)

    def _copy(self, source: Path, name: str) -> None:
        target = self._stage / name
        make_folder(target.parent)
        with source.open("rb") as file:
            self._note(name, self._write(file, target), os.fstat(file.fileno()).st_size)

    def _write(self, file: IO[bytes], target: Path) -> str:
        """Copy and flush; the SHA-256 of what was written."""
        hasher = hashlib.sha256()
        self._durability.reached("backup.write")
        with (
            disk_errors("a backup"),
            os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as copy,
        ):
            while block := file.read(_BLOCK):
                copy.write(block)
                hasher.update(block)
                self._moved(len(block))
            copy.flush()
            os.fsync(copy.fileno())
        return hasher.hexdigest()

    def _manifest(self, contents: _Contents, schema: str, *, with_keys: bool, now: float) -> Manifest:
        root = Root.from_pem((self._stage / "root.pem").read_bytes())
        trust = open_bundle((self._stage / "bundle.json").read_bytes(), root)
        return Manifest(
            format=FORMAT,
            software=f"aimass {importlib.metadata.version('aimass')}",
            schema=schema,
            server=self._settings.name,
            identity=_identity(self._folder),
            created_at=now,
            roster_epoch=trust.roster.epoch,
            roster_digest=trust.roster.digest,
            state=self._name,
            files=self._files,
            runs=len(contents.rows),
            open_runs=tuple(row.run_id for row in contents.rows if not row.run.state.final),
            left_out=self._left_out,
            keys=with_keys,
        )

    def _commit(self, manifest: Manifest) -> None:
        for folder in (*_folders(self._stage), self._stage):
            fsync_folder(folder)
        with contextlib.suppress(FileNotFoundError):
            fsync_folder(self._to / "blobs")
        self._stage.replace(self._to / self._name)
        fsync_folder(self._to)
        write_file(self._to / MANIFEST, canonical_json(manifest), self._durability, "backup.manifest")


def _folders(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.is_dir())


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(store: Path) -> _Contents:
    """What the copied store refers to; of models, those of every commit, whether they are still kept or not."""
    with reading(store) as copy:
        rows = tuple(copy.runs())
        models = frozenset(model.digest for model in copy.models(limit=_ALL))
    opened = [row for row in rows if not row.run.state.final]
    # The model before the present one is compared with it where it is kept, and missed by nobody where it is not.
    needed = frozenset[str]().union(*(in_use(msgspec.structs.replace(row.run, model_before="")) for row in opened)) - {
        ""
    }
    # A base may be here or with the partners alone.
    bases = frozenset(row.run.plan.base.digest for row in rows if row.run.plan.base is not None)
    other = frozenset[str]().union(models, bases, *(in_use(row.run) for row in rows)) - {""}
    contributions = {
        spool_key(row.run_id, index, partner): digest
        for row in opened
        for (index, partner), digest in row.run.acknowledged().items()
    }
    return _Contents(rows, needed, _lasting(opened), other, contributions)


def _lasting(opened: Sequence[RunRow]) -> frozenset[str]:
    """Replies in the journals of Flower apps, but for what their runs need for something else as well."""
    replies, more = set[str](), set[str]()
    for run in (row.run for row in opened):
        told = replies_of(run.driver) if run.plan.task.kind == "app" and run.driver else frozenset[str]()
        replies |= told
        more |= in_use(run) - told | {run.model, run.plan.model}
    return frozenset(replies - more)
