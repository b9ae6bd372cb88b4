"""Where a partner's work is done: what its bench reads, and where it leaves what it makes.

A simulation's site is its folder. Offline training has another: shards in an object store, and a cache on each machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Protocol

from aimass.proto.durable import UNINTERRUPTED, write_parts
from aimass.proto.manifest import ShardManifest
from aimass.proto.plan import Plan
from aimass.proto.sharding import manifest_of
from aimass.proto.step import Step
from aimass.proto.storage import Blobs, map_file
from aimass.server.simulation.folder import Folder

__all__ = ["Fetched", "FolderSite", "InFolder", "Opens", "Site"]


class Fetched(NamedTuple):
    """Bytes of shards that came, and by copy what was found wanting of some while others were read."""

    bytes_read: int = 0
    copies: Mapping[str, str] = MappingProxyType({})


class Site(Protocol):
    """What a bench is told and handed."""

    @property
    def run_id(self) -> str:
        """The run that it works for."""
        ...

    @property
    def plan(self) -> Plan:
        """Its plan."""
        ...

    @property
    def policy(self) -> str:
        """The policy of its gate, as TOML."""
        ...

    def fetched(self) -> Fetched:
        """What was fetched of shards since the last time."""
        ...

    def shard(self, partner: str) -> AbstractContextManager[tuple[ShardManifest, Path]]:
        """A partner's manifest, and the folder that its `uris` stand in as long as the context."""
        ...

    def soon(self, partner: str) -> None:
        """This partner's shard will be asked for next: a site that fetches shards begins now."""
        ...

    def models(self) -> Blobs:
        """The models of steps, by a store that has opened none yet."""
        ...

    def state(self, held: str) -> memoryview:
        """A local state by what `keep_state` called it."""
        ...

    def keep_state(self, name: str, data: bytes | memoryview) -> str:
        """Keep a new local state; what it is called from now on."""
        ...

    def spool(self, index: int) -> Path:
        """The folder that contributions to a step are written into."""
        ...

    def parcel(self, step: Step, file: str) -> bytes:
        """What of a contribution in the spool goes back with the answer; nothing where all see the spool."""
        ...


class Opens(Protocol):
    """Opens a site in any process that it was sent to."""

    def __call__(self) -> Site:
        """The site, as this process has it."""
        ...

    def __hash__(self) -> int:
        """Equal ones open the same site."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class InFolder:
    """Opens the site of a simulation's folder."""

    path: Path

    def __call__(self) -> FolderSite:
        """See `Opens`."""
        return FolderSite(self.path)


class FolderSite:
    """A simulation's folder, which all processes see."""

    def __init__(self, path: Path) -> None:
        self._folder = Folder(path)
        setup = self._folder.setup()
        self.run_id: str = setup.run_id
        self.plan: Plan = self._folder.plan()
        self.policy: str = setup.policy
        self._shards = Path(setup.shards)

    def fetched(self) -> Fetched:
        """Shards stand here."""
        return Fetched()

    @contextlib.contextmanager
    def shard(self, partner: str) -> Iterator[tuple[ShardManifest, Path]]:
        """See `Site`."""
        yield manifest_of(self._shards, partner), self._shards / partner

    def soon(self, partner: str) -> None:
        """Shards stand here."""

    def models(self) -> Blobs:
        """See `Site`."""
        return Folder(self._folder.path).blobs

    def state(self, held: str) -> memoryview:
        """See `Site`."""
        return map_file(self._folder.state(held))

    def keep_state(self, name: str, data: bytes | memoryview) -> str:
        """See `Site`."""
        write_parts(self._folder.state(name), (data,), UNINTERRUPTED, "simulation.state")
        return name

    def spool(self, index: int) -> Path:
        """See `Site`."""
        return self._folder.spool(index)

    def parcel(self, step: Step, file: str) -> bytes:
        """All see the spool."""
        return b""
