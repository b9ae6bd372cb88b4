"""A split that is asked for, and what it has done so far: kept in the store, so that anybody may go on with it.

A shard's entry is written before its bytes: whoever collects garbage finds it named, and whoever goes on after a crash
finds both or writes what lacks.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from aimass.proto.data_sets import ShardEntry, Source, SplitRule, shard_key, split_prefix
from aimass.proto.errors import Conflict, NotFound
from aimass.proto.manifest import ColumnName, Schema
from aimass.proto.names import Name
from aimass.proto.objects import ObjectStore
from aimass.proto.values import Value, canonical_json, decode_json

__all__ = ["Job", "Progress"]


class Job(Value, frozen=True):
    """All that decides the bytes of a data set's shards: two equal jobs end in the same ones.

    `format` is what wrote them, see `shard_bytes.FORMAT`. Licence, time and limits decide nothing of it.
    """

    name: Name
    data_schema: Schema
    split: SplitRule
    held_out: float
    held_out_by: Literal["stratified", "independent"]
    person: ColumnName | None
    sources: tuple[Source, ...]
    format: str

    @property
    def digest(self) -> str:
        """SHA-256 of its canonical JSON."""
        return hashlib.sha256(canonical_json(self)).hexdigest()


class Progress:
    """The shards of one job that stand in a store. Two processes on one job write the same."""

    def __init__(self, store: ObjectStore, job: Job) -> None:
        self._store, self._name, self._prefix = store, job.name, split_prefix(job.name, job.digest)

    def whole(self, number: int) -> ShardEntry | None:
        """The entry of a shard whose bytes stand in the store, else None."""
        try:
            data = self._store.read(self._key(number))
        except NotFound:
            return None
        entry = decode_json(ShardEntry, data, self._key(number))
        return entry if self._stands(entry) else None

    def add(self, entry: ShardEntry, data: memoryview) -> None:
        """Store a shard's bytes, and first that they belong to this job."""
        self._store.put(self._key(entry.number), canonical_json(entry))
        if self._stands(entry):
            return  # of another version, or another job
        key = shard_key(self._name, entry.sha256)
        try:
            self._store.create(key, data)
        except Conflict:
            if not self._stands(entry):  # what stood there was cut off by something that is not ours
                self._store.put(key, data)

    def clear(self) -> None:
        """Forget the job: its version names its shards now."""
        for info in list(self._store.list(self._prefix)):
            self._store.delete(info.key)

    def _key(self, number: int) -> str:
        return f"{self._prefix}{number:08}.json"

    def _stands(self, entry: ShardEntry) -> bool:
        try:
            return self._store.head(shard_key(self._name, entry.sha256)).size == entry.size
        except NotFound:
            return False
