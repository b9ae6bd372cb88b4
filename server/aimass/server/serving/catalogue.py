"""What stands behind the models that are served: the registry's verified versions, and who loads them."""

from __future__ import annotations

from typing import Protocol

from aimass.proto.registry.entries import ModelVersion

__all__ = ["Catalogue", "Repository"]


class Catalogue(Protocol):
    """Knows every version that answers requests here."""

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models that this process serves, loaded or not, in the order of the command line."""
        ...

    def version(self, model: str, number: int) -> ModelVersion | None:
        """What the registry says of a loaded version; None for one that it does not know."""
        ...


class Repository(Protocol):
    """Who loads and unloads models by name."""

    async def load(self, model: str) -> None:
        """Bring a model's newest good version into memory and let it answer; nothing to do where it is so."""
        ...

    async def unload(self, model: str) -> None:
        """Let a model answer no more."""
        ...
