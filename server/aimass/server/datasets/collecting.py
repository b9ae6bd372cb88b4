"""Deletes what no version refers to: leftovers of splits that nobody resumes, and what was in quarantine for long.

In two phases. What is unreferenced is noted with the time; what is still unreferenced a grace period later is deleted,
under a sweep that excludes every splitter (`keeping`). A version is never deleted, nor anything that one refers to.
Files that a writer left half written are no objects: a day after the last write they are removed.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from aimass.proto.data_sets import read_data_set, shard_key
from aimass.proto.errors import AimassError, IntegrityError
from aimass.proto.objects import ObjectStore, swept
from aimass.proto.values import Value
from aimass.server.datasets.documents import document_copies
from aimass.server.datasets.layout import quarantine_prefix
from aimass.server.datasets.replicas import FaultKind, fault_of
from aimass.server.keeping import Keeping, change, read_keeping, with_sweep

__all__ = ["Collected", "Grace", "Unreferenced", "aged", "collect", "due"]


@dataclasses.dataclass(frozen=True, slots=True)
class Grace:
    """For how long something has to be unreferenced before it is deleted; quarantine is kept for longer."""

    orphans_s: float = 86_400.0
    quarantine_s: float = 30 * 86_400.0

    def of(self, name: str, key: str) -> float:
        """For one object."""
        return self.quarantine_s if key.startswith(quarantine_prefix(name)) else self.orphans_s


Unreferenced = Mapping[str, Mapping[str, int]]
"""Objects by store and key, with their bytes."""


class Collected(Value, frozen=True):
    """What came of it: objects that were deleted, or would be; those that are noted and whose time has not come; and
    how many `parts` of writers that died were removed from the stores."""

    deleted: int
    bytes: int
    waiting: int
    stopped: str = ""
    parts: int = 0


def aged(keeping: Keeping, found: Unreferenced, now: float) -> Keeping:
    """Since when each of `found` has been unreferenced; what is referenced again, or gone, is forgotten."""
    since = {
        url: {key: keeping.since.get(url, {}).get(key, now) for key in objects}
        for url, objects in found.items()
        if objects
    }
    return msgspec.structs.replace(keeping, since=since)


def due(name: str, keeping: Keeping, found: Unreferenced, now: float, grace: Grace) -> tuple[tuple[str, str], ...]:
    """Of `found`, stores and keys whose grace is over."""
    return tuple(
        (url, key)
        for url, objects in found.items()
        for key in objects
        if now - keeping.since.get(url, {}).get(key, now) >= grace.of(name, key)
    )


def collect(
    name: str,
    home: ObjectStore,
    stores: Mapping[str, ObjectStore],
    clock: Callable[[], float],
    grace: Grace,
    *,
    dry_run: bool,
) -> Collected:
    """Note what is unreferenced, delete what was for long. A store that is away is left for another time; the home has
    to answer. Raises `WrongState` while a split holds the data set, `IntegrityError` where a version cannot be read."""
    found, now = _unreferenced(name, home, stores), clock()
    parts = sum(_parts(store, now, dry_run=dry_run) for store in stores.values())
    noted = aged(read_keeping(home, name), found, now)
    if not dry_run:
        noted = change(home, name, lambda keeping: aged(keeping, found, now))
    work = due(name, noted, found, now, grace)
    number = sum(len(objects) for objects in found.values())
    if dry_run or not work:
        size = sum(found[url][key] for url, key in work)
        return Collected(deleted=len(work), bytes=size, waiting=number - len(work), parts=parts)
    deleted, stopped = _under_sweep(name, home, stores, clock, work)
    size = sum(found[url][key] for url, key in deleted)
    return Collected(deleted=len(deleted), bytes=size, waiting=number - len(deleted), stopped=stopped, parts=parts)


def _parts(store: ObjectStore, now: float, *, dry_run: bool) -> int:
    """Files that writers left half written; of a store that is away another time."""
    try:
        return swept(store, now, dry_run=dry_run)
    except AimassError as error:
        if fault_of(error) is not FaultKind.AWAY:
            raise
        return 0


def _under_sweep(
    name: str,
    home: ObjectStore,
    stores: Mapping[str, ObjectStore],
    clock: Callable[[], float],
    work: Sequence[tuple[str, str]],
) -> tuple[list[tuple[str, str]], str]:
    """Delete of `work` what is unreferenced still, while no split can hold the data set; as `_delete`."""
    ends: dict[str, float] = {}
    try:
        for url in dict.fromkeys([home.url, *(url for url, _ in work)]):  # a split holds the set in its own store
            began = change(stores[url], name, lambda keeping: with_sweep(keeping, clock()))
            ends[url] = began.sweeping_until or 0.0
        # Whatever was committed before the sweeps began is seen now; nobody commits until they end.
        again = _unreferenced(name, home, stores)
        still = [(url, key) for url, key in work if key in again.get(url, {})]
        return _delete(stores, still, lambda: clock() < min(ends.values()))
    finally:
        for url, end in ends.items():
            change(stores[url], name, functools.partial(_swept, end=end))


def _swept(keeping: Keeping, end: float) -> Keeping:
    """The sweep that would last until `end` is over."""
    return msgspec.structs.replace(keeping, sweeping_until=None) if keeping.sweeping_until == end else keeping


def _delete(
    stores: Mapping[str, ObjectStore], work: Iterable[tuple[str, str]], in_time: Callable[[], bool]
) -> tuple[list[tuple[str, str]], str]:
    """What was deleted, and the code of what stopped it."""
    deleted: list[tuple[str, str]] = []
    for url, key in work:
        if not in_time():
            return deleted, "dataset.gc_late"
        try:
            stores[url].delete(key)
        except AimassError as error:
            if fault_of(error) is not FaultKind.AWAY:
                raise
            return deleted, error.code
        deleted.append((url, key))
    return deleted, ""


def _unreferenced(name: str, home: ObjectStore, stores: Mapping[str, ObjectStore]) -> dict[str, dict[str, int]]:
    """By store and key; raises what the home raises."""
    kept = _referenced(name, stores)
    found = {}
    for url, store in stores.items():
        try:
            found[url] = {key: size for key, size in _objects(name, store) if key not in kept}
        except AimassError as error:
            if url == home.url or fault_of(error) is not FaultKind.AWAY:
                raise
    return found


def _objects(name: str, store: ObjectStore) -> Iterator[tuple[str, int]]:
    """What may be unreferenced: everything but documents."""
    for prefix in (f"{name}/shards/", f"{name}/splits/", quarantine_prefix(name)):
        yield from ((info.key, info.size) for info in store.list(prefix))


def _referenced(name: str, stores: Mapping[str, ObjectStore]) -> frozenset[str]:
    """Shards of every version that any store has. One that nobody can read may refer to anything."""
    kept: set[str] = set()
    for copies in document_copies(name, stores):
        if not copies.valid:
            raise IntegrityError(
                "a document of the data set cannot be read, so nobody knows what it refers to",
                code="dataset.document_damaged",
                value=copies.key,
                cure="Restore it from a backup or another store; aimass data verify NAME says more.",
            )
        if "/versions/" in copies.key:
            manifests = (read_data_set(data, copies.key) for data in copies.valid)
            kept.update(shard_key(name, shard.sha256) for manifest in manifests for shard in manifest.shards)
    return frozenset(kept)
