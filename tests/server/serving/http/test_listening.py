"""An HTTP port over loopback, on the event loop that serves and on asyncio's own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from aimass.server.serving.http.connection import Reply
from aimass.server.serving.http.listening import HttpPort, Listener
from aimass.server.serving.http.messages import Request, Response
from aimass.server.serving.http.settings import HttpLimits

LARGE = bytes(range(256)) * (20 << 10)
LIMITS = HttpLimits(body_bytes=1 << 20, pending_bytes=4 << 20, connections=50)


def answer(request: Request, reply: Reply) -> None:
    """The length of the body, or something large in two parts."""
    if request.path == "/large":
        reply(Response(200, (memoryview(LARGE), LARGE)))
    else:
        reply(Response(200, (str(len(request.body)).encode(),)))


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def serve(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Run a check against an open port."""

    def run(check: Callable[[int, Listener], Awaitable[None]], limits: HttpLimits = LIMITS) -> None:
        async def scene() -> None:
            listener = Listener(answer, limits, time.monotonic, "run")
            port = HttpPort("127.0.0.1:0", listener, None, grace_s=5.0)
            number = port.listen()
            await port.start()
            try:
                await asyncio.wait_for(check(number, listener), 20)
            finally:
                await port.stop()

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(scene())

    return run


def exchanged(port: int, data: bytes, *, end: bool = True) -> bytes:
    """All that is answered to `data` until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), 10) as held:
        with contextlib.suppress(ConnectionError):
            held.sendall(data)
        if end:
            with contextlib.suppress(OSError):
                held.shutdown(socket.SHUT_WR)
        parts = []
        with contextlib.suppress(ConnectionError):
            while part := held.recv(1 << 20):
                parts.append(part)
        return b"".join(parts)


async def exchange(port: int, data: bytes, **options: Any) -> bytes:
    return await asyncio.to_thread(exchanged, port, data, **options)


def test_requests_one_after_the_other_and_large_answers(serve: Callable[..., None]) -> None:
    async def check(port: int, listener: Listener) -> None:
        said = await exchange(
            port, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /large HTTP/1.1\r\nHost: a\r\n\r\n"
        )
        first, _, rest = said.partition(b"HTTP/1.1 200 OK")[2].partition(b"HTTP/1.1 200 OK")
        assert first.endswith(b"\r\n\r\n3")
        assert rest.endswith(LARGE + LARGE)

    serve(check)


def test_who_sends_too_much_reads_why_although_it_goes_on_sending(serve: Callable[..., None]) -> None:
    async def check(port: int, listener: Listener) -> None:
        said = await exchange(
            port, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\n" + bytes(8 << 20)
        )
        assert said.startswith(b"HTTP/1.1 413 ")
        chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        said = await exchange(port, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 64)
        assert said.startswith(b"HTTP/1.1 413 ")
        await listener.drain(5.0)
        assert listener.room.take(LIMITS.pending_bytes)

    serve(check)


def test_half_a_request_and_its_end_leave_nothing_behind(serve: Callable[..., None]) -> None:
    async def check(port: int, listener: Listener) -> None:
        for _ in range(20):
            assert await exchange(port, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf") == b""
        await listener.drain(5.0)
        assert listener.room.take(LIMITS.pending_bytes)

    serve(check)


def test_connections_beyond_the_limit_are_told_so_and_others_go_on(serve: Callable[..., None]) -> None:
    async def check(port: int, listener: Listener) -> None:
        held = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(LIMITS.connections)]
        held[0].sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await asyncio.to_thread(held[0].recv, 1_000)).startswith(b"HTTP/1.1 200 OK")
        said = await exchange(port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 503 ")
        held[0].sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await asyncio.to_thread(held[0].recv, 1_000)).startswith(b"HTTP/1.1 200 OK")
        for each in held:
            each.close()

    serve(check)


def test_a_drain_ends_idle_connections(serve: Callable[..., None]) -> None:
    async def check(port: int, listener: Listener) -> None:
        idle = socket.create_connection(("127.0.0.1", port), 10)
        idle.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.to_thread(idle.recv, 1_000)
        await listener.drain(5.0, 0.0)
        assert await asyncio.to_thread(idle.recv, 1_000) == b""
        idle.close()

    serve(check)


def test_a_connection_that_is_aborted_while_it_is_answered_harms_nobody(serve: Callable[..., None]) -> None:
    async def check(port: int, listener: Listener) -> None:
        for _ in range(20):
            held = socket.create_connection(("127.0.0.1", port), 10)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            held.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
            held.close()
        assert (await exchange(port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")

    serve(check)
