"""Partners that are connected: one bounded queue each, and nothing that waits for a slow one."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from aimass.privacy.pki import Peer
from aimass.proto.errors import AimassError, LimitExceeded, Unavailable
from aimass.proto.logs import about
from aimass.server.live import Message

__all__ = ["Mailbox", "Session", "Sessions"]

log = logging.getLogger("aimass.server")
_QUEUE: Final = 256
_LAST_WORD_S: Final = 0.5


class Mailbox:
    """A queue with one reader that holds nothing while it is empty; asyncio's own takes 3 kB, and a thousand idle."""

    __slots__ = ("_messages", "_reader")

    def __init__(self) -> None:
        self._messages: deque[Message | None] | None = None
        self._reader: asyncio.Future[None] | None = None

    def put_nowait(self, message: Message | None) -> None:
        """Queue a message, or None for the end."""
        if self._messages is None:
            self._messages = deque()
        self._messages.append(message)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def get(self) -> Message | None:
        """The next message, once there is one."""
        while self._messages is None:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        message = self._messages.popleft()
        if not self._messages:
            self._messages = None
        return message

    def qsize(self) -> int:
        """How many wait."""
        return len(self._messages or ())

    def clear(self) -> None:
        """Drop what waits."""
        self._messages = None


@dataclasses.dataclass(eq=False, slots=True)
class Session:
    """One partner's open control stream. `ended` holds why it has to end, `cut` ends it by force.

    What a partner missed comes at once and does not count against the queue's bound: `caught_up` sets the bound.
    """

    peer: Peer
    since: float
    software: str
    roster_epoch: int
    queue: Mailbox = dataclasses.field(default_factory=Mailbox)
    ended: AimassError | None = None
    cut: Callable[[AimassError], None] | None = None
    timer: asyncio.TimerHandle | None = None
    catching_up: asyncio.Task[None] | None = None
    bound: int | None = None

    @property
    def full(self) -> bool:
        """Whether more is queued than a partner that reads would leave."""
        return self.bound is not None and self.queue.qsize() >= self.bound

    def caught_up(self) -> None:
        """From here on the queue is bounded."""
        self.bound = self.queue.qsize() + _QUEUE

    def hang_up(self) -> None:
        """The partner has closed its side."""
        if self.ended is None:
            self.queue.put_nowait(None)

    def end(self, reason: AimassError) -> None:
        """Close the stream with `reason`; what is still queued is dropped."""
        if self.ended is None:
            self.ended = reason
            if self.cut is not None:  # it may wait for a partner that never reads
                self.timer = asyncio.get_running_loop().call_later(_LAST_WORD_S, self.cut, reason)
        self.queue.clear()
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

    def send(self, partner: str, message: Message) -> None:
        """Queue a message; a partner that does not read is cut off and catches up when it connects again."""
        session = self._by_partner.get(partner)
        if session is None or session.ended is not None:
            return
        if session.full:
            about(log, partner=partner).warning("does not read its messages: cut off")
            session.end(LimitExceeded("too many unread messages", code="session.slow", limit=session.bound))
        else:
            session.queue.put_nowait(message)

    def connected(self) -> frozenset[str]:
        """Names of the partners that are here."""
        return frozenset(self._by_partner)

    def end_all(self, reason: AimassError) -> None:
        """End every stream."""
        for session in list(self._by_partner.values()):
            session.end(reason)
