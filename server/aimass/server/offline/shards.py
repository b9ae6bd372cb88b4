"""Shards of a data set on this machine: from the first store that serves them truly, through a bounded cache."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from aimass.proto.data_sets import ShardEntry, shard_key
from aimass.proto.errors import AimassError
from aimass.proto.fetching import ObjectCache
from aimass.proto.objects import Chunk, ObjectInfo, ObjectStore, open_objects

__all__ = ["DEFAULT_CACHE_BYTES", "Shards"]

DEFAULT_CACHE_BYTES: Final = 20 << 30


class Shards:
    """Holds shards of one data set as files; `bytes_read` counts what came from the stores."""

    def __init__(self, data_set: str, stores: Sequence[str], folder: Path, cache_bytes: int) -> None:
        self._data_set, self._cache = data_set, ObjectCache(folder, cache_bytes)
        self._stores = [_Counted(open_objects(url), self._read) for url in stores]
        self._ahead = ThreadPoolExecutor(1, "prefetch")
        self._counting = threading.Lock()
        self.bytes_read = 0

    @contextlib.contextmanager
    def held(self, shard: ShardEntry) -> Iterator[Path]:
        """The shard's file, of its digest, for as long as the context. Raises what the last of its stores did."""
        with contextlib.ExitStack() as stack:
            yield self._first(shard, stack)

    def soon(self, shard: ShardEntry) -> None:
        """Begin to fetch; what goes wrong is told to who asks for the file."""
        self._ahead.submit(self._fetched, shard)

    def _fetched(self, shard: ShardEntry) -> None:
        with self.held(shard):
            pass

    def _first(self, shard: ShardEntry, stack: contextlib.ExitStack) -> Path:
        key, failed = shard_key(self._data_set, shard.sha256), list[AimassError]()
        for store in self._stores:
            try:
                return stack.enter_context(self._cache.held(store, key, shard.sha256, shard.size))
            except AimassError as error:
                failed.append(error)
        raise failed[-1]

    def _read(self, size: int) -> None:
        with self._counting:
            self.bytes_read += size


class _Counted:
    """A store that tells how much was read of it."""

    def __init__(self, store: ObjectStore, read: Callable[[int], None]) -> None:
        self._store, self._read = store, read

    @property
    def url(self) -> str:
        return self._store.url

    def head(self, key: str) -> ObjectInfo:
        return self._store.head(key)

    def read(self, key: str, start: int = 0, size: int | None = None, version: str = "") -> bytes:
        data = self._store.read(key, start, size, version)
        self._read(len(data))
        return data

    def stream(self, key: str, start: int = 0, version: str = "") -> Iterator[bytes]:
        for chunk in self._store.stream(key, start, version):
            self._read(len(chunk))
            yield chunk

    def create(self, key: str, data: Chunk) -> ObjectInfo:
        return self._store.create(key, data)

    def put(self, key: str, data: Chunk) -> ObjectInfo:
        return self._store.put(key, data)

    def write(self, key: str, chunks: Iterable[Chunk], *, create: bool = False) -> ObjectInfo:
        return self._store.write(key, chunks, create=create)

    def delete(self, key: str) -> None:
        self._store.delete(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return self._store.list(prefix)
