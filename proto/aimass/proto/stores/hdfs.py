"""Objects as files of an HDFS, over any client of it: what the two ways to a cluster, REST and Java, have in common.

A file is written beside all keys under a name that nobody else knows, and then renamed: without overwriting for
`create`, which HDFS decides in one step of its name node ("Hadoop FileSystem API", `rename` with options). Where an
answer was lost, the id of the file that stands under the key says whose it is: files keep it when they are renamed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Final, TypeVar

from aimass.proto.errors import AimassError, Conflict, NotFound, Refused, Unavailable
from aimass.proto.objects import (
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
from aimass.proto.stores.hdfs_errors import HdfsError, named
from aimass.proto.stores.hdfs_files import HadoopFiles, Status, in_key_order
from aimass.proto.stores.hdfs_sending import Source, sent_again
from aimass.proto.stores.retries import PATIENT, Retries

__all__ = ["HdfsObjects"]

T = TypeVar("T")
_PARTS: Final = "~parts"
"""Folder of the files that are being written: no key holds this letter."""


class HdfsObjects:
    """An `ObjectStore` below a folder. Files whose names are no keys are nobody's, and not listed."""

    def __init__(self, url: str, files: HadoopFiles, root: str, retries: Retries = PATIENT) -> None:
        self._url, self._files, self._root, self._retries = url, files, root.rstrip("/"), retries
        self._few = replace(retries, attempts=min(3, retries.attempts))

    @property
    def url(self) -> str:
        """As it was given."""
        return self._url

    def head(self, key: str) -> ObjectInfo:
        """Size and version."""
        path = self._path(key)
        return self._run(key, lambda: self._head(key, path))

    def read(self, key: str, start: int = 0, size: int | None = None, version: str = "") -> bytes:
        """A range."""
        check_range(start, size)
        path = self._path(key)

        def attempt() -> bytes:
            found = self._pinned(key, path, version)
            left = max(0, found.size - start)
            data = b"".join(self._opened(path, start, left if size is None else min(size, left)))
            try:
                self._unchanged(key, path, found)
            except Conflict as error:
                if version:
                    raise
                raise Unavailable(error.what, code=error.code) from error  # who names no version reads the newest
            return data

        return self._run(key, attempt)

    def stream(self, key: str, start: int = 0, version: str = "") -> Iterator[bytes]:
        """Chunks of one version; whether it stands there still is looked at after each cut, and at the end."""
        check_range(start)
        path = self._path(key)
        at, pinned = start, version

        def begin() -> Iterator[bytes]:
            nonlocal at, pinned
            with self._errors(key):
                found = self._pinned(key, path, pinned)
                pinned = found.version
                for chunk in self._opened(path, at, max(0, found.size - at)):
                    at += len(chunk)
                    yield chunk
                self._unchanged(key, path, found)

        return self._retries.resumed(begin)

    def create(self, key: str, data: Chunk) -> ObjectInfo:
        """The atomic commit: a rename that overwrites nothing, and alone decides."""
        return self._store(key, (data,), create=True)

    def put(self, key: str, data: Chunk) -> ObjectInfo:
        """Replace, by a rename that overwrites."""
        return self._store(key, (data,), create=False)

    def write(self, key: str, chunks: Iterable[Chunk], *, create: bool = False) -> ObjectInfo:
        """Write beside all keys, and rename. Chunks that come only once are kept in a file, for another try."""
        path = self._path(key)
        if create and self._run(key, lambda: self._stands(path)):  # saves sending it all
            raise exists(self, key)
        return self._store(key, chunks, create=create)

    def delete(self, key: str) -> None:
        """Remove the file; its folders stay."""
        path = self._path(key)
        if self._run(key, lambda: self._stands(path)):  # an empty folder would be deleted too
            self._run(key, lambda: self._files.delete(path))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Objects in the order of their keys; of each folder on the way one page is in memory."""
        check_prefix(prefix)
        folder = prefix.rpartition("/")[0]
        if folder and not is_key(folder):
            return iter(())
        return self._below(f"{folder}/" if folder else "", prefix)

    def sweep(self, before: float, *, dry_run: bool = False) -> int:
        """See `LeavesParts`. A file's time is of its creation until it is closed."""
        folder = f"{self._root}/{_PARTS}"
        parts = [one.name for one in self._entries(folder) if not one.folder and one.modified_ms < 1_000 * before]
        for name in () if dry_run else parts:
            self._forget(f"{folder}/{name}")
        return len(parts)

    def _path(self, key: str) -> str:
        return f"{self._root}/{check_key(key)}"

    def _head(self, key: str, path: str) -> ObjectInfo:
        found = self._files.status(path)
        if found is None or found.folder:
            raise unknown(self, key)
        return ObjectInfo(key, found.size, found.version)

    def _pinned(self, key: str, path: str, version: str) -> ObjectInfo:
        found = self._head(key, path)
        if version and found.version != version:
            raise replaced(self, key)
        return found

    def _unchanged(self, key: str, path: str, begun: ObjectInfo) -> None:
        """A file that stands there now has stood there since it was opened: no inode comes back once it is replaced."""
        try:
            now = self._head(key, path)
        except NotFound:
            raise replaced(self, key) from None
        if now != begun:
            raise replaced(self, key)

    def _opened(self, path: str, start: int, size: int) -> Iterator[bytes]:
        """All of a range: an answer that ends before, and says that it is whole, is a broken link too."""
        left = size
        if left:
            for chunk in self._files.open(path, start, size):
                left -= len(chunk)
                yield chunk
        if left:
            raise Unavailable("the store cut its answer short", code="storage.unavailable", value=f"{left} bytes less")

    def _store(self, key: str, chunks: Iterable[Chunk], *, create: bool) -> ObjectInfo:
        check_key(key)
        with sent_again(chunks) as again:
            part, made = self._written(key, again)
        try:
            self._run(key, lambda: self._name(key, part, made, create=create))
        except BaseException:
            self._forget(part)
            raise
        return ObjectInfo(key, made.size, made.version)

    def _written(self, key: str, chunks: Iterable[Chunk]) -> tuple[str, Status]:
        """A file beside all keys: its path, and what it is."""

        def attempt() -> tuple[str, Status]:
            part = f"{self._root}/{_PARTS}/{secrets.token_hex(16)}"
            source = Source(chunks)
            try:
                with self._errors(key):
                    self._files.create(part, source)
                return part, _whole(self._run(key, lambda: self._files.status(part)), source.size)
            except BaseException:
                self._forget(part)
                if source.raised is not None:  # the caller's, whatever the client made of it
                    raise source.raised from None
                raise

        return self._retries.run(attempt)

    def _name(self, key: str, part: str, made: Status, *, create: bool) -> None:
        """Rename, once; an error is one only if it was not done all the same, by this try or one before."""
        path = self._path(key)
        try:
            with self._errors(key):
                self._make_folder(path.rpartition("/")[0] or "/")
                self._files.rename(part, path, overwrite=not create)
        except Refused:  # no answer was lost
            raise
        except AimassError as error:
            if not self._renamed(key, part, made, create=create):
                if isinstance(error, NotFound):
                    raise Unavailable("the object's folder is gone", code="storage.unavailable") from error
                raise

    def _renamed(self, key: str, part: str, made: Status, *, create: bool) -> bool:
        """Whether the object is under its key, or was until somebody replaced it.

        An answer may be lost, and Java's client tries again by itself and then tells of a part that is gone. So what
        was said decides nothing. A `put` that another has replaced is as good as one that came just before it.
        """
        there = self._files.status(self._path(key))
        if there is not None and there.inode == made.inode != 0:
            return True
        if there is None or self._files.status(part) is not None:
            return False
        if create and made.inode:
            raise exists(self, key)
        return True

    def _make_folder(self, path: str) -> None:
        try:
            self._files.make_folder(path)
        except HdfsError as error:
            if error.java != "FileAlreadyExistsException":
                raise
            raise HdfsError("ParentNotDirectoryException", error.message) from None

    def _stands(self, path: str) -> bool:
        found = self._files.status(path)
        return found is not None and not found.folder

    def _forget(self, part: str) -> None:
        """What cannot be removed now is left to `sweep`."""
        with suppress(AimassError):
            self._run(part, lambda: self._files.delete(part), self._few)

    def _below(self, folder: str, prefix: str) -> Iterator[ObjectInfo]:
        for one in in_key_order(self._entries(f"{self._root}/{folder}".rstrip("/") or "/")):
            place = f"{folder}{one.name}"
            if not is_key(place):
                continue
            if one.folder:
                if f"{place}/".startswith(prefix) or prefix.startswith(f"{place}/"):
                    yield from self._below(f"{place}/", prefix)
            elif place.startswith(prefix):
                yield ObjectInfo(place, one.size, one.version)

    def _entries(self, path: str) -> Iterator[Status]:
        """Everything in a folder; after a cut it goes on behind the last name."""
        last = ""

        def begin() -> Iterator[Status]:
            nonlocal last
            with self._errors(path):
                for one in self._files.entries(path):
                    if one.name > last:
                        last = one.name
                        yield one

        return self._retries.resumed(begin)

    def _run(self, key: str, ask: Callable[[], T], retries: Retries | None = None) -> T:
        def attempt() -> T:
            with self._errors(key):
                return ask()

        return (retries or self._retries).run(attempt)

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except HdfsError as error:
            told = named(error, self, key)
        else:
            return
        raise told


def _whole(part: Status | None, size: int) -> Status:
    """What was written, if it has all of its bytes: a data node whose writer is cut off keeps what came."""
    if part is None or part.size != size:
        raise Unavailable("the store kept a part of the bytes", code="storage.unavailable", value=part, limit=size)
    return part
