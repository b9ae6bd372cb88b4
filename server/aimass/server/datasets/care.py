"""Verifying, repairing and replicating one data set: what the commands and the service do, for one call each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from aimass.proto.data_sets import DataSetManifest, ShardEntry, read_data_set
from aimass.proto.errors import AimassError, NotFound, Unavailable
from aimass.proto.objects import ObjectStore, open_objects
from aimass.proto.values import Value
from aimass.server.datasets.copies import Copy, Spend, Survey, inspected, surveyed
from aimass.server.datasets.documents import DocumentCopies, document_copies, mirrored
from aimass.server.datasets.placement import Placement, holders, placement_of
from aimass.server.datasets.repair import Mended, mend, mends
from aimass.server.datasets.replicas import FaultKind, fault_of

__all__ = ["Documents", "House", "Report", "open_house", "repair", "verify"]

Open = Callable[[str], ObjectStore]
Heard = Callable[[int, int], None]
"""Told how many copies of how many were looked at."""


@dataclasses.dataclass(frozen=True, slots=True)
class House:
    """A data set with all stores that it stands in, as the newest placement says; `home` is the first of them."""

    name: str
    placement: Placement
    stores: Mapping[str, ObjectStore]

    @property
    def home(self) -> ObjectStore:
        """Where versions are committed."""
        return self.stores[self.placement.stores[0]]


class Documents(Value, frozen=True):
    """What became of versions and placements over all stores; keys by what is wrong with them.

    `damaged` have no copy that can be read. `disputed` have two that contradict each other: a person has to say which
    is true. `mirrored` were missing or damaged somewhere, and are made good. Stores in `away` did not answer.
    """

    number: int
    incomplete: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    disputed: tuple[str, ...] = ()
    mirrored: tuple[str, ...] = ()
    away: tuple[str, ...] = ()


class Report(Value, frozen=True):
    """A look at everything, `deep` where every byte was read, and what was mended: `survey` is of before, `left` of
    after."""

    at: float
    deep: bool
    documents: Documents
    survey: Survey
    left: Survey
    mended: tuple[Mended, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether nothing is left to do."""
        documents = self.documents
        return self.left.whole and not (documents.incomplete or documents.damaged or documents.disputed)


def open_house(name: str, urls: Sequence[str], now: float, open_store: Open = open_objects) -> House:
    """The data set as the first of `urls` that answers knows it. Raises `NotFound` where that has no version of it."""
    stores = {store.url: store for store in map(open_store, urls)}
    error: AimassError = Unavailable("no store is named", code="dataset.no_store", cure="Give --store URL.")
    for store in stores.values():
        try:
            placement = placement_of(store, name, now)
            if next(iter(store.list(f"{name}/versions/")), None) is None:
                raise _unknown(name, store)
        except AimassError as raised:
            error = raised
            if isinstance(raised, NotFound) or fault_of(raised) is FaultKind.AWAY:
                continue
            raise
        opened = {url: stores[url] if url in stores else open_store(url) for url in placement.stores}
        return House(name, placement, opened)
    raise error


def verify(
    house: House, now: float, spend: Spend | None, version: int | None = None, heard: Heard | None = None
) -> Report:
    """Look at every document and every copy; with `spend` the bytes of shards are read and hashed. Changes nothing."""
    documents, manifests = _documents(house, version, mending=False)
    copies = _inspected(house, _shards(manifests), spend, heard, documents.away)
    survey = surveyed(house.name, house.placement, copies)
    return Report(at=now, deep=spend is not None, documents=documents, survey=survey, left=survey)


def repair(
    house: House,
    now: float,
    spend: Spend,
    *,
    deep: bool,
    version: int | None = None,
    heard: Heard | None = None,
    mended: Callable[[Mended], None] | None = None,
) -> Report:
    """The same, and what is missing or false is made good. Broken off it is begun again, and does what is left."""
    documents, manifests = _documents(house, version, mending=True)
    copies = _inspected(house, _shards(manifests), spend if deep else None, heard, documents.away)
    done = []
    for one in mend(house.name, house.stores, mends(house.placement, copies), spend):
        done.append(one)
        if mended is not None:
            mended(one)
    return Report(
        at=now,
        deep=deep,
        documents=documents,
        survey=surveyed(house.name, house.placement, copies),
        left=surveyed(house.name, house.placement, after(copies, done)),
        mended=tuple(done),
    )


def after(copies: Sequence[Copy], done: Sequence[Mended]) -> tuple[Copy, ...]:
    """What `copies` are once `done` was done."""
    good = {(one.sha256, one.store) for one in done if one.outcome == "copied"}
    return tuple(
        msgspec.structs.replace(copy, state="good", found="") if (copy.sha256, copy.store) in good else copy
        for copy in copies
    )


def _documents(house: House, version: int | None, *, mending: bool) -> tuple[Documents, tuple[DataSetManifest, ...]]:
    """What is wrong with documents, and the manifests that can be read, of one version or all."""
    found = tuple(document_copies(house.name, house.stores))
    outcomes = {one.key: mirrored(house.stores, one) for one in found if mending and one.to_write}
    made_good = {key for key, outcome in outcomes.items() if set(outcome.values()) == {"copied"}}
    documents = Documents(
        number=len(found),
        incomplete=tuple(one.key for one in found if one.to_write and one.key not in made_good),
        damaged=tuple(one.key for one in found if not one.valid and not one.away),
        disputed=tuple(one.key for one in found if one.disputed),
        mirrored=tuple(sorted(made_good)),
        away=tuple(sorted({url for one in found for url in one.away})),
    )
    manifests = tuple(manifest for one in found for manifest in _manifests(one))
    chosen = tuple(one for one in manifests if version in {None, one.version})
    if not chosen:
        raise NotFound(
            "no version of this data set can be read",
            code="dataset.unknown",
            value=house.name if version is None else f"{house.name}@{version}",
            limit=", ".join(f"{house.name}@{one.version}" for one in manifests) or "none",
        )
    return documents, chosen


def _manifests(copies: DocumentCopies) -> Iterator[DataSetManifest]:
    """Every reading of a version: where two contradict each other the shards of both are looked after."""
    if "/versions/" in copies.key:
        yield from (read_data_set(data, copies.key) for data in copies.valid)


def _shards(manifests: Sequence[DataSetManifest]) -> tuple[ShardEntry, ...]:
    """Each once, by digest, in the order of versions."""
    return tuple({shard.sha256: shard for manifest in manifests for shard in manifest.shards}.values())


def _inspected(
    house: House, shards: Sequence[ShardEntry], spend: Spend | None, heard: Heard | None, away: Sequence[str]
) -> tuple[Copy, ...]:
    number = sum(len(holders(house.placement, shard.sha256)) for shard in shards)
    copies = []
    for copy in inspected(house.name, shards, house.placement, house.stores, spend, away):
        copies.append(copy)
        if heard is not None:
            heard(min(len(copies), number), number)
    return tuple(copies)


def _unknown(name: str, store: ObjectStore) -> NotFound:
    return NotFound(
        "no such data set in the store",
        code="dataset.unknown",
        value=f"{name} at {store.url}",
        cure="Check the name and the store; name all stores of a data set whose home may be away.",
    )
