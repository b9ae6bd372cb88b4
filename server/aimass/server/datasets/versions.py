"""The versions of a data set, as the stores that are named have them."""

from __future__ import annotations

from collections.abc import Sequence

from aimass.proto.data_sets import DataSetManifest, DataSetName
from aimass.proto.errors import AimassError, NotFound, Unavailable
from aimass.proto.objects import ObjectStore
from aimass.server.datasets.catalogue import Catalogue
from aimass.server.datasets.placement import placement_of

__all__ = ["numbers", "opened"]


def opened(name: DataSetName, stores: Sequence[ObjectStore], now: float) -> tuple[DataSetManifest, tuple[str, ...]]:
    """The version that is named, or the newest, by the first store that has it; and the URLs of all stores that may
    hold its shards, those that are named first. Raises what the last of them did."""
    failed: AimassError | None = None
    for store in stores:
        try:
            data_set = Catalogue(store).open(name)
            placed = placement_of(store, name.name, now).stores
            return data_set, tuple(dict.fromkeys([*(named.url for named in stores), *placed]))
        except (NotFound, Unavailable) as error:
            failed = error
    raise failed or Unavailable("no store is named", code="dataset.no_store", cure="Give --store URL.")


def numbers(name: str, stores: Sequence[ObjectStore]) -> tuple[int, ...]:
    """All versions that the first store lists that answers; none where none does."""
    for store in stores:
        try:
            return Catalogue(store).versions(name)
        except Unavailable:
            continue
    return ()
