"""Objects as files in a folder, `file:///absolute/folder`: durable, and atomic on any file system with hard links."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from aimass.proto.durable import UNINTERRUPTED, Durability, Writeback, disk_errors, fsync_folder, make_folder, write_all
from aimass.proto.errors import BadInput, Refused, Unavailable
from aimass.proto.objects import (
    CHUNK_BYTES,
    Chunk,
    ObjectInfo,
    check_key,
    check_prefix,
    check_range,
    exists,
    is_key,
    replaced,
    unknown,
)

__all__ = ["FileObjects", "open_store"]

_PART: Final = "~"
"""Begins the names of files that are being written: no key holds this letter."""


def open_store(url: str) -> FileObjects:
    """The folder that `url` names; it is made with the first object."""
    parts = urlsplit(url)
    if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/") or parts.query or parts.fragment:
        raise BadInput("not the URL of a folder", code="storage.url", value=url, limit="file:///absolute/folder")
    return FileObjects(Path(unquote(parts.path)))


class FileObjects:
    """An `ObjectStore` in a folder. Files whose names are no keys are nobody's, and not listed."""

    def __init__(self, folder: Path, durability: Durability = UNINTERRUPTED) -> None:
        self.folder = folder
        self._durability = durability

    @property
    def url(self) -> str:
        """The folder as a URL."""
        return f"file://{quote(str(self.folder))}"

    def path(self, key: str) -> Path:
        """Where the object of this key stands, if it is here."""
        return self.folder / check_key(key)

    def head(self, key: str) -> ObjectInfo:
        """Size and version."""
        with self._opened(key) as descriptor:
            return _info(key, os.fstat(descriptor))

    def read(self, key: str, start: int = 0, size: int | None = None, version: str = "") -> bytes:
        """A range."""
        check_range(start, size)
        with self._opened(key) as descriptor:
            found = _info(key, os.fstat(descriptor))
            if version and found.version != version:
                raise replaced(self, key)
            left = max(0, found.size - start)
            return _read(descriptor, start, left if size is None else min(size, left))

    def stream(self, key: str, start: int = 0, version: str = "") -> Iterator[bytes]:
        """Chunks of the file that stood there at the first; another that is put in its place does not change them."""
        check_range(start)
        with self._opened(key) as descriptor:
            begun = _info(key, os.fstat(descriptor))
            if version and begun.version != version:
                raise replaced(self, key)
            while chunk := _read(descriptor, start, CHUNK_BYTES):
                yield chunk
                start += len(chunk)
                if _info(key, os.fstat(descriptor)) != begun:  # somebody writes into the file itself
                    raise replaced(self, key)

    def create(self, key: str, data: Chunk) -> ObjectInfo:
        """The atomic commit: a hard link, which never replaces a name."""
        return self.write(key, (data,), create=True)

    def put(self, key: str, data: Chunk) -> ObjectInfo:
        """Replace, by a rename."""
        return self.write(key, (data,))

    def write(self, key: str, chunks: Iterable[Chunk], *, create: bool = False) -> ObjectInfo:
        """Write beside, flush, and give it its name."""
        path = self.path(key)
        with self._errors(key):
            if create and path.exists():
                raise exists(self, key)
            self._make(path.parent)
        part = path.with_name(f"{_PART}{secrets.token_hex(8)}")
        self._durability.reached("objects.write")
        try:
            info = self._write(key, part, chunks)
            with self._errors(key):
                _name(part, path, create=create)
                fsync_folder(path.parent)
        except FileExistsError:
            raise exists(self, key) from None
        finally:
            part.unlink(missing_ok=True)
        self._durability.reached("objects.written")
        return info

    def _write(self, key: str, part: Path, chunks: Iterable[Chunk]) -> ObjectInfo:
        with self._errors(key):
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            writeback = Writeback(descriptor)
            for chunk in chunks:  # what these raise is the caller's, and not of this file system
                with self._errors(key):
                    write_all(descriptor, chunk)
                writeback.wrote(len(chunk))
            with self._errors(key):
                os.fsync(descriptor)
            return _info(key, os.fstat(descriptor))
        finally:
            os.close(descriptor)

    def delete(self, key: str) -> None:
        """Remove the file; its folders stay."""
        path = self.path(key)
        with self._errors(key):
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return
            fsync_folder(path.parent)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Objects in the order of their keys; one folder is in memory at a time, on each level."""
        check_prefix(prefix)
        folder, _, _ = prefix.rpartition("/")
        if folder:
            try:
                check_key(folder)
            except BadInput:
                return iter(())
        return self._below(f"{folder}/" if folder else "", prefix)

    def sweep(self, before: float, *, dry_run: bool = False) -> int:
        """See `LeavesParts`."""
        found = 0
        for path in self.folder.rglob(f"{_PART}*"):
            with suppress(FileNotFoundError):  # its writer has given it its name
                if path.stat().st_mtime < before and path.is_file():
                    found += 1
                    if not dry_run:
                        path.unlink()
        return found

    def _below(self, folder: str, prefix: str) -> Iterator[ObjectInfo]:
        # A folder sorts as what its keys go on with: "a-b" before "a/b" before "a0".
        for name, entry in sorted(self._entries(folder)):
            place = f"{folder}{name}"
            if not is_key(place.removesuffix("/")):
                continue
            if name.endswith("/"):
                if place.startswith(prefix) or prefix.startswith(place):
                    yield from self._below(place, prefix)
            elif place.startswith(prefix) and (found := self._stat(entry)) is not None:
                yield _info(place, found)

    def _entries(self, folder: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        with self._errors(folder):
            try:
                with os.scandir(self.folder / folder) as entries:
                    return iter([(f"{one.name}/" if one.is_dir() else one.name, one) for one in entries])
            except (FileNotFoundError, NotADirectoryError):
                return iter(())

    def _stat(self, entry: os.DirEntry[str]) -> os.stat_result | None:
        with self._errors(entry.name):
            try:
                return entry.stat() if entry.is_file() else None
            except FileNotFoundError:  # deleted since
                return None

    def _make(self, folder: Path) -> None:
        if folder.is_dir():
            return
        try:
            make_folder(folder)
        except FileExistsError as error:
            raise NotADirectoryError(errno.ENOTDIR, "a file", str(error.filename)) from error
        while folder != self.folder.parent:
            folder = folder.parent
            fsync_folder(folder)

    @contextmanager
    def _opened(self, key: str) -> Iterator[int]:
        path = self.path(key)
        with self._errors(key):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError):
                raise unknown(self, key) from None
        try:
            with self._errors(key):
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise unknown(self, key)
                yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            with disk_errors(key):
                yield
        except OSError as error:
            if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
                raise Refused(
                    f"the file system does not let us: {error.strerror}",
                    code="storage.denied",
                    value=f"{key} at {self.url}",
                    cure="Give the user that runs this the right to it.",
                ) from error
            if error.errno in {errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY}:
                raise BadInput(
                    "one key would be a folder of another", code="storage.folder", value=f"{key} at {self.url}"
                ) from error
            if isinstance(error, FileExistsError):
                raise  # `write` says what it means
            raise Unavailable(
                f"the file system does not do what it is asked: {error.strerror}",
                code="storage.unavailable",
                value=f"{key} at {self.url}",
                cure="Look whether its disk or its network mount works, and whether links in it lead anywhere.",
            ) from error


def _name(part: Path, path: Path, *, create: bool) -> None:
    if create:
        os.link(part, path)
    else:
        part.replace(path)


def _read(descriptor: int, start: int, size: int) -> bytes:
    """All of a range, in as many calls as it takes; less where the file ends."""
    data = os.pread(descriptor, size, start)
    if 0 < len(data) < size:
        data += _read(descriptor, start + len(data), size - len(data))
    return data


def _info(key: str, found: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, found.st_size, f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}")
