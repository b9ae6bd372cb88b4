"""Shards lent to workers for a while, so that each is worked on by one of them and none is forgotten: pure functions.

A table belongs to one job over one version. What a worker lends it gives back as done or not; when its lease ends by
the clock, what it had is free again. A shard may so be worked on twice, and is done once.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from aimass.proto.errors import NotFound, Refused
from aimass.proto.values import Value
from aimass.server.datasets.ranges import Ranges, count, first, minus, union

__all__ = ["LONGEST_S", "Lease", "LeaseTable", "expired", "free", "lend", "owned", "release", "renew"]

LONGEST_S: Final = 3_600.0
"""Nobody holds a shard for longer without saying that it lives."""


class Lease(Value, frozen=True):
    """`shards` by number, lent to `holder` until Unix time `until`."""

    id: str
    holder: str
    shards: Ranges
    until: float


class LeaseTable(Value, frozen=True):
    """Of `shards` shards, numbered from 1, some are lent and some are done; the others are free. `owner` began the job,
    nobody so far where it is empty."""

    shards: Annotated[int, msgspec.Meta(ge=1)]
    leases: tuple[Lease, ...] = ()
    done: Ranges = ()
    owner: str = ""

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return count(self.done) == self.shards


def free(table: LeaseTable) -> Ranges:
    """Shards that nobody has, and that are not done."""
    return minus(((1, table.shards),), union(table.done, *(lease.shards for lease in table.leases)))


def expired(table: LeaseTable, now: float) -> LeaseTable:
    """Without the leases that have ended."""
    return msgspec.structs.replace(table, leases=tuple(lease for lease in table.leases if lease.until > now))


def owned(table: LeaseTable, person: str) -> LeaseTable:
    """The table of a job that `person` began, or begins now; raises `Refused` where another did: whoever says "done"
    takes shards from the others."""
    if table.owner not in {"", person}:
        raise Refused(
            "this job is another's",
            code="lease.owner",
            value=person,
            limit=table.owner,
            cure="Begin a job under another name: it gets all shards too.",
        )
    return msgspec.structs.replace(table, owner=person)


def lend(
    table: LeaseTable, lease_id: str, holder: str, most: int, now: float, term_s: float
) -> tuple[LeaseTable, Lease | None]:
    """The lowest `most` free shards to `holder`; no lease where none is free now."""
    table = expired(table, now)
    shards = first(free(table), most)
    if not shards:
        return table, None
    lease = Lease(id=lease_id, holder=holder, shards=shards, until=now + min(term_s, LONGEST_S))
    return msgspec.structs.replace(table, leases=(*table.leases, lease)), lease


def renew(table: LeaseTable, lease_id: str, holder: str, now: float, term_s: float) -> tuple[LeaseTable, Lease]:
    """The same shards for longer; raises `NotFound` where the lease has ended, or is another's."""
    table = expired(table, now)
    held = _held(table, lease_id, holder)
    longer = msgspec.structs.replace(held, until=now + min(term_s, LONGEST_S))
    leases = tuple(longer if lease is held else lease for lease in table.leases)
    return msgspec.structs.replace(table, leases=leases), longer


def release(table: LeaseTable, lease_id: str, holder: str, done: Ranges, now: float) -> LeaseTable:
    """Give a lease back, `done` of its shards being done; raises as `renew`, for others' shards `NotFound` too."""
    table = expired(table, now)
    held = _held(table, lease_id, holder)
    if minus(done, held.shards):
        raise NotFound("shards that are not of this lease", code="lease.shards", value=done, limit=held.shards)
    leases = tuple(lease for lease in table.leases if lease is not held)
    return msgspec.structs.replace(table, leases=leases, done=union(table.done, done))


def _held(table: LeaseTable, lease_id: str, holder: str) -> Lease:
    for lease in table.leases:
        if (lease.id, lease.holder) == (lease_id, holder):
            return lease
    raise NotFound(
        "no such lease: it ended, was given back, or is somebody else's",
        code="lease.unknown",
        value=lease_id,
        cure="What it held is lent to others. Ask for shards again.",
    )
