"""Where blobs stand: content-addressed stores and the spool of unfinished uploads, behind one seam.

`Blobs` is the seam that S3, OSS and HDFS come behind. A blob is named by its SHA-256, written once, never changed, and
checked whenever it is opened for the first time by a process. `Spool` keeps the bytes of uploads that broke off, so
that they go on where they stopped.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Final, Protocol

from aimass.proto.durable import (
    UNINTERRUPTED,
    Durability,
    Writeback,
    disk_errors,
    fsync_folder,
    make_folder,
    remove_file,
    write_all,
)
from aimass.proto.errors import BadInput, Conflict, IntegrityError, LimitExceeded, NotFound, WrongState
from aimass.proto.hashing import file_digest
from aimass.proto.mapping import map_pages

__all__ = ["Blobs", "FileBlobs", "Spool", "SpoolWriter", "is_digest", "map_descriptor", "map_file", "scratch"]

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_BLOCK: Final = 1 << 20
_MAPS: Final = 64
_PART: Final = re.compile(r"\.[0-9a-f]{64}\.part\Z")


class Blobs(Protocol):
    """Immutable bytes by digest."""

    def put(self, chunks: Iterable[bytes | memoryview]) -> str:
        """Store the concatenation of `chunks` durably; the same content twice is stored once. Returns the digest."""
        ...

    def adopt(self, path: Path, digest: str) -> None:
        """Take a finished file whose digest was verified; it is moved, not copied, where the store allows it."""
        ...

    def open(self, digest: str) -> memoryview:
        """The blob's bytes, read-only and memory-mapped where that is possible; raises `NotFound`, `IntegrityError`."""
        ...

    def has(self, digest: str) -> bool:
        """Whether the blob is here."""
        ...

    def listed(self, digest: str) -> bool:
        """As `has`, from what is known without asking: for views of many. A blob may be here that is not listed."""
        ...

    def size(self, digest: str) -> int:
        """Bytes of a blob that is here."""
        ...

    def descriptor(self, digest: str) -> int:
        """The blob as an open file, for another process; verified as by `open`, and the caller's to close."""
        ...

    def delete(self, digest: str) -> None:
        """Remove the blob if it is here."""
        ...

    def sweep(self) -> None:
        """Forget what a crash cut; for the one process that writes here, before it writes."""
        ...

    def digests(self) -> Iterator[str]:
        """All blobs, in no order."""
        ...


def map_file(path: Path, *, keep_file: bool = False) -> memoryview:
    """The bytes of `path`, memory-mapped read-only; they stay readable while the view lives, even if it is deleted.

    `keep_file` is for who reads them once, part by part (`pages.PartReader`).
    """
    with path.open("rb") as file:
        return map_pages(file.fileno(), os.fstat(file.fileno()).st_size, keep_file=keep_file)


def map_descriptor(descriptor: int) -> memoryview:
    """The bytes behind an open file, memory-mapped read-only; the descriptor may be closed afterwards."""
    return map_pages(descriptor, os.fstat(descriptor).st_size)


def scratch(folder: Path, size: int) -> memoryview:
    """Bytes to be written, mapped from a file in `folder` that has no name and goes with the last view of it.

    Its blocks are taken at once: raises `OutOfSpace`, where a page that has none when it is touched would end the
    process.
    """
    if size == 0:
        return memoryview(bytearray())
    with tempfile.TemporaryFile(dir=folder) as file, disk_errors("work in progress"):
        os.posix_fallocate(file.fileno(), 0, size)
        return memoryview(mmap.mmap(file.fileno(), size))


