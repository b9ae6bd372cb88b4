"""Who opens many links, or holds them without a word, shuts nobody out: tried against the server itself, on loopback."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from uvicorn.server import ServerState

from aimass.explain.app.crowd import BoundedHttp, Bounds, admits, behind_proxy, party
from aimass.explain.app.serving_app import _Server, _uvicorn
from aimass.explain.app.settings import AppSettings

GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nhalf"
PATIENCE_S = 60.0
LARGE = 16 << 20


async def told(scope: Any, receive: Any, send: Any) -> None:
    """An app that takes each body and each WebSocket, which it holds."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    while (await receive()).get("more_body"):
        pass
    body = b"x" * LARGE if scope["path"] == "/large" else b"here"
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Serving:
    """A server that runs, and links with it."""

    def __init__(self, port: int, links: contextlib.ExitStack) -> None:
        self.port, self._links = port, links

    def link(self, says: bytes = b"") -> socket.socket:
        one = self._links.enter_context(socket.create_connection(("127.0.0.1", self.port), PATIENCE_S))
        one.sendall(says)
        return one

    def status(self, says: bytes = GET) -> int:
        return status(self.link(says))

    def socket(self) -> bytes:
        key = base64.b64encode(os.urandom(16))
        return (
            b"GET / HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
            b"sec-websocket-version: 13\r\nsec-websocket-key: " + key + b"\r\n\r\n"
        )


def status(link: socket.socket) -> int:
    return int(link.recv(12, socket.MSG_WAITALL)[9:])


def ended(link: socket.socket) -> bool:
    """Once it has: the server ends it, or the test fails by its patience."""
    try:
        while link.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass
    return True


Served = Callable[[Bounds], Serving]


@pytest.fixture
def served() -> Iterator[Served]:
    with contextlib.ExitStack() as held:

        def serve(bounds: Bounds) -> Serving:
            ready = threading.Event()
            listening = held.enter_context(socket.create_server(("127.0.0.1", 0)))
            server = _Server(told, AppSettings(), ready.set, bounds)
            running = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
            running.start()

            def stop() -> None:
                server.should_exit = True
                running.join()

            held.callback(stop)
            assert ready.wait(PATIENCE_S)
            return Serving(listening.getsockname()[1], held.enter_context(contextlib.ExitStack()))

        yield serve


def test_websockets_are_bounded_and_pages_answer_beside_all_of_them(served: Served) -> None:
    serving = served(Bounds(links=8, sockets=4))
    sockets = [serving.link(serving.socket()) for _ in range(7)]
    assert sorted(map(status, sockets)) == [101] * 4 + [503] * 3
    assert [serving.status() for _ in range(3)] == [200] * 3


def test_a_websocket_that_has_gone_leaves_its_place(served: Served) -> None:
    serving = served(Bounds(sockets=1))
    first = serving.link(serving.socket())
    assert (status(first), serving.status(serving.socket())) == (101, 503)
    first.sendall(b"\x88\x82\0\0\0\0\x03\xe8")  # "close", by who leaves
    assert ended(first)
    assert serving.status(serving.socket()) == 101


def test_who_is_silent_from_the_beginning_holds_a_place_for_its_seconds_alone(served: Served) -> None:
    serving = served(Bounds(links=3, head_s=0.2))
    silent = [serving.link(), serving.link(GET[:20])]
    late = serving.link(GET)
    assert status(late) == 200
    assert serving.status() == 503
    assert all(map(ended, silent))
    assert serving.status() == 200


@pytest.mark.parametrize(("whole", "half"), [(b"", POST), (GET, GET[:9])])
def test_who_begins_and_does_not_go_on_is_ended(served: Served, whole: bytes, half: bytes) -> None:
    link = served(Bounds(head_s=0.2, body_s=0.2)).link(whole)
    if whole:
        assert status(link) == 200
    link.sendall(half)
    assert ended(link)


class Wire(asyncio.Transport):
    """Takes what is written."""

    def write(self, data: Any) -> None:
        pass

    def is_closing(self) -> bool:
        return False


async def next_head() -> tuple[bool, bool]:
    """Whether an old link is late nine and eleven seconds after the beginning of a head that is not whole."""
    config = _uvicorn(told, AppSettings(), Bounds())
    config.load()
    server = ServerState()
    link = BoundedHttp(Bounds(head_s=10.0), config=config, server_state=server, app_state={})
    link.connection_made(Wire())
    link._head_at -= 3600.0
    link.data_received(GET)
    await asyncio.gather(*server.tasks)
    link.data_received(GET[:9])
    now = asyncio.get_running_loop().time()
    return link.late(now + 9.0), link.late(now + 11.0)


def test_the_time_of_a_next_request_begins_with_its_first_byte() -> None:
    assert asyncio.run(next_head()) == (False, True)


def test_who_takes_nothing_of_what_is_sent_is_ended(served: Served) -> None:
    serving = served(Bounds(links=1, taking_s=0.2))
    asks = GET.replace(b"/ ", b"/large ", 1)
    silent = serving.link(asks)
    while serving.status() != 200:
        pass
    taken = 0
    with contextlib.suppress(ConnectionResetError):
        while piece := silent.recv(1 << 16):
            taken += len(piece)
    assert taken < LARGE


@pytest.mark.parametrize(
    ("held", "own", "by_address", "admitted"),
    [
        (255, 255, True, True),  # the half that anybody may take, a proxy's people too
        (256, 256, True, False),
        (256, 63, True, True),
        (511, 63, True, True),
        (400, 64, True, False),
        (511, 511, False, True),
        (512, 0, True, False),
        (512, 0, False, False),
    ],
)
def test_of_the_second_half_nobody_takes_more_than_a_share(
    held: int, own: int, by_address: bool, admitted: bool
) -> None:
    assert admits(512, held, own, by_address=by_address) is admitted


def test_a_household_is_one_party_and_this_machine_none() -> None:
    assert party("192.0.2.7") == party("::ffff:192.0.2.7") == "192.0.2.7"
    assert party("2001:db8::1") == party("2001:db8::ffff:2") != party("2001:db8:0:1::1")
    assert party("127.0.0.1") == party("::1") == party("::ffff:127.0.0.1") == party("") == ""


@pytest.mark.parametrize(
    ("settings", "redirect_uri", "behind"),
    [
        (AppSettings(), "", False),
        (AppSettings(base_path="explain"), "", True),
        (AppSettings(), "https://explain.example.org/oauth2callback", True),
        (AppSettings(certificate="c", key="k"), "https://explain.example.org/oauth2callback", False),
        (AppSettings(), "http://localhost:8501/oauth2callback", False),
    ],
)
def test_a_proxy_is_known_by_the_settings(settings: AppSettings, redirect_uri: str, behind: bool) -> None:
    assert behind_proxy(settings, redirect_uri) is behind
