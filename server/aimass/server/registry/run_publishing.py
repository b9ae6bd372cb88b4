"""What the training service does with a finished run's last model: a version, the candidate, perhaps the champion."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Literal, Protocol

import msgspec

from aimass.proto.clock import Clock
from aimass.proto.errors import AimassError, NotFound, Stopped
from aimass.proto.objects import ObjectStore
from aimass.proto.outcomes import Outcome
from aimass.proto.plan import Promote, TaskRef
from aimass.proto.registry.entries import SmokeInputs
from aimass.proto.registry.layout import Reference
from aimass.proto.registry.reader import UNVERIFIED, RegistryReader, Resolved
from aimass.proto.registry.trust import Trust
from aimass.proto.storage import Blobs
from aimass.proto.views import ModelView, RunView
from aimass.server.readings import Readings
from aimass.server.registry.aliases import Aliases
from aimass.server.registry.authors import Author
from aimass.server.registry.deciding import promoted
from aimass.server.registry.making import of_run, with_parent, with_smoke_inputs
from aimass.server.registry.parts import Publication
from aimass.server.registry.promotion import Smoked
from aimass.server.registry.publishing import Publisher
from aimass.server.store_threads import StoreThreads

__all__ = ["CANDIDATE", "SCRATCH", "RunPublishing", "Smoker", "whole"]

CANDIDATE: Final = "candidate"
"""The alias of the newest version that a run has made."""

SCRATCH: Final = "promoting-"
"""Begins the names of folders that hold a model while it is published."""


class Smoker(Protocol):
    """Runs a task's code over smoke inputs, apart from this process. All calls block."""

    def made(self, task: TaskRef, parameters: Path) -> SmokeInputs:
        """Made-up rows with what the model says of them; raises a named error where that cannot be had.

        Raises `Stopped` where the service ends.
        """
        ...

    def tried(self, task: TaskRef, parameters: Path, smoke: SmokeInputs | None) -> Smoked:
        """What became of a version's smoke inputs."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class RunPublishing:
    """For one registry, whose store is opened when it is first needed. `author` is the service itself."""

    readings: Readings
    blobs: Blobs
    opened: Callable[[], ObjectStore]
    trust: Trust
    author: Author
    smoker: Smoker
    folder: Path
    clock: Clock
    threads: StoreThreads

    async def __call__(self, run_id: str, wanted: Promote) -> Outcome:
        """Publish, and promote where the plan says so; what stands already is left. Raises named errors."""
        view = await whole(self.readings.run_view, run_id)
        models = await self.readings.models(run_id, view.summary.model)
        if not models:
            raise NotFound("no step of the run has made a model", code="registry.no_model", value=run_id)
        manifest = await self.readings.manifest(run_id)
        return await self.threads.run(self._done, view, models[0], manifest, wanted)

    def _done(self, view: RunView, model: ModelView, manifest: bytes, wanted: Promote) -> Outcome:
        store = self.opened()
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=SCRATCH) as folder:
            parameters = Path(folder) / "model.safetensors"
            parameters.write_bytes(self.blobs.open(model.digest))
            publication = of_run(wanted.model, view, model, manifest, parameters, view.plan.schema)
            reader = RegistryReader(store, self.trust)
            every = (found for _, found in reader.every(wanted.model) if isinstance(found, Resolved))
            publication = with_parent(publication, view.plan.model, every)
            publication, hindered = self._with_smoke(publication)
            published = Publisher(store, self.trust, self.author, self.clock.now).publish(publication)
            return self._placed(store, published, parameters, view.summary.run_id, hindered, wanted)

    def _with_smoke(self, publication: Publication) -> tuple[Publication, str]:
        """With smoke inputs, or why there are none: rules that ask for them will say so."""
        try:
            smoke = self.smoker.made(publication.version.task, publication.parameters)
        except Stopped:  # the service ends: a version without smoke inputs would stand for ever
            raise
        except AimassError as error:
            return publication, error.sentence()
        return with_smoke_inputs(publication, smoke), ""

    def _placed(
        self, store: ObjectStore, published: Resolved, parameters: Path, run_id: str, hindered: str, wanted: Promote
    ) -> Outcome:
        """The candidate; and the champion, where the plan asks for it and the rules allow it."""
        aliases = Aliases(store, self.trust, self.author, self.clock.now)
        reader = RegistryReader(store, self.trust)
        if _newest(reader, wanted.model) < published.version.number:
            aliases.point(CANDIDATE, published, f"published by run {run_id}")
        outcome = Outcome(
            state="published",
            at=self.clock.now(),
            said="its plan does not ask for promotion",
            version=str(published),
        )
        if not wanted.auto:
            return outcome
        smoke = reader.smoke(published.version)
        smoked = Smoked(reason=hindered)
        if smoke is not None:
            smoked = self.smoker.tried(published.version.task, parameters, smoke)
        try:
            decision = promoted(aliases, store, self.trust, published, smoked, self.clock.now())
        except NotFound as error:
            if error.code != "registry.no_rules":
                raise
            return msgspec.structs.replace(outcome, said=error.sentence())
        state: Literal["promoted", "published"] = "promoted" if decision.passed or decision.before else "published"
        return msgspec.structs.replace(outcome, state=state, said=decision.said)


async def whole(page: Callable[[str, int], Awaitable[RunView]], run_id: str) -> RunView:
    """A run with all its steps, from pages: what it cost and who contributed is a sum over every one of them."""
    view = await page(run_id, 0)
    steps = [*view.steps]
    while view.more:
        view = await page(run_id, steps[-1].index + 1)
        steps += view.steps
    return msgspec.structs.replace(view, steps=tuple(steps))


def _newest(reader: RegistryReader, name: str) -> int:
    """The version that is the candidate, 0 for none: a publication that was delayed does not put an older one there."""
    try:
        return reader.resolve(Reference(name, alias=CANDIDATE)).version.number
    except (*UNVERIFIED, NotFound):
        return 0
