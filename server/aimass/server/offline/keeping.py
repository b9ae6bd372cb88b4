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
from aimass.server.offline.site import UPDATES, spool_of, update_key
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
        self._before: list[str] = []
        """Blobs that were here before its last commit. Whoever put one since may be the next driver, and yet to commit;
        who put one earlier has lost its number to that commit."""
        self._left: list[str] = []
        """Contributions in the store that drivers before this one have left, or are at work with."""

    def load(self) -> Saved:
        """See `Keeps`."""
        self._newest, self._saved = self._journal.load(self.blobs)
        return self._saved

    def save(self, saved: Saved) -> None:
        """See `Keeps`: one commit, of all steps that were told of since the last. What changes nothing makes none."""
        if not self._told and saved == self._saved:
            return
        with contextlib.suppress(AimassError):
            self._before = list(self.blobs.digests())
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
        """See `Keeps`; also what executors of a driver that ended have left in the store.

        What they left of steps that are open goes once those are committed: that driver may yet be at work.
        """
        shutil.rmtree(self._work / "spool", ignore_errors=True)
        self._left = [info.key for info in self._journal.objects.list(UPDATES)]
        if self._saved is not None:
            self._sweep_updates(self._saved)

    def sweep(self, saved: Saved, fresh: Collection[str] = ()) -> None:
        """See `Keeps`. A store that does not delete keeps the run waiting for nothing: the next sweep does it."""
        for held in (self._work / "spool").iterdir():
            if held.name not in saved.run.open:
                shutil.rmtree(held, ignore_errors=True)
        setup = self._setup
        needed = {setup.plan, setup.manifest, setup.first, self._newest, saved.run.model_before}
        needed |= needed_models(saved.run) | set(saved.states.values()) | set(fresh)
        with contextlib.suppress(AimassError):
            self._journal.check_alone()
            for digest in [held for held in self._before if held not in needed]:
                self.blobs.delete(digest)
            self._sweep_updates(saved)

    def _sweep_updates(self, saved: Saved) -> None:
        """Raises `Conflict` where another driver has gone on with this run."""
        spools = tuple(update_key(int(index), "") for index in saved.run.open)
        over = [key for key in self._left if not key.startswith(spools)]
        if over:
            self._journal.check_alone()
        for key in over:
            self._journal.objects.delete(key)
            self._left.remove(key)

    def export(self, digest: str) -> str:
        """The model as an object by itself; its key."""
        self._journal.objects.put(MODEL, self.blobs.open(digest))
        return MODEL
