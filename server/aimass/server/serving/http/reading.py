"""Bytes of a connection become whole requests, within limits; no socket and no clock."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from typing import Final
from urllib.parse import unquote

import httptools

from aimass.server.serving.http.settings import HttpLimits

__all__ = ["Parsed", "Refusal", "RequestReader", "Room"]

_LONG_HEAD: Final = "the headers are too long"
_FEW_PIECES: Final = 10_000
_PIECE_BYTES: Final = 64
"""Pieces of a body beyond the first few have to be as large on average: each is a call, and tiny ones hold all up."""
_BUSY: Final = "the requests that are here already are as large as may be"


class Refusal(Exception):
    """A request that is answered before it is whole; the connection ends with it."""

    def __init__(self, status: int, what: str, retry_after_s: int | None = None) -> None:
        self.status, self.what, self.retry_after_s = status, what, retry_after_s
        super().__init__(what)


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


@dataclasses.dataclass(frozen=True, slots=True)
class Parsed:
    """A whole request. `keep` is whether the connection goes on after it."""

    method: str
    path: str
    query: str
    headers: dict[bytes, bytes]
    body: bytes
    keep: bool


class RequestReader:
    """The parser of one connection. What it took of `room` is `held`, until somebody gives it back."""

    def __init__(self, limits: HttpLimits, room: Room) -> None:
        self._limits, self._room = limits, room
        self._head_most = limits.head_bytes
        self._parser = httptools.HttpRequestParser(self)
        self._whole: list[Parsed] = []
        self._body: bytes | bytearray = b""
        self._target, self._headers = b"", dict[bytes, bytes]()
        self._head_bytes = self._body_bytes = self._unheard = self._pieces = 0
        self._headed = False
        self.held = 0
        self.started = self.upgraded = self.awaited = False
        """Whether a request is here in part, a tunnel was asked for, and who asks waits for a word."""

    def feed(self, data: bytes) -> list[Parsed]:
        """The requests that `data` completes; raises `Refusal`, after which nothing can be read any more."""
        most = self._head_most
        for place in range(0, len(data), most):
            part = data[place : place + most]
            while part and not self.upgraded:
                part = self._feed(part)
        whole, self._whole = self._whole, []
        return whole

    def _feed(self, data: bytes) -> bytes:
        """Some bytes; gives those that have to be fed once more.

        Those of a line that does not end are gathered by the parser, which says nothing of them. It ends where another
        protocol is asked for, before the body. None is spoken here, and the request stands (RFC 9110, section 7.8), so
        another parser reads it again without the asking.
        """
        self._unheard += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as asked:
            self.upgraded = self._tunnel
            head = self._head_without_upgrade()
            self._parser = httptools.HttpRequestParser(self)
            return head + data[asked.args[0] :]
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, Refusal):
                raise error.__context__ from None
            raise Refusal(400, "the request cannot be read") from error
        except httptools.HttpParserError as error:
            raise Refusal(400, "this is no request of HTTP/1.1") from error
        if self._unheard > self._head_most:
            raise self._too_long(431, _LONG_HEAD)
        return b""

    def _head_without_upgrade(self) -> bytes:
        close = b"connection: close\r\n" if not self._parser.should_keep_alive() else b""
        headers = b"".join(
            [b"%s: %s\r\n" % named for named in self._headers.items() if named[0] not in (b"upgrade", b"connection")]
        )
        method, version = self._parser.get_method(), self._parser.get_http_version().encode()
        return b"%s %s HTTP/%s\r\n%s%s\r\n" % (method, self._target, version, headers, close)

    @property
    def _tunnel(self) -> bool:
        return bool(self._parser.get_method() == b"CONNECT")

    # What the parser calls.

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._target, self._headers, self._body = b"", {}, b""
        self._head_bytes = self._body_bytes = 0
        self._headed, self.started = False, True

    def on_url(self, part: bytes) -> None:
        """Some of the target."""
        self._target += part
        self._unheard = 0
        self._head_bytes += len(part)
        if self._head_bytes > self._head_most:
            raise self._too_long(414, "the address is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; of several with a name the values stand in a list (RFC 9110, section 5.3).

        What comes after the body is measured and let go: it would change what the head said (section 6.5.1).
        """
        self._unheard = 0
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > self._head_most:
            raise self._too_long(431, _LONG_HEAD)
        if self._headed:
            return
        headers, name = self._headers, name.lower()
        headers[name] = headers[name] + b", " + value if name in headers else value

    def on_headers_complete(self) -> None:
        """Refuse a body that is too large before it is sent, and a request that is not clear for whom it is."""
        self._headed = True
        headers = self._headers
        host = headers.get(b"host")
        if (b"," in host) if host is not None else self._parser.get_http_version() == "1.1":
            raise Refusal(400, "a request of HTTP/1.1 has one header Host")  # RFC 9112, section 3.2
        length = headers.get(b"content-length")
        if length is not None and length.isdigit() and int(length) > self._limits.body_bytes:
            raise self._too_large()
        expect = headers.get(b"expect")
        self.awaited = expect is not None and expect.lower() == b"100-continue"

    def on_body(self, part: bytes) -> None:
        """Some of the body."""
        self._body_bytes += len(part)
        if self._body_bytes > self._limits.body_bytes:
            raise self._too_large()
        if not self._room.take(len(part)):
            raise Refusal(503, _BUSY, 1)
        self.held += len(part)
        self._unheard = 0
        if not self._body:
            self._body, self._pieces = part, 1
            return
        self._pieces += 1
        if self._pieces > _FEW_PIECES + self._body_bytes // _PIECE_BYTES:
            raise Refusal(400, f"the body comes in pieces of less than {_PIECE_BYTES} bytes")
        if isinstance(self._body, bytearray):
            self._body += part
        else:
            self._body = bytearray(self._body) + part

    def on_message_complete(self) -> None:
        """A whole request, or the head of one that asks for another protocol: see `_feed`."""
        parser = self._parser
        if parser.should_upgrade() and not self._tunnel:
            return
        self._unheard = 0
        self.started = self.awaited = False
        body, self._body = bytes(self._body), b""
        path, query = _path_and_query(self._target)
        method = parser.get_method().decode("ascii")
        self._whole.append(Parsed(method, path, query, self._headers, body, parser.should_keep_alive()))

    def _too_long(self, status: int, what: str) -> Refusal:
        return Refusal(status, f"{what}: at most {self._head_most} bytes")

    def _too_large(self) -> Refusal:
        return Refusal(413, f"the body is too large: at most {self._limits.body_bytes} bytes")


@functools.lru_cache(256)
def _path_and_query(target: bytes) -> tuple[str, str]:
    """Of `/path?query`, or of a whole URL as proxies send it."""
    if not target.startswith(b"/"):
        with contextlib.suppress(httptools.HttpParserInvalidURLError):
            url = httptools.parse_url(target)
            target = (url.path or b"/") + (b"?" + url.query if url.query else b"")
    path, _, query = target.decode("latin-1").partition("?")
    return (unquote(path) if "%" in path else path), query