class FileBlobs:
    """Blobs as files named by their digest, in folders by its first two digits."""

    def __init__(self, folder: Path, durability: Durability = UNINTERRUPTED) -> None:
        self._folder = make_folder(folder)
        self._durability = durability
        self._verified: dict[str, memoryview] = {}
        self._one_at_a_time = threading.Lock()

    def _remember(self, digest: str, view: memoryview) -> memoryview:
        """Keep the newest maps: a store of many models must not use up the address space. For any thread."""
        with self._one_at_a_time:
            self._verified[digest] = view
            while len(self._verified) > _MAPS:
                del self._verified[next(iter(self._verified))]
        return view

    def path(self, digest: str) -> Path:
        """Where the blob of this digest stands, if it is here."""
        if not _DIGEST.fullmatch(digest):
            raise BadInput("not a SHA-256 in hexadecimal", code="storage.digest", value=digest)
        return self._folder / digest[:2] / digest

    def put(self, chunks: Iterable[bytes | memoryview]) -> str:
        """Store the concatenation of `chunks` durably; returns its digest."""
        self._durability.reached("blobs.write")
        temporary = self._folder / f".{secrets.token_hex(8)}.part"
        hasher = hashlib.sha256()
        try:
            with disk_errors("a model"), temporary.open("xb", buffering=0) as file:
                writeback = Writeback(file.fileno())
                for chunk in chunks:
                    hasher.update(chunk)
                    write_all(file.fileno(), chunk)
                    writeback.wrote(len(chunk))
                os.fsync(file.fileno())
            digest = hasher.hexdigest()
            self.adopt(temporary, digest)
        finally:
            temporary.unlink(missing_ok=True)
        return digest

    def adopt(self, path: Path, digest: str) -> None:
        """Move a flushed file of known digest to its place."""
        place, view = self.path(digest), map_file(path)
        with disk_errors("a model"):
            make_folder(place.parent)
            path.replace(place)
            fsync_folder(place.parent)
            fsync_folder(self._folder)
        # Its bytes were hashed on the way here: this process need not read them again before it hands them out.
        self._remember(digest, view)
        self._durability.reached("blobs.written")

    def open(self, digest: str) -> memoryview:
        """The blob, verified the first time that this process opens it and shared afterwards."""
        if (held := self._verified.get(digest)) is not None:
            return held
        path = self.path(digest)
        try:
            found, held = file_digest(path), map_file(path)
        except FileNotFoundError:  # never there, or deleted meanwhile by who makes room
            raise NotFound("no such blob", code="storage.unknown", value=digest) from None
        if found != digest:
            raise IntegrityError(
                "a stored blob has changed on the disk",
                code="storage.changed",
                value=found,
                limit=digest,
                cure=f"Restore {path.name} from a backup; it is not used.",
            )
        return self._remember(digest, held)

    def descriptor(self, digest: str) -> int:
        """The blob as an open file, for another process; verified as by `open`, and the caller's to close."""
        self.open(digest)
        return os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC)

    def has(self, digest: str) -> bool:
        """Whether the blob is here."""
        return self.path(digest).is_file()

    def listed(self, digest: str) -> bool:
        """As `has`: a disk is soon asked."""
        return self.has(digest)

    def delete(self, digest: str) -> None:
        """Remove the blob if it is here; views that are open stay valid."""
        with self._one_at_a_time:
            self._verified.pop(digest, None)
        remove_file(self.path(digest))

    def sweep(self) -> None:
        """Forget what a crash cut; for the one process that writes here, before it writes."""
        for path in self._folder.glob(".*.part"):
            path.unlink(missing_ok=True)

    def size(self, digest: str) -> int:
        """Bytes of a blob that is here."""
        return self.path(digest).stat().st_size

    def digests(self) -> Iterator[str]:
        """All blobs."""
        return (path.name for path in self._folder.glob("??/*") if _DIGEST.fullmatch(path.name))


def is_digest(name: str) -> bool:
    """Whether `name` is a SHA-256 in hexadecimal."""
    return _DIGEST.fullmatch(name) is not None


