"""The gate: certificate, revocation and role of every caller, and an end to open calls that lose them."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Mapping
from typing import Any, Final

from aimass.privacy.pki import Peer, Role
from aimass.proto.errors import AimassError
from aimass.proto.grpc_env import grpc
from aimass.proto.logs import Log, about
from aimass.proto.wire import abort, peer_certificate
from aimass.server.authorisation import TABLE, authorise
from aimass.server.trust import TrustHolder

__all__ = ["Gate"]

log = logging.getLogger("aimass.server")
_LAST_WORD_S: Final = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class _Call:
    peer: Peer
    name: str
    context: grpc.aio.ServicerContext


class Gate:
    """One for a server: it knows every call that is open."""

    def __init__(self, trust: TrustHolder, table: Mapping[str, frozenset[Role]] = TABLE) -> None:
        self._trust, self._table = trust, table
        self._open: dict[asyncio.Task[Any], _Call] = {}
        self._cutting: set[asyncio.Task[None]] = set()

    def admit(self, context: grpc.aio.ServicerContext, name: str) -> Peer:
        """Who calls, if the table lets them; raises `Unauthenticated` or `Refused`."""
        peer = self._trust.check(peer_certificate(context))
        try:
            authorise(peer, name, self._table)
        except AimassError as error:
            _about(peer).warning("refused: %s", error)
            raise
        task = asyncio.current_task()
        if task is not None:
            self._open[task] = _Call(peer, name, context)
            task.add_done_callback(lambda done: self._open.pop(done, None))
        return peer

    def cut(self) -> None:
        """End every open call whose caller would not be admitted now; they are told why, and gone within a second."""
        for task, call in list(self._open.items()):
            try:
                self._trust.check_peer(call.peer)
            except AimassError as error:
                _about(call.peer).warning("%s cut: %s", call.name, error)
                self.end(task, error)

    def end(self, task: asyncio.Task[Any] | None, reason: AimassError) -> None:
        """End one open call, told why."""
        if task is not None and (call := self._open.get(task)) is not None:
            cutting = asyncio.get_running_loop().create_task(self._end(task, call, reason))
            self._cutting.add(cutting)
            cutting.add_done_callback(self._cutting.discard)

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
