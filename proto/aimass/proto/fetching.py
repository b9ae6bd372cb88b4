"""Objects of a store on the local disk: fetched once, by their digest, for whoever reads a file again and again.

`fetch` goes on where it broke off and takes large objects in ranges at once; `ObjectCache` keeps what was fetched below
a limit. Any number of threads and processes may share one folder.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aimass.proto.durable import make_folder
from aimass.proto.errors import IntegrityError, LimitExceeded
from aimass.proto.hashing import file_digest
from aimass.proto.objects import ObjectStore
from aimass.proto.storage import Spool

__all__ = ["AT_ONCE", "RANGE_BYTES", "ObjectCache", "fetch", "ranges"]

RANGE_BYTES: Final = 8 << 20
AT_ONCE: Final = 4
"""Ranges under way, and in memory, of one object."""
_LOCKS: Final = ".locks"


def fetch(store: ObjectStore, key: str, digest: str, size: int, folder: Path) -> Path:
    """The object as a file named by its SHA-256 in `folder`; what is there already is checked, and is not asked for.

    A transfer that breaks off goes on the next time; the file may be lost in a crash of the machine, and is then
    fetched again. Raises `IntegrityError` as `storage.size` or `storage.digest` for other bytes, `Conflict` as
    `storage.replaced`, and what the store raises.
    """
    spool = Spool(folder, synced=False)
    path = spool.path(digest)
    with _alone(folder, digest):
        if path.is_file():
            if file_digest(path) == digest:
                return path
            path.unlink()
        found = store.head(key)
        if found.size != size:
            raise _other(store, key, "storage.size", found.size, size)
        writer = spool.begin(digest, size, digest)
        try:
            for piece in ranges(store, key, writer.offset, size, found.version):
                writer.append(piece)
            return writer.finish()
        except IntegrityError as error:
            raise _other(store, key, "storage.digest", error.value, digest) from error
        finally:
            writer.close()


def ranges(store: ObjectStore, key: str, start: int, size: int, version: str) -> Iterator[bytes]:
    """The bytes from `start` to `size` in order, read in ranges of which several are on their way at once."""
    if size - start <= RANGE_BYTES:
        yield from store.stream(key, start, version)
        return
    coming: deque[Future[bytes]] = deque()
    pool = ThreadPoolExecutor(AT_ONCE, "aimass-fetch")
    try:
        for at in range(start, size, RANGE_BYTES):
            coming.append(pool.submit(store.read, key, at, min(RANGE_BYTES, size - at), version))
            if len(coming) == AT_ONCE:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class ObjectCache:
    """Objects by digest in a folder of at most `limit_bytes`; what was used longest ago goes first.

    Those who fetch at the same time may exceed the limit by one object each. A file is checked again when it changed
    since this cache saw it.
    """

    def __init__(self, folder: Path, limit_bytes: int, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._folder, self._limit, self._now_ns = make_folder(folder), limit_bytes, now_ns
        self._checked: dict[str, _Stamp] = {}

    @contextmanager
    def held(self, store: ObjectStore, key: str, digest: str, size: int) -> Iterator[Path]:
        """The object as a file that stays as long as the context. Raises as `fetch` and `held_by`."""
        with self.held_by(digest, size, lambda folder: fetch(store, key, digest, size, folder)) as path:
            yield path

    @contextmanager
    def held_by(self, digest: str, size: int, fetched: Callable[[Path], object]) -> Iterator[Path]:
        """As `held`, by a function that checks the file `digest` in the folder, or puts it there true.

        Raises `LimitExceeded` as `cache.full` where what is here is held and leaves no room.
        """
        descriptor = self._hold(digest, size, fetched)
        try:
            yield self._folder / digest
        finally:
            os.close(descriptor)

    def _hold(self, digest: str, size: int, fetched: Callable[[Path], object]) -> int:
        path = self._folder / digest
        while True:
            stamp = _stamp(path)
            if stamp is None or self._checked.get(digest) != stamp:
                self._make_room(digest, size)
                fetched(self._folder)
            with suppress(FileNotFoundError):  # where another needed the room meanwhile
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                fcntl.flock(descriptor, fcntl.LOCK_SH)
                found = os.fstat(descriptor)
                if found.st_nlink:
                    os.utime(descriptor, ns=(self._now_ns(), found.st_mtime_ns))
                    self._checked[digest] = _Stamp(found.st_ino, found.st_mtime_ns, found.st_size)
                    return descriptor
                os.close(descriptor)

    def _make_room(self, digest: str, size: int) -> None:
        held = [(found.st_atime_ns, found.st_size, path) for path, found in self._others(digest)]
        over = sum(bytes_ for _, bytes_, _ in held) + size - self._limit
        for _, bytes_, path in sorted(held):
            if over <= 0:
                return
            if self._removed(path):
                over -= bytes_
        if over > 0:
            raise LimitExceeded(
                "no room in the cache for one object more: all that is there is in use",
                code="cache.full",
                value=f"{size} bytes, {over} too many in {self._folder}",
                limit=f"{self._limit} bytes",
                cure="Give the cache a larger limit: what all workers of this machine hold at once has to fit.",
            )

    def _others(self, digest: str) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):
                if path.is_file() and not path.name.startswith(digest):
                    yield path, path.stat()

    def _removed(self, path: Path) -> bool:
        """Remove a file that nobody holds, or the rest of a transfer that nobody goes on with."""
        try:
            with _alone(self._folder, path.name, wait=False), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
        except BlockingIOError:
            return False
        except FileNotFoundError:
            return True
        return True


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What changes with a file's bytes."""

    inode: int
    modified_ns: int
    size: int


def _stamp(path: Path) -> _Stamp | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return _Stamp(found.st_ino, found.st_mtime_ns, found.st_size)


@contextmanager
def _alone(folder: Path, digest: str, *, wait: bool = True) -> Iterator[None]:
    """Keep other threads and processes from the file of `digest`; raises `BlockingIOError` instead of waiting."""
    lock = make_folder(folder / _LOCKS) / digest[:2]  # shared by some, so that locks are few and never removed
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def _other(store: ObjectStore, key: str, code: str, value: object, limit: object) -> IntegrityError:
    return IntegrityError(
        f"the store holds other bytes than were named for {key}",
        code=code,
        value=f"{value} at {store.url}",
        limit=limit,
        cure="They are not used. Fetch it from another store, or put the right bytes there again.",
    )
