"""Simulations over the rows of digits and heart disease, begun and run to their end in this process."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from aimass.proto.plan import PlanDraft, read_plan_draft
from aimass.proto.sharding import Split, write_shards
from aimass.proto.task import load, locate
from aimass.server.engine import InstalledDrivers
from aimass.server.runs import Run
from aimass.server.simulation.begin import begin, completed
from aimass.server.simulation.crew import Alone, Crew
from aimass.server.simulation.folder import Committed, Folder
from aimass.server.simulation.partner import Asked, Made
from aimass.server.simulation.shell import Simulation
from aimass.server.simulation.site import InFolder
from tests.support.datasets import dataset

__all__ = ["Cut", "CutCrew", "Deaf", "begun", "finished", "heart_draft", "shards_of"]


class Deaf:
    """Hears and says nothing; `after` is called when a step is stored."""

    def __init__(self, after: Callable[[Committed], None] = lambda _: None) -> None:
        self._after = after

    def working(self, step: int, round_: int, done: int, asked: int) -> None:
        pass

    def committed(self, step: Committed, run: Run) -> None:
        self._after(step)


class Cut(Exception):
    """A run was cut in the middle."""


@dataclasses.dataclass
class CutCrew:
    """Works until so many orders are done, and is cut then."""

    crew: Crew
    left: int

    def work(self, asked: Sequence[Asked]) -> Iterator[Made]:
        for made in self.crew.work(asked):
            if self.left == 0:
                raise Cut
            self.left -= 1
            yield made

    def reduced(self, index: int, made: Sequence[Made]) -> None:
        return None

    def close(self) -> None:
        self.crew.close()


def shards_of(folder: Path, task: str, split: Split) -> Path:
    """The rows of a public set, dealt once."""
    sources = sorted(dataset(task).glob("*.parquet"))
    write_shards(load(locate(task)).schema, sources, split, folder)
    return folder


def heart_draft(more: str = "", train: str = "steps = 3", cohort: str = "quorum = 2", rounds: int = 3) -> PlanDraft:
    """Statistics and some rounds."""
    return read_plan_draft(
        f"""
name = "simulated"
task = "heart"
data_schema = "heart/1"
seed = 5
[train]
batch_size = 16
learning_rate = 0.05
{train}
[cohort]
{cohort}
[[stages]]
driver = "statistics"
[[stages]]
driver = "averaging"
options = {{ rounds = {rounds} }}
{more}
"""
    )


def begun(path: Path, draft: PlanDraft, shards: Path, policy: str | None = None) -> Folder:
    """A simulation that has not done anything yet."""
    folder = Folder(path)
    begin(folder, completed(draft, folder.blobs), shards, policy)
    return folder


def finished(folder: Folder, crew: Crew | None = None, after: Callable[[Committed], None] = lambda _: None) -> Run:
    """The run at its end."""
    crew = crew or Alone(InFolder(folder.path))
    try:
        return Simulation(folder, crew, InstalledDrivers(), Deaf(after)).run()
    finally:
        crew.close()
