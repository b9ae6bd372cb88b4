"""A training service's promoter, put together from its settings: its registry, its trust file, its own key."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass.privacy.model_trust import FileTrust
from aimass.proto.clock import Clock
from aimass.proto.objects import open_objects
from aimass.proto.storage import Blobs
from aimass.server.engine import Engine
from aimass.server.readings import Readings
from aimass.server.registry.authors import Author
from aimass.server.registry.promoter import Outcomes, Promoter
from aimass.server.registry.run_publishing import SCRATCH, RunPublishing
from aimass.server.registry.smoking import ChildSmoker
from aimass.server.settings import ServerSettings
from aimass.server.store_threads import StoreThreads

__all__ = ["OUTCOMES", "promoter_of"]

OUTCOMES: Final = "promotions"
"""The folder of a server's data that says what became of each run's model."""


def promoter_of(
    settings: ServerSettings,
    folder: Path,
    data: Path,
    key: Ed25519PrivateKey,
    engine: Engine,
    readings: Readings,
    blobs: Blobs,
    clock: Clock,
) -> Promoter:
    """The promoter of the server in `folder`. Nothing is asked of the registry before a run that needs it has ended."""
    for left in data.glob(f"{SCRATCH}*"):
        shutil.rmtree(left, ignore_errors=True)  # a model's copy, of a process that was killed
    smoker = ChildSmoker()
    publish = RunPublishing(
        readings=readings,
        blobs=blobs,
        opened=functools.cache(functools.partial(open_objects, settings.registry.url)),
        trust=FileTrust(folder / settings.registry.trust),
        author=Author(settings.name, key),
        smoker=smoker,
        folder=data,
        clock=clock,
        threads=StoreThreads(1, "registry"),
    )
    outcomes = Outcomes(data / OUTCOMES)
    readings.outcome = outcomes.get
    return Promoter(engine, outcomes, publish, clock, smoker.stop)
