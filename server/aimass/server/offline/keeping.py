"""Where an offline run stands, for the shell: the journal in its store, and a spool on the driver's machine."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Collection
from pathlib import Path

from aimass.proto.durable import make_folder
from aimass.proto.errors import AimassError
from aimass.proto.step import Step
from aimass.proto.storage import Blobs
from aimass.server.offline.journal import MODEL, Journal
from aimass.server.offline.site import spool_of
from aimass.server.resumption import needed_models
from aimass.server.runs import Run
from aimass.server.simulation.folder import Committed, Saved
from aimass.server.simulation.pace import Pace

__all__ = ["Kept"]


class Kept:
    """See `Keeps`. Nothing on the driver's machine is needed to go on."""

    pace: Pace | None = None

    def __init__(self, journal: Journal, work: Path) -> None:
        self._journal, self._work = journal, work
        self._setup = journal.setup()
        self.blobs: Blobs = journal.blobs()
        self._told: list[Committed] = []
        self._saved: Saved | None = None
        self._newest = ""
        """The blob of the run as it stands: its predecessors are swept, this one is not."""

    def load(self) -> Saved:
        """See `Keeps`."""
        self._newest, self._saved = self._journal.load(self.blobs)
        return self._saved

    def save(self, saved: Saved) -> None:
        """See `Keeps`: one commit, of all steps that were told of since the last. What changes nothing makes none."""
        if not self._told and saved == self._saved:
            return
        self._newest = self._journal.commit(saved, tuple(self._told), self.blobs)
        self._saved = saved
        self._told.clear()

    def tell(self, step: Committed) -> None:
        """See `Keeps`; it is written down with `save`."""
        self._told.append(step)

    def untell(self, run: Run) -> None:
        """What was told of and not saved was never written down."""
        self._told.clear()

    def spool(self, index: int) -> Path:
        """See `Keeps`."""
        return spool_of(self._work, index)

    def fresh_spool(self, step: Step) -> None:
        """See `Keeps`; raises `Conflict` where another driver has gone on with this run."""
        self._journal.check_alone()
        shutil.rmtree(self.spool(step.index), ignore_errors=True)
        make_folder(self.spool(step.index))

    def clear(self) -> None:
        """See `Keeps`; also what executors of a driver that ended have left in the store."""
        shutil.rmtree(self._work / "spool", ignore_errors=True)
        for info in list(self._journal.objects.list("updates/")):
            self._journal.objects.delete(info.key)

    def sweep(self, saved: Saved, fresh: Collection[str] = ()) -> None:
        """See `Keeps`. A store that does not delete keeps the run waiting for nothing: the next sweep does it."""
        for held in (self._work / "spool").iterdir():
            if held.name not in saved.run.open:
                shutil.rmtree(held, ignore_errors=True)
        setup = self._setup
        needed = {setup.plan, setup.manifest, setup.first, self._newest, saved.run.model_before}
        needed |= needed_models(saved.run) | set(saved.states.values()) | set(fresh)
        with contextlib.suppress(AimassError):
            for digest in [held for held in self.blobs.digests() if held not in needed]:
                self.blobs.delete(digest)

    def export(self, digest: str) -> str:
        """The model as an object by itself; its key."""
        self._journal.objects.put(MODEL, self.blobs.open(digest))
        return MODEL
