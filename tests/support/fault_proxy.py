"""A link that fails, on the loopback: it stands between partners and server, and TLS passes through it unread.

What happens to a connection is decided before it begins, from a seed and its number, so a run of faults can be played
again. `Faults` and `Flow` are that decision, and pure; `FaultProxy` moves the bytes, and `proxied` runs it in a thread
beside tests whose processes are real. Partners are pointed at the proxy's port; the server's certificate names the
host, and the host is the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import random
import socket
import struct
import threading
from collections.abc import Iterator, Mapping

from scripts.benches.door import Door

from aimass.proto.clock import Clock, SystemClock

_BLOCK_BYTES = 1 << 16
_HELD_BYTES = 1 << 20


class Way(enum.StrEnum):
    """A direction: up goes to the server."""

    UP = "up"
    DOWN = "down"

    @property
    def other(self) -> Way:
        """The way back."""
        return Way.DOWN if self is Way.UP else Way.UP


class Kind(enum.StrEnum):
    """What can become of a connection.

    CUT: both sides are closed. HALF_OPEN: from there on one direction swallows its bytes while the sockets stay open.
    OVERTAKEN: the partner's side is closed, the server's stays; what was on its way up arrives only after a newer
    connection has moved some bytes. Only what goes up can be overtaken.
    """

    CUT = "cut"
    HALF_OPEN = "half-open"
    OVERTAKEN = "overtaken"


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """A fault, and the byte of one direction before which it strikes. `reset` closes with a RST, where it closes."""

    kind: Kind
    way: Way
    at_byte: int
    reset: bool = False

    def strikes(self, way: Way) -> bool:
        """Whether it is this direction whose bytes are counted."""
        return way is (Way.UP if self.kind is Kind.OVERTAKEN else self.way)


@dataclasses.dataclass(frozen=True, slots=True)
class Fate:
    """All that happens to one connection: refused at once, or slow, or ended by time or by a fault."""

    refused: bool = False
    fault: Fault | None = None
    delay_s: float = 0.0
    bytes_per_s: float = 0.0
    life_s: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Faults:
    """The setting of a proxy. Without arguments nothing fails.

    `kinds`: drawn for each connection, at a byte from `at_bytes` of a direction from `ways`. `given` says it for the
    connections of some numbers instead, the first being 0; what is None there passes. `refused` are numbers of
    connections that are refused. `delay_s` is how long each block of 64 KiB or less waits, at most; `bytes_per_s` is
    the rate of a direction, and `life_s` how long a connection lives (1.0: a link that flaps each second); 0 is no
    limit. `most` is the number of connections after which nothing fails any more; 0 is for ever.
    """

    seed: int = 0
    kinds: tuple[Kind, ...] = ()
    at_bytes: tuple[int, int] = (0, 1 << 22)
    ways: tuple[Way, ...] = (Way.UP, Way.DOWN)
    given: Mapping[int, Fault | None] = dataclasses.field(default_factory=dict)
    refused: frozenset[int] = frozenset()
    delay_s: float = 0.0
    bytes_per_s: float = 0.0
    life_s: float = 0.0
    most: int = 0

    def fate(self, number: int) -> Fate:
        """What becomes of the connection of this number."""
        if self.most and number >= self.most:
            return Fate()
        # Each connection has randomness of its own: another that comes earlier changes nothing.
        chance = random.Random(f"{self.seed}/{number}")
        drawn = None
        if self.kinds:
            kind, way = chance.choice(self.kinds), chance.choice(self.ways)
            drawn = Fault(kind, way, chance.randrange(*self.at_bytes), reset=chance.random() < 0.5)
        fault = self.given.get(number, drawn)
        return Fate(number in self.refused, fault, self.delay_s * chance.random(), self.bytes_per_s, self.life_s)


@dataclasses.dataclass(slots=True)
class Flow:
    """One direction of a connection: how many bytes have come, and what of the next ones passes."""

    way: Way
    fault: Fault | None
    moved: int = 0
    struck: bool = False

    def passes(self, count: int) -> int:
        """How many of the next `count` bytes pass; `struck` says whether the fault holds from there on."""
        if self.struck:
            return 0
        left = count
        if self.fault is not None and self.fault.strikes(self.way):
            left = min(count, max(0, self.fault.at_byte - self.moved))
            self.struck = left < count
        self.moved += left
        return left


@dataclasses.dataclass(slots=True)
class _Connection:
    number: int
    fate: Fate
    partner: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    held: bytes = b""
    swallowed: Way | None = None
    struck: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    moved: int = 0

    def swallows(self, way: Way) -> bool:
        """Whether this direction loses its bytes, and with them the news that its sender is gone."""
        return self.swallowed is way

    def close(self, *, partner_only: bool = False) -> None:
        """Close; unsent bytes go out first unless the fault says RST."""
        reset = self.fate.fault is not None and self.fate.fault.reset and not partner_only
        for writer in (self.partner,) if partner_only else (self.partner, self.server):
            if writer is None or writer.transport.is_closing():
                continue
            if reset:
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
            else:
                writer.close()


class FaultProxy:
    """Listens on a port of its own and passes connections on to `target` as `faults` say.

    `count` is the number of connections so far, `log` what became of them. `faults` and `refusing` may be changed at
    any time; `cut` ends what is open.
    """

    def __init__(self, target: int, faults: Faults | None = None, clock: Clock | None = None, after: int = 1) -> None:
        """`after`: bytes that a newer connection moves before an overtaken one's are let go."""
        self.target, self.faults, self.refusing = target, faults or Faults(), False
        self.count, self.log = 0, list[str]()
        self._news = asyncio.Event()
        self.moved = {Way.UP: 0, Way.DOWN: 0}
        self._clock, self._after = clock or SystemClock(), after
        self._open: dict[int, _Connection] = {}
        self._door = Door(self._accepted)
        self.port = self._door.port

    async def __aenter__(self) -> FaultProxy:
        self._door.open()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._door.close()

    @property
    def address(self) -> str:
        """Where partners connect to."""
        return f"127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._open)

    def cut(self) -> None:
        """End every open connection."""
        for connection in list(self._open.values()):
            connection.close()
            connection.struck.set()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self.count = self.count, self.count + 1
        fate = self.faults.fate(number)
        await self._serve(_Connection(number, Fate(refused=True) if self.refusing else fate, writer), reader)

    async def _serve(self, connection: _Connection, reader: asyncio.StreamReader) -> None:
        fate = connection.fate
        try:
            if fate.refused:
                self._say(connection, "refused")
                return
            down, connection.server = await self._door.connect(self.target)
            self._open[connection.number] = connection
            async with asyncio.TaskGroup() as pumps:
                moving = [
                    pumps.create_task(self._pump(connection, Flow(Way.UP, fate.fault), reader, connection.server)),
                    pumps.create_task(self._pump(connection, Flow(Way.DOWN, fate.fault), down, connection.partner)),
                    pumps.create_task(self._live(connection)),
                ]
                await connection.struck.wait()
                for task in moving:
                    task.cancel()
            if fate.fault is not None and fate.fault.kind is Kind.OVERTAKEN and connection.held:
                await self._overtake(connection, reader)
        except OSError as error:
            self._say(connection, type(error).__name__)
        finally:
            self._open.pop(connection.number, None)
            connection.close()

    async def _live(self, connection: _Connection) -> None:
        if connection.fate.life_s:
            await self._clock.sleep(connection.fate.life_s)
            self._say(connection, "its time is over")
            connection.struck.set()

    async def _pump(
        self, connection: _Connection, flow: Flow, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        fate = connection.fate
        while block := await self._read(reader):
            if fate.delay_s:
                await self._clock.sleep(fate.delay_s)
            if fate.bytes_per_s:
                await self._clock.sleep(len(block) / fate.bytes_per_s)
            before = flow.struck
            passed = flow.passes(len(block))
            connection.moved += passed
            self.moved[flow.way] += passed
            try:
                writer.write(block[:passed])
                await writer.drain()
            except OSError:
                # That side is gone. Where the other direction is swallowed, so is the news of it.
                if not connection.swallows(flow.way.other):
                    break
            if flow.struck and not before:
                self._strike(connection, flow, block[passed:])
        if not connection.swallows(flow.way):
            connection.struck.set()  # a side has closed: so do both

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.read(_BLOCK_BYTES)
        except OSError:
            return b""

    def _strike(self, connection: _Connection, flow: Flow, rest: bytes) -> None:
        assert flow.fault is not None
        self._say(connection, f"{flow.fault.kind} {flow.way} at byte {flow.moved}")
        if flow.fault.kind is Kind.HALF_OPEN:
            connection.swallowed = flow.way
            return
        if flow.fault.kind is Kind.OVERTAKEN:
            connection.held = rest
        connection.struck.set()

    async def _overtake(self, connection: _Connection, reader: asyncio.StreamReader) -> None:
        """Take what else the partner has sent, close its side, and let the server have it once a newer one moves."""
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(0.05):
                while len(connection.held) < _HELD_BYTES and (block := await reader.read(_BLOCK_BYTES)):
                    connection.held += block
        connection.close(partner_only=True)
        while not any(c.number > connection.number and c.moved >= self._after for c in self._open.values()):
            await self._clock.sleep(0.01)
        self._say(connection, f"{len(connection.held)} bytes arrive late")
        assert connection.server is not None
        connection.server.write(connection.held)
        await connection.server.drain()

    async def said(self, what: str) -> None:
        """Wait until the log holds a line with `what` in it."""
        while not any(what in line for line in self.log):
            self._news.clear()
            await self._news.wait()

    def _say(self, connection: _Connection, what: str) -> None:
        self.log.append(f"{connection.number}: {what}")
        self._news.set()


@contextlib.contextmanager
def proxied(target: int, faults: Faults | None = None, after: int = 1) -> Iterator[FaultProxy]:
    """A proxy in a thread of its own, for tests of real processes; it ends with the block."""
    started, proxies = threading.Event(), list[FaultProxy]()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    async def life() -> None:
        async with FaultProxy(target, faults, after=after) as proxy:
            proxies.append(proxy)
            started.set()
            await stop.wait()

    def work() -> None:
        try:
            loop.run_until_complete(life())
        finally:
            started.set()
            loop.close()

    thread = threading.Thread(target=work, name="fault-proxy")
    thread.start()
    started.wait()
    try:
        yield proxies[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
