"""The jobs that one person has begun, so that nobody fills the home store with tables of leases: one small document.

A job that has ended is kept for a while, since workers ask once more and are to hear that nothing is left; one that
nobody ends is forgotten when it is old and nobody works on it. Both go when their owner begins another.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from aimass.proto.errors import LimitExceeded
from aimass.proto.numbered import Numbered
from aimass.proto.objects import ObjectStore
from aimass.proto.values import Value, decode_canonical_json
from aimass.server.datasets.layout import jobs_prefix
from aimass.server.datasets.leases import LONGEST_S, LeaseTable, expired

__all__ = ["MOST_JOBS", "JobList", "OpenJobs", "begun"]

MOST_JOBS: Final = 64
_ENDED_S: Final = LONGEST_S
_IDLE_S: Final = 30 * 86_400.0


class OpenJobs(Value, frozen=True):
    """From which Unix time on each job may be forgotten, by the prefix of its table."""

    until: dict[str, float] = {}


def begun(jobs: OpenJobs, job: str, forgotten: Collection[str], now: float) -> OpenJobs:
    """With `job`, and without those that are `forgotten`; raises `LimitExceeded` where too many are left."""
    left = {name: until for name, until in jobs.until.items() if name not in forgotten}
    if job not in left and len(left) >= MOST_JOBS:
        raise LimitExceeded(
            "you have begun too many jobs",
            code="lease.jobs",
            value=len(left),
            limit=MOST_JOBS,
            cure="Give back all shards of one as done, and ask again an hour later.",
        )
    return OpenJobs(until={**left, job: now + _IDLE_S})


class JobList:
    """One person's. For any number of threads and services on one store."""

    def __init__(self, store: ObjectStore, person: str, clock: Callable[[], float]) -> None:
        self._store, self._person, self._clock = store, person, clock
        self._document = Numbered(store, jobs_prefix(person))

    def begin(self, job: str) -> None:
        """Note a job before its table is created; raises `LimitExceeded`."""
        now = self._clock()
        forgotten = self._forget(now)
        self._change(lambda jobs: begun(jobs, job, forgotten, now))

    def end(self, job: str) -> None:
        """Nothing of `job` is left to do."""
        over = self._clock() + _ENDED_S
        self._change(lambda jobs: OpenJobs(until={**jobs.until, job: over}))

    def _forget(self, now: float) -> frozenset[str]:
        """Delete the tables whose time has come; what was forgotten."""
        newest = self._document.newest()
        jobs = OpenJobs() if newest is None else _read(newest.data)
        due = [job for job, until in jobs.until.items() if until <= now]
        return frozenset(job for job in due if self._forgotten(Numbered(self._store, job), now))

    def _forgotten(self, document: Numbered, now: float) -> bool:
        newest = document.newest()
        if newest is None:
            return True
        table = decode_canonical_json(LeaseTable, newest.data, "a table of leases")
        if table.owner == self._person:  # of two who began one job at once, the other noted it too
            if expired(table, now).leases:
                return False
            document.clear()
        return True

    def _change(self, apply: Callable[[OpenJobs], OpenJobs]) -> None:
        self._document.change(_read, OpenJobs(), apply)


def _read(data: bytes) -> OpenJobs:
    return decode_canonical_json(OpenJobs, data, "a list of jobs")
