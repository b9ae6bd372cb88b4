"""Places for chunks: never more than there are, in the order of asking, none lost, and none kept by who is slow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.room import Place, Room

NEVER_S = 3_600.0


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class _Streams:
    """What streams may do with a room, in any order."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.asking: list[asyncio.Task[Place]] = []
        self.reading: list[Place] = []
        self.writing: list[Place] = []

    async def ask(self, _: int) -> None:
        self.asking.append(asyncio.create_task(self.room.place()))
        await _turns()

    async def cut(self, which: int) -> None:
        if self.asking:
            self.asking.pop(which % len(self.asking)).cancel()

    async def lend(self, which: int) -> None:
        if self.reading:
            self.reading[which % len(self.reading)]._let_go()

    async def fill(self, which: int) -> None:
        if self.reading:
            place = self.reading.pop(which % len(self.reading))
            place.filled()
            self.writing.append(place)

    async def write(self, which: int) -> None:
        if self.writing:
            place = self.writing.pop(which % len(self.writing))
            place.give_back()
            place.give_back()

    async def break_off(self, which: int) -> None:
        if self.reading:
            self.reading.pop(which % len(self.reading)).give_back()

    def settle(self) -> None:
        """Whose turn has come reads; those ahead in line come first."""
        came = [task.done() for task in self.asking]
        assert came == sorted(came, reverse=True)
        self.reading += [task.result() for task in self.asking if task.done()]
        self.asking = [task for task in self.asking if not task.done()]


MOVES: list[Callable[[_Streams, int], object]] = [
    _Streams.ask, _Streams.cut, _Streams.lend, _Streams.fill, _Streams.write, _Streams.break_off,
]  # fmt: skip


@given(st.integers(1, 4), st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 9)), max_size=60))
def test_in_any_order_of_events_no_place_is_lost_or_made(
    places: int, moves: list[tuple[Callable[..., asyncio.Future[None]], int]]
) -> None:
    async def run() -> None:
        room = Room(places, NEVER_S)
        streams = _Streams(room)
        for move, which in moves:
            await move(streams, which)
            await _turns()
            streams.settle()
            held = [place for place in (*streams.reading, *streams.writing) if place._held]
            assert room.free + len(held) == places
            assert not (room.free > 0 and streams.asking)
            assert len([place for place in streams.reading if place._held]) <= places
        for task in streams.asking:
            task.cancel()
        for place in (*streams.reading, *streams.writing):
            place.give_back()
        await _turns()
        assert room.free == places

    asyncio.run(run())


def test_who_is_cut_in_the_moment_of_its_turn_leaves_it_to_the_next() -> None:
    async def run() -> None:
        room = Room(1, NEVER_S)
        first = await room.place()
        second, third = asyncio.create_task(room.place()), asyncio.create_task(room.place())
        await _turns()
        first.give_back()
        second.cancel()
        (await asyncio.wait_for(third, 10)).give_back()
        assert second.cancelled()
        assert room.free == 1

    asyncio.run(run())


def test_slow_links_hold_nobody_up_and_what_comes_late_is_counted() -> None:
    async def run() -> None:
        room = Room(2, 0.0)
        slow = [await room.place() for _ in range(20)]
        await _turns()
        assert room.free == 2
        for place in slow[:3]:
            place.filled()
        assert room.free == -1
        waiting = asyncio.create_task(room.place())
        await _turns()
        assert not waiting.done()
        for place in slow:
            place.give_back()
        (await waiting).give_back()
        assert room.free == 2

    asyncio.run(run())
