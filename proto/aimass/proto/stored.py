"""Blobs and uploads that stand in an object store, with a folder of this machine before it.

The store is what counts: what was put or finished is durable there. The folder holds what is used, below a limit for
blobs, and is no loss. One process writes to a store.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final

from aimass.proto.cache import cache_folder
from aimass.proto.durable import UNINTERRUPTED, Durability, write_parts
from aimass.proto.errors import AimassError, Conflict, IntegrityError, NotFound
from aimass.proto.fetching import fetch
from aimass.proto.objects import CHUNK_BYTES, ObjectStore, commits, open_objects
from aimass.proto.storage import Blobs, FileBlobs, Spool, SpoolWriter, is_digest, map_file
from aimass.proto.stores.files import FileObjects

__all__ = ["CACHE_BYTES", "StoredBlobs", "StoredSpool", "claim", "open_blobs"]

log = logging.getLogger("aimass.storage")
CACHE_BYTES: Final = 16 << 30
"""What a machine keeps of blobs that stand elsewhere, if nobody says otherwise."""
_COMING: Final = "coming"
_OWNER: Final = "owner"


def open_blobs(
    url: str, cache: Path | None = None, limit_bytes: int = CACHE_BYTES, durability: Durability = UNINTERRUPTED
) -> Blobs:
    """The blobs at `url`; those of a folder are files there, others go through a `cache` in a folder of their own.

    Raises `BadInput` as `open_objects`.
    """
    store = open_objects(url)
    if isinstance(store, FileObjects):
        return FileBlobs(store.folder, durability)
    own = cache or cache_folder() / "stores" / hashlib.sha256(store.url.encode()).hexdigest()[:16]
    return StoredBlobs(store, own, limit_bytes, durability)


def claim(store: ObjectStore, owner: str) -> None:
    """Take the store for `owner`, or find that it is already; raises `Conflict` as `storage.other_owner`.

    Raises `Refused` as `storage.no_commit` for a new one that would not keep two owners apart.
    """
    try:
        found = store.read(_OWNER)
    except NotFound:
        commits(store)
        with suppress(Conflict):
            store.create(_OWNER, owner.encode())
        found = store.read(_OWNER)
    if found != owner.encode():
        raise Conflict(
            "another server keeps its models or uploads here, and each would delete the other's",
            code="storage.other_owner",
            value=f"{found[:80].decode(errors='replace')} at {store.url}",
            cure="Give this one a prefix of its own.",
        )


class StoredBlobs:
    """`Blobs` in an object store. `folder` holds those of late use, of `limit_bytes` together."""

    def __init__(
        self, store: ObjectStore, folder: Path, limit_bytes: int, durability: Durability = UNINTERRUPTED
    ) -> None:
        self._store, self._folder, self._limit, self._durability = store, folder, limit_bytes, durability
        self._local = FileBlobs(folder, durability)
        self._one_at_a_time, self._fetching = threading.Lock(), threading.Lock()
        held = sorted((path.stat().st_mtime_ns, path) for path in map(self._local.path, self._local.digests()))
        self._used = OrderedDict((path.name, path.stat().st_size) for _, path in held)
        self._known: dict[str, int] = {}
        self._listed = False

    def put(self, chunks: Iterable[bytes | memoryview]) -> str:
        """Write beside and hash, then send; returns the digest once it is durable in the store."""
        digest = self._local.put(chunks)
        self._keep(digest)
        return digest

    def adopt(self, path: Path, digest: str) -> None:
        """Move a file here, and send it."""
        self._local.adopt(path, digest)
        self._keep(digest)

    def open(self, digest: str) -> memoryview:
        """The blob, fetched if it is not here, and verified the first time that this process opens it."""
        while True:
            with suppress(NotFound):
                view = self._opened(digest)
                self._use(digest, len(view))
                return view
            self._fetch(digest)

    def descriptor(self, digest: str) -> int:
        """The blob as an open file, the caller's to close."""
        while True:
            self.open(digest)
            try:
                return os.open(self._local.path(digest), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:  # it made room meanwhile, and a map of it may still be remembered
                self._local.delete(digest)

    def has(self, digest: str) -> bool:
        """Whether the blob is in the store, which is asked for one that this process does not know of."""
        if digest not in self._known:
            with suppress(NotFound):
                self._known[digest] = self._store.head(self._key(digest)).size
        return digest in self._known

    def listed(self, digest: str) -> bool:
        """Whether the last listing shows it, or this process has seen it since."""
        if not self._listed:
            self._list()
        return digest in self._known

    def delete(self, digest: str) -> None:
        """Remove the blob, in the store first: what is left here alone would be sent again."""
        self._store.delete(self._key(digest))
        with self._one_at_a_time:
            self._known.pop(digest, None)
            self._used.pop(digest, None)
        self._local.delete(digest)

    def size(self, digest: str) -> int:
        """Bytes of a blob that is there."""
        if not self.has(digest):
            raise self._unknown(digest)
        return self._known[digest]

    def digests(self) -> Iterator[str]:
        """All blobs, those of other processes too."""
        self._list()
        return iter(list(self._known))

    def sweep(self) -> None:
        """Forget what a crash cut, and send what the folder alone holds, as after a restore; for a store's one server.

        What has changed on the disk is left out.
        """
        self._local.sweep()
        for digest in list(self._local.digests()):
            if not self.listed(digest):
                try:
                    self._keep(digest)
                except IntegrityError:
                    log.warning("a blob that is in no store has changed on the disk, and is left out: %s", digest)
                    self._local.delete(digest)

    def _list(self) -> None:
        for info in self._store.list():
            if is_digest(name := info.key.rpartition("/")[2]):
                self._known[name] = info.size
        self._listed = True

    def _key(self, digest: str) -> str:
        self._local.path(digest)  # refuses what is no digest
        return f"{digest[:2]}/{digest}"

    def _unknown(self, digest: str) -> NotFound:
        return NotFound("no such blob", code="storage.unknown", value=f"{digest} at {self._store.url}")

    def _keep(self, digest: str) -> None:
        try:
            view = self._local.open(digest)
        except NotFound:
            if self.has(digest):  # it was there before, and made room meanwhile
                return
            raise
        if self._known.get(digest) != len(view):
            self._store.write(self._key(digest), _chunks(view))
            self._known[digest] = len(view)
            self._durability.reached("blobs.stored")
        self._use(digest, len(view))

    def _opened(self, digest: str) -> memoryview:
        try:
            return self._local.open(digest)
        except IntegrityError:  # this copy is no loss
            self._local.delete(digest)
            raise self._unknown(digest) from None

    def _fetch(self, digest: str) -> None:
        with self._fetching:
            if not self._local.has(digest):
                path = fetch(self._store, self._key(digest), digest, self.size(digest), self._folder / _COMING)
                self._local.adopt(path, digest)

    def _use(self, digest: str, size: int) -> None:
        with self._one_at_a_time:
            self._used[digest] = size
            self._used.move_to_end(digest)
            full = sum(self._used.values()) > self._limit
        if full:
            self._make_room(digest)

    def _make_room(self, newest: str) -> None:
        """Let go of what was used longest ago and is in the store; it stays readable for who has it open."""
        if not self._listed:
            self._list()
        with self._one_at_a_time:
            over = sum(self._used.values()) - self._limit
            for oldest in list(self._used):
                if over > 0 and oldest != newest and oldest in self._known:
                    over -= self._used.pop(oldest)
                    self._local.delete(oldest)


class StoredSpool(Spool):
    """A spool whose finished uploads are durable in an object store before `finish` returns."""

    def __init__(self, store: ObjectStore, folder: Path, durability: Durability = UNINTERRUPTED) -> None:
        super().__init__(folder, durability)
        self._store = store
        self._pool = ThreadPoolExecutor(1, "aimass-spool")
        self._deleting: dict[str, Future[None]] = {}

    def begin(self, key: str, size: int | None, digest: str, *, kept: bool = True) -> SpoolWriter:
        """As `Spool.begin`; what is not `kept` goes on to somewhere else, and is not sent to the store."""
        return super().begin(key, size, digest).then(self._keep if kept else None)

    def has(self, key: str) -> bool:
        """Whether the upload of `key` is finished; what only the store has is brought here."""
        if super().has(key):
            return True
        self._settle(key)
        with suppress(NotFound):
            write_parts(self.path(key), self._store.stream(key), self._durability, "spool.brought")
        return super().has(key)

    def discard(self, key: str) -> None:
        """Forget the upload here, and behind in the store: what fails there is left to `sweep`."""
        super().discard(key)
        deleting = self._deleting[key] = self._pool.submit(self._delete, key)
        deleting.add_done_callback(lambda done: self._deleted(key, done))

    def sizes(self) -> dict[str, int]:
        """Bytes of every upload by key, here or in the store."""
        return {info.key: info.size for info in self._store.list() if info.key != _OWNER} | super().sizes()

    def sweep(self, wanted: Callable[[str], bool]) -> None:
        """Forget every upload whose key is not wanted any more, here and in the store."""
        super().sweep(wanted)
        for key in [info.key for info in self._store.list() if info.key != _OWNER]:
            if not wanted(key):
                self._delete(key)

    def close(self) -> None:
        """Wait for what is being deleted."""
        self._pool.shutdown()

    def _keep(self, path: Path) -> None:
        self._settle(path.name)
        self._store.write(path.name, _chunks(map_file(path)))
        self._durability.reached("spool.stored")

    def _settle(self, key: str) -> None:
        """What is deleted behind may not take away what is put in its place."""
        if (deleting := self._deleting.get(key)) is not None:
            deleting.result()

    def _deleted(self, key: str, done: Future[None]) -> None:
        if self._deleting.get(key) is done:
            del self._deleting[key]

    def _delete(self, key: str) -> None:
        try:
            self._store.delete(key)
        except AimassError as error:
            log.warning("an upload that is not needed any more was not deleted: %s", error)


def _chunks(view: memoryview) -> Iterator[memoryview]:
    return (view[at : at + CHUNK_BYTES] for at in range(0, len(view), CHUNK_BYTES))
