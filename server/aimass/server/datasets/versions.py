"""The versions of a data set, as the stores that are named and those of its placement have them.

Versions are committed at home and copied from there, so a store may lack the newest: all are asked which it is. Where
the home does not answer nobody knows it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence

from aimass.proto.data_sets import DataSetManifest, DataSetName
from aimass.proto.errors import AimassError, NotFound, Unavailable
from aimass.proto.objects import ObjectStore, open_objects
from aimass.server.datasets.catalogue import Catalogue
from aimass.server.datasets.placement import placement_of
from aimass.server.datasets.replicas import FaultKind, fault_of

__all__ = ["Doubted", "Newest", "newest", "numbers", "opened", "refused"]

Open = Callable[[str], ObjectStore]
Doubted = Callable[[Unavailable], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Newest:
    """The highest version that a store has which answered, and the URLs of all stores that may hold its shards, those
    that were named first. `home_away` is the home where that did not show it: there may be a newer one."""

    name: DataSetName
    stores: tuple[str, ...]
    home_away: str = ""

    @property
    def doubt(self) -> Unavailable | None:
        """The error for who has to be sure that it is the newest; None where the home says so."""
        if not self.home_away:
            return None
        return Unavailable(
            "the data set's home does not answer, and may have a newer version",
            code="dataset.home_away",
            value=self.home_away,
            cure=f"Name the version that you mean: {self.name} is the newest elsewhere.",
        )


def newest(
    name: str,
    stores: Sequence[ObjectStore],
    now: float,
    open_store: Open = open_objects,
    *,
    resting: Collection[str] = (),
    failed: Callable[[str], None] = lambda _: None,
) -> Newest:
    """Ask `stores` and those that placements name; those in `resting` only where no other has it.

    `failed` is told of each store that does not answer. Raises what one of them did where none has the data set.
    """
    known = {store.url: store for store in stores}
    urls, found, homes = list(known), dict[str, int](), dict[str, None]()
    missing = away = None
    for url in urls:  # grows
        if found and url in resting:
            continue
        try:
            store = known.get(url) or open_store(url)
            number, placed = Catalogue(store).newest(name), placement_of(store, name, now).stores
            if number is None:
                raise Catalogue(store).unknown(DataSetName(name=name))
        except AimassError as raised:
            kind = fault_of(raised)
            if url in known and kind not in {FaultKind.MISSING, FaultKind.AWAY}:
                raise
            if kind is FaultKind.MISSING:
                missing = raised
            else:
                away = raised
                failed(url)
            continue
        found[url] = number
        homes[placed[0]] = None
        urls.extend(each for each in placed if each not in urls)
    if not found:
        raise away or missing or _no_store()
    silent = next((home for home in homes if home not in found), "")
    return Newest(DataSetName(name=name, version=max(found.values())), tuple(urls), silent)


def refused(doubt: Unavailable) -> None:
    """Of who has to be sure."""
    raise doubt


def opened(
    name: DataSetName,
    stores: Sequence[ObjectStore],
    now: float,
    doubted: Doubted = refused,
    open_store: Open = open_objects,
) -> tuple[DataSetManifest, tuple[str, ...]]:
    """The version that is named, or the newest, by the first store that has it; and the URLs of all stores that may
    hold its shards, those that are named first. Raises what the last of them did.

    `doubted` is told where the newest is wanted and its home does not answer; `Unavailable` is raised without it.
    """
    urls = tuple(store.url for store in stores)
    if name.version is None:
        found = newest(name.name, stores, now, open_store)
        if found.doubt is not None:
            doubted(found.doubt)
        name, urls = found.name, found.stores
    known = {store.url: store for store in stores}
    failed: AimassError = _no_store()
    for url in urls:
        try:
            store = known.get(url) or open_store(url)
            data_set = Catalogue(store).open(name)
            return data_set, tuple(dict.fromkeys([*urls, *placement_of(store, name.name, now).stores]))
        except (NotFound, Unavailable) as error:
            failed = error
    raise failed


def numbers(name: str, stores: Sequence[ObjectStore]) -> tuple[int, ...]:
    """All versions that those stores list which answer."""
    found: set[int] = set()
    for store in stores:
        try:
            found.update(Catalogue(store).versions(name))
        except AimassError:
            continue
    return tuple(sorted(found))


def _no_store() -> Unavailable:
    return Unavailable("no store is named", code="dataset.no_store", cure="Give --store URL.")
