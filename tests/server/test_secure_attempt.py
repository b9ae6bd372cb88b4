"""An attempt while it lives: who waits when it is ended hears so, and reads on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from aimass.privacy.secagg import server as machine
from aimass.privacy.secagg.client_state import Kind
from aimass.privacy.secagg.faults import Code, FaultError
from aimass.privacy.secagg.messages import Abort
from aimass.privacy.secagg.server_state import Event, From
from aimass.server.secure_attempt import Attempt
from aimass.server.secure_log import AttemptKey
from tests.support.clock import ManualClock
from tests.support.secagg import Lab


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
            AttemptKey("r", 0, 1), names, outcome, 0, append, lambda *_: None, lambda *_: None, ManualClock(), 60.0
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
