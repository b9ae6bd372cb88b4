"""What steps work on, models above all: kept while a run here works on it, and no longer."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path

from aimass.proto.durable import Durability
from aimass.proto.hashing import file_digest
from aimass.proto.storage import Spool

__all__ = ["ModelCache"]


class ModelCache:
    """The newest inputs of every run, each digest once. Sweep it at the start: an earlier life may have left some."""

    def __init__(self, folder: Path, durability: Durability) -> None:
        self.spool = Spool(folder, durability, synced=False)
        self._held: dict[str, frozenset[str]] = {}
        self._fetching: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    def sweep(self, held: Mapping[str, Collection[str]]) -> None:
        """Keep what runs work on, by run, and is whole: what was fetched is not flushed, and a crash may have torn it.

        The rest is deleted; what is kept is not fetched again.
        """
        self._held = {run_id: frozenset(digests) for run_id, digests in held.items()}
        wanted = frozenset().union(*self._held.values())
        self.spool.sweep(lambda digest: digest in wanted)
        for digest in wanted:
            if self.spool.has(digest) and file_digest(self.spool.path(digest)) != digest:
                self.spool.discard(digest)

    async def fetched(self, digest: str, fetch: Callable[[], Awaitable[Path]]) -> Path:
        """Where the blob stands; `fetch` is asked only where it is not here yet, and by one run at a time."""
        async with self._fetching.setdefault(digest, asyncio.Lock()):
            return self.spool.path(digest) if self.spool.has(digest) else await fetch()

    def hold(self, run_id: str, digests: Collection[str]) -> None:
        """A run works on these now; those before go unless a run works on them."""
        before, self._held[run_id] = self._held.get(run_id, frozenset()), frozenset(digests)
        self._drop(before)

    def release(self, run_id: str) -> None:
        """A run is over."""
        self._drop(self._held.pop(run_id, frozenset()))

    def _drop(self, digests: Collection[str]) -> None:
        for digest in sorted(frozenset(digests).difference(*self._held.values())):
            self.spool.discard(digest)
