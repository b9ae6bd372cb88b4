"""Rates, on a clock that the test moves."""

from __future__ import annotations

import asyncio

import pytest

from aimass.proto.errors import BadInput
from aimass.proto.pace import SLOWEST, Pace, check_rate
from tests.support.clock import ManualClock


async def _done(task: asyncio.Task[None]) -> bool:
    for _ in range(5):
        await asyncio.sleep(0)
    return task.done()


def test_a_second_is_saved_up_and_what_goes_beyond_it_waits_for_its_time() -> None:
    async def run() -> None:
        clock = ManualClock()
        pace = Pace(1000, clock)
        clock.advance(60)
        await pace.spend(1000)
        late = asyncio.create_task(pace.spend(500))
        later = asyncio.create_task(pace.spend(1000))  # of another stream: the rate is of both together
        assert not await _done(late)
        clock.advance(0.5)
        assert await _done(late)
        assert not await _done(later)
        clock.advance(1.0)
        assert await _done(later)

    asyncio.run(run())


def test_no_rate_is_no_limit() -> None:
    async def run() -> None:
        pace = Pace(0, ManualClock())
        for _ in range(10):
            await pace.spend(1 << 40)

    asyncio.run(run())


def test_a_clock_that_is_set_back_holds_nobody_up_longer_than_its_own_bytes() -> None:
    async def run() -> None:
        clock = ManualClock()
        pace = Pace(1000, clock)
        clock._now -= 3600  # the machine's time is corrected
        await pace.spend(1000)
        waiting = asyncio.create_task(pace.spend(1000))
        assert not await _done(waiting)
        clock.advance(1.0)
        assert await _done(waiting)

    asyncio.run(run())


def test_a_rate_that_no_transfer_gets_on_with_is_refused() -> None:
    for rate in (0, SLOWEST, 10**9):
        check_rate(rate, "limits.up_bytes_per_s")
    with pytest.raises(BadInput) as caught:
        check_rate(SLOWEST - 1, "limits.up_bytes_per_s")
    assert caught.value.code == "settings.rate"
