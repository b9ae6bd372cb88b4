"""Room for bytes that are on their way, of all streams of a process together: fifty uploads take no more than a few.

A stream asks for a place before it reads its next chunk, and gives it back when the chunk is written; who has waited
longest is next, so all get on alike. A place for which nothing comes is lent on, so that slow links hold nobody up:
what they have sent of a chunk until then is the one thing that is not counted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

__all__ = ["PATIENCE_S", "Place", "Room"]

PATIENCE_S: Final = 0.1
"""A place is kept for so long for a chunk that is still coming: of sixteen, 160 go on to the next each second."""


class Room:
    """So many places. For one event loop."""

    def __init__(self, places: int, patience_s: float = PATIENCE_S) -> None:
        self.free = places
        """Places that nobody has; below zero where chunks came for which nobody waited any more."""
        self._patience_s = patience_s
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def place(self) -> Place:
        """A place, in the order of asking; it is the caller's to give back, whatever happens."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._hand_out()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # its turn came in the moment in which it was cancelled
                self.change(1)
            raise
        return Place(self, self._patience_s)

    def change(self, places: int) -> None:
        """So many places are free again, or, below zero, are taken by what has come without one."""
        self.free += places
        self._hand_out()

    def _hand_out(self) -> None:
        while self.free > 0 and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                self.free -= 1
                turn.set_result(None)


class Place:
    """Room for one chunk, from before it is read until it is written."""

    def __init__(self, room: Room, patience_s: float) -> None:
        self._room, self._held, self._over = room, True, False
        self._patience = asyncio.get_running_loop().call_later(patience_s, self._let_go)

    def _let_go(self) -> None:
        if self._held:
            self._held = False
            self._room.change(1)

    def filled(self) -> None:
        """The chunk is here: it counts until the place is given back, also where the place was lent on meanwhile."""
        self._patience.cancel()
        if not (self._held or self._over):
            self._held = True
            self._room.change(-1)

    def give_back(self) -> None:
        """The next in line has it; a second time does nothing."""
        self._patience.cancel()
        self._over = True
        self._let_go()
