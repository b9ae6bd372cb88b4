"""Who works on an offline run: processes of this machine, or Spark."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final

from aimass.proto.durable import UNINTERRUPTED, write_parts
from aimass.proto.errors import BadInput, IntegrityError
from aimass.server.offline.crew import Strict
from aimass.server.offline.journal import Journal
from aimass.server.offline.shards import DEFAULT_CACHE_BYTES
from aimass.server.offline.site import CARRIED_BYTES, InStore, spool_of, update_key
from aimass.server.simulation.crew import Alone, Crew, Processes
from aimass.server.simulation.partner import Asked, Made
from aimass.server.simulation.spark import Spark

__all__ = ["LOCAL", "Workers", "open_crew"]

LOCAL: Final = "local[*]"


@dataclasses.dataclass(frozen=True, slots=True)
class Workers:
    """How many processes (`count`), or which Spark `master` with its `options`; and what each machine may keep."""

    count: int | None = None
    master: str = LOCAL
    options: tuple[tuple[str, str], ...] = ()
    cache_bytes: int = DEFAULT_CACHE_BYTES
    carried_bytes: int = CARRIED_BYTES


def open_crew(workers: Workers, journal: Journal, work: Path) -> Crew:
    """The crew of the run in `journal`; raises what a Spark session that does not start raises."""
    near = InStore(journal.url, work.resolve(), workers.cache_bytes)
    if workers.count is not None and workers.count < 1:
        raise BadInput("so many processes there are not", code="offline.workers", value=workers.count, limit=">= 1")
    if workers.count is not None:
        return Strict(Alone(near) if workers.count == 1 else Processes(near, workers.count))
    far = dataclasses.replace(near, carried_bytes=workers.carried_bytes)
    deliver = _Deliver(journal, work)
    return Strict(Spark(far, workers.master, "aimass offline run", dict(workers.options), deliver))


@dataclasses.dataclass(frozen=True, slots=True)
class _Deliver:
    """Takes contributions from executors into the driver's spool."""

    journal: Journal
    work: Path

    def __call__(self, asked: Asked, made: Made, parcel: bytes) -> Made:
        if not made.file:
            return made
        key = update_key(asked.step.index, made.file)
        parts = [parcel] if parcel else self.journal.objects.stream(key)
        path = spool_of(self.work, asked.step.index) / made.file
        found = write_parts(path, parts, UNINTERRUPTED, "offline.contribution", synced=False)
        if found != made.digest:
            raise IntegrityError(
                "a contribution changed on its way from an executor",
                code="offline.contribution",
                value=f"{made.partner}: {found[:16]}",
                limit=made.digest[:16],
                cure="Look at the store and the network; then --resume.",
            )
        if not parcel:
            self.journal.objects.delete(key)
        return made
