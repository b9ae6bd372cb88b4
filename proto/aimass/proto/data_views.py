"""What people and programs are shown of data sets by their service: one shape for the wire, the SDK and `--json`."""

from __future__ import annotations

from aimass.proto.data_sets import ShardEntry
from aimass.proto.values import Value

__all__ = ["DataSetHealth", "DataSetList", "DataSetView", "LeaseView", "OwnerView", "TrustView"]


class DataSetHealth(Value, frozen=True):
    """What the last look at all copies found, and left after mending; `deep` read every byte.

    `lost` shards have no true copy in any store that answered, `unknown` ones none that was seen while a store was
    away. `documents` are versions and placements that are damaged, missing somewhere, or contradict each other.
    """

    looked_at: float
    deep: bool
    whole: bool
    wanted: int
    good: int
    missing: int
    false: int
    mended: int
    under_replicated: int
    away: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()


class DataSetView(Value, frozen=True):
    """A data set's newest version at a glance, where its copies belong, and how they were at the last look.

    `home_away` is the home where that does not answer: it may have a newer version.
    """

    name: str
    version: int
    versions: tuple[int, ...]
    schema: str
    rows: int
    bytes: int
    shards: int
    licence: str
    created_at: float
    stores: tuple[str, ...]
    copies: int
    health: DataSetHealth | None = None
    home_away: str = ""


class DataSetList(Value, frozen=True):
    """All data sets, in order of their names. `faults` are data sets that cannot be shown, by the error's code."""

    data_sets: tuple[DataSetView, ...]
    faults: dict[str, str] = {}


class OwnerView(Value, frozen=True):
    """Whose a data set is: who registers its versions, or nobody, and who handed it on when, if anybody did."""

    name: str
    owner: str = ""
    by: str = ""
    at: float | None = None


class LeaseView(Value, frozen=True):
    """Shards lent to the caller until Unix time `until`, and how the job stands; without a `lease` none is free now.

    `stores` are where the shards stand, as readers prefer them. `free` shards are lent to nobody and not done.
    """

    data_set: str
    job: str
    stores: tuple[str, ...]
    total: int
    free: int
    done: int
    lease: str = ""
    until: float = 0.0
    shards: tuple[ShardEntry, ...] = ()


class TrustView(Value, frozen=True):
    """The roster that a service holds."""

    epoch: int
    partners: tuple[str, ...]
