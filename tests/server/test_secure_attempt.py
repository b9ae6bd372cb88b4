"""An attempt while it lives: who waits when it is ended hears so, and reads on."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence

import pytest

from aimass.privacy.secagg import server as machine
from aimass.privacy.secagg.client_state import Kind
from aimass.privacy.secagg.faults import Code, FaultError
from aimass.privacy.secagg.messages import Abort
from aimass.privacy.secagg.server_state import Event, From, Outcome, ServerState
from aimass.server.secure_attempt import Attempt
from aimass.server.secure_log import AttemptKey
from tests.support.clock import ManualClock
from tests.support.secagg import Lab


def unbroken(attempt: Attempt, error: Exception) -> None:
    raise error


@pytest.mark.parametrize("who", ["the time", "a member"])
def test_an_attempt_whose_events_cannot_be_recorded_says_so_and_does_not_wait_for_ever(who: str) -> None:
    async def scenario() -> None:
        lab, clock, broken = Lab(3), ManualClock(), asyncio.Queue[Exception]()

        async def append(key: AttemptKey, first: int, events: Sequence[Event]) -> None:
            raise RuntimeError("UNIQUE constraint failed")

        outcome = machine.begin(lab.context, lab.keys, lab.server_identity)
        attempt = Attempt(
            AttemptKey("r", 0, 1), {member: f"p{member}" for member in range(3)}, outcome, 0, append,
            lambda *_: None, lambda *_: None, lambda _, error: broken.put_nowait(error), clock, 60.0,
        )  # fmt: skip
        attempt.start()
        if who == "the time":
            await asyncio.sleep(0)
            clock.advance(61)
        else:
            leaves = From(0, Kind.ABORT, Abort(lab.context.ctx, Code.STATE).data)
            with pytest.raises(RuntimeError):
                await attempt.feed(leaves)
        assert str(await broken.get()) == "UNIQUE constraint failed"
        attempt.stop()

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_what_the_machine_cannot_take_is_its_senders_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        lab, taken = Lab(3), machine.apply

        def apply(state: ServerState, event: Event) -> Outcome:
            if isinstance(event, From) and event.id == 0:
                raise struct.error("unpack requires a buffer of 4 bytes")
            return taken(state, event)

        async def append(key: AttemptKey, first: int, events: Sequence[Event]) -> None:
            pass

        monkeypatch.setattr(machine, "apply", apply)
        outcome = machine.begin(lab.context, lab.keys, lab.server_identity)
        names = {member: f"p{member}" for member in range(3)}
        attempt = Attempt(
            AttemptKey("r", 0, 1), names, outcome, 0, append, lambda *_: None, lambda *_: None, unbroken,
            ManualClock(), 60.0,
        )  # fmt: skip
        attempt.start()
        leaves = [From(member, Kind.ABORT, Abort(lab.context.ctx, Code.STATE).data) for member in (0, 1)]
        bad, good = await asyncio.gather(*(attempt.feed(event) for event in leaves), return_exceptions=True)
        assert isinstance(bad, struct.error)
        assert good is None
        attempt.stop()

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_a_message_that_the_end_of_its_attempt_overtakes_is_late_and_cancels_nobody() -> None:
    """A cancellation would end the task that reads its sender's stream: nothing more would be heard of that partner."""

    async def scenario() -> None:
        lab, appending, go = Lab(3), asyncio.Event(), asyncio.Event()

        async def append(key: AttemptKey, first: int, events: Sequence[Event]) -> None:
            appending.set()
            await go.wait()

        outcome = machine.begin(lab.context, lab.keys, lab.server_identity)
        names = {member: f"p{member}" for member in range(3)}
        attempt = Attempt(
            AttemptKey("r", 0, 1),
            names,
            outcome,
            0,
            append,
            lambda *_: None,
            lambda *_: None,
            unbroken,
            ManualClock(),
            60.0,
        )
        attempt.start()
        leaves = [From(member, Kind.ABORT, Abort(lab.context.ctx, Code.STATE).data) for member in (0, 1)]
        first = asyncio.create_task(attempt.feed(leaves[0]))
        await appending.wait()
        second = asyncio.create_task(attempt.feed(leaves[1]))  # waits for the first
        await asyncio.sleep(0)
        attempt.stop()
        for task in (first, second):
            with pytest.raises(FaultError) as caught:
                await task
            assert caught.value.fault.code is Code.LATE

    asyncio.run(asyncio.wait_for(scenario(), 10))
