"""Readiness: each reason by its name, one probe for all who ask, and an answer although the disk gives none."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Coroutine
from pathlib import Path

import pytest

from aimass.proto.errors import OutOfSpace, Unavailable
from aimass.server import readiness as module
from aimass.server.readiness import Facts, Phase, Readiness, reasons
from aimass.server.store import Store
from tests.support.clock import ManualClock

GOOD = Facts(Phase.SERVING, free_bytes=100, floor_bytes=100, store="", certificate_ends_at=11.0, now=10.0)


def run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 20))


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        ({}, []),
        ({"phase": Phase.STARTING}, ["server.starting"]),
        ({"phase": Phase.STOPPING}, ["server.stopping"]),
        ({"free_bytes": 99}, ["server.low_space"]),
        ({"store": "store.busy"}, ["store.busy"]),
        ({"now": 11.0}, ["trust.expired"]),
        ({"free_bytes": 0, "store": "store.full"}, ["server.low_space", "store.full"]),
    ],
)
def test_every_reason_has_its_name(change: dict[str, object], codes: list[str]) -> None:
    facts = dataclasses.replace(GOOD, **change)  # type: ignore[arg-type]
    assert [reason.code for reason in reasons(facts)] == codes


class Machine:
    """A disk and a store that are what a test says."""

    def __init__(self) -> None:
        self.free = 10
        self.error: Exception | None = None
        self.probes = 0
        self.held: asyncio.Event | None = None
        self.told: list[bool] = []
        self.clock = ManualClock()

    async def probe(self) -> None:
        self.probes += 1
        if self.held is not None:
            await self.held.wait()
        if self.error is not None:
            raise self.error

    def readiness(self) -> Readiness:
        made = Readiness(lambda: self.free, 10, self.probe, lambda: 2e9, self.clock, self.told.append)
        made.phase = Phase.SERVING
        return made


async def codes(readiness: Readiness) -> list[str]:
    return [reason.code for reason in await readiness.current()]


def test_it_turns_when_the_disk_reaches_the_floor_and_back_when_there_is_room() -> None:
    async def scenario() -> None:
        machine = Machine()
        readiness = machine.readiness()
        assert await codes(readiness) == []
        machine.free = 9
        assert await codes(readiness) == ["server.low_space"]
        machine.free = 10
        machine.error = OutOfSpace("full", code="store.full")
        assert await codes(readiness) == ["store.full"]
        machine.error = None
        assert await codes(readiness) == []
        assert machine.told == [True, False, False, True]

    run(scenario())


def test_a_store_that_does_not_answer_is_a_reason_and_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.05)

    async def scenario() -> None:
        machine = Machine()
        machine.held = asyncio.Event()
        readiness = machine.readiness()
        assert await asyncio.gather(*(codes(readiness) for _ in range(20))) == [["store.slow"]] * 20
        assert machine.probes == 1
        machine.held.set()
        assert await codes(readiness) == []

    run(scenario())


def test_whoever_asks_while_a_probe_ends_has_an_answer_of_that_probe_or_the_next() -> None:
    async def scenario() -> None:
        readiness = Machine().readiness()

        async def asking(offset: int) -> None:
            for _ in range(20):
                for _ in range(offset):
                    await asyncio.sleep(0)
                assert await codes(readiness) == []

        await asyncio.gather(*(asking(offset) for offset in range(8)))

    run(scenario())


def test_it_is_looked_at_every_few_seconds_though_nobody_asks() -> None:
    async def scenario() -> None:
        machine, told = Machine(), asyncio.Queue[bool]()
        readiness = Readiness(lambda: machine.free, 10, machine.probe, lambda: 2e9, machine.clock, told.put_nowait)
        readiness.phase = Phase.SERVING
        async with readiness.kept():
            assert await told.get()
            machine.free = 0
            await asyncio.sleep(0)
            machine.clock.advance(5.0)
            assert not await told.get()

    run(scenario())


@pytest.mark.parametrize("what", ["the store", "the disk"])
def test_who_cannot_look_says_that_it_is_not_ready_and_goes_on_looking(what: str) -> None:
    """Otherwise the task that looks is dead without a word, and the server says for ever what it saw last."""

    async def scenario() -> None:
        machine, told = Machine(), asyncio.Queue[bool]()
        gone = False

        def free() -> int:
            if gone and what == "the disk":
                raise OSError("the mount is gone")
            return machine.free

        async def probe() -> None:
            if gone and what == "the store":
                raise ValueError("database disk image is malformed")

        readiness = Readiness(free, 10, probe, lambda: 2e9, machine.clock, told.put_nowait)
        readiness.phase = Phase.SERVING
        async with asyncio.timeout(5), readiness.kept():
            for seen in (True, False, False, True):
                assert await told.get() is seen
                gone = len(machine.told) < 2
                machine.told.append(seen)
                await asyncio.sleep(0)
                machine.clock.advance(5.0)

    run(scenario())


def test_the_probe_of_the_store_tells_a_locked_one_from_a_free_one_and_changes_nothing(tmp_path: Path) -> None:
    import sqlite3

    store = Store.open(tmp_path / "runs.sqlite")
    try:
        store.probe()
        with sqlite3.connect(tmp_path / "runs.sqlite", isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            with store.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA busy_timeout=1")
            with pytest.raises(Unavailable) as caught:
                store.probe()
            assert caught.value.code == "store.busy"
            other.execute("ROLLBACK")
        other.close()
        store.probe()
        assert store.runs() == []
    finally:
        store.close()
