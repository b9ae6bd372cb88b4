"""Object stores that misbehave when a test says so, and data sets that stand in them."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from aimass.proto.column_statistics import CategoryStatistics, NumberStatistics
from aimass.proto.data_sets import (
    DataSetManifest,
    Lineage,
    Quality,
    ShardEntry,
    Source,
    SplitRule,
    participant_of,
    salt_of,
    shard_key,
    version_key,
)
from aimass.proto.errors import OutOfSpace, Unavailable
from aimass.proto.manifest import Category, Number, Schema
from aimass.proto.objects import Chunk, ObjectInfo, ObjectStore
from aimass.proto.values import canonical_json

SCHEMA = Schema(
    name="t/1",
    columns=(Number(name="age", minimum=0, maximum=120),),
    label=Category(name="y", values=("no", "yes")),
)


class Unruly:
    """`inner`, which is `away`, `full`, hangs until `go` is set, or lists late: all but `unlisted`, or what was `stale`.

    `asked` counts calls by verb; `before` is called with verb and key before each.
    """

    def __init__(self, inner: ObjectStore) -> None:
        self.inner = inner
        self.away = self.full = False
        self.go = threading.Event()
        self.go.set()
        self.unlisted: set[str] = set()
        self.stale: list[ObjectInfo] | None = None
        self.asked: dict[str, int] = {}
        self.before: Callable[[str, str], None] = lambda verb, key: None

    @property
    def url(self) -> str:
        return self.inner.url

    def _pass(self, verb: str, key: str) -> None:
        self.asked[verb] = self.asked.get(verb, 0) + 1
        self.before(verb, key)
        self.go.wait()
        if self.away:
            raise Unavailable("the store does not answer", code="storage.unavailable", value=self.url)
        if self.full and verb in {"create", "put", "write"}:
            raise OutOfSpace("no space", code="storage.space", value=self.url)

    def head(self, key: str) -> ObjectInfo:
        self._pass("head", key)
        return self.inner.head(key)

    def read(self, key: str, start: int = 0, size: int | None = None, version: str = "") -> bytes:
        self._pass("read", key)
        return self.inner.read(key, start, size, version)

    def stream(self, key: str, start: int = 0, version: str = "") -> Iterator[bytes]:
        self._pass("stream", key)
        return self.inner.stream(key, start, version)

    def create(self, key: str, data: Chunk) -> ObjectInfo:
        self._pass("create", key)
        return self.inner.create(key, data)

    def put(self, key: str, data: Chunk) -> ObjectInfo:
        self._pass("put", key)
        return self.inner.put(key, data)

    def write(self, key: str, chunks: Iterable[Chunk], *, create: bool = False) -> ObjectInfo:
        self._pass("write", key)
        return self.inner.write(key, chunks, create=create)

    def delete(self, key: str) -> None:
        self._pass("delete", key)
        self.inner.delete(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self._pass("list", prefix)
        listed = self.inner.list() if self.stale is None else iter(self.stale)
        return (info for info in listed if info.key.startswith(prefix) and info.key not in self.unlisted)


def shard_of(number: int, data: bytes) -> ShardEntry:
    """The entry of a shard of these bytes, which no trainer reads."""
    name = participant_of(number)
    return ShardEntry(
        number=number,
        participant=name,
        salt=salt_of(0, name),
        rows=2,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        labels={"no": 2},
    )


def manifest_of(name: str, version: int, shards: Sequence[ShardEntry]) -> DataSetManifest:
    rows = sum(shard.rows for shard in shards)
    age = NumberStatistics(
        column="age", present=rows, missing=0, minimum=1.0, maximum=2.0, mean=1.5, squares=0.5, counts=(rows, 0)
    )
    return DataSetManifest(
        name=name,
        version=version,
        data_schema=SCHEMA,
        split=SplitRule(rule="rows", argument="2"),
        held_out=0.2,
        shards=tuple(shards),
        rows=rows,
        labels={"no": rows},
        statistics=(age, CategoryStatistics(column="y", present=rows, missing=0, counts={"no": rows})),
        quality=Quality(rows_read=rows, dropped=0, findings={}, duplicates=0, leaked=0),
        lineage=Lineage(sources=(Source(name="a.csv", size=10, sha256="0" * 64),), job="1" * 64, tool="aimass"),
        licence="CC BY 4.0",
        created_at=1.5e9,
    )


def stored(store: ObjectStore, name: str, contents: Sequence[bytes], version: int = 1) -> DataSetManifest:
    """A data set of these shards, committed in `store`."""
    manifest = manifest_of(name, version, [shard_of(number, data) for number, data in enumerate(contents, start=1)])
    for shard, data in zip(manifest.shards, contents, strict=True):
        store.put(shard_key(name, shard.sha256), data)
    store.create(version_key(name, version), canonical_json(manifest))
    return manifest


def everything(stores: Mapping[str, ObjectStore]) -> dict[str, dict[str, bytes]]:
    """All objects of all stores, by store and key."""
    return {url: {info.key: store.read(info.key) for info in store.list()} for url, store in stores.items()}
