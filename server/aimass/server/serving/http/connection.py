"""One connection of HTTP/1.1: requests in, answers out in their order, whatever the other side does meanwhile.

A protocol of asyncio on the parser of httptools. A bare ASGI server on the same parser answered 37 % fewer requests a
second at 16 connections and 70 % fewer at one (docs/performance.md), so the few hundred lines between a socket and a
handler are our own.

A connection costs a bounded buffer: a head and a body of limited size, one request that is worked on, and no more is
read before it is answered. Time is looked at by `overdue`, which its owner asks now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import re
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, Protocol

from aimass.server.serving.http.messages import Peer, Request, Response, answer_head, json_response
from aimass.server.serving.http.reading import Parsed, Refusal, RequestReader, Room
from aimass.server.serving.http.settings import HttpLimits

__all__ = ["Cancel", "Connection", "Handler", "House", "Phase", "Reply", "Verdict", "overdue"]

Reply = Callable[[Response], None]
"""Called once with the answer, in the event loop; also before the handler returns."""
Verdict = Literal["taken", "refused", "turned away", "cut off"]
"""What becomes of a new connection: who is refused lingers to read why, who is turned away does not."""
Cancel = Callable[[], object]
Handler = Callable[[Request, Reply], Cancel | None]
"""Answers a request by its `Reply`, now or later; gives what ends it where nobody waits for the answer any more."""
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


class House(Protocol):
    """What all connections share; see `Listener`."""

    limits: HttpLimits
    room: Room
    draining: bool

    def now(self) -> float:
        """Seconds of a clock that never goes back."""
        ...

    def handle(self, request: Request, reply: Reply) -> Cancel | None:
        """See `Handler`; it raises nothing."""
        ...

    def request_id(self) -> str:
        """A name for a request that brings none."""
        ...

    def opened(self, connection: Connection, address: str) -> Verdict:
        """Count one more of an address, and say what becomes of it."""
        ...

    def closed(self, connection: Connection, address: str) -> None:
        """Count one less."""
        ...

    def refused(self, status: int) -> None:
        """Count a request that never became one."""
        ...

    @property
    def date(self) -> str:
        """What time it is, as HTTP writes it."""
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


class Connection(asyncio.Protocol):
    """The state of one connection; called by the event loop alone."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._reader = RequestReader(house.limits, house.room)
        self._waiting: deque[Parsed] = deque()
        self._working: tuple[Parsed, Request] | None = None
        self._cancel: Cancel | None = None
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else is called
        self._peer = Peer("")
        self._since = house.now()
        self._over = self._full = self._paused = self._lingering = self._stepping = False

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take it, or say that there are too many."""
        self._transport = transport  # type: ignore[assignment]  # of TCP, with or without TLS
        self._peer = _peer_of(transport)
        match self._house.opened(self, self._peer.address):
            case "refused":
                self._refuse(Refusal(503, "too many connections are open here", 1))
            case "turned away":
                self._refuse(Refusal(503, "too many connections of this address are open here", 1), linger=False)
            case "cut off":
                self._over = True
                self._transport.abort()
            case "taken":
                pass

    def data_received(self, data: bytes) -> None:
        """Some bytes of one request or of several."""
        if self._over:
            return
        reader = self._reader
        fresh = self._working is None and not reader.started
        try:
            whole = reader.feed(data)
        except Refusal as refusal:
            self._refuse(refusal)
            return
        if fresh and reader.started:  # empty lines begin nothing
            self._since = self._house.now()
        self._over = reader.upgraded
        if reader.awaited and self._working is None:
            reader.awaited = False
            self._transport.write(_CONTINUE)
        if whole:
            self._waiting.extend(whole)
            self._next()

    def eof_received(self) -> bool:
        """The other side sends no more; what it asked for is still answered, where the transport can."""
        self._over = True
        return self._working is not None and self._transport.get_extra_info("sslcontext") is None

    def connection_lost(self, error: Exception | None) -> None:
        """Nobody is there to be answered."""
        self._over = True
        self._waiting.clear()
        if self._cancel is not None:
            self._cancel()
        self._forget()
        self._house.closed(self, self._peer.address)

    def pause_writing(self) -> None:
        """The other side takes its answers more slowly than they come."""
        self._full, self._since = True, self._house.now()

    def resume_writing(self) -> None:
        """It has taken them."""
        self._full, self._since = False, self._house.now()
        self._next()

    # What its owner calls.

    @property
    def phase(self) -> Phase:
        """What it waits for."""
        if self._full:
            return Phase.WRITING
        if self._lingering:
            return Phase.LINGERING
        if self._working is not None:
            return Phase.WORKING
        return Phase.READING if self._reader.started else Phase.IDLE

    def look(self, now: float) -> None:
        """End it where it takes longer than it may."""
        phase, limits = self.phase, self._house.limits
        if not overdue(phase, now - self._since, limits):
            return
        if phase is Phase.READING and not self._over:
            self._refuse(Refusal(408, f"a request has to be here within {limits.request_s:g} s"))
        elif phase is Phase.IDLE and not self._over:
            self._transport.close()
        else:
            self._transport.abort()

    def drain(self) -> None:
        """Take no further request; end now where none is open."""
        if self.phase in {Phase.IDLE, Phase.LINGERING}:
            self._over = True
            self._transport.close()

    def abort(self) -> None:
        """End it now."""
        self._transport.abort()

    # One request after the other.

    def _next(self) -> None:
        """Begin with requests until one is not answered at once."""
        if self._stepping:
            return
        self._stepping = True
        while self._waiting and self._working is None and not self._full:
            parsed = self._waiting.popleft()
            request = self._request(parsed)
            self._working = parsed, request
            cancel = self._house.handle(request, self._answered)
            self._cancel = None if self._working is None else cancel
        self._stepping = False
        self._throttle()

    def _request(self, parsed: Parsed) -> Request:
        given = parsed.headers.get(b"x-request-id")
        named = given is not None and _REQUEST_ID.fullmatch(given)
        name = given.decode() if given is not None and named else self._house.request_id()
        return Request(parsed.method, parsed.path, parsed.query, parsed.headers, parsed.body, self._peer, name)

    def _throttle(self) -> None:
        """Read no more than the request after the one that is worked on."""
        if bool(self._waiting) == self._paused or self._transport.is_closing():
            return
        self._paused = not self._paused
        if self._paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _answered(self, response: Response) -> None:
        assert self._working is not None  # noqa: S101  (a reply is called once)
        parsed, request = self._working
        self._working = self._cancel = None
        if self._transport.is_closing():
            return
        self._house.room.give(len(parsed.body))
        self._reader.held -= len(parsed.body)
        self._since = self._house.now()
        keep = parsed.keep and not self._house.draining and (bool(self._waiting) or not self._over)
        self._write(response, request, keep=keep)
        if keep:
            self._next()
        else:
            self._over = True
            self._waiting.clear()
            self._transport.close()

    def _write(self, response: Response, request: Request, *, keep: bool) -> None:
        head = answer_head(response, request.id, self._house.date, keep=keep)
        if request.method == "HEAD":
            self._transport.write(head)
        elif response.size <= _JOINED:
            self._transport.write(b"".join((head, *response.parts)))
        else:
            self._transport.writelines((head, *response.parts))

    def _refuse(self, refusal: Refusal, *, linger: bool = True) -> None:
        """Say why in one answer, and end. Where another request is worked on, there is no place for that answer."""
        self._over = True
        self._waiting.clear()
        self._forget()
        self._house.refused(refusal.status)
        if self._working is not None:
            self._transport.abort()
            return
        headers = {} if refusal.retry_after_s is None else {"Retry-After": str(refusal.retry_after_s)}
        response = json_response(refusal.status, {"error": refusal.what}, headers)
        with contextlib.suppress(RuntimeError):  # uvloop, of a transport that is gone already
            head = answer_head(response, self._house.request_id(), self._house.date, keep=False)
            self._transport.write(head + response.parts[0])
            self._linger() if linger else self._transport.close()

    def _forget(self) -> None:
        """Let go of what was read, of which nothing comes any more."""
        self._house.room.give(self._reader.held)
        self._reader = RequestReader(self._house.limits, self._house.room)

    def _linger(self) -> None:
        if not self._transport.can_write_eof():
            self._transport.close()
            return
        self._lingering, self._since = True, self._house.now()
        self._transport.write_eof()


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
