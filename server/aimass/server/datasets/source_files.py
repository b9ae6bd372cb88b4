"""Files that rows come from, on a disk or in a store: read as any file is, and known again by a stamp."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final, Protocol
from urllib.parse import urlsplit, urlunsplit

from aimass.proto.errors import BadInput
from aimass.proto.hashing import digest_of, file_digest
from aimass.proto.objects import ObjectStore, open_objects

__all__ = ["LocalFile", "SourceFile", "StoredFile", "stored_files"]

_AHEAD_BYTES: Final = 4 << 20


class SourceFile(Protocol):
    """One file; `stamp` changes when somebody writes to it."""

    @property
    def name(self) -> str:
        """Its name without folders."""
        ...

    def open(self) -> IO[bytes]:
        """Its bytes, at any position; the caller closes it."""
        ...

    def digest(self) -> str:
        """SHA-256, by reading it all."""
        ...

    def stamp(self) -> tuple[Any, ...]:
        """Its size in bytes, and what tells that it was written to."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class LocalFile:
    """A file on a disk."""

    path: Path

    @property
    def name(self) -> str:
        """Its name without folders."""
        return self.path.name

    def open(self) -> IO[bytes]:
        """Its bytes."""
        return self.path.open("rb")

    def digest(self) -> str:
        """SHA-256."""
        return file_digest(self.path)

    def stamp(self) -> tuple[Any, ...]:
        """Size, inode and time of the last writing."""
        found = self.path.stat()
        return found.st_size, found.st_ino, found.st_mtime_ns


@dataclasses.dataclass(frozen=True, slots=True)
class StoredFile:
    """An object in a store, as it was under `version`; another in its place is a `Conflict` for who reads on."""

    store: ObjectStore
    key: str
    size: int
    version: str

    @property
    def name(self) -> str:
        """The last part of its key."""
        return PurePosixPath(self.key).name

    def open(self) -> IO[bytes]:
        """Its bytes, in ranges of some megabytes."""
        return io.BufferedReader(_Ranges(self), _AHEAD_BYTES)

    def digest(self) -> str:
        """SHA-256."""
        return digest_of(self.store.stream(self.key, version=self.version))

    def stamp(self) -> tuple[Any, ...]:
        """Size and version."""
        found = self.store.head(self.key)
        return found.size, found.version


class _Ranges(io.RawIOBase):
    """An object as a file that can be read at any position."""

    def __init__(self, file: StoredFile) -> None:
        self._file, self._at = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer)
        data = self._file.store.read(self._file.key, self._at, len(view), self._file.version)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)


def stored_files(url: str, endings: Sequence[str]) -> tuple[StoredFile, ...]:
    """The file at `url`, or where that ends in a slash all files below it with these endings, in the order of their
    keys; options of a store's URL stand behind it as usual. Raises `NotFound`, `BadInput` for a folder without any."""
    parts = urlsplit(url)
    folder, _, name = parts.path.rpartition("/")
    store = open_objects(urlunsplit(parts._replace(path=folder or "/")))
    if name:
        found = [store.head(name)]
    else:
        found = [info for info in store.list() if PurePosixPath(info.key).suffix.lower() in endings]
    if not found:
        raise BadInput("no data file stands below this URL", code="dataset.source", value=url, limit=", ".join(endings))
    return tuple(StoredFile(store, info.key, info.size, info.version) for info in found)
