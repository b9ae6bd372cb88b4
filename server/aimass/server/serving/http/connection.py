"""One connection of HTTP/1.1: requests in, answers out in their order, whatever the other side does meanwhile.

A protocol of asyncio on the parser of httptools. A bare ASGI server of the same parser answered 40 % fewer requests a
second at 16 connections and a third as many at one (docs/performance.md), so the few hundred lines between a socket
and a handler are our own.

A connection costs a bounded buffer: a head and a body of limited size, one request that is worked on, and no more is
read before it is answered. Time is looked at by `overdue`, which its owner asks now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import logging
import re
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, Protocol
from urllib.parse import unquote

import httptools

from aimass.server.serving.http.messages import Peer, Request, Response, answer_head, json_response
from aimass.server.serving.http.settings import HttpLimits

__all__ = ["Connection", "Handler", "House", "Phase", "Room", "overdue"]

log = logging.getLogger("aimass.serving")
Handler = Callable[[Request], Awaitable[Response]]
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_LINGER_S: Final = 2.0
"""A connection that is closed while bytes come in is reset, and the reset overtakes the answer: so what comes is thrown
away for a while."""
_JOINED: Final = 16 << 10
"""Bytes up to which a body is sent in one piece with its head: two writes would be two packets."""


class Phase(enum.Enum):
    """What a connection waits for."""

    IDLE = "the next request"
    READING = "the rest of a request"
    WORKING = "an answer"
    WRITING = "the other side to take an answer"
    LINGERING = "the other side to read why it was refused"


class Room:
    """Bytes of bodies that all connections hold together."""

    def __init__(self, most: int) -> None:
        self._left = most

    def take(self, size: int) -> bool:
        """Whether there was room for `size` more; it is given back by `give`."""
        if size > self._left:
            return False
        self._left -= size
        return True

    def give(self, size: int) -> None:
        """Return what was taken."""
        self._left += size


class House(Protocol):
    """What all connections share; see `Listener`."""

    limits: HttpLimits
    room: Room
    draining: bool

    def now(self) -> float:
        """Seconds of a clock that never goes back."""
        ...

    async def handle(self, request: Request) -> Response:
        """Answer; it raises nothing but its own cancellation."""
        ...

    def request_id(self) -> str:
        """A name for a request that brings none."""
        ...

    def opened(self, connection: Connection) -> bool:
        """Count one more; False where there are too many."""
        ...

    def closed(self, connection: Connection) -> None:
        """Count one less."""
        ...


def overdue(phase: Phase, waited_s: float, limits: HttpLimits) -> bool:
    """Whether a connection has been in `phase` for longer than it may."""
    match phase:
        case Phase.IDLE:
            return waited_s > limits.idle_s
        case Phase.READING:
            return waited_s > limits.request_s
        case Phase.WRITING:
            return waited_s > limits.answer_s
        case Phase.LINGERING:
            return waited_s > _LINGER_S
        case Phase.WORKING:  # bounded by the deadline of what works
            return False


@dataclasses.dataclass(slots=True)
class _Incoming:
    """A request of which not all is there yet."""

    target: bytes = b""
    head_bytes: int = 0
    headers: dict[bytes, bytes] = dataclasses.field(default_factory=dict)
    body: list[bytes] = dataclasses.field(default_factory=list)
    size: int = 0


class _Refusal(Exception):  # noqa: N818
    """A request that is answered before it is whole; the connection ends with it."""

    def __init__(self, status: int, what: str, retry_after_s: int | None = None) -> None:
        self.status, self.what, self.retry_after_s = status, what, retry_after_s
        super().__init__(what)


class Connection(asyncio.Protocol):
    """The state of one connection; called by the event loop alone."""

    def __init__(self, house: House) -> None:
        self._house, self._limits = house, house.limits
        self._parser = httptools.HttpRequestParser(self)
        self._incoming = _Incoming()
        self._waiting: deque[tuple[Request, int, bool]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else is called
        self._peer = Peer("")
        self._since = house.now()
        self._held = 0
        self._reading = self._over = self._full = self._paused = self._lingering = False

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take it, or say that there are too many."""
        self._transport = transport  # type: ignore[assignment]  # of TCP, with or without TLS
        self._peer = _peer_of(transport)
        if not self._house.opened(self):
            self._refuse(_Refusal(503, "too many connections are open here", 1))

    def data_received(self, data: bytes) -> None:
        """Some bytes of one request or of several."""
        if self._over:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # what it asked for is not spoken here; it is answered as it stands
            self._over = True
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, _Refusal) else _Refusal(400, "the request cannot be read"))
        except httptools.HttpParserError:
            self._refuse(_Refusal(400, "this is no request of HTTP/1.1"))

    def eof_received(self) -> bool:
        """The other side sends no more; what it asked for is still answered, where the transport can."""
        self._over = True
        return self._task is not None and self._transport.get_extra_info("sslcontext") is None

    def connection_lost(self, error: Exception | None) -> None:
        """Nobody is there to be answered."""
        self._over = True
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
        self._house.room.give(self._held)
        self._held = 0
        self._house.closed(self)

    def pause_writing(self) -> None:
        """The other side takes its answers more slowly than they come."""
        self._full, self._since = True, self._house.now()

    def resume_writing(self) -> None:
        """It has taken them."""
        self._full, self._since = False, self._house.now()
        self._next()

    # What the parser calls.

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._incoming, self._reading = _Incoming(), True
        if self._task is None:
            self._since = self._house.now()

    def on_url(self, part: bytes) -> None:
        """Some of the target."""
        self._incoming.target += part
        self._measure(len(part), 414, "the address is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; of several with a name the values stand in a list, as the standard says."""
        self._measure(len(name) + len(value) + 4, 431, "the headers are too long")
        headers, name = self._incoming.headers, name.lower()
        headers[name] = headers[name] + b", " + value if name in headers else value

    def on_headers_complete(self) -> None:
        """Refuse a body that is too large before it is sent."""
        headers = self._incoming.headers
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._limits.body_bytes:
            raise _too_large(self._limits)
        if headers.get(b"expect", b"").lower() == b"100-continue" and self._task is None:
            self._transport.write(_CONTINUE)

    def on_body(self, part: bytes) -> None:
        """Some of the body."""
        incoming = self._incoming
        incoming.size += len(part)
        if incoming.size > self._limits.body_bytes:
            raise _too_large(self._limits)
        if not self._house.room.take(len(part)):
            raise _Refusal(503, "the requests that are here already are as large as may be", 1)
        self._held += len(part)
        incoming.body.append(part)

    def on_message_complete(self) -> None:
        """A whole request; it waits for those before it."""
        incoming, self._reading = self._incoming, False
        body = incoming.body[0] if len(incoming.body) == 1 else b"".join(incoming.body)
        path, query = _path_and_query(incoming.target)
        given = incoming.headers.get(b"x-request-id", b"")
        name = given.decode() if _REQUEST_ID.fullmatch(given) else self._house.request_id()
        method = self._parser.get_method().decode("ascii")
        request = Request(method, path, query, incoming.headers, body, self._peer, name)
        self._waiting.append((request, incoming.size, self._parser.should_keep_alive()))
        self._next()

    # What its owner calls.

    @property
    def phase(self) -> Phase:
        """What it waits for."""
        if self._full:
            return Phase.WRITING
        if self._lingering:
            return Phase.LINGERING
        if self._task is not None:
            return Phase.WORKING
        return Phase.READING if self._reading else Phase.IDLE

    def look(self, now: float) -> None:
        """End it where it takes longer than it may."""
        phase = self.phase
        if not overdue(phase, now - self._since, self._limits):
            return
        if phase is Phase.READING and not self._over:
            self._refuse(_Refusal(408, f"a request has to be here within {self._limits.request_s:g} s"))
        elif phase is Phase.WRITING or self._over:
            self._transport.abort()
        else:
            self._transport.close()

    def drain(self) -> None:
        """Take no further request; end at once where none is open."""
        if self.phase in {Phase.IDLE, Phase.LINGERING}:
            self._over = True
            self._transport.close()

    def abort(self) -> None:
        """End it now."""
        self._transport.abort()

    # One request after the other.

    def _next(self) -> None:
        if self._task is None and self._waiting and not self._full:
            self._task = asyncio.get_running_loop().create_task(self._work(*self._waiting.popleft()))
        self._throttle()

    def _throttle(self) -> None:
        """Read no more than the request after the one that is worked on."""
        if bool(self._waiting) == self._paused or self._transport.is_closing():
            return
        self._paused = not self._paused
        if self._paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    async def _work(self, request: Request, size: int, keep: bool) -> None:  # noqa: FBT001
        response = await self._house.handle(request)
        self._house.room.give(size)
        self._held -= size
        keep = keep and not self._house.draining and not (self._over and not self._waiting)
        self._task, self._since = None, self._house.now()
        if self._transport.is_closing():
            return
        self._write(response, request, keep=keep)
        if keep:
            self._next()
        else:
            self._over = True
            self._waiting.clear()
            self._transport.close()

    def _write(self, response: Response, request: Request, *, keep: bool) -> None:
        head = answer_head(response, request.id, keep=keep)
        if request.method == "HEAD":
            self._transport.write(head)
        elif response.size <= _JOINED:
            self._transport.write(b"".join((head, *response.parts)))
        else:
            self._transport.writelines((head, *response.parts))

    def _refuse(self, refusal: _Refusal) -> None:
        """Say why in one answer, and end. What is worked on is not answered any more: its order would be wrong."""
        self._over = True
        self._waiting.clear()
        if self._task is not None:
            self._transport.abort()
            return
        headers = {} if refusal.retry_after_s is None else {"Retry-After": str(refusal.retry_after_s)}
        response = json_response(refusal.status, {"error": refusal.what}, headers)
        with contextlib.suppress(RuntimeError):  # uvloop, of a transport that is gone already
            self._transport.write(answer_head(response, self._house.request_id(), keep=False) + response.parts[0])
            self._linger()

    def _linger(self) -> None:
        if not self._transport.can_write_eof():
            self._transport.close()
            return
        self._lingering, self._since = True, self._house.now()
        self._transport.write_eof()

    def _measure(self, size: int, status: int, what: str) -> None:
        self._incoming.head_bytes += size
        if self._incoming.head_bytes > self._limits.head_bytes:
            raise _Refusal(status, f"{what}: at most {self._limits.head_bytes} bytes")


def _too_large(limits: HttpLimits) -> _Refusal:
    return _Refusal(413, f"the body is too large: at most {limits.body_bytes} bytes")


def _path_and_query(target: bytes) -> tuple[str, str]:
    """Of `/path?query`, or of a whole URL as proxies send it."""
    if not target.startswith(b"/"):
        with contextlib.suppress(httptools.HttpParserInvalidURLError):
            url = httptools.parse_url(target)
            target = (url.path or b"/") + (b"?" + url.query if url.query else b"")
    path, _, query = target.decode("latin-1").partition("?")
    return (unquote(path) if "%" in path else path), query


def _peer_of(transport: asyncio.BaseTransport) -> Peer:
    address = transport.get_extra_info("peername")
    certificate = transport.get_extra_info("peercert") or {}
    host = address[0] if isinstance(address, tuple) else str(address or "")
    return Peer(host, next(_common_names(certificate), ""))


def _common_names(certificate: dict[str, Any]) -> Iterator[str]:
    for part in certificate.get("subject", ()):
        for name, value in part:
            if name == "commonName":
                yield value
