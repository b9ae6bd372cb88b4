"""Partners that are connected: one bounded queue each, and nothing that waits for a slow one."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import Final

from aimass.privacy.pki import Peer
from aimass.proto.errors import AimassError, LimitExceeded, Refused, Unavailable
from aimass.proto.v1 import federation_pb2 as pb

__all__ = ["Session", "Sessions"]

log = logging.getLogger("aimass.server")
_QUEUE: Final = 256


@dataclasses.dataclass(eq=False, slots=True)
class Session:
    """One partner's open control stream. `ended` holds why it has to end."""

    peer: Peer
    since: float
    software: str
    roster_epoch: int
    queue: asyncio.Queue[pb.ToPartner | None] = dataclasses.field(default_factory=lambda: asyncio.Queue(_QUEUE))
    ended: AimassError | None = None

    def hang_up(self) -> None:
        """The partner has closed its side."""
        if self.ended is None and not self.queue.full():
            self.queue.put_nowait(None)

    def end(self, reason: AimassError) -> None:
        """Close the stream with `reason`; what is still queued is dropped."""
        if self.ended is None:
            self.ended = reason
        while not self.queue.empty():
            self.queue.get_nowait()
        self.queue.put_nowait(None)


class Sessions:
    """All sessions by partner; the engine's outbox."""

    def __init__(self) -> None:
        self._by_partner: dict[str, Session] = {}

    def open(self, session: Session) -> None:
        """Register a session; an older one of the same partner ends."""
        older = self._by_partner.get(session.peer.name)
        if older is not None:
            older.end(Unavailable("a newer connection of this partner took over", code="session.replaced"))
        self._by_partner[session.peer.name] = session

    def close(self, session: Session) -> bool:
        """Forget a session; False where a newer one had taken its place."""
        if self._by_partner.get(session.peer.name) is not session:
            return False
        del self._by_partner[session.peer.name]
        return True

    def get(self, partner: str) -> Session | None:
        """The partner's session, if it is connected."""
        return self._by_partner.get(partner)

    def send(self, partner: str, message: pb.ToPartner) -> None:
        """Queue a message; a partner that does not read is cut off and catches up when it connects again."""
        session = self._by_partner.get(partner)
        if session is None or session.ended is not None:
            return
        try:
            session.queue.put_nowait(message)
        except asyncio.QueueFull:
            log.warning("%s does not read its messages: cut off", partner)
            session.end(LimitExceeded("too many unread messages", code="session.slow", limit=_QUEUE))

    def connected(self) -> frozenset[str]:
        """Names of the partners that are here."""
        return frozenset(self._by_partner)

    def cut_revoked(self, revoked: frozenset[int], members: frozenset[str]) -> None:
        """End the streams of everybody who was revoked or has left the roster."""
        for session in list(self._by_partner.values()):
            if session.peer.serial in revoked or session.peer.name not in members:
                session.end(Refused("this certificate was revoked", code="trust.revoked", value=session.peer.name))

    def end_all(self, reason: AimassError) -> None:
        """End every stream."""
        for session in list(self._by_partner.values()):
            session.end(reason)
