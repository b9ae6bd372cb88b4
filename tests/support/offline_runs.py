"""Offline runs over the rows of heart disease, begun and run to their end in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from aimass.proto.data_sets import DataSetName
from aimass.proto.objects import open_objects
from aimass.proto.plan import PlanDraft
from aimass.server.datasets.versions import opened
from aimass.server.offline.begin import begin
from aimass.server.offline.journal import Journal
from aimass.server.offline.keeping import Kept
from aimass.server.offline.schedules import Schedule, drivers_of
from aimass.server.offline.site import BLOBS
from aimass.server.offline.workers import Workers, open_crew
from aimass.server.runs import Run
from aimass.server.simulation.begin import completed
from aimass.server.simulation.crew import Crew
from aimass.server.simulation.folder import Committed
from aimass.server.simulation.shell import Simulation
from tests.support.simulations import Deaf

__all__ = ["ALONE", "PLAN", "begun", "gone_on", "told"]

PLAN = """
name = "heart-offline"
task = "heart"
data_schema = "heart/1"
seed = 1
[train]
batch_size = 16
learning_rate = 0.05
steps = 3
[cohort]
quorum = 3
[[stages]]
driver = "statistics"
[[stages]]
driver = "averaging"
options = { rounds = 3 }
"""
"""A plan file over three shards of the rows of heart disease."""

ALONE = Workers(count=1)


def begun(
    out: str, draft: PlanDraft, *stores: str, data_set: str = "heart", schedule: Schedule = "averaging"
) -> Journal:
    """A run that has not done anything yet."""
    journal = Journal(out)
    blobs = journal.blobs()
    held, stores = opened(DataSetName(name=data_set), [open_objects(url) for url in stores], 0.0)
    begin(journal, completed(draft, blobs), held, stores, None, blobs, schedule)
    return journal


def gone_on(
    journal: Journal,
    work: Path,
    crew: Crew | None = None,
    after: Callable[[Committed], None] = lambda _: None,
    workers: Workers = ALONE,
) -> Run:
    """The run at its end, by a driver of its own."""
    work.mkdir(parents=True, exist_ok=True)
    journal = Journal(journal.url, work / BLOBS)
    schedule = journal.setup().schedule
    crew = crew or open_crew(workers, journal, work, 5, schedule)
    try:
        return Simulation(Kept(journal, work), crew, drivers_of(schedule), Deaf(after)).run()
    finally:
        crew.close()


def told(journal: Journal) -> list[Committed]:
    """The steps that were committed."""
    return [step for commit in journal.commits() for step in commit.told]
