"""Where a worker of an offline run works: models and states from the run's store, shards through a cache."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import os
import shutil
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Final

from aimass.proto.data_sets import DataSetManifest, ShardEntry, shard_manifest
from aimass.proto.durable import make_folder
from aimass.proto.errors import NotFound
from aimass.proto.manifest import ShardManifest
from aimass.proto.plan import Plan
from aimass.proto.step import Step
from aimass.proto.storage import Blobs, map_file
from aimass.proto.tensors import Blob
from aimass.proto.values import canonical_json
from aimass.server.offline.far_sums import apart, summable
from aimass.server.offline.journal import Journal
from aimass.server.offline.shards import Shards
from aimass.server.simulation.site import Fetched

__all__ = [
    "BLOBS",
    "CARRIED_BYTES",
    "SHARDS",
    "UPDATES",
    "InStore",
    "Parcel",
    "StoreSite",
    "forget",
    "opened_parcel",
    "spool_of",
    "update_key",
]

CARRIED_BYTES: Final = 10_000_000
"""A larger contribution goes to the store, and not back with the answer."""

UPDATES: Final = "updates/"
"""Begins the keys of contributions in the store."""


BLOBS: Final = "blobs"
SHARDS: Final = "shards"
_SPOOL: Final = "spool"
_CARRIED: Final = "carried"
"""What stands in a run's folder on a machine: what was fetched for it, and what waits to be summed or sent."""


def forget(work: Path) -> None:
    """Remove what a run has left on this machine; its shards and models stand in their stores."""
    for name in (BLOBS, SHARDS, _SPOOL, _CARRIED):
        shutil.rmtree(work / name, ignore_errors=True)


class Parcel(enum.Enum):
    """What goes back with an answer: the contribution, what a sum needs of one in the store, or that one is there."""

    WHOLE = b"c"
    APART = b"a"
    STORED = b"s"


def opened_parcel(data: bytes) -> tuple[Parcel, bytes]:
    """What is in a parcel, and its content."""
    return Parcel(data[:1]), data[1:]


def spool_of(work: Path, index: int) -> Path:
    """The folder where contributions to a step wait to be summed."""
    return work / _SPOOL / str(index)


def update_key(index: int, file: str) -> str:
    """Where a contribution stands that is too large to go back with an answer."""
    return f"{UPDATES}{index:08}/{file}"


@dataclasses.dataclass(frozen=True, slots=True)
class InStore:
    """Opens the site of a run whose journal is at `url`, with `work` as this machine's folder.

    Where a worker's machine is not its driver's, contributions of at most `carried_bytes` go back with answers, and
    larger ones to the store; with 0 all see the folder `work`. With `repairs` bad copies of shards are made good.
    """

    url: str
    work: Path
    cache_bytes: int
    carried_bytes: int = 0
    repairs: bool = False

    def __call__(self) -> StoreSite:
        """See `Opens`."""
        return StoreSite(self)


class StoreSite:
    """See `Site`."""

    def __init__(self, opened: InStore) -> None:
        self._opened, self._journal = opened, Journal(opened.url, opened.work / BLOBS)
        setup, blobs = self._journal.setup(), self._journal.blobs()
        self.run_id: str = setup.run_id
        self.plan: Plan = self._journal.plan(blobs)
        self.policy: str = setup.policy
        self._data_set: DataSetManifest = self._journal.data_set(blobs)
        self._entries = {shard.participant: shard for shard in self._data_set.shards}
        self._shards = Shards(
            self._data_set.name, setup.stores, opened.work / SHARDS, opened.cache_bytes, repairs=opened.repairs
        )

    def fetched(self) -> Fetched:
        """See `Site`."""
        return self._shards.fetched()

    @contextlib.contextmanager
    def shard(self, partner: str) -> Iterator[tuple[ShardManifest, Path]]:
        """See `Site`; raises `IntegrityError` where no store has the shard as its manifest says."""
        entry = self._entry(partner)
        with self._shards.held(entry) as path:
            yield shard_manifest(self._data_set, entry, path.name), path.parent

    def soon(self, partner: str) -> None:
        """See `Site`."""
        self._shards.soon(self._entry(partner))

    def _entry(self, partner: str) -> ShardEntry:
        try:
            return self._entries[partner]
        except KeyError:
            raise NotFound("the data set has no such shard", code="dataset.participant", value=partner) from None

    def models(self) -> Blobs:
        """See `Site`."""
        return self._journal.blobs()

    def state(self, held: str) -> memoryview:
        """See `Site`."""
        return self._states.open(held)

    def keep_state(self, name: str, data: bytes | memoryview) -> str:
        """See `Site`: in the run's store, as the next round may be elsewhere.

        By a store that remembers nothing: what this process sent in an earlier round the driver may have swept since.
        """
        return self._journal.blobs().put([data])

    @cached_property
    def _states(self) -> Blobs:
        return self._journal.blobs()

    def spool(self, index: int) -> Path:
        """See `Site`."""
        if not self._opened.carried_bytes:
            return spool_of(self._opened.work, index)
        return make_folder(self._own_spool / str(index))

    @cached_property
    def _own_spool(self) -> Path:
        """Of this process alone; what one of the same number left behind is forgotten."""
        path = self._opened.work / _CARRIED / str(os.getpid())
        shutil.rmtree(path, ignore_errors=True)
        return path

    def parcel(self, step: Step, file: str) -> bytes:
        """See `Site`; `opened_parcel` opens it."""
        if not self._opened.carried_bytes:
            return b""
        path = self.spool(step.index) / file
        try:
            if path.stat().st_size <= self._opened.carried_bytes:
                return Parcel.WHOLE.value + path.read_bytes()
            key = update_key(step.index, file)
            with path.open("rb") as opened:
                stored = self._journal.objects.write(key, iter(lambda: opened.read(1 << 20), b""))
            if stored.version and summable(self.plan, step):  # without one nobody sees that it was replaced
                return Parcel.APART.value + canonical_json(apart(key, stored.version, Blob(map_file(path))))
            return Parcel.STORED.value
        finally:
            path.unlink()
