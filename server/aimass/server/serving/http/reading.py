"""Bytes of a connection become whole requests, within limits; no socket and no clock."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Final
from urllib.parse import unquote

import httptools

from aimass.server.serving.http.settings import HttpLimits

__all__ = ["Parsed", "Refusal", "RequestReader", "Room"]

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
        self._parser = httptools.HttpRequestParser(self)
        self._whole: list[Parsed] = []
        self._body: list[bytes] = []
        self._target, self._headers = b"", dict[bytes, bytes]()
        self._head_bytes = self._body_bytes = 0
        self.held = 0
        self.started = self.upgraded = self.awaited = False
        """Whether a request is here in part, another protocol was asked for, and who asks waits for a word."""

    def feed(self, data: bytes) -> list[Parsed]:
        """The requests that `data` completes; raises `Refusal`, after which nothing can be read any more."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # what was asked for is not spoken here; the request stands as it is
            self.upgraded = True
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, Refusal):
                raise error.__context__ from None
            raise Refusal(400, "the request cannot be read") from error
        except httptools.HttpParserError as error:
            raise Refusal(400, "this is no request of HTTP/1.1") from error
        whole, self._whole = self._whole, []
        return whole

    # What the parser calls.

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._target, self._headers, self._body = b"", {}, []
        self._head_bytes = self._body_bytes = 0
        self.started = True

    def on_url(self, part: bytes) -> None:
        """Some of the target."""
        self._target += part
        self._measure(len(part), 414, "the address is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; of several with a name the values stand in a list (RFC 9110, section 5.3)."""
        self._measure(len(name) + len(value) + 4, 431, "the headers are too long")
        headers, name = self._headers, name.lower()
        headers[name] = headers[name] + b", " + value if name in headers else value

    def on_headers_complete(self) -> None:
        """Refuse a body that is too large before it is sent."""
        length = self._headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._limits.body_bytes:
            raise self._too_large()
        self.awaited = self._headers.get(b"expect", b"").lower() == b"100-continue"

    def on_body(self, part: bytes) -> None:
        """Some of the body."""
        self._body_bytes += len(part)
        if self._body_bytes > self._limits.body_bytes:
            raise self._too_large()
        if not self._room.take(len(part)):
            raise Refusal(503, _BUSY, 1)
        self.held += len(part)
        self._body.append(part)

    def on_message_complete(self) -> None:
        """A whole request."""
        self.started = self.awaited = False
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        path, query = _path_and_query(self._target)
        method = self._parser.get_method().decode("ascii")
        self._whole.append(Parsed(method, path, query, self._headers, body, self._parser.should_keep_alive()))

    def _measure(self, size: int, status: int, what: str) -> None:
        self._head_bytes += size
        if self._head_bytes > self._limits.head_bytes:
            raise Refusal(status, f"{what}: at most {self._limits.head_bytes} bytes")

    def _too_large(self) -> Refusal:
        return Refusal(413, f"the body is too large: at most {self._limits.body_bytes} bytes")


def _path_and_query(target: bytes) -> tuple[str, str]:
    """Of `/path?query`, or of a whole URL as proxies send it."""
    if not target.startswith(b"/"):
        with contextlib.suppress(httptools.HttpParserInvalidURLError):
            url = httptools.parse_url(target)
            target = (url.path or b"/") + (b"?" + url.query if url.query else b"")
    path, _, query = target.decode("latin-1").partition("?")
    return (unquote(path) if "%" in path else path), query
