"""An offline run that tells a person's training service of itself while it goes, and its person too."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from aimass.proto.api import Federation
from aimass.proto.home import load_home
from aimass.proto.origin import Origin
from aimass.proto.reporting import Record
from aimass.server.offline.journal import Journal
from aimass.server.offline.reporter import Reporter
from aimass.server.offline.rounds import rounds_of
from aimass.server.runs import Run
from aimass.server.simulation.folder import Committed
from aimass.server.simulation.shell import Hears

__all__ = ["Reporting"]


class Reporting:
    """`Heard` for the run of a journal, between the run and who `hears` too; a context manager around the run.

    Raises `NotFound` before anything begins where `home` is no folder of an enrolled person.
    """

    def __init__(self, home: Path, journal: Journal, engine: str, hears: Hears, say: Callable[[str], None]) -> None:
        self._settings = load_home(home)
        self._home, self._journal, self._engine, self._hears, self._say = home, journal, engine, hears, say
        self._federation: Federation | None = None
        self._blobs = journal.blobs()
        self._reporter: Reporter | None = None

    def __enter__(self) -> Self:
        told = [step for commit in self._journal.commits() for step in commit.told]
        self._reporter = Reporter(self._begin, told, self._blobs, self._say)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reporter is not None:
            self._reporter.close()
        if self._federation is not None:
            self._federation.close()

    def working(self, step: int, round_: int, done: int, asked: int) -> None:
        """See `Hears`."""
        self._hears.working(step, round_, done, asked)

    def committed(self, step: Committed, run: Run) -> None:
        """See `Hears`."""
        if self._reporter is not None:
            self._reporter.committed(step)
        self._hears.committed(step, run)

    def ended(self, run: Run) -> None:
        """Wait until the service has heard of everything, or say that it has not."""
        if self._reporter is not None and not self._reporter.ended(run.state, run.reason):
            self._say("the training service has not heard of all of this run: --resume tells it the rest")

    def _begin(self) -> Record:
        federation = self._federation = self._federation or Federation.open(self._home)
        setup, plan = self._journal.setup(), self._journal.plan(self._blobs)
        manifest = self._journal.data_set(self._blobs)
        origin = Origin(
            data_set=f"{setup.data_set}@{setup.version}",
            manifest=setup.manifest,
            shards=len(manifest.shards),
            rounds=rounds_of(plan),
            schedule=setup.schedule,
            engine=self._engine,
        )
        # One run of a plan is told from another by the store that it is in.
        key = hashlib.sha256(f"{self._journal.url} {setup.run_id}".encode()).hexdigest()
        first = self._blobs.open(plan.model)
        return Record.begin(federation, bytes(self._blobs.open(setup.plan)), first, origin, key)
