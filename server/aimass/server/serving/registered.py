"""Models of a registry in memory: each the version that its reference names, verified before a byte of it is used."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from aimass.proto.registry.entries import ModelVersion
from aimass.proto.registry.layout import Reference
from aimass.proto.registry.reader import RegistryReader, Resolved
from aimass.server.serving.dispatch.requests import ModelUnknown
from aimass.server.serving.dispatch.seam import Dispatching, Source

__all__ = ["Registered", "source_of"]

log = logging.getLogger("aimass.serving")


def source_of(found: Resolved, parameters: Path, device: str) -> Source:
    """What a dispatcher loads of a verified version whose parameters are in a file."""
    version = found.version
    return Source(
        version.name,
        version.number,
        version.task.name,
        version.task.digest,
        parameters,
        version.parameters.digest,
        device,
    )


class Registered:
    """A `Repository` and a `Catalogue` of the models that `references` name."""

    def __init__(
        self, reader: RegistryReader, dispatcher: Dispatching, references: Sequence[Reference], cache: Path, device: str
    ) -> None:
        self._reader, self._dispatcher, self._cache, self._device = reader, dispatcher, cache, device
        self._references = {reference.name: reference for reference in references}
        self._versions: dict[tuple[str, int], ModelVersion] = {}

    @property
    def models(self) -> tuple[str, ...]:
        """See `Catalogue`."""
        return tuple(self._references)

    def version(self, model: str, number: int) -> ModelVersion | None:
        """See `Catalogue`."""
        return self._versions.get((model, number))

    async def load(self, model: str) -> None:
        """Resolve, verify, fetch, load and let it answer; raises what any of these raises, and nothing changes then."""
        if model not in self._references:
            raise ModelUnknown(model)
        found = await asyncio.to_thread(self._reader.resolve, self._references[model])
        number = found.version.number
        if (model, number) in self._versions:
            return
        parameters = await asyncio.to_thread(self._reader.parameters, found.version, self._cache)
        await self._dispatcher.load(source_of(found, parameters, self._device))
        self._versions[model, number] = found.version
        self._dispatcher.share(model, {number: 1.0})
        log.info("%s answers, published by %s", found, found.signer)
        await self._let_go(model, number)

    async def unload(self, model: str) -> None:
        """Unload every version of it; raises `ModelUnknown` where none is served."""
        if model not in self._references:
            raise ModelUnknown(model)
        await self._let_go(model, 0)

    async def _let_go(self, model: str, but: int) -> None:
        for name, number in [key for key in self._versions if key[0] == model and key[1] != but]:
            await self._dispatcher.unload(name, number)
            del self._versions[name, number]
