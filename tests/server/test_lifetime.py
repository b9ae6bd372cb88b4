"""A service's life in order: ports before calls, ready before its callers are told, unready before anything ends."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from aimass.proto.errors import Unavailable
from aimass.server.lifetime import beside, lived
from aimass.server.lookout import Lookout
from aimass.server.readiness import Phase
from tests.support.clock import ManualClock


class Diary(list[str]):
    """What happened to a service; it is its health too."""

    def tell(self, *, serving: bool) -> None:
        self.append("ready" if serving else "unready")

    def end(self) -> None:
        self.append("health ends")


@dataclasses.dataclass
class Noted:
    """A port that writes down what is asked of it, and is taken already where a test says so."""

    number: int
    diary: Diary
    taken: bool = False
    broken: bool = False

    def listen(self) -> int:
        if self.taken:
            raise Unavailable("cannot listen", code="server.port", value=self.number)
        self.diary.append(f"{self.number} listens")
        return self.number

    async def start(self) -> None:
        if self.broken:
            raise Unavailable("cannot start", code="server.start", value=self.number)
        self.diary.append(f"{self.number} starts")

    async def stop(self) -> None:
        self.diary.append(f"{self.number} stops")


async def nothing_wrong() -> None:
    """A probe that finds what it looks for."""


def live(diary: Diary, *ports: Noted) -> Lookout:
    """A service that is told to stop as soon as it is ready; what others saw of it."""
    lookout = Lookout(diary, ManualClock(), nothing_wrong, lambda: float("inf"))

    async def scenario() -> None:
        stop = asyncio.Event()

        def ready(numbers: tuple[int, ...]) -> None:
            diary.append(f"told {numbers}")
            stop.set()

        await lived(ports, lookout, stop, ready, lambda: diary.append("lets go"))

    asyncio.run(asyncio.wait_for(scenario(), 20))
    return lookout


def test_all_ports_listen_before_one_takes_calls_and_nothing_ends_before_it_is_unready() -> None:
    diary = Diary()
    lookout = live(diary, Noted(1, diary), Noted(2, diary))
    assert diary == [
        *("1 listens", "2 listens", "1 starts", "2 starts", "ready", "told (1, 2)"),
        *("health ends", "lets go", "1 stops", "2 stops"),
    ]
    assert lookout.readiness.phase is Phase.STOPPING


@pytest.mark.parametrize(("taken", "broken"), [(True, False), (False, True)])
def test_a_port_that_cannot_be_had_ends_the_start_and_leaves_none_open(taken: bool, broken: bool) -> None:
    diary = Diary()
    with pytest.raises(Unavailable):
        live(diary, Noted(1, diary), Noted(2, diary, taken, broken))
    assert "ready" not in diary
    assert not [line for line in diary if line.startswith("told")]
    assert diary[-2:] == ["1 stops", "2 stops"]


def test_work_beside_a_block_ends_with_it() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def scenario() -> None:
        async with beside(work()):
            await asyncio.sleep(0)
        assert ended.is_set()

    asyncio.run(asyncio.wait_for(scenario(), 20))
