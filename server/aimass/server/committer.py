"""The queue before a run's commits: what comes while one is on its way to the disk is the next one, all of it.

Nobody has an answer before what was asked is stored. The engine hands in how a group is stored and spoken of.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from aimass.proto.clock import Clock
from aimass.proto.errors import AimassError
from aimass.server.live import Live, Waiting
from aimass.server.runs import Run
from aimass.server.turns import Advance, Group, Turn, together

__all__ = ["Committer"]

OfGroup = Callable[[Live, Group], Awaitable[None]]


@dataclasses.dataclass(frozen=True, slots=True)
class Committer:
    """`advance` is the machine, `save` stores a group, `saved` makes it the run's state and speaks."""

    advance: Advance
    save: OfGroup
    saved: OfGroup
    clock: Clock
    spawn: Callable[[Coroutine[Any, Any, None]], object]

    async def in_turn(self, live: Live, turn: Turn) -> Run:
        """The run as it is after `turn`, once that is stored and was spoken of. Raises the error that is its own.

        Who stops waiting for a turn does not stop it.
        """
        waiting = Waiting(turn, asyncio.get_running_loop().create_future())
        live.waiting.append(waiting)
        if not live.committing:
            live.committing = True
            self.spawn(self._commit_waiting(live))
        return await waiting.outcome

    async def _commit_waiting(self, live: Live) -> None:
        """Commit what waits, and what comes meanwhile, until nothing waits any more."""
        group: list[Waiting] = []
        try:
            while live.waiting:
                async with live.lock:
                    group, live.waiting = live.waiting, []
                    try:
                        await self._commit(live, group)
                    except Exception as error:  # noqa: BLE001  (it goes to whoever asked)
                        for one in group:
                            _tell(one.outcome, error)
        finally:
            live.committing = False
            for one in (*group, *live.waiting):  # those whom the stop of the engine has cut
                one.outcome.cancel()

    async def _commit(self, live: Live, group: Sequence[Waiting]) -> None:
        """Apply, store, speak, and give each its outcome; an event that cannot be stored fails alone."""
        try:
            done = together(live.row, live.chain, [one.turn for one in group], self.advance, self.clock.now())
            if done.changed:
                await self.save(live, done)
        except Exception as error:  # noqa: BLE001  (it goes to whoever asked)
            if len(group) > 1:
                for one in group:
                    await self._commit(live, [one])
            else:
                _tell(group[0].outcome, error)
            return
        if done.changed:
            await self.saved(live, done)
        for one, outcome in zip(group, done.outcomes, strict=True):
            _tell(one.outcome, outcome)


def _tell(waiting: asyncio.Future[Run], outcome: Run | AimassError | Exception) -> None:
    if waiting.done():
        return
    if isinstance(outcome, Exception):
        waiting.set_exception(outcome)
    else:
        waiting.set_result(outcome)
