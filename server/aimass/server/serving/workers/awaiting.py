"""How a worker awaits its next batch: awake for a moment while requests follow one another, else asleep.

Who sleeps has to be woken, which takes a processor longer than a small model takes to answer. So a worker that was
asked something looks for more before it sleeps. Where nothing comes, it looks ever less often: what it spends without
use is bounded by what requests cost anyway.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Final, Protocol

__all__ = ["AWAKE_S", "Awaiting"]

AWAKE_S: Final = 0.0006
"""How long it looks. A client on the same machine has read an answer and asked again by then."""
_MOST_SKIPPED: Final = 64
"""So many batches at most it goes to sleep after at once, when looking was in vain time after time."""


class Link(Protocol):
    """The part of a socket that is needed."""

    def recv(self, size: int, flags: int, /) -> bytes:
        """As a socket's."""
        ...


class Awaiting:
    """The next `size` bytes of a link, whose sender writes them in one piece."""

    def __init__(self, link: Link, size: int, now: Callable[[], float] = time.perf_counter) -> None:
        self._link, self._size, self._now = link, size, now
        self._skip, self._in_vain = 0, 1

    def __call__(self) -> bytes:
        """Fewer than `size` where the link was closed."""
        return self._look() or self._link.recv(self._size, socket.MSG_WAITALL)

    def _look(self) -> bytes:
        """What comes while it stays awake; nothing where it may sleep."""
        if self._skip:
            self._skip -= 1
            return b""
        until = self._now() + AWAKE_S
        while self._now() < until:
            try:
                found = self._link.recv(self._size, socket.MSG_DONTWAIT | socket.MSG_PEEK)
            except BlockingIOError:
                continue
            self._in_vain = 1
            return self._link.recv(self._size, socket.MSG_WAITALL) if found else b""
        self._skip = self._in_vain = min(2 * self._in_vain, _MOST_SKIPPED)
        return b""
