"""The tests' own link that fails: what it decides, and what becomes of bytes and sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.clock import Clock
from tests.support.clock import ManualClock
from tests.support.fault_proxy import Fault, FaultProxy, Faults, Flow, Kind, Way, proxied

BYTES = bytes(range(256)) * 1_000


class Target:
    """A server that keeps what each connection sends, and answers each with `answer`."""

    def __init__(self, answer: bytes = b"") -> None:
        self.got: list[bytes] = []
        self.ended: list[asyncio.Event] = []
        self._answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        place = len(self.got)
        self.got.append(b"")
        self.ended.append(asyncio.Event())
        writer.write(self._answer)
        with contextlib.suppress(OSError):
            while block := await reader.read(65_536):
                self.got[place] += block
        self.ended[place].set()
        writer.close()


@contextlib.asynccontextmanager
async def behind(target: Target, faults: Faults, clock: Clock | None = None) -> AsyncIterator[FaultProxy]:
    async with await asyncio.start_server(target.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with FaultProxy(port, faults, clock) as proxy:
            yield proxy


def run(scenario: Callable[[], Coroutine[object, object, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))


async def read_all(reader: asyncio.StreamReader) -> bytes:
    got = b""
    with contextlib.suppress(OSError):
        while block := await reader.read(65_536):
            got += block
    return got


@given(st.integers(0, 2**32), st.integers(0, 1000))
def test_a_fate_follows_from_seed_and_number_alone(seed: int, number: int) -> None:
    faults = Faults(seed, tuple(Kind), (10, 20), most=500)
    fate = faults.fate(number)
    assert fate == faults.fate(number)
    assert (fate.fault is None) == (number >= 500)
    assert fate.fault is None or 10 <= fate.fault.at_byte < 20


@given(st.lists(st.integers(1, 100), max_size=20), st.integers(0, 500), st.sampled_from(Way))
def test_exactly_the_bytes_before_a_fault_pass_however_they_come(blocks: list[int], at: int, way: Way) -> None:
    flow = Flow(Way.UP, Fault(Kind.CUT, way, at))
    passed = sum(flow.passes(count) for count in blocks)
    assert passed == (min(sum(blocks), at) if way is Way.UP else sum(blocks))
    assert flow.struck == (way is Way.UP and sum(blocks) > at)


def test_without_faults_all_bytes_pass_both_ways() -> None:
    async def scenario() -> None:
        target = Target(BYTES)
        async with behind(target, Faults()) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(BYTES)
            assert await reader.readexactly(len(BYTES)) == BYTES
            writer.close()
            await target.ended[0].wait()
            assert target.got == [BYTES]

    run(scenario)


@pytest.mark.parametrize("reset", [False, True])
def test_a_cut_ends_both_sides_at_its_byte(reset: bool) -> None:
    async def scenario() -> None:
        target = Target()
        async with behind(target, Faults(given={0: Fault(Kind.CUT, Way.UP, 1234, reset)})) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(BYTES)
            await read_all(reader)
            await target.ended[0].wait()
            assert len(target.got[0]) == 1234 or (reset and len(target.got[0]) < 1234)
            writer.close()

    run(scenario)


@pytest.mark.parametrize("way", list(Way))
def test_a_half_open_link_swallows_one_direction_and_keeps_its_sockets(way: Way) -> None:
    async def scenario() -> None:
        target = Target(b"hello")
        async with behind(target, Faults(given={0: Fault(Kind.HALF_OPEN, way, 3)})) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(BYTES)
            await writer.drain()
            got = await reader.readexactly(3 if way is Way.DOWN else 5)
            await proxy.said(f"half-open {way} at byte 3")
            assert got == b"hello"[: len(got)]
            assert proxy.open == 1
            assert not target.ended[0].is_set()
            writer.close()
            if way is Way.DOWN:
                await target.ended[0].wait()
                assert target.got[0] == BYTES

    run(scenario)


def test_a_newer_connection_overtakes_an_older_one() -> None:
    async def scenario() -> None:
        target = Target()
        async with behind(target, Faults(given={0: Fault(Kind.OVERTAKEN, Way.UP, 3)})) as proxy:
            reader, old = await asyncio.open_connection("127.0.0.1", proxy.port)
            old.write(b"old and late")
            await read_all(reader)
            _, new = await asyncio.open_connection("127.0.0.1", proxy.port)
            assert target.got[0] == b"old"
            assert not target.ended[0].is_set()
            new.write(b"new")
            await target.ended[0].wait()
            assert target.got == [b"old and late", b"new"]
            new.close()
            old.close()

    run(scenario)


def test_a_refused_connection_never_reaches_the_server() -> None:
    async def scenario() -> None:
        target = Target(b"hello")
        async with behind(target, Faults(refused=frozenset({0}))) as proxy:
            first, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            assert await read_all(first) == b""
            second, other = await asyncio.open_connection("127.0.0.1", proxy.port)
            assert await second.readexactly(5) == b"hello"
            assert len(target.got) == 1
            writer.close()
            other.close()

    run(scenario)


class Recording:
    """Nobody waits; how long they wanted to is kept."""

    def __init__(self) -> None:
        self.wanted: list[float] = []

    def now(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.wanted.append(seconds)


def test_slow_bytes_wait_as_long_as_the_rate_says() -> None:
    async def scenario() -> None:
        clock, target = Recording(), Target(b"hello")
        async with behind(target, Faults(bytes_per_s=2.0), clock) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            assert await reader.readexactly(5) == b"hello"
            assert clock.wanted == [2.5]
            writer.close()

    run(scenario)


def test_a_connection_ends_with_its_time() -> None:
    async def scenario() -> None:
        clock, target = ManualClock(), Target(b"hello")
        async with behind(target, Faults(life_s=1.0), clock) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            assert await reader.readexactly(5) == b"hello"
            clock.advance(1.0)
            assert await read_all(reader) == b""
            await target.ended[0].wait()
            writer.close()

    run(scenario)


def test_a_proxy_in_a_thread_ends_with_its_block() -> None:
    async def scenario() -> None:
        target = Target(b"hello")
        async with await asyncio.start_server(target.serve, "127.0.0.1", 0) as server:
            with proxied(server.sockets[0].getsockname()[1]) as proxy:
                reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
                assert await reader.readexactly(5) == b"hello"
                writer.close()
            with pytest.raises(OSError, match="Connect call failed"):
                await asyncio.open_connection("127.0.0.1", proxy.port)

    run(scenario)


@pytest.mark.parametrize("turns", range(5))
def test_a_connection_that_comes_while_the_proxy_ends_is_closed_at_whatever_turn_of_the_loop(turns: int) -> None:
    async def scenario() -> None:
        async with behind(Target(), Faults()) as proxy:
            late = socket.create_connection(("127.0.0.1", proxy.port))
            for _ in range(turns):
                await asyncio.sleep(0)
        for _ in range(10):  # what was closed is let go in the next turns
            await asyncio.sleep(0)
        with late, contextlib.suppress(ConnectionResetError):
            late.settimeout(1)
            assert late.recv(1) == b""

    run(scenario)
