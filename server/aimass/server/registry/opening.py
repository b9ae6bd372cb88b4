"""A registry as a command opens it: the store, whom it believes, a reader, and who writes."""

from __future__ import annotations

import argparse
import dataclasses
import time

from aimass.privacy.model_trust import FileTrust
from aimass.proto.objects import ObjectStore, open_objects
from aimass.proto.registry.places import required_url, trust_path
from aimass.proto.registry.reader import RegistryReader
from aimass.proto.registry.trust import Trust
from aimass.server.registry.aliases import Aliases
from aimass.server.registry.authors import read_author
from aimass.server.registry.publishing import Publisher

__all__ = ["Opened", "opened"]


@dataclasses.dataclass(frozen=True, slots=True)
class Opened:
    """A registry for one command."""

    store: ObjectStore
    trust: Trust
    reader: RegistryReader

    def publisher(self, args: argparse.Namespace) -> Publisher:
        """Publishes as `--as`."""
        return Publisher(self.store, self.trust, read_author(args.home), time.time)

    def aliases(self, args: argparse.Namespace) -> Aliases:
        """Promotes as `--as`."""
        return Aliases(self.store, self.trust, read_author(args.home), time.time)


def opened(args: argparse.Namespace) -> Opened:
    """What `--registry` and `--trust` say, or what stands in for them; raises `BadInput` where nothing does."""
    store, trust = open_objects(required_url(args)), FileTrust(trust_path(args))
    return Opened(store, trust, RegistryReader(store, trust))
