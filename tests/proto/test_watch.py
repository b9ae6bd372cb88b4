"""The listener for whoever watches: three paths, read-only, and no caller that costs another one's time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager

import pytest

from aimass.proto import watch as module
from aimass.proto.errors import Unavailable
from aimass.proto.vitals import Vitals
from aimass.proto.watch import Reason, Watch, listen, watching
from tests.support.figures import get, raw_request


class Service:
    """A service that is what a test says."""

    def __init__(self) -> None:
        self.why: tuple[Reason, ...] = ()
        self.text = b"aimass_ready 1\n"
        self.broken = False

    async def reasons(self) -> tuple[Reason, ...]:
        return self.why

    async def figures(self) -> bytes:
        if self.broken:
            raise RuntimeError("a secret of the inside")
        return self.text


def run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 20))


@asynccontextmanager
async def listening(service: Service) -> AsyncIterator[Watch]:
    watch = await listen("127.0.0.1:0", service)
    try:
        yield watch
    finally:
        await watch.close()


def test_each_path_answers_and_readiness_tells_its_reasons() -> None:
    async def scenario() -> None:
        service = Service()
        async with listening(service) as watch:
            assert await get(watch.port, "/healthz") == (200, _headers(16, "application/json"), b'{"alive": true}\n')
            assert json.loads((await get(watch.port, "/readyz"))[2]) == {"ready": True, "reasons": []}
            service.why = (Reason("server.low_space", "full"),)
            status, _, body = await get(watch.port, "/readyz")
            assert status == 503
            assert json.loads(body) == {"ready": False, "reasons": [{"code": "server.low_space", "what": "full"}]}
            assert (await get(watch.port, "/metrics?x=y"))[2] == service.text
            assert (await get(watch.port, "/healthz"))[0] == 200

    run(scenario())


def _headers(length: int, kind: str) -> dict[str, str]:
    return {
        "Content-Type": kind, "Content-Length": str(length), "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff", "Connection": "close",
    }  # fmt: skip


def test_head_is_get_without_the_body() -> None:
    async def scenario() -> None:
        async with listening(Service()) as watch:
            whole, head = await get(watch.port, "/metrics"), await get(watch.port, "/metrics", "HEAD")
            assert (head[0], head[1], head[2]) == (whole[0], whole[1], b"")

    run(scenario())


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"DELETE /readyz HTTP/1.1\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /../../etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"GET /readyz/ HTTP/1.1\r\n\r\n", 404),
        (b"GET http://other/metrics HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics\r\n\r\n", 400),
        (b"GET  /metrics HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\n", 400),
        (b"GET /\xff\x00 HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"a" * 9_000 + b"\r\n\r\n", 400),
    ],
)
def test_other_requests_are_refused_by_their_status(sent: bytes, status: int) -> None:
    async def scenario() -> None:
        async with listening(Service()) as watch:
            assert int((await raw_request(watch.port, sent)).split()[1]) == status

    run(scenario())


def test_what_fails_inside_is_told_to_the_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        service = Service()
        service.broken = True
        async with listening(service) as watch:
            status, _, body = await get(watch.port, "/metrics")
            assert status == 500
            assert b"secret" not in body

    run(scenario())
    assert "a secret of the inside" in caplog.text


def test_who_sends_slowly_or_reads_nothing_is_cut_off_and_delays_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.5)

    async def scenario() -> None:
        service = Service()
        service.text = b"x" * (32 << 20)  # more than any socket's buffers hold
        async with listening(service) as watch:
            silent = await asyncio.open_connection("127.0.0.1", watch.port)
            half = await asyncio.open_connection("127.0.0.1", watch.port)
            half[1].write(b"GET /metr")
            deaf = await asyncio.open_connection("127.0.0.1", watch.port, limit=1)
            deaf[1].write(b"GET /metrics HTTP/1.1\r\n\r\n")
            await deaf[1].drain()
            assert (await get(watch.port, "/healthz"))[0] == 200
            for reader, writer in (silent, half):
                assert await reader.read() == b""
                writer.close()
            with contextlib.suppress(ConnectionError):  # a reset, or an end before the end
                assert len(await deaf[0].read()) < len(service.text)
            deaf[1].close()

    run(scenario())


def test_more_callers_than_it_takes_are_turned_away_and_room_comes_back() -> None:
    async def scenario() -> None:
        async with listening(Service()) as watch:
            held = [await asyncio.open_connection("127.0.0.1", watch.port) for _ in range(16)]
            assert await turned_away(watch.port)
            for reader, writer in held:
                writer.write_eof()
                assert await reader.read() == b""
                writer.close()
            assert not await turned_away(watch.port)

    run(scenario())


async def turned_away(port: int) -> bool:
    try:
        return not await raw_request(port, b"GET /healthz HTTP/1.1\r\n\r\n")
    except ConnectionError:
        return True


def test_a_port_that_is_taken_is_told_by_name() -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as held:
            address = f"127.0.0.1:{held.getsockname()[1]}"
            with pytest.raises(Unavailable, match="watch_listen") as caught:
                await listen(address, Service())
        assert (caught.value.code, caught.value.value) == ("watch.port", address)

    run(scenario())


def test_without_an_address_nothing_listens_and_nothing_is_counted() -> None:
    async def scenario() -> None:
        handlers = list(logging.getLogger("aimass").handlers)
        async with watching("", Service(), Vitals()) as watch:
            assert watch is None
            assert logging.getLogger("aimass").handlers == handlers

    run(scenario())


def test_an_address_for_others_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with watching("0.0.0.0:0", Service(), Vitals()):
            pass

    run(scenario())
    assert "without a password" in caplog.text


def test_complaints_in_the_log_are_counted_by_code_while_it_is_watched() -> None:
    async def scenario() -> None:
        vitals, log = Vitals(), logging.getLogger("aimass.test")
        async with watching("127.0.0.1:0", Service(), vitals):
            log.warning("refused: %s", Unavailable("no", code="wire.broken"))
            log.error("odd")
            log.info("fine")
        log.error("after")
        assert vitals.complaints.read() == {("warning", "wire.broken"): 1, ("error", "none"): 1}

    run(scenario())
