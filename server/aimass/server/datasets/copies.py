"""What became of a data set's copies: each is looked at where it belongs, and a pure survey says what that means."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal

from aimass.proto.data_sets import ShardEntry, shard_key
from aimass.proto.errors import AimassError, Conflict, NotFound
from aimass.proto.objects import ObjectStore
from aimass.proto.values import Value
from aimass.server.datasets.placement import Placement, holders
from aimass.server.datasets.replicas import FaultKind, fault_of

__all__ = ["Copy", "Spend", "Survey", "inspected", "look", "surveyed"]

Spend = Callable[[int], None]
"""Told of bytes before more are read: holds up whoever is too fast, and raises for whoever is to stop."""
_FIRST_PAUSE: Final = 8
"""A store that does not answer, which takes a while to find out, is passed over for so many copies, then twice that."""


class _Silence:
    """Which stores are not asked for the moment."""

    def __init__(self, away: Collection[str]) -> None:
        self._left: dict[str, int] = {}
        self._pause: dict[str, int] = {}
        for url in away:
            self.heard(url, away=True)

    def lasts(self, url: str) -> bool:
        """Whether the store is passed over for one more copy."""
        self._left[url] = self._left.get(url, 0) - 1
        return self._left[url] >= 0

    def heard(self, url: str, *, away: bool) -> None:
        """What came of asking."""
        self._pause[url] = 2 * self._pause.get(url, _FIRST_PAUSE // 2) if away else _FIRST_PAUSE // 2
        self._left[url] = self._pause[url] if away else 0


class Copy(Value, frozen=True):
    """One shard in one store. `found` is the digest that was read in place of `sha256`, where one was read."""

    sha256: str
    size: int
    store: str
    state: Literal["good", "missing", "false", "away"]
    found: str = ""


class Survey(Value, frozen=True):
    """What a look at all copies came to. `wanted` is how many of each shard there should be.

    `under_replicated` shards have fewer good copies than that, `lost` ones have none in any store that answered;
    `unknown` ones have none that was seen, and a store that may hold one is away.
    """

    data_set: str
    shards: int
    wanted: int
    good: int
    missing: int
    false: int
    away: tuple[str, ...]
    under_replicated: tuple[str, ...]
    unknown: tuple[str, ...]
    lost: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether nothing is left to mend."""
        return not (self.under_replicated or self.false or self.lost or self.unknown)


def look(store: ObjectStore, name: str, shard: ShardEntry, spend: Spend | None) -> Copy:
    """One copy: its size says, and with `spend` its bytes, which are read and hashed."""
    key = shard_key(name, shard.sha256)
    try:
        info = store.head(key)
        if info.size != shard.size:
            return _copy(shard, store, "false")
        found = shard.sha256 if spend is None else _digest(store, key, info.version, spend)
    except NotFound:
        return _copy(shard, store, "missing")
    except Conflict:  # replaced while it was read
        return _copy(shard, store, "false")
    except AimassError as error:
        if fault_of(error) is not FaultKind.AWAY:
            raise
        return _copy(shard, store, "away")
    return _copy(shard, store, "good") if found == shard.sha256 else _copy(shard, store, "false", found)


def inspected(
    name: str,
    shards: Iterable[ShardEntry],
    placement: Placement,
    stores: Mapping[str, ObjectStore],
    spend: Spend | None,
    away: Collection[str] = (),
) -> Iterator[Copy]:
    """Every copy where it belongs, shard by shard, and where it is in a store that it does not belong in when no other
    is good. A store that keeps silent, as those that are `away` did just now, is asked more and more rarely."""
    silence = _Silence(away)

    def seen(url: str, shard: ShardEntry) -> Copy:
        if silence.lasts(url):
            return _copy(shard, stores[url], "away")
        copy = look(stores[url], name, shard, spend)
        silence.heard(url, away=copy.state == "away")
        return copy

    for shard in shards:
        belongs = holders(placement, shard.sha256)
        copies = [seen(url, shard) for url in belongs]
        yield from copies
        if not any(copy.state == "good" for copy in copies):
            elsewhere = (seen(url, shard) for url in placement.stores if url not in belongs)
            yield from (copy for copy in elsewhere if copy.state != "missing")


def surveyed(data_set: str, placement: Placement, copies: Sequence[Copy]) -> Survey:
    """What `copies` say together."""
    by_shard: dict[str, list[Copy]] = defaultdict(list)
    for copy in copies:
        by_shard[copy.sha256].append(copy)
    good = {sha256: _good(sha256, found, placement) for sha256, found in by_shard.items()}
    none = [sha256 for sha256, found in by_shard.items() if not any(copy.state == "good" for copy in found)]
    unknown = tuple(sha256 for sha256 in none if any(copy.state == "away" for copy in by_shard[sha256]))
    return Survey(
        data_set=data_set,
        shards=len(by_shard),
        wanted=placement.copies,
        good=sum(good.values()),
        missing=sum(copy.state == "missing" for copy in copies),
        false=sum(copy.state == "false" for copy in copies),
        away=tuple(sorted({copy.store for copy in copies if copy.state == "away"})),
        under_replicated=tuple(sha256 for sha256, number in good.items() if number < placement.copies),
        unknown=unknown,
        lost=tuple(sha256 for sha256 in none if sha256 not in unknown),
    )


def _good(sha256: str, copies: Sequence[Copy], placement: Placement) -> int:
    belongs = holders(placement, sha256)
    return sum(copy.state == "good" and copy.store in belongs for copy in copies)


def _copy(
    shard: ShardEntry, store: ObjectStore, state: Literal["good", "missing", "false", "away"], found: str = ""
) -> Copy:
    return Copy(sha256=shard.sha256, size=shard.size, store=store.url, state=state, found=found)


def _digest(store: ObjectStore, key: str, version: str, spend: Spend) -> str:
    hasher = hashlib.sha256()
    for chunk in store.stream(key, version=version):
        spend(len(chunk))
        hasher.update(chunk)
    return hasher.hexdigest()
