"""Copies that are missing or false, made good from one that is true: first what to do, as values, then doing it."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from aimass.proto.data_sets import shard_key
from aimass.proto.errors import AimassError, NotFound, Stopped
from aimass.proto.objects import ObjectStore
from aimass.proto.values import Value
from aimass.server.datasets.copies import Copy, Spend
from aimass.server.datasets.layout import quarantine_key
from aimass.server.datasets.placement import Placement, holders
from aimass.server.datasets.verified import verified

__all__ = ["Mend", "Mended", "mend", "mends"]


@dataclasses.dataclass(frozen=True, slots=True)
class Mend:
    """One copy to be made in `store` from the first of `sources` that is true; `bad` stands there now, if anything."""

    sha256: str
    size: int
    store: str
    sources: tuple[str, ...]
    bad: Copy | None = None


class Mended(Value, frozen=True):
    """What came of one: `source` gave the good copy, `quarantined` is where the bad one went; `code` says why not."""

    sha256: str
    store: str
    outcome: Literal["copied", "failed"]
    source: str = ""
    quarantined: str = ""
    code: str = ""


def mends(placement: Placement, copies: Sequence[Copy]) -> tuple[Mend, ...]:
    """What is to be done about `copies`, those with fewest good ones first. A store that is away waits for next time.

    A false copy of which there is no good one is left as it is: there is nothing to put in its place.
    """
    by_shard: dict[str, list[Copy]] = defaultdict(list)
    for copy in copies:
        by_shard[copy.sha256].append(copy)
    found = []
    for sha256, seen in by_shard.items():
        sources = tuple(copy.store for copy in seen if copy.state == "good")
        belongs = holders(placement, sha256)
        wanted = [copy for copy in seen if copy.state == "false" or (copy.state == "missing" and copy.store in belongs)]
        found += [_mend(copy, sources) for copy in wanted if sources]
    return tuple(sorted(found, key=lambda one: len(one.sources)))


def _mend(copy: Copy, sources: tuple[str, ...]) -> Mend:
    return Mend(copy.sha256, copy.size, copy.store, sources, copy if copy.state == "false" else None)


def mend(
    name: str,
    stores: Mapping[str, ObjectStore],
    work: Sequence[Mend],
    spend: Spend,
) -> Iterator[Mended]:
    """Do `work`, one after the other; what fails is told and does not stop the rest."""
    for one in work:
        yield _mended(name, stores, one, spend)


def _mended(name: str, stores: Mapping[str, ObjectStore], one: Mend, spend: Spend) -> Mended:
    key, target, code = shard_key(name, one.sha256), stores[one.store], ""
    try:
        quarantined = _quarantined(name, target, one.bad) if one.bad is not None else ""
    except AimassError as error:
        return Mended(sha256=one.sha256, store=one.store, outcome="failed", code=error.code)
    for source in one.sources:
        try:
            true = verified(stores[source].stream(key), one.sha256, one.size, source)
            target.write(key, _spent(true, spend))
        except Stopped:
            raise
        except AimassError as error:
            code = error.code
        else:
            return Mended(sha256=one.sha256, store=one.store, outcome="copied", source=source, quarantined=quarantined)
    return Mended(sha256=one.sha256, store=one.store, outcome="failed", quarantined=quarantined, code=code)


def _quarantined(name: str, store: ObjectStore, bad: Copy) -> str:
    """Keep the bad bytes aside, for whoever asks what happened; they keep their place until good ones take it."""
    key = quarantine_key(name, bad.sha256, bad.found)
    try:
        store.write(key, store.stream(shard_key(name, bad.sha256)))
    except NotFound:  # somebody else has taken it away
        return ""
    return key


def _spent(chunks: Iterator[bytes], spend: Spend) -> Iterator[bytes]:
    for chunk in chunks:
        spend(len(chunk))
        yield chunk
