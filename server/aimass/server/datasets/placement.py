"""Where the copies of a data set's shards belong: a small policy document, and the pure function that follows from it.

The first store of a placement is the data set's home, where versions are committed. Documents (versions and the
placement itself) are copied to every store, so that a reader finds its way from any one of them; of each shard there
are `copies`. Which stores those are follows from the shard's digest by rendezvous hashing (Thaler and Ravishankar,
"Using name-based mappings to increase hit rates", IEEE/ACM ToN 6(1), 1998): a store that is added or taken away moves
the shards that it gains or loses, and no others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from aimass.proto.errors import BadInput, Conflict
from aimass.proto.numbered import Numbered
from aimass.proto.objects import ObjectStore
from aimass.proto.values import Value, canonical_json, decode_canonical_json
from aimass.server.datasets.layout import placement_prefix

__all__ = ["Placement", "changed", "check_home", "holders", "place", "placement_of", "read_placement"]

MOST_STORES: Final = 16


class Placement(Value, frozen=True):
    """`copies` of each shard over `stores`, their URLs: the home first, then as readers prefer them."""

    stores: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=MOST_STORES)]
    copies: Annotated[int, msgspec.Meta(ge=1)]
    created_at: float

    def __post_init__(self) -> None:
        if len(set(self.stores)) != len(self.stores):
            raise ValueError("a store is named twice")
        if self.copies > len(self.stores):
            raise ValueError(f"{self.copies} copies need as many stores, and {len(self.stores)} are named")


def holders(placement: Placement, sha256: str) -> tuple[str, ...]:
    """The stores that a shard belongs in, in the placement's order."""
    by_weight = sorted(placement.stores, key=lambda url: hashlib.sha256(f"{url}\0{sha256}".encode()).digest())
    chosen = frozenset(by_weight[: placement.copies])
    return tuple(url for url in placement.stores if url in chosen)


def check_home(store: ObjectStore, name: str, now: float) -> None:
    """Raise `Conflict` where versions of the data set are committed elsewhere: two stores would each have their own."""
    home = placement_of(store, name, now).stores[0]
    if home != store.url:
        raise Conflict(
            "this store holds copies: versions are committed at the data set's home",
            code="dataset.home",
            value=store.url,
            limit=home,
            cure=f"Name the home: --store {home}",
        )


def read_placement(data: bytes, what: str) -> Placement:
    """Decode a placement's document; raises `BadInput`."""
    return decode_canonical_json(Placement, data, what)


def placement_of(home: ObjectStore, name: str, now: float) -> Placement:
    """The data set's newest placement as `home` knows it; without one, a single copy at home."""
    found = Numbered(home, placement_prefix(name)).newest()
    if found is None:
        return Placement(stores=(home.url,), copies=1, created_at=now)
    return read_placement(found.data, f"placement {found.number} of {name}")


def changed(held: Placement, more: Sequence[str], copies: int | None, now: float) -> Placement | None:
    """`held` over `more` stores as well, in `copies`: None where that says what it says already.

    Without `copies` there is one in every store. Raises `BadInput` for more copies than stores.
    """
    stores = (*held.stores, *(url for url in dict.fromkeys(more) if url not in held.stores))
    number = copies if copies is not None else len(stores) if more else held.copies
    if not 1 <= number <= len(stores) <= MOST_STORES:
        raise BadInput(
            "no placement has so many copies or stores",
            code="dataset.copies",
            value=f"{number} copies in {len(stores)} stores",
            limit=f"1 to {len(stores)} copies, {MOST_STORES} stores",
            cure="Name another store with --to.",
        )
    if (stores, number) == (held.stores, held.copies):
        return None
    return Placement(stores=stores, copies=number, created_at=now)


def place(home: ObjectStore, name: str, placement: Placement) -> None:
    """Commit `placement` as the newest; raises `Conflict` where somebody else changes it too."""
    if placement.stores[0] != home.url:
        raise BadInput(
            "the first store of a placement is the data set's home",
            code="dataset.home",
            value=placement.stores[0],
            limit=home.url,
            cure="A version is committed there: move no home while versions are made.",
        )
    document = Numbered(home, placement_prefix(name))
    newest = document.newest()
    document.commit(newest.number + 1 if newest else 1, canonical_json(placement))
