"""The contributions of a step that collects them: each by itself, in the order of the participants' keys."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from aimass.proto.compression import Codec
from aimass.proto.contribution import Contribution
from aimass.proto.storage import Blobs, map_file

__all__ = ["Collected", "Held"]


@dataclasses.dataclass(frozen=True, slots=True)
class Held:
    """`contributions` by partner, in this process, and the codecs of those whose updates have one."""

    contributions: Mapping[str, Contribution]
    blobs: Blobs
    codecs: Mapping[str, Codec]

    @property
    def partners(self) -> Sequence[str]:
        """Whose they are, in order."""
        return tuple(self.contributions)

    def of(self, partner: str) -> Contribution:
        """A partner's."""
        return self.contributions[partner]

    def codec(self, partner: str) -> Codec | None:
        """How a partner's update is compressed."""
        return self.codecs.get(partner)

    def keep(self, partner: str) -> str:
        """Store a partner's contribution as a blob; its digest."""
        return self.blobs.put(self.contributions[partner].parts())


@dataclasses.dataclass(frozen=True, slots=True)
class Collected(Held):
    """They are views of the files at `paths`, which have these `digests`."""

    paths: Mapping[str, Path]
    digests: Mapping[str, str]

    def keep(self, partner: str) -> str:
        """Store a partner's contribution as the blob that it is; its digest.

        It was flushed and verified: the blob is another name of the same file, where the file system has such.
        """
        path = self.paths[partner]
        link = path.with_name(f".{path.name}.{secrets.token_hex(4)}.link")
        try:
            link.hardlink_to(path)
        except OSError:
            return self.blobs.put([map_file(path)])
        try:
            self.blobs.adopt(link, self.digests[partner])
        finally:
            link.unlink(missing_ok=True)  # moving it onto itself, where it was kept before, leaves it
        return self.digests[partner]
