"""Models that were fetched: each kept while a run here works on it, and no longer, so that the disk does not fill."""

from __future__ import annotations

import asyncio
import hashlib
import weakref
from collections.abc import Collection
from pathlib import Path

from aimass.proto.durable import Durability
from aimass.proto.storage import Spool, map_file

__all__ = ["ModelCache"]


class ModelCache:
    """The newest model of every run, each digest once. Sweep it at the start: an earlier life may have left some."""

    def __init__(self, folder: Path, durability: Durability) -> None:
        self.spool = Spool(folder, durability, synced=False)
        self._held: dict[str, str] = {}
        self._fetching: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    def alone(self, digest: str) -> asyncio.Lock:
        """One fetch of a model at a time: two runs that want the same one would write one file."""
        return self._fetching.setdefault(digest, asyncio.Lock())

    def sweep(self, wanted: Collection[str]) -> None:
        """Delete what is in no open step, and what a crash has torn: what was fetched is not flushed to the disk."""
        self.spool.sweep(lambda digest: digest in wanted)
        for digest in wanted:
            if self.spool.has(digest) and hashlib.sha256(map_file(self.spool.path(digest))).hexdigest() != digest:
                self.spool.discard(digest)

    def hold(self, run_id: str, digest: str) -> None:
        """A run works on this model now; the one before goes unless another run works on it."""
        before, self._held[run_id] = self._held.get(run_id), digest
        self._drop(before)

    def release(self, run_id: str) -> None:
        """A run is over."""
        self._drop(self._held.pop(run_id, None))

    def _drop(self, digest: str | None) -> None:
        if digest is not None and digest not in self._held.values():
            self.spool.discard(digest)
