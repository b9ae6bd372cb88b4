"""One attempt at a secure sum while it lives: events in, each durable before what follows from it is said.

What waits together is taken together: a flush to the disk costs the same for one message as for a hundred.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aimass.privacy.secagg import server as machine
from aimass.privacy.secagg.client_state import Kind
from aimass.privacy.secagg.faults import Code, Fault, FaultError, fail
from aimass.privacy.secagg.messages import Abort
from aimass.privacy.secagg.server_state import (
    Action,
    Deliver,
    Ended,
    Event,
    Finish,
    From,
    Outcome,
    Phase,
    ServerState,
    TimeUp,
)
from aimass.proto.clock import Clock
from aimass.proto.logs import about
from aimass.server.secure_log import AttemptKey

__all__ = ["Attempt", "replayed"]

log = logging.getLogger("aimass.server")
_OVER: Final = (Phase.DONE, Phase.ABORTED)
Append = Callable[[AttemptKey, int, Sequence[Event]], Awaitable[None]]


@dataclasses.dataclass(frozen=True, slots=True)
class _Waiting:
    event: Event
    outcome: asyncio.Future[None]


@dataclasses.dataclass(frozen=True, slots=True)
class _Taken:
    """What a batch comes to: the state after it, the events that count, what follows, and who was refused why."""

    state: ServerState
    accepted: list[Event]
    actions: list[Action]
    refused: list[Exception | None]


def replayed(begun: Outcome, events: Sequence[Event]) -> Outcome:
    """The state after recorded events, and the end that they came to, if they did."""
    state, actions = begun
    for event in events:
        state, actions = machine.apply(state, event)
    return state, tuple(action for action in actions if isinstance(action, Finish | Ended))


def _take(state: ServerState, events: Sequence[Event]) -> _Taken:
    """Apply in order; one that is refused changes nothing and hinders none of the others."""
    taken = _Taken(state, [], [], [])
    for event in events:
        try:
            after, actions = machine.apply(state, event)
        except Exception as error:  # noqa: BLE001  (a fault that is named, or one of the machine itself: it is this sender's)
            taken.refused.append(error)
            continue
        taken.refused.append(None)
        if after is not state or actions:
            state = after
            taken.accepted.append(event)
            taken.actions.extend(actions)
    return dataclasses.replace(taken, state=state)


def _over_for(waiting: Sequence[_Waiting]) -> None:
    """Told, not cancelled: a cancellation would end whatever waits, and with it the reading of a partner's stream."""
    for one in waiting:
        if not one.outcome.done():
            one.outcome.set_exception(fail(Code.LATE, "this attempt is over"))


class Attempt:
    """`say` sends a message to a member by name; `over` hears once how it ended, `broke` why it cannot go on here."""

    def __init__(
        self,
        key: AttemptKey,
        names: dict[int, str],
        outcome: Outcome,
        recorded: int,
        append: Append,
        say: Callable[[str, Kind, bytes], None],
        over: Callable[[Attempt, Finish | Ended], None],
        broke: Callable[[Attempt, Exception], None],
        clock: Clock,
        phase_s: float,
    ) -> None:
        self.key, self.names = key, names
        self.ids = {name: member for member, name in names.items()}
        self.state, self._begun = outcome
        self.reasons: dict[str, str] = {}
        """Why members gave up, as they said it."""
        self._recorded, self._append, self._say, self._over = recorded, append, say, over
        self._broke = broke
        self._clock, self._phase_s = clock, phase_s
        self._waiting: list[_Waiting] = []
        self._working: asyncio.Task[None] | None = None
        self._timer: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Say what the beginning says, or, of a recorded attempt, perform the end that it had come to."""
        actions, self._begun = self._begun, ()
        self._perform(actions)
        self._watch()

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state.phase in _OVER

    async def feed(self, event: Event) -> None:
        """Take an event to its end: durable, and what follows from it is said. Raises `FaultError` where refused."""
        waiting = _Waiting(event, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        await waiting.outcome

    async def _work(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                taken = await asyncio.to_thread(_take, self.state, [one.event for one in batch])
                if taken.accepted:
                    await self._append(self.key, self._recorded, taken.accepted)
            except asyncio.CancelledError:
                _over_for(batch)
                raise
            except Exception as error:  # noqa: BLE001  (it is each sender's to hear)
                for one in batch:
                    if not one.outcome.done():
                        one.outcome.set_exception(error)
                self._broke(self, error)
                continue
            before, aside, self.state = self.state.phase, len(self.state.set_aside), taken.state
            self._recorded += len(taken.accepted)
            try:
                self._tell_of(self.state.set_aside[aside:])
                self._perform(taken.actions)
            except Exception as error:  # noqa: BLE001  (what was taken is durable; what follows from it was not said)
                self._broke(self, error)
            if self.state.phase is not before:
                self._watch()
            for one, refused in zip(batch, taken.refused, strict=True):
                if one.outcome.done():
                    continue
                if refused is None:
                    one.outcome.set_result(None)
                else:
                    one.outcome.set_exception(refused)

    def _tell_of(self, faults: Sequence[Fault]) -> None:
        """Shares that were set aside: the sum may come all the same, and both who may have lied are named."""
        for fault in faults:
            dealer, holder = (self.names.get(member, str(member)) for member in fault.blamed)
            about(log, self.key.run_id, self.key.step, code=fault.error().code).warning(
                "attempt %d: %s; dealt by %s, given by %s", self.key.number, fault.what, dealer, holder
            )

    def _perform(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Deliver():
                    self._say(self.names[action.id], action.kind, action.data)
                case Finish() | Ended():
                    self._over(self, action)
                case _:
                    pass  # a frozen set of survivors is durable with the event that froze it

    def _watch(self) -> None:
        """A deadline for the phase that it is in now."""
        if self._timer is not None and self._timer is not asyncio.current_task():
            self._timer.cancel()
        self._timer = None if self.over else asyncio.create_task(self._time_up(self.state.phase))

    async def _time_up(self, phase: Phase) -> None:
        await self._clock.sleep(self._phase_s)
        if self.state.phase is not phase:
            return
        try:
            await self.feed(TimeUp())
        except FaultError:
            pass  # it ended meanwhile
        except Exception as error:  # noqa: BLE001  (nobody waits for this: unheard, the attempt would never end)
            self._broke(self, error)

    def tell_again(self, name: str) -> None:
        """To a member that comes back: what it was told last."""
        for kind, data in self.state.last.get(self.ids[name], ()) if name in self.ids else ():
            self._say(name, kind, data)

    async def gave_up(self, name: str) -> None:
        """Nobody waits for a member any more that cannot go on: as if it had said so itself."""
        about = self.state.attempt.sid if self.state.attempt is not None else self.state.context.ctx
        await self.feed(From(self.ids[name], Kind.ABORT, Abort(about, Code.STATE).data))

    @property
    def burnt(self) -> bool:
        """Whether a member may have signed, or given shares: the survivors were named."""
        return bool(self.state.survivors)

    def stop(self) -> None:
        """Take no more; what is recorded stays. Who waits hears that it is over."""
        for task in (self._timer, self._working):
            if task is not None and task is not asyncio.current_task():
                task.cancel()
        _over_for(self._waiting)
