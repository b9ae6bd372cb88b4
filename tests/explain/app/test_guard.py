"""Pages of other sites reach nothing, and nothing of the app comes from anybody else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aimass.explain.app.guard import Guard, hosts_of, may

LOCAL = hosts_of("127.0.0.1", ())
NAMED = hosts_of("0.0.0.0", ("explain.example.org",))


@pytest.mark.parametrize(
    ("hosts", "host", "origin", "answered"),
    [
        (LOCAL, "127.0.0.1:8501", None, True),
        (LOCAL, "localhost:8501", "http://localhost:8501", True),
        (LOCAL, "[::1]:8501", "http://[::1]:8501", True),
        (LOCAL, "LOCALHOST:8501", None, True),
        (LOCAL, "evil.example:8501", None, False),  # a name that resolves to this machine
        (LOCAL, "evil.example:8501", "http://evil.example:8501", False),
        (LOCAL, "localhost:8501", "http://evil.example", False),  # a page elsewhere opens a socket
        (LOCAL, "localhost:8501", "http://localhost:8888", False),  # another program's page on this machine
        (LOCAL, "localhost:8501", "null", False),
        (LOCAL, "", None, False),
        (LOCAL, "[", None, False),
        (LOCAL, "localhost:8501", "http://[", False),
        (LOCAL, "localhost.evil.example", None, False),
        (NAMED, "explain.example.org", "https://explain.example.org", True),
        (NAMED, "localhost:8501", None, False),
    ],
)
def test_who_may_ask_from_where(hosts: frozenset[str], host: str, origin: str | None, answered: bool) -> None:
    assert may(hosts, host, origin) is answered


def asked(kind: str, host: str, origin: str = "", method: str = "GET") -> tuple[list[Any], list[str]]:
    """What is sent, and which requests the app heard."""
    heard: list[str] = []
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        heard.append(scope["type"])
        await send({"type": f"{kind}.response.start" if kind == "http" else "websocket.accept", "status": 200})

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", host.encode())] + ([(b"origin", origin.encode())] if origin else [])
    asyncio.run(Guard(app, LOCAL)({"type": kind, "method": method, "headers": headers}, receive, send))
    return sent, heard


def test_a_foreign_socket_and_a_foreign_name_are_refused_before_the_app_hears_of_them() -> None:
    assert asked("websocket", "localhost:8501", "http://evil.example") == (
        [{"type": "websocket.close", "code": 1008}],
        [],
    )
    sent, heard = asked("http", "evil.example")
    assert (sent[0]["status"], heard) == (421, [])
    sent, heard = asked("http", "localhost", "http://evil.example", "POST")
    assert (sent[0]["status"], heard) == (421, [])


def test_an_answer_says_that_nothing_is_loaded_from_elsewhere() -> None:
    sent, heard = asked("http", "localhost:8501")
    headers = dict(sent[0]["headers"])
    assert heard == ["http"]
    assert b"default-src 'self'" in headers[b"content-security-policy"]
    assert b"http:" not in headers[b"content-security-policy"]
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert asked("websocket", "localhost:8501", "http://localhost:8501")[1] == ["websocket"]


@pytest.mark.parametrize(("https", "expected"), [(True, b"user=1; Path=/; Secure"), (False, b"user=1; Path=/")])
def test_cookies_of_who_comes_by_https_go_back_by_nothing_else(https: bool, expected: bytes) -> None:
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        cookies = [(b"set-cookie", b"user=1; Path=/"), (b"set-cookie", b"a=1; Secure")]
        await send({"type": "http.response.start", "status": 200, "headers": cookies})

    async def receive() -> Any:
        return {}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "headers": [(b"host", b"localhost")]}
    asyncio.run(Guard(app, LOCAL, https=https)(scope, receive, send))
    headers = sent[0]["headers"]
    assert [value for name, value in headers if name == b"set-cookie"] == [expected, b"a=1; Secure"]
    assert (b"strict-transport-security" in dict(headers)) is https
