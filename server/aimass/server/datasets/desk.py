"""What the data set service answers, from the stores alone: it holds nothing that another one could not find there.

Everything here blocks and is called from threads. Reading goes on at the first store that answers; what is committed is
committed at home, the first of all stores.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import Annotated, Final, TypeVar

import msgspec

from aimass.proto.data_sets import DataSetManifest, DataSetName, read_data_set, read_name, shard_key, version_key
from aimass.proto.data_views import DataSetList, DataSetView, LeaseView, OwnerView
from aimass.proto.errors import AimassError, BadInput, Conflict, Unavailable
from aimass.proto.names import Name, PersonName
from aimass.proto.objects import ObjectStore
from aimass.proto.values import canonical_json, convert
from aimass.server.datasets.care import House, open_house
from aimass.server.datasets.catalogue import Catalogue
from aimass.server.datasets.evolution import check_evolution
from aimass.server.datasets.lease_book import LeaseBook
from aimass.server.datasets.leases import Lease, LeaseTable, free
from aimass.server.datasets.owners import check_owner, claim, hand_on, owner_of
from aimass.server.datasets.placement import check_home, placement_of
from aimass.server.datasets.ranges import count, numbers_of, ranges_of
from aimass.server.datasets.records import health_of, record_of
from aimass.server.datasets.replicas import FaultKind, Standing, fault_of
from aimass.server.datasets.versions import Doubted, Newest, newest, refused
from aimass.server.keeping import Hold, let_go

__all__ = ["DataSetDesk"]

log = logging.getLogger("aimass.datasets")
T = TypeVar("T")
_MOST_SHARDS: Final = 10_000
_NAMES_S: Final = 60.0
_REST_S: Final = 60.0
"""A store that did not answer is asked last for so long."""
Seconds = Annotated[float, msgspec.Meta(gt=0)]


class DataSetDesk:
    """One for a service, for any number of threads."""

    def __init__(
        self, urls: Sequence[str], open_store: Callable[[str], ObjectStore], clock: Callable[[], float]
    ) -> None:
        self._open, self._clock = open_store, clock
        self._stores = {store.url: store for store in map(open_store, urls)}
        self.home: ObjectStore = next(iter(self._stores.values()))
        """Where versions, leases and the leader's term are committed."""
        self._standing = Standing()
        self._names: tuple[str, ...] = ()
        self._names_until = float("-inf")

    def house(self, name: str) -> House:
        """A data set with all its stores."""
        urls = self._standing.order(tuple(self._stores), self._clock())
        return open_house(name, urls, self._clock(), self._store)

    def names(self) -> tuple[str, ...]:
        """Data sets, in order, as they were within the last minute: to find them all objects are listed."""
        now = self._clock()
        if now >= self._names_until:
            self._names = self._first(lambda store: tuple(Catalogue(store).names()))
            self._names_until = now + _NAMES_S
        return self._names

    def all(self) -> DataSetList:
        """Every data set; one that cannot be shown hides no other."""
        views, faults = [], {}
        for name in self.names():
            try:
                views.append(self.view(name))
            except AimassError as error:
                faults[name] = error.code
        return DataSetList(data_sets=tuple(views), faults=faults)

    def view(self, name: str) -> DataSetView:
        """One data set at a glance."""
        found = self._newest(name)
        return self._first(lambda store: self._view(store, found), found.stores)

    def document(self, text: str) -> bytes:
        """A version's manifest in the bytes that were committed; `text` is NAME or NAME@3."""
        named, stores = self._named(text, lambda _: None)  # the log says it

        def read(store: ObjectStore) -> bytes:
            manifest = Catalogue(store).open(named)
            return store.read(version_key(manifest.name, manifest.version))

        return self._first(read, stores)

    def register(self, data: bytes, person: str, *, operator: bool = False) -> DataSetView:
        """Commit a manifest whose shards stand at home; the same one again changes nothing.

        Who registers the first version owns the data set, see `owners`; an operator may register any. Raises `NotFound`
        for a shard that is not there, `Conflict` where it is not the next version or another stands there, `Refused`
        for another's data set and for a schema that may not follow the one before.
        """
        manifest = read_data_set(data, "the manifest")
        if canonical_json(manifest) != data:
            raise BadInput("the manifest is not in canonical form", code="value.not_canonical")
        check_home(self.home, manifest.name, self._clock())
        catalogue, job = Catalogue(self.home), f"register-{hashlib.sha256(data).hexdigest()[:16]}"
        newest = catalogue.newest(manifest.name) or 0
        if newest and not operator:
            check_owner(self.home, manifest.name, person)
        if manifest.version not in {newest, newest + 1}:
            raise Conflict(
                "not the next version of this data set",
                code="dataset.version",
                value=manifest.version,
                limit=newest + 1,
                cure="Somebody committed another one meanwhile: look at it, and number yours anew.",
            )
        if newest and manifest.version > newest:
            parent = catalogue.open(DataSetName(name=manifest.name, version=newest))
            check_evolution(manifest.name, parent.data_schema, manifest.data_schema)
        held = Hold(self.home, manifest.name, job, self._clock)
        try:
            self._check_shards(manifest, held)
            held.keep()
            if not newest:
                claim(self.home, manifest.name, data, person)
            if catalogue.commit(manifest) != manifest:
                raise Conflict(
                    "another manifest of the same job stands as this version",
                    code="dataset.committed",
                    value=f"{manifest.name}@{manifest.version}",
                    cure="Look at it: aimass data describe. If yours says more, number it as the next version.",
                )
        finally:
            let_go(self.home, manifest.name, job)
        self._names_until = float("-inf")
        return self.view(manifest.name)

    def own(self, name: str, to: str, person: str, *, operator: bool = False) -> OwnerView:
        """Whose a data set is; with `to` its owner, or an operator, makes it somebody else's. Raises `Refused` for
        anybody else, `NotFound` where the home has no such data set."""
        if to:
            new = convert(PersonName, to, "the new owner's name")
            hand_on(self.home, name, new, person, self._clock(), operator=operator)
        return owner_of(self.home, name)

    def lend(self, text: str, job: str, holder: str, most: int, term_s: float) -> LeaseView:
        """Shards for `holder` to work on; of the newest version where none is named."""
        if not 1 <= most <= _MOST_SHARDS:
            raise BadInput("no lease has so many shards", code="lease.most", value=most, limit=f"1 to {_MOST_SHARDS}")
        manifest = self._manifest(text)
        table, lease = self._book(manifest, job).lend(holder, most, _seconds(term_s))
        return self._lease_view(manifest, job, table, lease)

    def renew(self, text: str, job: str, lease_id: str, holder: str, term_s: float) -> LeaseView:
        """The same shards for longer."""
        manifest = self._manifest(text)
        table, lease = self._book(manifest, job).renew(lease_id, holder, _seconds(term_s))
        return self._lease_view(manifest, job, table, lease)

    def release(self, text: str, job: str, lease_id: str, holder: str, done: Sequence[int]) -> LeaseView:
        """Shards given back, some of them done."""
        manifest = self._manifest(text)
        table = self._book(manifest, job).release(lease_id, holder, ranges_of(done))
        return self._lease_view(manifest, job, table, None)

    def _store(self, url: str) -> ObjectStore:
        return self._stores.get(url) or self._open(url)

    def _failed(self, url: str) -> None:
        self._standing = self._standing.failed(url, self._clock() + _REST_S)

    def _newest(self, name: str) -> Newest:
        """As all stores say that do not rest, or all of them where no other has the data set."""
        now = self._clock()
        urls = self._standing.order(tuple(self._stores), now)
        resting = self._standing.at_rest(now)
        found = newest(
            name, [self._stores[url] for url in urls], now, self._store, resting=resting, failed=self._failed
        )
        if found.doubt is not None and found.home_away not in resting:  # said once in a while
            log.warning("%s may be older than the newest: %s", found.name, found.doubt)
        return found

    def _named(self, text: str, doubted: Doubted = refused) -> tuple[DataSetName, tuple[str, ...]]:
        """The version that is meant, and the stores that may have it."""
        named = read_name(text)
        if named.version is not None:
            return named, tuple(self._stores)
        found = self._newest(named.name)
        if found.doubt is not None:
            doubted(found.doubt)
        return found.name, found.stores

    def _first(self, ask: Callable[[ObjectStore], T], stores: Sequence[str] = ()) -> T:
        """The answer of the first of `stores`, or of the service's, that gives one. That one lacks something says
        nothing of the next."""
        found: AimassError = Unavailable("the service has no store", code="dataset.no_store")
        for url in self._standing.order(stores or tuple(self._stores), self._clock()):
            try:
                return ask(self._store(url))
            except AimassError as error:
                kind = fault_of(error)
                if kind not in {FaultKind.MISSING, FaultKind.AWAY}:
                    raise
                if kind is FaultKind.AWAY:  # to find that out took a while
                    self._failed(url)
                found = error
        raise found

    def _view(self, store: ObjectStore, found: Newest) -> DataSetView:
        catalogue, name = Catalogue(store), found.name.name
        manifest = catalogue.open(found.name)
        placement, record = placement_of(store, name, self._clock()), record_of(store, name)
        return DataSetView(
            name=name,
            version=manifest.version,
            versions=catalogue.versions(name),
            schema=manifest.data_schema.name,
            rows=manifest.rows,
            bytes=manifest.size,
            shards=len(manifest.shards),
            licence=manifest.licence,
            created_at=manifest.created_at,
            stores=placement.stores,
            copies=placement.copies,
            health=None if record is None else health_of(record.report),
            home_away=found.home_away,
        )

    def _check_shards(self, manifest: DataSetManifest, held: Hold) -> None:
        for shard in manifest.shards:
            held.keep()
            if self.home.head(shard_key(manifest.name, shard.sha256)).size != shard.size:
                raise BadInput(
                    "a shard in the store has another size than the manifest says",
                    code="dataset.shard_size",
                    value=shard.sha256,
                    limit=shard.size,
                )

    def _manifest(self, text: str) -> DataSetManifest:
        named, stores = self._named(text)
        return self._first(lambda store: Catalogue(store).open(named), stores)

    def _book(self, manifest: DataSetManifest, job: str) -> LeaseBook:
        return LeaseBook(self.home, manifest, convert(Name, job, "the job's name"), self._clock)

    def _lease_view(self, manifest: DataSetManifest, job: str, table: LeaseTable, lease: Lease | None) -> LeaseView:
        stores = self._first(lambda store: placement_of(store, manifest.name, self._clock())).stores
        state = LeaseView(
            data_set=f"{manifest.name}@{manifest.version}",
            job=job,
            stores=stores,
            total=table.shards,
            free=count(free(table)),
            done=count(table.done),
        )
        if lease is None:
            return state
        shards = tuple(manifest.shards[number - 1] for number in numbers_of(lease.shards))
        return msgspec.structs.replace(state, lease=lease.id, until=lease.until, shards=shards)


def _seconds(value: float) -> float:
    return convert(Seconds, value, "how long a lease is to hold")
