"""The version of a data set that a run is to be over, as the stores that are named have it."""

from __future__ import annotations

from collections.abc import Sequence

from aimass.proto.data_sets import DataSetManifest, DataSetName
from aimass.proto.errors import AimassError, NotFound, Unavailable
from aimass.proto.objects import ObjectStore
from aimass.server.datasets.catalogue import Catalogue
from aimass.server.datasets.placement import placement_of

__all__ = ["opened"]


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
    assert failed is not None  # noqa: S101  (a data set has a store)
    raise failed
