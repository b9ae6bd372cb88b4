"""The contributions of a step that collects them: each by itself, in the order of the participants' keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from aimass.proto.contribution import Contribution
from aimass.proto.storage import Blobs, map_file

__all__ = ["Collected", "Held"]


@dataclasses.dataclass(frozen=True, slots=True)
class Collected:
    """`contributions` are views of the files at `paths`, both by partner."""

    contributions: Mapping[str, Contribution]
    paths: Mapping[str, Path]
    blobs: Blobs

    @property
    def partners(self) -> Sequence[str]:
        """Whose they are, in order."""
        return tuple(self.contributions)

    def of(self, partner: str) -> Contribution:
        """A partner's."""
        return self.contributions[partner]

    def keep(self, partner: str) -> str:
        """Store a partner's contribution as the blob that it is; its digest."""
        return self.blobs.put([map_file(self.paths[partner])])


@dataclasses.dataclass(frozen=True, slots=True)
class Held:
    """The same where no file has them: `contributions` by partner are in this process."""

    contributions: Mapping[str, Contribution]
    blobs: Blobs

    @property
    def partners(self) -> Sequence[str]:
        """Whose they are, in order."""
        return tuple(self.contributions)

    def of(self, partner: str) -> Contribution:
        """A partner's."""
        return self.contributions[partner]

    def keep(self, partner: str) -> str:
        """Store a partner's contribution as a blob; its digest."""
        return self.blobs.put(self.contributions[partner].parts())
