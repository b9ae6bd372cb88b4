"""The gate: certificate, revocation and role of every caller, and an end to open calls that lose them.

A person may come through a service, which shows its certificate and brings the person's token: then the person's name
and role count, for as long as the token and the certificate do.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Mapping
from typing import Any, Final

from aimass.privacy.pki import Peer, Role
from aimass.proto.errors import AimassError, Unauthenticated
from aimass.proto.grpc_env import grpc
from aimass.proto.logs import Log, about
from aimass.proto.wire import abort, peer_certificate
from aimass.server.authorisation import TABLE, authorise
from aimass.server.people.desk import People, bearer_of
from aimass.server.trust import TrustHolder

__all__ = ["Gate"]

log = logging.getLogger("aimass.server")
_LAST_WORD_S: Final = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class _Call:
    holder: Peer
    """Whose certificate was shown."""
    peer: Peer
    """On whose behalf: the same, or a person whom that service brings."""
    name: str
    context: grpc.aio.ServicerContext


class Gate:
    """One for a server: it knows every call that is open."""

    def __init__(self, trust: TrustHolder, people: People, table: Mapping[str, frozenset[Role]] = TABLE) -> None:
        self._trust, self._people, self._table = trust, people, table
        self._open: dict[asyncio.Task[Any], _Call] = {}
        self._ending: set[asyncio.Task[None]] = set()

    async def admit(self, context: grpc.aio.ServicerContext, name: str) -> Peer:
        """Who calls, if the table lets them; raises `Unauthenticated` or `Refused`, and `Unavailable` where a token
        could not be checked."""
        holder = peer = self._trust.check(peer_certificate(context))
        try:
            if (token := bearer_of(context.invocation_metadata())) is not None:
                peer = await self._people.person(holder, token)
                self._trust.check_peer(holder)  # who may have been revoked while keys were fetched
            authorise(peer, name, self._table)
        except AimassError as error:
            through = f"{name} through {holder.name} " if holder.role is Role.SERVICE else ""
            _about(peer).warning("%srefused: %s", through, error)
            raise
        if peer.via:
            log.info("%s for %s, %s, through %s", name, peer.name, peer.role, peer.via)
        task = asyncio.current_task()
        if task is not None:
            self._open[task] = _Call(holder, peer, name, context)
            task.add_done_callback(lambda done: self._open.pop(done, None))
            if peer.via:
                self._end_with_token(task, peer)
        return peer

    def cut(self) -> None:
        """End every open call whose caller would not be admitted now; they are told why, and gone within a second."""
        for task, call in list(self._open.items()):
            try:
                self._trust.check_peer(call.holder)
            except AimassError as error:
                _about(call.peer).warning("%s cut: %s", call.name, error)
                self.end(task, error)

    def end(self, task: asyncio.Task[Any] | None, reason: AimassError) -> None:
        """End one open call, told why."""
        if task is not None and (call := self._open.get(task)) is not None:
            self._owned(self._end(task, call, reason))

    def _end_with_token(self, task: asyncio.Task[Any], peer: Peer) -> None:
        """A call that goes on ends when the token does: its person may have lost the role since."""

        async def wait() -> None:
            await self._people.clock.sleep(peer.not_after - self._people.clock.now())
            self.end(task, Unauthenticated("the token has expired", code="people.expired", cure="Log in again."))

        waiting = self._owned(wait())
        task.add_done_callback(lambda _: waiting.cancel())

    def _owned(self, work: Any) -> asyncio.Task[None]:
        ending = asyncio.get_running_loop().create_task(work)
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        return ending

    @staticmethod
    async def _end(task: asyncio.Task[Any], call: _Call, reason: AimassError) -> None:
        """Say why, to a caller that reads; then end the handler, whatever it waits for."""
        try:
            async with asyncio.timeout(_LAST_WORD_S):
                await abort(call.context, reason)
        except (TimeoutError, grpc.aio.AbortError, grpc.aio.UsageError):
            pass
        finally:
            task.cancel()


def _about(peer: Peer) -> Log:
    """Lines about a caller; people are named by the error alone."""
    return about(log, partner=peer.name if peer.role is Role.PARTNER else "")
