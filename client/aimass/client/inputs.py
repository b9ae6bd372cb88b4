"""What a step works on, brought here: whole, or as its difference to the model that this partner worked on before.

A difference costs both sides a pass over the model, some ten milliseconds for each megabyte together, and spares a
third of its bytes at least. So it is worth it over a link that is slower than the work; which it is, the last transfer
has told.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from aimass.client.meters import DaemonMeters
from aimass.client.partner import Partner
from aimass.client.uplink import Uplink
from aimass.proto.difference import decode
from aimass.proto.errors import AimassError, OutOfSpace
from aimass.proto.grpc_env import grpc
from aimass.proto.intake import whole
from aimass.proto.logs import about
from aimass.proto.offers import DifferenceRequest, Offer, offered
from aimass.proto.resuming import passing
from aimass.proto.storage import Spool, map_file
from aimass.proto.tensors import Blob
from aimass.proto.transfer import FetchRequest, fetch

__all__ = ["Inputs", "applied", "asks_for_difference"]

log = logging.getLogger("aimass.client")
_MAX_BLOB: Final = 8 << 30
_FAST_BYTES_PER_S: Final = 32e6
"""From here on a model of random changes is here sooner as a whole: measured, `docs/performance.md`."""
_SMALL: Final = 64 << 10


def asks_for_difference(wish: Literal["auto", "always", "never"], link_bytes_per_s: float | None, size: int) -> bool:
    """Whether to ask for the difference to a model of `size` bytes; of a link that nothing came over yet none knows."""
    if wish != "auto":
        return wish == "always"
    return link_bytes_per_s is not None and link_bytes_per_s < _FAST_BYTES_PER_S and size >= _SMALL


def applied(held: Path, difference: Path, spool: Spool, digest: str) -> Path:
    """The model of this digest, made in `spool` of the one that is `held`; verified. It blocks.

    Raises `BadInput` for a difference that is none of `held`, and `IntegrityError` where it leads to another model.
    """
    blob = Blob(map_file(held, keep_file=True))
    spool.discard(digest)  # what is there of it came another way
    writer = spool.begin(digest, len(blob.data), digest)
    try:
        with difference.open("rb") as parts:
            for part in decode(blob, parts):
                writer.append(part)
        return writer.finish()
    except AimassError:
        spool.discard(digest)
        raise
    finally:
        writer.close()


class Inputs:
    """One run's."""

    def __init__(self, run_id: str, partner: Partner, uplink: Uplink, meters: DaemonMeters) -> None:
        self._run_id, self._partner, self._uplink, self._meters = run_id, partner, uplink, meters

    async def brought(self, digests: Sequence[str]) -> list[Path]:
        """Where a step's inputs stand, fetched where they do not yet; those of the step before go then.

        Raises `Unavailable` for a broken link: asked again, it goes on where it stopped.
        """
        cache = self._partner.cache
        held = cache.begin(self._run_id, digests)
        paths = [await self._brought(digest, held if digest == digests[0] else None) for digest in digests]
        cache.hold(self._run_id, digests)
        return paths

    async def _brought(self, digest: str, held: str | None) -> Path:
        async def get(channel: grpc.aio.Channel) -> Path:
            return await self._fetched(channel, digest, held)

        return await self._partner.cache.fetched(digest, lambda: self._uplink.transfer(get))

    async def _fetched(self, channel: grpc.aio.Channel, digest: str, held: str | None) -> Path:
        """The blob, the short way where there is one. Whatever that fails of but the link or the disk, the whole is
        fetched: what is wrong with it there is told then."""
        try:
            if held is not None and (offer := await self._offered(channel, digest, held)) is not None:
                return await self._by_difference(channel, digest, held, offer)
        except AimassError as error:
            if passing(error) or isinstance(error, OutOfSpace):
                raise
            about(log, self._run_id, code=error.code).warning("the model is fetched whole: %s", error)
        return await self._moved(channel, digest)

    async def _offered(self, channel: grpc.aio.Channel, digest: str, held: str) -> Offer | None:
        spool, link = self._partner.cache.spool, self._partner.settings.link
        size = spool.path(held).stat().st_size
        wanted = asks_for_difference(link.differences, self._partner.link_speed.bytes_per_s, size)
        if not wanted or spool.begun(digest):  # what has begun to come whole goes on so
            return None
        request = DifferenceRequest(run_id=self._run_id, held=held, wanted=digest)
        offer = await offered(channel, request, link.idle_s)
        if offer is None or offer.bytes >= size or self._partner.cache.works_on(offer.digest):
            return None  # a model is no difference, and what becomes of differences must not become of it
        return offer

    async def _by_difference(self, channel: grpc.aio.Channel, digest: str, held: str, offer: Offer) -> Path:
        cache = self._partner.cache
        cache.coming(self._run_id, offer.digest)
        difference = await self._moved(channel, offer.digest, offer.bytes)
        path = await whole(applied, cache.spool.path(held), difference, cache.spool, digest)
        self._meters.bytes_spared.add(by=path.stat().st_size - offer.bytes)
        return path

    async def _moved(self, channel: grpc.aio.Channel, digest: str, most_bytes: int = _MAX_BLOB) -> Path:
        """A blob as it is, over the wire."""
        partner, spool = self._partner, self._partner.cache.spool
        request, here, since = FetchRequest(digest=digest, run_id=self._run_id), spool.begun(digest), time.monotonic()
        path = await fetch(channel, request, spool, most_bytes, pace=partner.down, idle_s=partner.settings.link.idle_s)
        size = path.stat().st_size
        partner.link_speed.moved(size - here, time.monotonic() - since)
        self._meters.bytes_moved.add("down", by=size)
        return path
