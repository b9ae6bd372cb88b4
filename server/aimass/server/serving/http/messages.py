"""One request and one answer of HTTP/1.1 as values, and the bytes of an answer."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Final

import msgspec

__all__ = [
    "HTML",
    "JSON",
    "NO_HEADERS",
    "PHRASES",
    "TEXT",
    "Body",
    "Peer",
    "Request",
    "Response",
    "answer_head",
    "json_response",
]

JSON: Final = "application/json"
HTML: Final = "text/html; charset=utf-8"
TEXT: Final = "text/plain; charset=utf-8"
NO_HEADERS: Final[Mapping[str, str]] = {}
PHRASES: Final[Mapping[int, str]] = {
    200: "OK",
    204: "No Content",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    411: "Length Required",
    413: "Content Too Large",
    414: "URI Too Long",
    415: "Unsupported Media Type",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    507: "Insufficient Storage",
}

Body = bytes | bytearray | memoryview


@dataclasses.dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a connection: its address, and the name in its certificate if it showed one."""

    address: str
    certified: str = ""


class Request(msgspec.Struct):
    """A whole request. Names of `headers` are in small letters; `id` is what all sides call it in their logs."""

    method: str
    path: str
    query: str
    headers: dict[bytes, bytes]
    body: bytes
    peer: Peer
    id: str


class Response(msgspec.Struct):
    """An answer; `parts` follow one another as its body."""

    status: int
    parts: tuple[Body, ...] = ()
    kind: str = JSON
    headers: Mapping[str, str] = NO_HEADERS

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return sum(map(len, self.parts))


def json_response(status: int, value: object, headers: Mapping[str, str] = NO_HEADERS) -> Response:
    """An answer that holds `value` as JSON."""
    return Response(status, (msgspec.json.encode(value),), headers=headers)


def answer_head(response: Response, request_id: str, date: str, *, keep: bool) -> bytes:
    """The status line and headers; with `keep` the connection stays open for the next request."""
    head = _fixed(response.status, response.kind, keep)
    more = "".join([f"{name}: {value}\r\n" for name, value in response.headers.items()]) if response.headers else ""
    rest = f"Content-Length: {response.size}\r\nDate: {date}\r\nX-Request-Id: {request_id}\r\n{more}\r\n"
    return head + rest.encode("latin-1")


@functools.lru_cache(256)
def _fixed(status: int, kind: str, keep: bool) -> bytes:
    """What answers of one kind have in common, which are many a second."""
    close = "" if keep else "Connection: close\r\n"
    return (
        f"HTTP/1.1 {status} {PHRASES[status]}\r\nContent-Type: {kind}\r\n"
        f"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n{close}"
    ).encode("latin-1")
