"""One HTTP/1.1 connection that asks again and again: as little work a request as asyncio allows, for loads that share
their machine with what they measure."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from typing import Final, Self, cast

__all__ = ["Answer", "HttpCaller", "request_bytes"]

_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_END: Final = b"\r\n\r\n"


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """A status and a body."""

    status: int
    body: bytes


def request_bytes(host: str, path: str, body: bytes, token: str = "") -> bytes:
    """A POST of a JSON body as it goes over the wire."""
    bearer = f"Authorization: Bearer {token}\r\n" if token else ""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{bearer}"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class HttpCaller(asyncio.Protocol):
    """A connection, open as long as the context. One call at a time; the answer has a Content-Length."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._received = bytearray()

    async def __aenter__(self) -> Self:
        await asyncio.get_running_loop().create_connection(lambda: self, self._host, self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._transport is not None:
            self._transport.close()

    async def call(self, message: bytes) -> Answer:
        """Send a whole request and wait for its answer; raises `ConnectionError` where the other side hangs up."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the connection is closed")
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(message)
        return await self._waiting

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where to write."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        """Answer the call once all of its answer is here."""
        self._received += data
        head = self._received.find(_END)
        if head < 0:
            return
        length = _LENGTH.search(self._received, 0, head)
        end = head + len(_END) + (int(length[1]) if length else 0)
        if len(self._received) < end:
            return
        answer = Answer(int(self._received[9:12]), bytes(self._received[head + len(_END) : end]))
        del self._received[:end]
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(answer)

    def connection_lost(self, error: Exception | None) -> None:
        """Fail the call that waits."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error or ConnectionResetError("the other side hung up"))
