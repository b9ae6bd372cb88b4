"""Takes offline runs that this server is to see to: the data set is found, the run recorded, its driver begins."""

from __future__ import annotations

import hashlib
from typing import Final, cast, get_args

from aimass.proto.clock import Clock
from aimass.proto.data_sets import DataSetManifest, DataSetName, read_name
from aimass.proto.errors import BadInput, LimitExceeded, Refused
from aimass.proto.objects import open_objects
from aimass.proto.origin import Origin, Schedule
from aimass.proto.plan import Plan, decode_plan
from aimass.proto.values import canonical_json
from aimass.server import runs
from aimass.server.datasets.versions import opened
from aimass.server.offline.journal import below
from aimass.server.offline.rounds import rounds_of
from aimass.server.reports import Reports
from aimass.server.settings import OfflineSettings
from aimass.server.store_threads import StoreThreads

__all__ = ["OfflineDesk", "engine_of"]

_AT_ONCE: Final = 4
"""Data sets that are looked for together: the stores may hang, and those that submit wait for each other alone."""


class OfflineDesk:
    """One for a server; `out` is the store below which runs keep their state."""

    def __init__(self, reports: Reports, settings: OfflineSettings, out: str, clock: Clock) -> None:
        self._reports, self._settings, self._out, self._clock = reports, settings, out, clock
        self._threads = StoreThreads(_AT_ONCE, "submits")

    async def submit(self, plan_bytes: bytes, key: str, data_set: str, owner: str, schedule: str = "averaging") -> str:
        """Record a run over a data set in one of the server's stores; its id. The same key gives the same run.

        Raises `Refused` where this server sees to none, `NotFound` for a data set that no store has, `BadInput` for one
        of another schema, `LimitExceeded` where the owner has as many that have not ended as one person may, and what
        a report raises.
        """
        if not self._settings.stores:
            raise Refused(
                "this server trains nothing offline",
                code="offline.not_offered",
                cure="Its operator names stores in [offline] of server.toml; or use aimass offline run.",
            )
        plan, name = decode_plan(plan_bytes), read_name(data_set)
        manifest = await self._threads.run(self._found, name)
        _check_schema(plan, manifest)
        origin = Origin(
            data_set=f"{manifest.name}@{manifest.version}",
            manifest=hashlib.sha256(canonical_json(manifest)).hexdigest(),
            shards=len(manifest.shards),
            rounds=rounds_of(plan),
            schedule=_schedule(schedule),
            engine=engine_of(self._settings),
        )
        standing = await self._reports.begin(plan_bytes, key, origin, owner, self._job, lambda: self._check_open(owner))
        return standing.run_id

    def _check_open(self, owner: str) -> None:
        held, limit = self._reports.open_of(owner), self._settings.most_open
        if held >= limit:
            raise LimitExceeded(
                "you have as many offline runs here as one person may that have not ended",
                code="offline.most_open",
                value=held,
                limit=limit,
                cure="Wait for one, or end one: aimass run stop RUN. The server's `most_open` says how many.",
            )

    def _found(self, name: DataSetName) -> DataSetManifest:
        return opened(name, [open_objects(url) for url in self._settings.stores], self._clock.now())[0]

    def _job(self, run_id: str) -> runs.Job:
        return runs.Job(stores=self._settings.stores, out=below(self._out, run_id))


def _schedule(word: str) -> Schedule:
    if word not in get_args(Schedule):
        raise BadInput("no such schedule", code="offline.schedule", value=word, limit=", ".join(get_args(Schedule)))
    return cast("Schedule", word)


def engine_of(settings: OfflineSettings) -> str:
    """What works on the shards, in words."""
    return f"Spark at {settings.master}" if settings.master else f"{settings.workers} processes"


def _check_schema(plan: Plan, manifest: DataSetManifest) -> None:
    """The driver compares the whole schema with its task's, which is installed there and not known here."""
    if plan.data_schema != manifest.data_schema.name:
        raise BadInput(
            "the data set has another schema than the plan",
            code="dataset.schema",
            value=manifest.data_schema.name,
            limit=plan.data_schema,
        )
