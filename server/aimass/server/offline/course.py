"""What an offline run has come to, read from its store by whoever watches it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aimass.proto.views import RunState
from aimass.server.offline.journal import Journal
from aimass.server.offline.site import BLOBS
from aimass.server.simulation.folder import Committed

__all__ = ["JournalCourse"]


class JournalCourse:
    """See `supervisor.Course`. Each commit is read once."""

    def __init__(self, out: str, work: Path) -> None:
        """`work` is the run's folder on this machine."""
        self._journal = Journal(out, work / BLOBS)
        self._blobs = self._journal.blobs()
        self._read: list[Committed] = []
        self._next = 1

    def steps(self, first: int) -> Sequence[Committed]:
        """Its steps from index `first` on."""
        for commit in self._journal.commits(self._next):
            self._read += commit.told
            self._next = commit.number + 1
        self._read = [step for step in self._read if step.index >= first]
        return tuple(self._read)

    def model(self, digest: str) -> memoryview:
        """A model that is kept there; raises `NotFound`."""
        return self._blobs.open(digest)

    def end(self) -> tuple[RunState, str] | None:
        """How it ended and why; None while it goes on, or has not begun."""
        if not self._journal.begun:
            return None
        _, saved = self._journal.load(self._blobs)
        run = saved.run
        return (run.state, run.reason) if run.state.final else None
