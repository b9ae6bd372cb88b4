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
        self._held: dict[str, tuple[str, ...]] = {}
        self._coming: dict[str, str] = {}
        """Of each run the difference that is on its way, whole or not."""
        self._fetching: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    def sweep(self, held: Mapping[str, Collection[str]]) -> None:
        """Keep what runs work on, by run, and is whole: what was fetched is not flushed, and a crash may have torn it.

        The rest is deleted; what is kept is not fetched again.
        """
        self._held = {run_id: tuple(digests) for run_id, digests in held.items()}
        wanted = frozenset().union(*self._held.values())
        self.spool.sweep(lambda digest: digest in wanted)
        for digest in wanted:
            if self.spool.has(digest) and file_digest(self.spool.path(digest)) != digest:
                self.spool.discard(digest)

    async def fetched(self, digest: str, fetch: Callable[[], Awaitable[Path]]) -> Path:
        """Where the blob stands; `fetch` is asked only where it is not here yet, and by one run at a time."""
        async with self._fetching.setdefault(digest, asyncio.Lock()):
            return self.spool.path(digest) if self.spool.has(digest) else await fetch()

    def begin(self, run_id: str, digests: Collection[str]) -> str | None:
        """A run is to work on these: until `hold`, what it works on now stays too. The model that it works on now, for
        a difference to begin with; None where there is none here."""
        before = self._held.get(run_id, ())
        self._held[run_id] = (*before, *(digest for digest in digests if digest not in before))
        return before[0] if before and self.spool.has(before[0]) else None

    def hold(self, run_id: str, digests: Collection[str]) -> None:
        """A run works on these now; those before go unless a run works on them."""
        before, self._held[run_id] = self._held.get(run_id, ()), tuple(digests)
        self._forget(run_id)
        self._drop(before)

    def coming(self, run_id: str, digest: str) -> None:
        """A difference is on its way to a run's next model: what came of another is forgotten, and this with `hold`."""
        if self._coming.get(run_id, digest) != digest:
            self._forget(run_id)
        self._coming[run_id] = digest

    def works_on(self, digest: str) -> bool:
        """Whether a run works on this, or is to."""
        return any(digest in digests for digests in self._held.values())

    def _forget(self, run_id: str) -> None:
        """Drop a run's difference, unless another run has the same, or works on it."""
        digest = self._coming.pop(run_id, None)
        if digest is not None and digest not in self._coming.values() and not self.works_on(digest):
            self.spool.discard(digest)

    def release(self, run_id: str) -> None:
        """A run is over."""
        self._forget(run_id)
        self._drop(self._held.pop(run_id, ()))

    def _drop(self, digests: Collection[str]) -> None:
        for digest in sorted(frozenset(digests).difference(*self._held.values())):
            self.spool.discard(digest)
