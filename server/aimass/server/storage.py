"""Where a server keeps models and uploads: on its disk, or in object stores with its disk before them."""

from __future__ import annotations

from pathlib import Path

from aimass.proto.durable import UNINTERRUPTED, Durability
from aimass.proto.objects import open_objects
from aimass.proto.storage import Blobs, FileBlobs, Spool
from aimass.proto.stored import StoredSpool, claim, open_blobs
from aimass.server.settings import ServerSettings

__all__ = ["claim_stores", "open_storage"]


def open_storage(data: Path, settings: ServerSettings, durability: Durability = UNINTERRUPTED) -> tuple[Blobs, Spool]:
    """Blobs and spool of the server whose data folder this is. Nothing is asked of a store before it is used."""
    blobs, spool = data / "blobs", data / "spool"
    return (
        open_blobs(settings.blobs, blobs, settings.limits.cache_bytes, durability)
        if settings.blobs
        else FileBlobs(blobs, durability),
        StoredSpool(open_objects(settings.spool), spool, durability) if settings.spool else Spool(spool, durability),
    )


def claim_stores(settings: ServerSettings, identity: str) -> None:
    """Take the stores for the server of this identity key; raises `Conflict` where another has them."""
    for url in filter(None, (settings.blobs, settings.spool)):
        claim(open_objects(url), identity)
