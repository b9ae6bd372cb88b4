"""What a serving process keeps on its disk of one model, so that it starts again when the registry is away.

The documents of the versions that were good stand in a folder that is laid out as the registry is, so the same reader
verifies them with the same signatures; parameters lie beside, named by their digest. What was refused is remembered.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final

from aimass.proto.durable import UNINTERRUPTED, make_folder, remove_file, write_file
from aimass.proto.errors import AimassError, NotFound
from aimass.proto.numbered import Numbered
from aimass.proto.objects import ObjectStore, open_objects
from aimass.proto.registry.layout import Reference, alias_prefix, report_key, versions_prefix
from aimass.proto.registry.reader import RegistryReader, Resolved
from aimass.proto.registry.trust import Trust
from aimass.proto.values import canonical_json, decode_canonical_json
from aimass.server.serving.watching.state import NOTHING, Memory

__all__ = ["LastGood"]

log = logging.getLogger("aimass.serving")
_MEMORY: Final = "memory.json"
_PARAMETERS: Final = re.compile(r"[0-9a-f]{64}")
_UNUSED_S: Final = 3_600.0
"""Parameters that nobody wants stay for so long: another process may be about to load them."""


class LastGood:
    """Of one model; all calls block. `folder` may be shared by processes that serve the same."""

    def __init__(self, folder: Path, trust: Trust, now: Callable[[], float] = time.time) -> None:
        self._folder, self._now = make_folder(folder), now
        self.parameters = make_folder(folder / "parameters")
        self._store = open_objects(make_folder(folder / "registry").resolve().as_uri())
        self.reader = RegistryReader(self._store, trust)

    def memory(self) -> Memory:
        """What outlived the last process; nothing, where that cannot be read."""
        path = self._folder / _MEMORY
        try:
            return decode_canonical_json(Memory, path.read_bytes(), str(path))
        except FileNotFoundError:
            return NOTHING
        except (AimassError, OSError) as error:
            log.warning("what was good or refused before is forgotten: %s", error)
            return NOTHING

    def remember(self, memory: Memory) -> None:
        """Write it down; raises `OutOfSpace`."""
        write_file(self._folder / _MEMORY, canonical_json(memory), UNINTERRUPTED, "serving.memory")

    def kept(self, reference: Reference) -> Resolved | None:
        """The version that was good here last, verified anew; None where there is none that still can be."""
        try:
            return self.reader.resolve(reference)
        except NotFound:
            return None
        except AimassError as error:
            log.warning("the version of %s on this disk is not used: %s", reference, error)
            return None

    def missing(self, registry: ObjectStore, found: Resolved) -> dict[str, bytes]:
        """Documents of a version that are not here yet, from the registry's store; raises what that raises."""
        version = found.version
        keys = [Numbered(registry, versions_prefix(version.name)).key(version.number)]
        keys += [report_key(version.name, part.digest) for part in (version.manifest, version.smoke) if part]
        if found.alias is not None:  # last: it names what stands already
            prefix = alias_prefix(version.name, found.alias.alias)
            keys.append(Numbered(registry, prefix).key(found.alias.number))
        return {key: registry.read(key) for key in keys if not self._holds(key)}

    def keep(self, documents: Mapping[str, bytes]) -> None:
        """Write the documents of a version that is good, in their order; raises `OutOfSpace`."""
        for key, data in documents.items():
            self._store.put(key, data)

    def _holds(self, key: str) -> bool:
        """Whether a document is here: none is ever replaced, and each is verified when it is read."""
        try:
            self._store.head(key)
        except NotFound:
            return False
        return True

    def clear(self, wanted: Collection[str]) -> None:
        """Remove parameters whose digest is not wanted and that nobody fetched lately."""
        for path in self.parameters.iterdir():
            with contextlib.suppress(FileNotFoundError):
                old = self._now() - path.stat().st_mtime > _UNUSED_S
                if old and _PARAMETERS.fullmatch(path.name) and path.name not in wanted:
                    remove_file(path)
