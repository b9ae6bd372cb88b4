"""Deletes the parameters and reports of old versions that nobody can need any more, in two phases.

What may go is noted with the time; what still may, a grace period later, is deleted, while nobody publishes. The signed
documents stay for ever: numbers are never given twice, and the lineage has no holes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from aimass.proto.errors import IntegrityError
from aimass.proto.objects import ObjectStore
from aimass.proto.registry.entries import Alias
from aimass.proto.registry.layout import Reference, parameters_prefix, reports_prefix
from aimass.proto.registry.reader import RegistryReader, Resolved
from aimass.proto.values import Value
from aimass.server.datasets.collecting import Grace, aged, due
from aimass.server.keeping import Keeping, change, read_keeping, with_sweep
from aimass.server.registry.aliases import standing
from aimass.server.registry.parts import parts_of

__all__ = ["BACK", "KEEP", "Collected", "collect", "kept_numbers"]

BACK: Final = 3
"""So many versions behind each alias stay: that far a rollback finds its parameters."""
KEEP: Final = 10
"""So many of the newest versions stay, whatever names them."""


class Collected(Value, frozen=True):
    """Objects that were deleted, or would be, with their bytes; those whose time has not come."""

    deleted: int
    bytes: int
    waiting: int


def kept_numbers(versions: Sequence[Resolved], histories: Iterable[Sequence[Alias]], keep: int) -> frozenset[int]:
    """The versions whose parameters stay: the newest, what aliases name or would go back to, and the parents of all."""
    parents = {found.version.number: found.version.parent for found in versions}
    named = {state.version for history in histories for state in standing(history)[-1 - BACK :]}
    kept = named | set(sorted(parents, reverse=True)[:keep])
    return frozenset(kept | {parent.number for number in kept if (parent := parents.get(number)) is not None})


def collect(
    store: ObjectStore,
    reader: RegistryReader,
    name: str,
    now: Callable[[], float],
    grace_s: float,
    keep: int = KEEP,
    *,
    dry_run: bool = False,
) -> Collected:
    """Note what may go of a model, delete what might for long.

    Raises `WrongState` while a version is being published, `IntegrityError` as `registry.unverified` where a version is
    not believed: nobody knows what it refers to.
    """
    grace, found, at = Grace(orphans_s=grace_s), _unreferenced(store, reader, name, keep), now()
    noted = aged(read_keeping(store, name), found, at)
    if not dry_run:
        noted = change(store, name, lambda keeping: aged(keeping, found, at))
    objects = found[store.url]
    work = [key for _, key in due(name, noted, found, at, grace)]
    if not dry_run and work:
        work = _deleted(store, work, now, lambda: _unreferenced(store, reader, name, keep)[store.url], name)
    return Collected(deleted=len(work), bytes=sum(objects[key] for key in work), waiting=len(objects) - len(work))


def _deleted(
    store: ObjectStore,
    work: Iterable[str],
    now: Callable[[], float],
    unreferenced: Callable[[], Mapping[str, int]],
    name: str,
) -> list[str]:
    """Delete under a sweep, which keeps every publisher out until it ends."""
    end = change(store, name, lambda keeping: with_sweep(keeping, now())).sweeping_until or 0.0
    deleted = []
    try:
        still = unreferenced()  # whatever was published before the sweep began is seen now
        for key in work:
            if key in still and now() < end:
                store.delete(key)
                deleted.append(key)
    finally:
        change(store, name, functools.partial(_swept, end=end))
    return deleted


def _swept(keeping: Keeping, end: float) -> Keeping:
    return msgspec.structs.replace(keeping, sweeping_until=None) if keeping.sweeping_until == end else keeping


def _unreferenced(store: ObjectStore, reader: RegistryReader, name: str, keep: int) -> dict[str, dict[str, int]]:
    """By the store's URL and key, with their bytes."""
    versions = [_believed(name, number, found) for number, found in reader.every(name)]
    kept = kept_numbers(versions, [_history(reader, name, alias) for alias in reader.aliases(name)], keep)
    wanted = {key for found in versions if found.version.number in kept for key in parts_of(found.version)}
    held = (info for prefix in (parameters_prefix(name), reports_prefix(name)) for info in store.list(prefix))
    return {store.url: {info.key: info.size for info in held if info.key not in wanted}}


def _history(reader: RegistryReader, name: str, alias: str) -> Sequence[Alias]:
    """Raises where what the alias names now is not believed: it may be what is served."""
    reader.resolve(Reference(name, alias=alias))
    return reader.history(name, alias)


def _believed(name: str, number: int, found: Resolved | Exception) -> Resolved:
    if isinstance(found, Resolved):
        return found
    raise IntegrityError(
        "a version is not believed, so nobody knows what it refers to: nothing was collected",
        code="registry.unverified",
        value=f"{name}@{number}: {found}",
        cure="Collect with a trust file that names its publisher, or delete the document by hand.",
    ) from found
