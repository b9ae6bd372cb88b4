"""Who works on an offline run: processes of this machine, or Spark."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final

from aimass.proto.errors import BadInput
from aimass.server.offline.crew import Strict
from aimass.server.offline.executors import Executors
from aimass.server.offline.journal import Journal
from aimass.server.offline.lockstep import Lockstep
from aimass.server.offline.schedules import Schedule
from aimass.server.offline.shards import DEFAULT_CACHE_BYTES
from aimass.server.offline.site import CARRIED_BYTES, InStore
from aimass.server.simulation.crew import Alone, Crew, Processes
from aimass.server.simulation.spark import is_local

__all__ = ["LOCAL", "Workers", "open_crew"]

LOCAL: Final = "local[*]"
_COLLECTED_BYTES: Final = 256 << 20
"""What the driver takes at once of all contributions that come with answers."""


@dataclasses.dataclass(frozen=True, slots=True)
class Workers:
    """How many processes (`count`), or which Spark `master` with its `options`; what each machine may keep, and
    whether copies of shards that are found false or missing are made good. `carried_bytes` is as in `InStore`; without
    it the master says whether executors see the driver's folder."""

    count: int | None = None
    master: str = LOCAL
    options: tuple[tuple[str, str], ...] = ()
    cache_bytes: int = DEFAULT_CACHE_BYTES
    carried_bytes: int | None = None
    repairs: bool = False

    def __str__(self) -> str:
        return f"Spark at {self.master}" if self.count is None else f"{self.count} processes"


def open_crew(workers: Workers, journal: Journal, work: Path, shards: int, schedule: Schedule = "averaging") -> Crew:
    """The crew of the run in `journal`, over so many shards; raises what a Spark session that does not start raises."""
    near = InStore(journal.url, work.resolve(), workers.cache_bytes, repairs=workers.repairs)
    if workers.count is not None and workers.count < 1:
        raise BadInput("so many processes there are not", code="offline.workers", value=workers.count, limit=">= 1")
    if workers.count is not None and schedule == "synchronous":
        raise BadInput(
            "processes in lockstep are Spark's to start",
            code="offline.workers",
            value="--workers",
            cure="Name a master instead, such as --master local[2], or take --schedule averaging.",
        )
    if workers.count is not None:
        return Strict(Alone(near) if workers.count == 1 else Processes(near, workers.count))
    far = dataclasses.replace(near, carried_bytes=_carried(workers, shards))
    executors = Executors(far, workers.master, dict(workers.options), journal)
    return Strict(Lockstep(executors, far, executors.cores) if schedule == "synchronous" else executors)


def _carried(workers: Workers, shards: int) -> int:
    """Bytes of a contribution that goes back with its answer; 0 where executors write into the driver's own folder."""
    most = workers.carried_bytes
    if most is None:
        most = 0 if is_local(workers.master) else CARRIED_BYTES
    return min(most, max(1, _COLLECTED_BYTES // shards))
