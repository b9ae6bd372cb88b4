"""A plan's base at a partner: from its own disk, or fetched from the server, once for all runs."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from aimass.client.inbox import patiently
from aimass.client.partner import Partner
from aimass.client.uplink import Uplink
from aimass.proto.bases import Base
from aimass.proto.clock import Clock
from aimass.proto.errors import NotFound
from aimass.proto.grpc_env import grpc
from aimass.proto.logs import about
from aimass.proto.transfer import FetchRequest, fetch

__all__ = ["provide"]

log = logging.getLogger("aimass.client")


async def provide(base: Base, partner: Partner, run_id: str, uplink: Uplink, clock: Clock) -> None:
    """Return once the base is in the partner's folder: one run fetches it, others that want it wait.

    A broken link or a full disk is waited for; a fetch goes on where the last one stopped, also of an earlier life.
    Raises `NotFound` where the server has none either, `Conflict` where a base of its name is here that is another and
    the server has none.
    """
    run_log = about(log, run_id)

    async def brought() -> Path:
        if not partner.bases.has(base):
            await patiently(run_log, clock, lambda: _fetch(base, partner, run_id, uplink))
            run_log.info("the base %s was fetched: %d bytes", base.name, base.bytes)
        return partner.bases.path(base)

    await partner.cache.fetched(f"base-{base.digest}", brought)  # a model of a run may have the same digest


async def _fetch(base: Base, partner: Partner, run_id: str, uplink: Uplink) -> None:
    partner.check_room(base.bytes)
    spool, request = partner.bases.spool(), FetchRequest(digest=base.digest, run_id=run_id)

    async def get(channel: grpc.aio.Channel) -> Path:
        idle_s = partner.settings.link.idle_s
        return await fetch(channel, request, spool, base.bytes, pace=partner.down, idle_s=idle_s)

    try:
        path = await uplink.transfer(get)
    except NotFound:
        partner.bases.require(base)  # in words that say what is missing here, and what helps
        raise
    await asyncio.to_thread(partner.bases.adopt, base, path)
