"""What is done in the background: when it is due, by who leads, whatever fails meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from aimass.proto.errors import Stopped
from aimass.server.datasets.care import House
from aimass.server.datasets.caretaker import CareSettings, Caretaker
from aimass.server.datasets.desk import DataSetDesk
from aimass.server.datasets.leadership import Leader
from aimass.server.datasets.meters import DataSetMeters
from aimass.server.datasets.records import record_of
from tests.server.datasets.conftest import NOW
from tests.support.clock import ManualClock
from tests.support.edge_federation import run
from tests.support.stores import Unruly

SETTINGS = CareSettings(quick_every_s=100.0, deep_every_s=1_000.0, bytes_per_s=0, term_s=30.0)


class Care:
    """A caretaker on a clock that the test moves."""

    def __init__(self, house: House, name: str, settings: CareSettings = SETTINGS) -> None:
        self.clock, self.meters, self.looked = ManualClock(NOW), DataSetMeters(), asyncio.Event()
        desk = DataSetDesk(tuple(house.stores), house.stores.__getitem__, self.clock.now)
        leader = Leader(house.home, name, settings.term_s)
        self.caretaker = Caretaker(desk, leader, settings, self.clock, self.meters, self.looked.set)

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[Care]:
        task = asyncio.create_task(self.caretaker.run())
        try:
            yield self
        finally:
            self.caretaker.stop()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def look(self) -> None:
        """Until something was looked at."""
        await self.looked.wait()
        self.looked.clear()

    async def asleep(self, sleepers: int = 3) -> None:
        """Until all tasks wait for the time to come."""
        while self.clock.sleepers < sleepers:  # noqa: ASYNC110  (who sleeps says so to the clock alone)
            await asyncio.sleep(0.001)

    async def pass_by(self, seconds: float, sleepers: int = 3) -> None:
        for _ in range(int(seconds / 10)):
            self.clock.advance(10)
            await self.asleep(sleepers)


def depths(care: Care) -> dict[str, float]:
    return {depth: number for (depth,), number in care.meters.looks.read().items()}


def test_callers_that_wait_for_a_slow_store_take_no_thread_from_the_term(house: House) -> None:
    async def scenario() -> None:
        over = threading.Event()
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
        waiting = [asyncio.create_task(asyncio.to_thread(over.wait, 30)) for _ in range(4)]
        await asyncio.sleep(0)
        try:
            care = Care(house, "one")
            async with asyncio.timeout(10):
                await care.caretaker._try_to_lead()
            assert care.caretaker.leads
        finally:
            over.set()
            await asyncio.gather(*waiting)

    run(scenario())


def test_who_leads_looks_at_once_and_then_when_it_is_due(house: House) -> None:
    async def scenario() -> None:
        async with Care(house, "one").working() as care:
            await care.look()
            record = record_of(house.home, "t")
            assert record is not None
            assert record.report.whole
            await care.asleep()
            await care.pass_by(60)  # whichever looked first, the other one waited for it
            quick = depths(care).get("quick", 0)
            assert (depths(care)["deep"], quick) in {(1, 0), (1, 1)}
            await care.pass_by(160)
            assert depths(care) in ({"deep": 1, "quick": quick + 1}, {"deep": 1, "quick": quick + 2})
            await care.pass_by(1_000)
            assert depths(care)["deep"] == 2

    run(scenario())


def test_who_does_not_lead_looks_at_nothing(house: House) -> None:
    async def scenario() -> None:
        assert Leader(house.home, "another", 10_000.0).leads(NOW)
        async with Care(house, "one").working() as care:
            await care.asleep(1)
            await care.pass_by(200, sleepers=1)
            assert depths(care) == {}
            assert not care.caretaker.leads

    run(scenario())


def test_a_home_that_is_away_and_comes_back_ends_nothing(house: House) -> None:
    async def scenario() -> None:
        home = house.home
        assert isinstance(home, Unruly)
        async with Care(house, "one").working() as care:
            await care.look()
            await care.asleep()
            home.away = True
            await care.pass_by(200)
            assert (care.caretaker.leads, home.away) == (False, True)
            home.away = False
            await care.pass_by(200)
            record = record_of(house.home, "t")
            assert record is not None
            assert record.report.whole

    run(scenario())


def test_a_fault_of_ours_in_one_data_set_does_not_end_the_work(house: House) -> None:
    async def scenario() -> None:
        home = house.home
        assert isinstance(home, Unruly)

        def broken(verb: str, key: str) -> None:
            if key.startswith("_service/reports"):
                raise ZeroDivisionError

        async with Care(house, "one").working() as care:
            home.before = broken
            await care.pass_by(100)
            assert care.meters.failed.read()
            home.before = lambda verb, key: None
            await care.pass_by(200)
            assert record_of(house.home, "t") is not None

    run(scenario())


def test_a_look_that_is_at_work_ends_when_the_service_stops(house: House) -> None:
    async def scenario() -> None:
        care, home = Care(house, "one"), house.home
        assert isinstance(home, Unruly)

        def stopping(verb: str, key: str) -> None:
            if verb == "stream":
                care.caretaker.stop()

        home.before = stopping
        with pytest.raises(Stopped):
            await care.caretaker.mend("t", deep=True)
        assert home.asked["stream"] == 1

    run(scenario())
