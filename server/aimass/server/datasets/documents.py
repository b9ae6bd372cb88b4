"""The small documents of a data set, versions and placement, alike in every store that a reader may begin at."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from aimass.proto.data_sets import read_data_set, version_of_key
from aimass.proto.errors import AimassError, BadInput, Conflict, NotFound
from aimass.proto.numbered import Numbered
from aimass.proto.objects import ObjectStore
from aimass.server.datasets.layout import placement_prefix
from aimass.server.datasets.placement import read_placement
from aimass.server.datasets.replicas import FaultKind, fault_of

__all__ = ["DocumentCopies", "document_copies", "mirrored"]


@dataclasses.dataclass(frozen=True, slots=True)
class DocumentCopies:
    """One document over all stores: `bytes_by_store` holds what was read, None where nothing stands; stores in `away`
    did not answer. `valid` are the different contents that can be read as what the key says."""

    key: str
    bytes_by_store: Mapping[str, bytes | None]
    away: tuple[str, ...]
    valid: tuple[bytes, ...]

    @property
    def truth(self) -> bytes | None:
        """The one content that there is; None where all are damaged or two of them contradict each other."""
        return self.valid[0] if len(self.valid) == 1 else None

    @property
    def disputed(self) -> bool:
        """Whether two stores hold different documents, both well formed: who is right, a person has to say."""
        return len(self.valid) > 1

    @property
    def to_write(self) -> tuple[str, ...]:
        """Stores that lack the one content or hold another."""
        if self.truth is None:
            return ()
        return tuple(url for url, data in self.bytes_by_store.items() if data != self.truth)


def document_copies(name: str, stores: Mapping[str, ObjectStore]) -> Iterator[DocumentCopies]:
    """Every document of `name` up to the highest number that any store has, in order; a gap is one that was lost."""
    away: set[str] = set()
    for prefix in (placement_prefix(name), f"{name}/versions"):
        last = 0
        for url, store in stores.items():
            if url in away:  # it was asked for long enough
                continue
            try:
                newest = Numbered(store, prefix).newest()
            except AimassError as error:
                if fault_of(error) is not FaultKind.AWAY:
                    raise
                away.add(url)
                continue
            last = max(last, newest.number if newest else 0)
        for number in range(1, last + 1):
            yield _copies(name, f"{prefix}/{number:08}.json", stores, away)


def mirrored(stores: Mapping[str, ObjectStore], copies: DocumentCopies) -> dict[str, str]:
    """Write the one content where it lacks; what came of it by store: `copied`, or the error's code."""
    outcomes: dict[str, str] = {}
    for url in copies.to_write:
        try:
            if copies.bytes_by_store[url] is None:
                stores[url].create(copies.key, copies.truth or b"")
            else:
                stores[url].put(copies.key, copies.truth or b"")
            outcomes[url] = "copied"
        except Conflict:  # another has mirrored it meanwhile
            outcomes[url] = "copied"
        except AimassError as error:
            outcomes[url] = error.code
    return outcomes


def _copies(name: str, key: str, stores: Mapping[str, ObjectStore], away: set[str]) -> DocumentCopies:
    found: dict[str, bytes | None] = {}
    for url, store in stores.items():
        if url in away:
            continue
        try:
            found[url] = store.read(key)
        except NotFound:
            found[url] = None
        except AimassError as error:
            if fault_of(error) is not FaultKind.AWAY:
                raise
            away.add(url)
    valid = dict.fromkeys(data for data in found.values() if data is not None and _reads_as(name, key, data))
    return DocumentCopies(key, found, tuple(sorted(away)), tuple(valid))


def _reads_as(name: str, key: str, data: bytes) -> bool:
    """Whether `data` is the document that belongs under `key`."""
    try:
        version = version_of_key(key)
        if version is None:
            read_placement(data, key)
            return True
        manifest = read_data_set(data, key)
    except BadInput:
        return False
    return (manifest.name, manifest.version) == (name, version)
