"""All models of a serving process, each with its watcher: what fronts know of versions, and what operators ask for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from aimass.proto.errors import AimassError
from aimass.proto.meters import Reading
from aimass.proto.objects import ObjectStore
from aimass.proto.registry.entries import ModelVersion
from aimass.proto.registry.layout import Reference
from aimass.proto.registry.reader import RegistryReader
from aimass.proto.registry.trust import Trust
from aimass.proto.serving_views import WatchView
from aimass.server.serving.dispatch.requests import ModelUnknown
from aimass.server.serving.watching.last_good import LastGood
from aimass.server.serving.watching.releases import Releases
from aimass.server.serving.watching.views import readings_of
from aimass.server.serving.watching.watcher import Surroundings, Watcher

__all__ = ["Watchers"]

log = logging.getLogger("aimass.serving")


class Watchers:
    """A `Repository` and a `Catalogue` of the models that `references` name."""

    def __init__(
        self, references: Sequence[Reference], store: ObjectStore, trust: Trust, folder: Path, around: Surroundings
    ) -> None:
        """What is kept of a model stands below `folder` by its name."""
        self._around = around
        self._watchers: dict[str, Watcher] = {}
        for reference in references:
            around.dispatcher.expect(reference.name)
            last_good = LastGood(folder / reference.name, trust)
            releases = Releases(reference, store, RegistryReader(store, trust), last_good)
            self._watchers[reference.name] = Watcher(reference, releases, last_good, around)
        self._running: dict[str, asyncio.Task[None]] = {}

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch until the block ends. It begins when each model answers or cannot for the time being.

        Raises what is wrong with what the registry says, where nothing on this disk could serve instead.
        """
        try:
            for model in self._watchers:
                self._start(model)
            for watcher in self._watchers.values():
                await self._started(watcher)
            yield
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    @property
    def models(self) -> tuple[str, ...]:
        """See `Catalogue`."""
        return tuple(self._watchers)

    def version(self, model: str, number: int) -> ModelVersion | None:
        """See `Catalogue`."""
        watcher = self._watchers.get(model)
        return None if watcher is None else watcher.version(number)

    async def load(self, model: str) -> None:
        """Ask the registry now, and load what it names; a model that was unloaded is watched again.

        Raises as `watching`, and `WrongState` where the version is refused.
        """
        watcher = self._known(model)
        if model in self._running:
            await watcher.look_now()
        else:
            self._start(model)
            await self._started(watcher)

    async def unload(self, model: str) -> None:
        """Watch it no more, and take all its versions out of memory."""
        self._known(model)
        if (task := self._running.pop(model, None)) is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        state = next((one for one in self._around.dispatcher.models() if one.name == model), None)
        for loaded in state.versions if state is not None else ():
            with contextlib.suppress(AimassError):  # it is on its way out already
                await self._around.dispatcher.unload(model, loaded.version)

    @property
    def ended(self) -> tuple[str, ...]:
        """Models whose watch has ended by a fault of ours: what serves stays, and nothing new comes."""
        return tuple(model for model, task in self._running.items() if task.done())

    def views(self) -> dict[str, WatchView]:
        """How each model stands."""
        return {model: watcher.view() for model, watcher in self._watchers.items()}

    def readings(self) -> tuple[Reading, ...]:
        """The same as figures."""
        return readings_of(self.views(), self._around.clock.now())

    def _known(self, model: str) -> Watcher:
        if model not in self._watchers:
            raise ModelUnknown(model)
        return self._watchers[model]

    def _start(self, model: str) -> None:
        watcher = self._watchers[model]
        watcher.begin_anew()
        task = asyncio.get_running_loop().create_task(watcher.run(), name=f"watch {model}")
        task.add_done_callback(_told)
        self._running[model] = task

    async def _started(self, watcher: Watcher) -> None:
        """Until it answers; raises also what ended its watch."""
        waiting = asyncio.ensure_future(watcher.started())
        await asyncio.wait({waiting, self._running[watcher.model]}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            waiting.cancel()
            await self._running[watcher.model]
        await waiting


def _told(task: asyncio.Task[None]) -> None:
    """Nobody waits for a watch: that it ended by a fault of ours is told at once."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("%s ended: what is served stays as it is", task.get_name(), exc_info=error)
