"""What a backup says of itself: every file with its digest, for whoever verifies or restores it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Annotated, Final, Literal

import msgspec

from aimass.proto.errors import BadInput, IntegrityError, NotFound, VersionRefused
from aimass.proto.names import Digest, Name, RunId
from aimass.proto.values import Value, decode_json

__all__ = ["MANIFEST", "FileEntry", "Manifest", "NoProgress", "Progress", "read_manifest", "verify"]

MANIFEST: Final = "manifest.json"
FORMAT: Final = 1
_BLOCK: Final = 1 << 20
_SHOWN: Final = 5

Progress = Callable[[int, int], None]
"""Hears of bytes that are done, and of all."""


def NoProgress(done: int, of: int) -> None:  # noqa: N802  (stands where a `Progress` stands)
    """Nobody listens."""


class FileEntry(Value, frozen=True):
    """A file of the backup."""

    sha256: Digest
    bytes: Annotated[int, msgspec.Meta(ge=0)]


class Manifest(Value, frozen=True):
    """`manifest.json`. `files` are named below the backup's folder; `state` is the folder of what changes each time.

    `left_out` says what a restored server asks for again, and why it is not here: by file, as it would be named.
    """

    format: Literal[1]
    software: str
    schema: str
    server: Name
    identity: str
    created_at: float
    roster_epoch: int
    roster_digest: Digest
    state: Annotated[str, msgspec.Meta(pattern="^state-[0-9a-f]{16}\\Z")]
    files: dict[str, FileEntry]
    runs: int
    open_runs: tuple[RunId, ...]
    left_out: dict[str, str]
    keys: bool


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the backup in `folder`.

    Raises `NotFound` where there is no whole backup, `VersionRefused` for a format that this release does not read,
    `BadInput` for a manifest that is none or that names files outside.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise NotFound(
            "no whole backup is here",
            code="backup.absent",
            value=folder,
            cure="aimass server backup --to FOLDER makes one.",
        )
    data = path.read_bytes()
    _check_format(data)
    manifest = decode_json(Manifest, data, str(path))
    for name in manifest.files:
        parts = PurePosixPath(name).parts
        if not parts or PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name:
            raise BadInput("the manifest names a file outside the backup", code="backup.path", value=ascii(name))
    return manifest


def _check_format(data: bytes) -> None:
    try:
        found = msgspec.json.decode(data)["format"]
    except (msgspec.MsgspecError, KeyError, TypeError, UnicodeDecodeError):
        raise BadInput("the backup's manifest cannot be read", code="backup.manifest", value=MANIFEST) from None
    if found != FORMAT:
        raise VersionRefused(
            "a backup of another format",
            code="backup.format",
            value=found,
            limit=FORMAT,
            cure="Use the release that made it, or a newer one.",
        )


def verify(folder: Path, manifest: Manifest, progress: Progress = NoProgress) -> None:
    """Read every file of the backup; raises `IntegrityError` that names those that are gone or changed."""
    total, done, bad = sum(entry.bytes for entry in manifest.files.values()), 0, []
    for name, entry in sorted(manifest.files.items()):
        path = folder / name
        if path.is_symlink() or not path.is_file():
            bad.append(f"{name} is gone")
        elif path.stat().st_size != entry.bytes or _digest(path) != entry.sha256:
            bad.append(f"{name} has changed")
        done += entry.bytes
        progress(done, total)
    if bad:
        more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        raise IntegrityError(
            f"the backup is not whole: {'; '.join(bad[:_SHOWN])}{more}",
            code="backup.damaged",
            value=f"{len(bad)} of {len(manifest.files)} files",
            cure="Do not restore it. Delete the named files and back up again: blobs that stay are not copied anew.",
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