class Spool:
    """Uploads in progress: bytes by key, resumed at the offset that is on the disk.

    A key belongs to one upload of stated size and digest. Not safe for two writers of one key: the caller serialises.
    """

    def __init__(self, folder: Path, durability: Durability = UNINTERRUPTED, *, synced: bool = True) -> None:
        """Without `synced` a finished upload may be lost or torn by a crash: verify it before it is used after one."""
        self._folder = make_folder(folder)
        self._durability, self._synced = durability, synced

    def path(self, key: str) -> Path:
        """Where the finished upload of `key` stands."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,200}", key):
            raise BadInput("not a spool key", code="spool.key", value=ascii(key))
        return self._folder / key

    def begin(self, key: str, size: int | None, digest: str, *, kept: bool = True) -> SpoolWriter:
        """Open the upload of `key` where it broke off; other bytes than were begun start afresh.

        A size that is not known yet is stated with `expect` before the first byte. What is not `kept` moves on to
        another place when it is finished.
        """
        path = self.path(key)
        part = path.with_name(f"{path.name}.{digest}.part")
        for other in self._folder.glob(f"{path.name}.*.part"):
            if other != part:
                other.unlink(missing_ok=True)
        return SpoolWriter(part, path, size, digest, self._durability, synced=self._synced)

    def has(self, key: str) -> bool:
        """Whether the upload of `key` is finished."""
        return self.path(key).is_file()

    def begun(self, key: str) -> int:
        """Bytes that are here of the upload of `key` while it is not finished."""
        return sum(part.stat().st_size for part in self._folder.glob(f"{self.path(key).name}.*.part"))

    def discard(self, key: str) -> None:
        """Forget the upload of `key`, finished or not."""
        path = self.path(key)
        for part in self._folder.glob(f"{path.name}.*.part"):  # first: what is finished now has its last name after it
            remove_file(part)
        remove_file(path)

    def sizes(self) -> dict[str, int]:
        """Bytes of every upload by key, finished or not."""
        found: dict[str, int] = {}
        for path in self._folder.iterdir():
            key = _PART.sub("", path.name)
            found[key] = found.get(key, 0) + path.stat().st_size
        return found

    def close(self) -> None:
        """Wait for what goes on behind."""

    def sweep(self, wanted: Callable[[str], bool]) -> None:
        """Forget every upload, finished or not, whose key is not wanted any more."""
        for path in list(self._folder.iterdir()):
            if not wanted(_PART.sub("", path.name)):
                path.unlink(missing_ok=True)


class SpoolWriter:
    """One upload: append chunks, then `finish`. Hashes while the bytes move; on resumption what is there is read."""

    def __init__(
        self, part: Path, path: Path, size: int | None, digest: str, durability: Durability, *, synced: bool
    ) -> None:
        self._part, self._path, self._size, self._digest = part, path, -1, digest
        self._durability, self._synced = durability, synced
        self._hasher = hashlib.sha256()
        self._then: Callable[[Path], None] | None = None
        if size is not None and self._is_finished(size):
            # Stored before a crash, and not recorded yet by whoever asked for it: nothing needs to be sent again.
            self._file: IO[bytes] | None = None
            self.offset = size
            return
        with disk_errors("an upload"):
            self._file = part.open("ab", buffering=0)  # nothing is left to be written when it is closed
        self.offset = self._file.tell()
        self._writeback = Writeback(self._file.fileno(), self.offset) if synced else None
        if self.offset:
            with part.open("rb") as held:
                while block := held.read(_BLOCK):
                    self._hasher.update(block)
        if size is not None:
            self.expect(size)

    def expect(self, size: int) -> None:
        """State how many bytes the whole upload has; what is there and longer is begun afresh."""
        self._size = size
        if self.offset > size:
            self._open_file().truncate(0)
            self.offset, self._hasher = 0, hashlib.sha256()

    def then(self, finished: Callable[[Path], None] | None) -> SpoolWriter:
        """Call `finished` with the upload's path at its end, before `finish` returns."""
        self._then = finished
        return self

    def append(self, chunk: bytes | memoryview) -> None:
        """Add the next bytes; raises `LimitExceeded` beyond the stated size, `WrongState` for an upload given up."""
        if self.offset + len(chunk) > self._size:
            raise LimitExceeded(
                "more bytes than the upload's header states",
                code="spool.too_long",
                value=self.offset + len(chunk),
                limit=self._size,
            )
        descriptor = self._open_file().fileno()
        if os.fstat(descriptor).st_nlink == 0:
            raise self._given_up()  # what goes into a file without a name fills the disk, and serves nobody
        with disk_errors("an upload"):
            write_all(descriptor, chunk)
        self._hasher.update(chunk)
        self.offset += len(chunk)
        if self._writeback is not None:
            self._writeback.wrote(len(chunk))

    def finish(self) -> Path:
        """Check size and digest, flush to the disk and give the upload its final name; returns its path."""
        if self._file is None:
            if self._synced:  # its bytes were flushed before it had its name; whether the name was, nobody knows
                with disk_errors("an upload"):
                    fsync_folder(self._path.parent)
            return self._done()
        if self.offset != self._size:
            raise Conflict(
                "the upload ended early",
                code="spool.too_short",
                value=self.offset,
                limit=self._size,
                cure="Send the rest from this offset.",
            )
        # A second writer of this key would have hashed its own bytes well, and the file would hold both writers'.
        if self._hasher.hexdigest() != self._digest or os.fstat(self._file.fileno()).st_size != self._size:
            self.close()
            self._part.unlink(missing_ok=True)
            raise IntegrityError(
                "the upload does not match its digest",
                code="spool.digest",
                value=self._hasher.hexdigest(),
                limit=self._digest,
                cure="Send it again from the start.",
            )
        self._durability.reached("spool.write")
        with disk_errors("an upload"):
            if self._synced:
                os.fsync(self._file.fileno())
            self._file.close()
            self._rename()
            if self._synced:
                fsync_folder(self._path.parent)
        return self._done()

    def _done(self) -> Path:
        self._durability.reached("spool.written")
        if self._then is not None:
            self._then(self._path)
        return self._path

    def _rename(self) -> None:
        try:
            self._part.replace(self._path)
        except FileNotFoundError:
            raise self._given_up() from None

    def _given_up(self) -> WrongState:
        return WrongState("the upload was given up before its last byte", code="spool.discarded", value=self._path.name)

    def close(self) -> None:
        """Keep what is there for a resumption."""
        if self._file is not None:
            self._file.close()

    def _is_finished(self, size: int) -> bool:
        if not self._path.is_file() or self._path.stat().st_size != size:
            return False
        return file_digest(self._path) == self._digest

    def _open_file(self) -> IO[bytes]:
        if self._file is None:
            raise Conflict("this upload is finished", code="spool.finished", value=self._path.name)
        return self._file
