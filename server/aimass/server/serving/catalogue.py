"""What stands behind the models that are served: the registry's verified versions, by name and number."""

from __future__ import annotations

from typing import Protocol

from aimass.proto.registry.entries import ModelVersion

__all__ = ["Catalogue"]


class Catalogue(Protocol):
    """Knows every version that answers requests here."""

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models that this process serves, loaded or not, in the order of the command line."""
        ...

    def version(self, model: str, number: int) -> ModelVersion | None:
        """What the registry says of a loaded version; None for one that it does not know."""
        ...
