"""Shards of a data set on this machine: true bytes from whichever store has them, through a bounded cache."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from aimass.proto.data_sets import ShardEntry
from aimass.proto.fetching import ObjectCache
from aimass.proto.hashing import file_digest
from aimass.proto.objects import open_objects
from aimass.server.datasets.replicas import Fault, Replicas
from aimass.server.simulation.site import Fetched

__all__ = ["DEFAULT_CACHE_BYTES", "Shards"]

DEFAULT_CACHE_BYTES: Final = 20 << 30


class Shards:
    """Holds shards of one data set as files. For any number of threads."""

    def __init__(
        self,
        data_set: str,
        stores: Sequence[str],
        folder: Path,
        cache_bytes: int,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cache = ObjectCache(folder, cache_bytes)
        self._replicas = Replicas(data_set, [open_objects(url) for url in stores], now, heard=self._hear)
        self._ahead = ThreadPoolExecutor(1, "prefetch")
        self._counting = threading.Lock()
        self._bytes_read, self._copies = 0, dict[str, str]()

    @contextlib.contextmanager
    def held(self, shard: ShardEntry) -> Iterator[Path]:
        """The shard's file, of its digest, for as long as the context. Raises what the last of its stores did."""
        with self._cache.held_by(shard.sha256, shard.size, lambda folder: self._fetch(shard, folder)) as path:
            yield path

    def soon(self, shard: ShardEntry) -> None:
        """Begin to fetch; what goes wrong is told to who asks for the file."""
        self._ahead.submit(self._hold, shard)

    def fetched(self) -> Fetched:
        """What came since the last time."""
        with self._counting:
            made = Fetched(self._bytes_read, self._copies)
            self._bytes_read, self._copies = 0, {}
        return made

    def _hold(self, shard: ShardEntry) -> None:
        with self.held(shard):
            pass

    def _fetch(self, shard: ShardEntry, folder: Path) -> None:
        path = folder / shard.sha256
        if path.is_file() and file_digest(path) == shard.sha256:  # by another process, or an earlier run
            return
        self._replicas.fetch(shard, path)
        with self._counting:
            self._bytes_read += shard.size

    def _hear(self, fault: Fault) -> None:
        with self._counting:
            self._copies[f"{fault.store} {fault.sha256[:16]}"] = f"{fault.kind} ({fault.code})"
