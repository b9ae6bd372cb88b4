"""Shards of a data set on this machine: true bytes from whichever store has them, through a bounded cache."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Final

from aimass.proto.data_sets import ShardEntry
from aimass.proto.errors import AimassError
from aimass.proto.fetching import ObjectCache
from aimass.proto.hashing import file_digest
from aimass.proto.objects import open_objects
from aimass.server.datasets.copies import look
from aimass.server.datasets.placement import Placement, holders, placement_of
from aimass.server.datasets.repair import Mend, mend
from aimass.server.datasets.replicas import Fault, FaultKind, Replicas
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
        *,
        repairs: bool = False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """With `repairs` a copy that is found false or missing is made good from the one that was read."""
        self._data_set, self._repairs = data_set, repairs
        self._cache = ObjectCache(folder, cache_bytes)
        self._stores = {store.url: store for store in map(open_objects, stores)}
        self._replicas = Replicas(data_set, list(self._stores.values()), now, heard=self._hear)
        self._ahead = ThreadPoolExecutor(1, "prefetch")
        self._counting = threading.Lock()
        self._coming: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._heard: dict[str, list[Fault]] = defaultdict(list)
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
        with self._counting:
            coming = self._coming[shard.sha256]
        with coming:  # who needs what is being fetched ahead waits for that
            self._fetch_alone(shard, folder / shard.sha256)

    def _fetch_alone(self, shard: ShardEntry, path: Path) -> None:
        if path.is_file() and file_digest(path) == shard.sha256:  # by another thread or process, or an earlier run
            return
        self._replicas.fetch(shard, path)
        with self._counting:
            self._bytes_read += shard.size
            faults = self._heard.pop(shard.sha256, [])
        wanting = {fault.store for fault in faults}
        sources = tuple(url for url in self._stores if url not in wanting)
        for fault in faults:
            if fault.kind is not FaultKind.MISSING or fault.store in holders(self._placement, shard.sha256):
                told = f"{fault.kind} ({fault.code}){self._mended(shard, fault, sources)}"
                with self._counting:
                    self._copies[f"{fault.store} {fault.sha256[:16]}"] = told

    def _hear(self, fault: Fault) -> None:
        with self._counting:
            self._heard[fault.sha256].append(fault)

    @cached_property
    def _placement(self) -> Placement:
        """Where copies belong, by the first store that says; in every one of them where none does."""
        for store in self._stores.values():
            with contextlib.suppress(AimassError):
                return placement_of(store, self._data_set, 0.0)
        return Placement(stores=tuple(self._stores), copies=len(self._stores), created_at=0.0)

    def _mended(self, shard: ShardEntry, fault: Fault, sources: tuple[str, ...]) -> str:
        """Make a copy good where that is wanted; what to say of it."""
        if not self._repairs or fault.kind not in (FaultKind.FALSE, FaultKind.MISSING):
            return ""
        bad = look(self._stores[fault.store], self._data_set, shard, lambda _: None)
        work = Mend(shard.sha256, shard.size, fault.store, sources, bad if bad.state == "false" else None)
        (done,) = mend(self._data_set, self._stores, [work], lambda _: None)
        return f", mended from {done.source}" if done.outcome == "copied" else f", not mended ({done.code})"
