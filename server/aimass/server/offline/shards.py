"""Shards of a data set on this machine: from the first store that serves them truly, through a bounded cache."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aimass.proto.data_sets import ShardEntry, shard_key
from aimass.proto.errors import AimassError
from aimass.proto.hashing import file_digest
from aimass.proto.objects import ObjectStore, open_objects
from aimass.server.datasets.verified import verified
from aimass.server.offline.cache import Cache

__all__ = ["Shards"]


class Shards:
    """Fetches shards of one data set; `bytes_read` counts what came from the stores."""

    def __init__(self, data_set: str, stores: Sequence[str], cache: Cache) -> None:
        self._data_set, self._cache = data_set, cache
        self._stores = [open_objects(url) for url in stores]
        self._ahead = ThreadPoolExecutor(1, "prefetch")
        self._counting = threading.Lock()
        self.bytes_read = 0

    def file(self, shard: ShardEntry) -> Path:
        """The shard's file, compared with its digest just now. Raises what the last of its stores did."""
        name = f"{shard.sha256}.parquet"
        path = self._cache.file(name, lambda folder: self._fetched(shard, folder / name))
        with contextlib.suppress(FileNotFoundError):  # put out of the cache by another process
            if file_digest(path) == shard.sha256:
                return path
        path.unlink(missing_ok=True)  # this machine's disk changed it
        return self._cache.file(name, lambda folder: self._fetched(shard, folder / name))

    def soon(self, shard: ShardEntry) -> None:
        """Begin to fetch; what goes wrong is told to who asks for the file."""
        name = f"{shard.sha256}.parquet"
        self._ahead.submit(self._cache.file, name, lambda folder: self._fetched(shard, folder / name))

    def _fetched(self, shard: ShardEntry, path: Path) -> Path:
        failed: AimassError | None = None
        for store in self._stores:
            try:
                return self._fetch(store, shard, path)
            except AimassError as error:
                failed = error
        assert failed is not None  # noqa: S101  (a run has a store)
        raise failed

    def _fetch(self, store: ObjectStore, shard: ShardEntry, path: Path) -> Path:
        part = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            with part.open("wb") as file:
                for chunk in self._checked(store, shard):
                    file.write(chunk)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return path

    def _checked(self, store: ObjectStore, shard: ShardEntry) -> Iterator[bytes]:
        """The shard's bytes, counted; raises `IntegrityError` at the end where they are others."""
        key = shard_key(self._data_set, shard.sha256)
        for chunk in verified(store.stream(key), shard.sha256, shard.size, f"{key} at {store.url}"):
            with self._counting:
                self.bytes_read += len(chunk)
            yield chunk
