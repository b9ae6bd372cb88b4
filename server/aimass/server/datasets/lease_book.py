"""The tables of leases in the store, one for each job over a version: any service reads and changes them alike."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from aimass.proto.data_sets import DataSetManifest
from aimass.proto.numbered import Numbered
from aimass.proto.objects import ObjectStore
from aimass.proto.values import decode_canonical_json
from aimass.server.datasets import leases
from aimass.server.datasets.layout import lease_prefix
from aimass.server.datasets.leases import Lease, LeaseTable
from aimass.server.datasets.open_jobs import JobList
from aimass.server.datasets.ranges import Ranges

__all__ = ["LeaseBook"]


class LeaseBook:
    """One job's table. A change is committed under a condition, so it holds whichever service made it, and after it
    was killed."""

    def __init__(self, store: ObjectStore, manifest: DataSetManifest, job: str, clock: Callable[[], float]) -> None:
        self._store, self._job = store, lease_prefix(manifest.name, manifest.version, job)
        self._document = Numbered(store, self._job)
        self._empty, self._clock = LeaseTable(shards=len(manifest.shards)), clock

    def table(self) -> LeaseTable:
        """As it is now."""
        newest = self._document.newest()
        held = self._empty if newest is None else _read(newest.data)
        return leases.expired(held, self._clock())

    def lend(self, holder: str, most: int, term_s: float) -> tuple[LeaseTable, Lease | None]:
        """At most `most` free shards for `term_s`; None where none is free now. Who asks first begins the job.

        Raises `LimitExceeded` for who has begun too many, and as the others do `Refused` for who did not begin it.
        """
        lease_id = secrets.token_hex(8)

        def lent(held: LeaseTable) -> LeaseTable:
            if not held.owner:
                JobList(self._store, holder, self._clock).begin(self._job)
            return leases.lend(leases.owned(held, holder), lease_id, holder, most, self._clock(), term_s)[0]

        table = self._change(lent)
        return table, next((lease for lease in table.leases if lease.id == lease_id), None)

    def renew(self, lease_id: str, holder: str, term_s: float) -> tuple[LeaseTable, Lease]:
        """The same for longer; raises `NotFound` where it has ended."""
        table = self._change(
            lambda held: leases.renew(leases.owned(held, holder), lease_id, holder, self._clock(), term_s)[0]
        )
        return table, next(lease for lease in table.leases if lease.id == lease_id)

    def release(self, lease_id: str, holder: str, done: Ranges) -> LeaseTable:
        """Given back; raises `NotFound` where it has ended, or `done` are not of it."""
        table = self._change(
            lambda held: leases.release(leases.owned(held, holder), lease_id, holder, done, self._clock())
        )
        if table.over:
            JobList(self._store, holder, self._clock).end(self._job)
        return table

    def _change(self, apply: Callable[[LeaseTable], LeaseTable]) -> LeaseTable:
        return self._document.change(_read, self._empty, apply)


def _read(data: bytes) -> LeaseTable:
    return decode_canonical_json(LeaseTable, data, "a table of leases")
