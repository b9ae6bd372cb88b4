"""What a decision asks for, done with one version: fetched, loaded, tried, examined. What came of it is an event."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection

from aimass.proto.errors import AimassError, DeadlinePassed, InternalError, NotFound, Unavailable
from aimass.proto.registry.entries import ModelVersion
from aimass.server.serving.dispatch.requests import InvalidOutput, NotReady, Request, WorkerLost
from aimass.server.serving.dispatch.seam import Dispatching, Source
from aimass.server.serving.dispatch.seam import Loaded as InMemory
from aimass.server.serving.watching.forms import difference
from aimass.server.serving.watching.releases import Prepared, Releases, again_of
from aimass.server.serving.watching.settings import WatchSettings
from aimass.server.serving.watching.smoke import smoke_tensors, what_is_wrong
from aimass.server.serving.watching.state import (
    Again,
    Event,
    Examined,
    Failed,
    Fetch,
    Fetched,
    Load,
    Loaded,
    Release,
    Tried,
    Try,
)

__all__ = ["Handling"]

log = logging.getLogger("aimass.serving")


class Handling:
    """Of one model. `prepared` are versions that are on this disk."""

    def __init__(
        self,
        model: str,
        releases: Releases,
        dispatcher: Dispatching,
        settings: WatchSettings,
        device: str,
        monotonic: Callable[[], float],
    ) -> None:
        self._model, self._releases, self._dispatcher = model, releases, dispatcher
        self._settings, self._device, self._monotonic = settings, device, monotonic
        self.prepared: dict[str, Prepared] = {}

    def version(self, number: int) -> ModelVersion | None:
        """What the registry says of a version, from before it answers until it is long gone."""
        found = (prepared.found.version for prepared in self.prepared.values())
        return next((version for version in found if version.number == number), None)

    def forget_all_but(self, releases: Collection[Release]) -> None:
        """What is on this disk of others is looked up again when it is wanted."""
        wanted = {release.digest for release in releases}
        self.prepared = {digest: prepared for digest, prepared in self.prepared.items() if digest in wanted}

    async def step(self, action: Fetch | Load | Try) -> tuple[Event, AimassError | None]:
        """Do it; what came of it, and the error that it failed with, if it is one of ours."""
        release = action.release
        try:
            match action:
                case Fetch():
                    self.prepared[release.digest] = await asyncio.to_thread(self._releases.prepare, release)
                    return Fetched(release), None
                case Load():
                    return await self._load(release), None
                case Try():
                    return await self._try(release), None
        except AimassError as error:
            again = again_of(error, fetching=isinstance(action, Fetch))
            return Failed(release, _said(error), error.code, again), error
        except Exception as error:  # whatever a version does to us, what serves goes on
            log.exception("%s of %s failed", type(action).__name__.lower(), self._model)
            return Failed(release, f"{type(error).__name__}: {error}", InternalError.kind), None

    async def examine(self, release: Release) -> Examined | None:
        """Whether what serves is what was signed and answers as it has to; None where it is too busy to say."""
        if release.digest not in self.prepared:
            return None
        try:
            wrong = await self._digest_is_wrong(release) or await self._fails_its_inputs(release)
        except (Unavailable, DeadlinePassed) as error:
            log.warning("%s %s cannot be examined now: %s", self._model, release, error)
            return None
        except AimassError as error:
            wrong = _said(error)
        return Examined(release, wrong)

    async def _load(self, release: Release) -> Event:
        prepared = self.prepared[release.digest]
        version = prepared.found.version
        serving = self._serving()
        loaded = await self._dispatcher.load(
            Source(
                version.name,
                version.number,
                version.task.name,
                version.task.digest,
                prepared.parameters,
                version.parameters.digest,
                self._device,
            )
        )
        if wrong := await self._digest_is_wrong(release):
            return Failed(release, wrong, "serving.digest")
        if serving is None or self._settings.rollout.other_form == "allow":
            return Loaded(release)
        if other := difference(serving, loaded):
            text = f"{other}; callers of version {serving.version}, which serves, would notice (`rollout.other_form`)"
            return Failed(release, text, "serving.other_form", Again.NEVER)
        return Loaded(release)

    def _serving(self) -> InMemory | None:
        """The version with the greatest share, if there is any."""
        try:
            return self._dispatcher.loaded(self._model)
        except (NotFound, NotReady):
            return None

    async def _try(self, release: Release) -> Event:
        smoke = self.prepared[release.digest].smoke
        try:
            wrong = await self._smoke_is_wrong(release)
        except InvalidOutput as error:
            wrong = _said(error)
        return Tried(release, 0 if smoke is None else len(smoke.expected), wrong)

    async def _fails_its_inputs(self, release: Release) -> str:
        try:
            return await self._smoke_is_wrong(release)
        except WorkerLost as error:  # the last worker had them alone: it died of them
            return _said(error)

    async def _digest_is_wrong(self, release: Release) -> str:
        signed = self.prepared[release.digest].found.version.parameters.digest
        held = await self._dispatcher.digest(self._model, release.number)
        return (
            "" if held == signed else f"the parameters in its memory have the digest {held[:12]}, and not {signed[:12]}"
        )

    async def _smoke_is_wrong(self, release: Release) -> str:
        smoke = self.prepared[release.digest].smoke
        if smoke is None:
            return ""
        tensors = smoke_tensors(smoke, self._dispatcher.loaded(self._model, release.number).inputs)
        deadline = self._monotonic() + self._settings.rollout.smoke_s
        answer = await self._dispatcher.infer(Request(self._model, tensors, release.number, deadline=deadline))
        return what_is_wrong(smoke, answer.tensors)


def _said(error: AimassError) -> str:
    """Within a sentence."""
    return error.sentence().rstrip(".")
