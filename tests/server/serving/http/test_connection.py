"""A connection on a transport of memory and a clock that the test moves."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from typing import Any

import pytest

from aimass.server.serving.http.connection import Connection, Phase, Reply
from aimass.server.serving.http.listening import Listener
from aimass.server.serving.http.messages import Request, Response
from aimass.server.serving.http.reading import Refusal, RequestReader, Room
from aimass.server.serving.http.settings import HttpLimits

LIMITS = HttpLimits(body_bytes=100, head_bytes=400, pending_bytes=150, connections=2)
GET = b"GET /one HTTP/1.1\r\nHost: here\r\n\r\n"

UPGRADE = (
    b"POST /one HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"
)
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
TUNNEL = b"CONNECT /one HTTP/1.1\r\nHost: a\r\n\r\n"


def post(body: bytes, path: bytes = b"/two", head: bytes = b"") -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: here\r\n%sContent-Length: %d\r\n\r\n%s" % (path, head, len(body), body)


class Memory(asyncio.Transport):
    """Keeps what is written; `paused` is whether more is read."""

    def __init__(self, address: str = "10.0.0.9") -> None:
        super().__init__({"peername": (address, 4242)})
        self.written = b""
        self.closed = self.aborted = self.paused = self.ended = False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True


class Desk:
    """A listener whose handler answers with the path at once, or when the test says so while `slow`."""

    def __init__(self, limits: HttpLimits = LIMITS) -> None:
        self.time, self.slow = 0.0, False
        self.asked: list[Request] = []
        self.replies: list[Reply] = []
        self.cancelled = 0
        self.statuses: list[int] = []
        self.listener = Listener(self._handle, limits, lambda: self.time, "run", self.statuses.append)

    def _handle(self, request: Request, reply: Reply) -> Any:
        self.asked.append(request)
        if self.slow:
            self.replies.append(reply)
            return self._cancel
        reply(Response(200, (request.path.encode(),), "text/plain"))
        return None

    def _cancel(self) -> None:
        self.cancelled += 1

    def connect(self) -> tuple[Connection, Memory]:
        connection, transport = self.listener.connection(), Memory()
        connection.connection_made(transport)
        return connection, transport


@pytest.fixture
def desk() -> Desk:
    return Desk()


def answers(written: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """The answers in a stream: status, headers and body of each."""
    found = []
    while written:
        head, _, rest = written.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        size = int(headers["Content-Length"])
        found.append((int(first.split()[1]), headers, rest[:size]))
        written = rest[size:]
    return found


def test_a_request_is_answered_and_the_connection_stays_open(desk: Desk) -> None:
    connection, transport = desk.connect()
    connection.data_received(GET)
    connection.data_received(GET)
    told = answers(transport.written)
    assert [(status, body) for status, _, body in told] == [(200, b"/one")] * 2
    assert [headers["X-Request-Id"] for _, headers, _ in told] == ["run-1", "run-2"]
    assert not transport.closed
    assert desk.asked[0].peer.address == "10.0.0.9"


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_a_request_may_come_in_any_pieces(desk: Desk, size: int) -> None:
    connection, transport = desk.connect()
    data = post(b"x" * 90, head=b"X-Request-Id: mine\r\n") + GET
    for start in range(0, len(data), size):
        connection.data_received(data[start : start + size])
    assert [(request.path, request.body) for request in desk.asked] == [("/two", b"x" * 90), ("/one", b"")]
    assert desk.asked[0].id == "mine"
    assert [body for _, _, body in answers(transport.written)] == [b"/two", b"/one"]


def test_pipelined_requests_are_answered_in_order_and_no_more_is_read_meanwhile(desk: Desk) -> None:
    desk.slow = True
    connection, transport = desk.connect()
    connection.data_received(post(b"a", b"/a") + post(b"b", b"/b") + post(b"c", b"/c"))
    assert (len(desk.asked), transport.paused, transport.written) == (1, True, b"")
    for _ in range(3):
        desk.replies.pop()(Response(200, (desk.asked[-1].path.encode(),)))
    assert [body for _, _, body in answers(transport.written)] == [b"/a", b"/b", b"/c"]
    assert not transport.paused


def test_thousands_of_pipelined_requests_do_not_nest(desk: Desk) -> None:
    connection, transport = desk.connect()
    connection.data_received(GET * 5_000)
    assert len(answers(transport.written)) == 5_000


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\n", 413),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n" + b"x" * 101 + b"\r\n0\r\n\r\n",
            413,
        ),
        (b"GET /" + b"x" * 401 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + b"x" * 401 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 101 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + b"x" * 801, 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"x" * 801, 431),
        (b"\r\n" * 401, 431),
        (CHUNKED + b"1;" + b"x" * 801, 431),
        (CHUNKED + b"1\r\na\r\n0\r\nX-A: " + b"x" * 801, 431),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_or_too_large_is_refused_once_and_counted(desk: Desk, sent: bytes, status: int) -> None:
    connection, transport = desk.connect()
    connection.data_received(sent)
    connection.data_received(b"and what follows is not looked at")
    [(found, headers, body)] = answers(transport.written)
    assert (found, headers["Connection"], desk.asked, desk.statuses) == (status, "close", [], [status])
    assert json.loads(body)["error"]
    assert transport.ended  # and what is still sent is read for a while, so that no reset overtakes the answer
    desk.time = 2.5
    desk.listener.look()
    assert transport.aborted


def test_a_line_that_trickles_without_an_end_is_measured_as_it_comes(desk: Desk) -> None:
    connection, transport = desk.connect()
    connection.data_received(b"GET / HTTP/1.1\r\nHost: a\r\nX-A: ")
    for _ in range(401):
        connection.data_received(b"x")
    assert answers(transport.written)[0][0] == 431


def test_what_follows_a_body_changes_nothing_that_the_head_said(desk: Desk) -> None:
    connection, _ = desk.connect()
    connection.data_received(CHUNKED + b"1\r\na\r\n0\r\nAuthorization: b\r\nX-Forwarded-For: c\r\n\r\n")
    assert set(desk.asked[0].headers) == {b"host", b"transfer-encoding"}


def test_a_body_in_many_pieces_is_held_as_bytes_and_not_as_pieces() -> None:
    reader = RequestReader(HttpLimits(), Room(1 << 30))
    pieces = CHUNKED + (b"46\r\n" + b"a" * 70 + b"\r\n") * 20_000
    tracemalloc.start()
    try:
        reader.feed(pieces)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_900_000
    [parsed] = reader.feed(b"0\r\n\r\n")
    assert parsed.body == b"a" * 1_400_000


def test_a_body_in_a_flood_of_tiny_pieces_is_refused() -> None:
    reader = RequestReader(HttpLimits(), Room(1 << 30))
    reader.feed(CHUNKED + b"2\r\nab\r\n" * 10_000)
    with pytest.raises(Refusal, match="less than 64 bytes"):
        reader.feed(b"2\r\nab\r\n" * 400)


def test_bodies_of_all_connections_share_a_room_that_is_given_back(desk: Desk) -> None:
    desk.slow = True
    first, _ = desk.connect()
    second, transport = desk.connect()
    first.data_received(post(b"x" * 90))
    second.data_received(post(b"x" * 90))
    [(status, headers, _)] = answers(transport.written)
    assert (status, headers["Retry-After"]) == (503, "1")
    second.connection_lost(None)
    desk.replies.pop()(Response(204))
    third, transport = desk.connect()
    third.data_received(post(b"x" * 90))
    first.data_received(post(b"x" * 60))
    assert len(desk.asked) == 3


def test_a_lost_connection_gives_back_its_room_and_cancels_its_request(desk: Desk) -> None:
    desk.slow = True
    connection, _ = desk.connect()
    connection.data_received(post(b"x" * 90) + post(b"x" * 60)[:-30])
    connection.connection_lost(ConnectionResetError())
    assert desk.cancelled == 1
    assert desk.listener.connections == 0
    assert desk.listener.room.take(150)
    desk.replies.pop()(Response(204))  # too late, and harmless


def test_too_many_connections_are_told_so(desk: Desk) -> None:
    desk.connect()
    desk.connect()
    connection, transport = desk.connect()
    assert answers(transport.written)[0][0] == 503
    connection.connection_lost(None)
    assert desk.listener.connections == 2


def test_a_flood_of_connections_is_cut_off_without_a_word(desk: Desk) -> None:
    transports = [desk.connect()[1] for _ in range(6)]
    assert [(transport.aborted, bool(transport.written)) for transport in transports] == [
        (False, False),
        (False, False),
        (False, True),
        (False, True),
        (True, False),
        (True, False),
    ]


def test_one_address_cannot_take_all_connections_and_does_not_linger() -> None:
    desk = Desk(HttpLimits(connections=6, connections_of_one=3))
    first = desk.connect()[0]
    transports = [desk.connect()[1] for _ in range(4)]
    assert [answers(each.written)[0][0] if each.written else 0 for each in transports] == [0, 0, 503, 503]
    assert [each.closed for each in transports] == [False, False, True, True]
    other = Memory("10.0.0.10")
    desk.listener.connection().connection_made(other)
    assert not other.written
    for each in list(desk.listener._open):
        each.connection_lost(None)
    assert not desk.listener._by_address
    assert first.phase is Phase.IDLE


def test_empty_lines_do_not_keep_a_connection(desk: Desk) -> None:
    connection, transport = desk.connect()
    for desk.time in (30.0, 60.0, 74.0):
        connection.data_received(b"\r\n")
    desk.time = 76.0
    desk.listener.look()
    assert (connection.phase, transport.closed, transport.written) == (Phase.IDLE, True, b"")


def test_the_clock_ends_what_waits_too_long(desk: Desk) -> None:
    idle, idle_transport = desk.connect()
    half, half_transport = desk.connect()
    half.data_received(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Le")
    assert (idle.phase, half.phase) == (Phase.IDLE, Phase.READING)
    desk.time = 29.0
    half.data_received(b"ngth: 5")  # a drop now and then does not help
    desk.listener.look()
    assert not half_transport.written
    desk.time = 31.0
    desk.listener.look()
    assert answers(half_transport.written)[0][0] == 408
    assert not idle_transport.closed
    desk.time = 76.0
    desk.listener.look()
    assert (idle_transport.closed, idle_transport.written) == (True, b"")


def test_who_does_not_read_its_answers_is_cut_off_and_asks_nothing_more(desk: Desk) -> None:
    connection, transport = desk.connect()
    connection.data_received(GET)
    connection.pause_writing()
    connection.data_received(GET)
    assert (len(desk.asked), connection.phase, transport.paused) == (1, Phase.WRITING, True)
    connection.resume_writing()
    assert (len(desk.asked), transport.paused) == (2, False)
    connection.pause_writing()
    desk.time = 31.0
    desk.listener.look()
    assert transport.aborted


def test_work_is_not_ended_by_the_clock(desk: Desk) -> None:
    desk.slow = True
    connection, transport = desk.connect()
    connection.data_received(GET)
    desk.time = 1_000.0
    desk.listener.look()
    assert (connection.phase, transport.closed) == (Phase.WORKING, False)


@pytest.mark.parametrize("sent", [b"GET /one HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", TUNNEL + b"\x16\x03"])
def test_a_request_that_ends_its_connection_is_answered_first(desk: Desk, sent: bytes) -> None:
    connection, transport = desk.connect()
    connection.data_received(sent)
    [(status, headers, body)] = answers(transport.written)
    assert (status, headers["Connection"], body, transport.closed) == (200, "close", b"/one", True)


@pytest.mark.parametrize("length", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("step", [1, 7, 1_000])
def test_who_asks_for_another_protocol_too_is_answered_in_this_one(desk: Desk, length: bytes, step: int) -> None:
    asked = UPGRADE + b"Content-Type: a/b\r\n" + length + b"\r\n\r\n"
    sent = asked + (b"hello" if b"5" in length else b"5\r\nhello\r\n0\r\n\r\n")
    connection, transport = desk.connect()
    for place in range(0, 2 * len(sent), step):
        connection.data_received((sent * 2)[place : place + step])
    assert [(request.method, request.path, request.body) for request in desk.asked] == [("POST", "/one", b"hello")] * 2
    assert desk.asked[0].headers[b"content-type"] == b"a/b"
    assert [status for status, _, _ in answers(transport.written)] == [200, 200]
    assert not transport.closed


def test_an_upgrade_without_a_body_and_with_close_is_answered_too(desk: Desk) -> None:
    connection, transport = desk.connect()
    connection.data_received(UPGRADE.replace(b"Upgrade,", b"Upgrade, close,") + b"\r\n")
    [(status, headers, _)] = answers(transport.written)
    assert (status, headers["Connection"], transport.closed) == (200, "close", True)


def test_old_clients_have_a_connection_for_each_request(desk: Desk) -> None:
    connection, transport = desk.connect()
    connection.data_received(b"GET /one HTTP/1.0\r\n\r\n")
    assert (answers(transport.written)[0][0], transport.closed) == (200, True)


def test_who_sends_no_more_is_answered_what_it_asked(desk: Desk) -> None:
    desk.slow = True
    connection, transport = desk.connect()
    connection.data_received(GET)
    assert connection.eof_received()
    desk.replies.pop()(Response(200))
    assert (answers(transport.written)[0][0], transport.closed) == (200, True)
    idle, _ = desk.connect()
    assert not idle.eof_received()


def test_a_large_body_is_asked_for_before_it_is_sent(desk: Desk) -> None:
    connection, transport = desk.connect()
    whole = post(b"x" * 50, head=b"Expect: 100-continue\r\n")
    connection.data_received(whole[:-50])
    assert transport.written == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.data_received(whole[-50:])
    assert len(desk.asked) == 1


def test_a_head_request_has_the_length_and_no_body(desk: Desk) -> None:
    connection, transport = desk.connect()
    connection.data_received(b"HEAD /one HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"Content-Length: 4\r\n" in transport.written
    assert transport.written.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/a%20b?c=d", "/a b", "c=d"),
        (b"http://proxied.example/x/y?z", "/x/y", "z"),
        (b"*", "*", ""),
    ],
)
def test_targets_are_read_as_clients_and_proxies_write_them(desk: Desk, target: bytes, path: str, query: str) -> None:
    connection, _ = desk.connect()
    connection.data_received(b"OPTIONS " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (desk.asked[0].path, desk.asked[0].query) == (path, query)


def test_a_name_that_could_forge_a_header_is_not_taken_over(desk: Desk) -> None:
    connection, transport = desk.connect()
    connection.data_received(b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: a b\r\n\r\n")
    assert b"X-Request-Id: run-1\r\n" in transport.written


def test_draining_answers_what_is_open_and_ends_what_is_idle(desk: Desk) -> None:
    async def scene() -> None:
        desk.slow = True
        _, idle = desk.connect()
        busy, transport = desk.connect()
        busy.data_received(GET)
        draining = asyncio.create_task(desk.listener.drain(60.0, 0.0))
        await asyncio.sleep(0)
        assert (idle.closed, transport.closed) == (True, False)
        desk.replies.pop()(Response(200))
        [(status, headers, _)] = answers(transport.written)
        assert (status, headers["Connection"], transport.closed) == (200, "close", True)
        for connection in list(desk.listener._open):
            connection.connection_lost(None)
        await draining

    asyncio.run(scene())


def test_a_request_that_is_on_its_way_when_draining_begins_is_answered_and_ends_its_connection(desk: Desk) -> None:
    async def scene() -> None:
        connection, transport = desk.connect()
        draining = asyncio.create_task(desk.listener.drain(60.0, 60.0))
        await asyncio.sleep(0)
        assert not transport.closed
        connection.data_received(GET + GET)
        [(status, headers, _)] = answers(transport.written)
        assert (status, headers["Connection"], transport.closed) == (200, "close", True)
        connection.connection_lost(None)
        await draining

    asyncio.run(scene())


def test_draining_cuts_off_who_is_not_through_in_time(desk: Desk) -> None:
    desk.slow = True
    connection, transport = desk.connect()
    connection.data_received(GET)
    asyncio.run(desk.listener.drain(0.0))
    assert transport.aborted


def test_a_handler_that_fails_is_an_answer_too(desk: Desk) -> None:
    def fails(request: Request, reply: Reply) -> None:
        raise ZeroDivisionError

    desk.listener._handler = fails
    connection, transport = desk.connect()
    connection.data_received(GET)
    assert answers(transport.written)[0][0] == 500
