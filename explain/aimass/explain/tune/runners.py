"""Where the runs of a search compute: one seam, for a federation, for its training service, and for this machine.

A run that is begun again under its key is the same run: so a search that was killed finds those that it had begun.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from aimass.explain.tune.trials import Setup, Where
from aimass.proto.api import Federation, Run
from aimass.proto.dotted import with_settings
from aimass.proto.errors import NotFound
from aimass.proto.plan import PlanDraft
from aimass.proto.values import Scalar
from aimass.proto.views import RunView

__all__ = ["AtService", "Followed", "Job", "Runner", "job_of"]


@dataclasses.dataclass(frozen=True)
class Job:
    """A run that is to be: `key` names it for ever, `draft` is its plan, also as the file `plan`; `folder` is its own
    on this machine."""

    key: str
    draft: PlanDraft
    plan: Path
    folder: Path


class Followed(Protocol):
    """A run that was begun."""

    @property
    def run(self) -> str:
        """Its id where it computes."""
        ...

    def watch(self) -> Iterator[RunView]:
        """The run at each change, until it has ended, or is left."""
        ...

    def stop(self) -> RunView:
        """End it for good; what was committed stays."""
        ...

    def leave(self) -> None:
        """Called by another thread: a `watch` ends soon, and the run can be begun again under its key."""
        ...


class Runner(Protocol):
    """Begins runs."""

    def begin(self, job: Job) -> Followed:
        """Begin it, or find it where it was begun; raises the named error of whoever refuses it."""
        ...

    def ended(self, setup: Setup) -> None:
        """No run of this search comes any more: who reserved for it lets go. Saying it again changes nothing."""
        ...


def job_of(setup: Setup, settings: dict[str, Scalar], trial: int, place: int, plan: Path, folder: Path) -> Job:
    """The run of a trial's seed at this place: the search's plan with the trial's settings, and of its study.

    Raises `BadInput` where the plan cannot have these settings together.
    """
    key = f"tune-{setup.id}-{trial}-{place}"
    return Job(key, plan_of(setup, settings, f"{setup.draft.name[:50]}-t{trial}-{place}", place), plan, folder)


def plan_of(setup: Setup, settings: dict[str, Scalar], name: str, place: int = 0) -> PlanDraft:
    """The plan of a setting under the seed at this place; nothing of it is published."""
    bare = msgspec.structs.replace(setup.draft, name=name, seed=setup.seeds[place], promote=None, study=setup.study)
    return with_settings(bare, settings, "the plan with these settings")


class AtService:
    """Runs of a training service: at the partners of its federation, or over one of its data sets."""

    def __init__(self, federation: Federation, where: Where) -> None:
        self._federation, self._where = federation, where
        self._one = threading.Lock()

    def begin(self, job: Job) -> _AtService:
        """Submit it under its key; the same key gives the same run.

        One at a time: a first model is drawn from torch's one generator, which threads share.
        """
        with self._one:
            return _AtService(self._submitted(job))

    def _submitted(self, job: Job) -> Run:
        if self._where.kind == "offline":
            data_set, schedule = self._where.data_set, self._where.schedule
            return self._federation.submit_offline(job.draft, data_set, schedule=schedule, key=job.key)
        return self._federation.submit(job.draft, key=job.key)

    def ended(self, setup: Setup) -> None:
        """Have the service tell the partners; of a study of no run they know nothing."""
        if setup.study is not None:
            with contextlib.suppress(NotFound):
                self._federation.end_study(setup.study.id)


class _AtService:
    def __init__(self, run: Run) -> None:
        self._run = run

    @property
    def run(self) -> str:
        return self._run.id

    def watch(self) -> Iterator[RunView]:
        return self._run.watch()

    def stop(self) -> RunView:
        if not self._run.refresh().summary.state.final:
            self._run.stop()
        return self._run.wait()

    def leave(self) -> None:
        self._run.leave()
