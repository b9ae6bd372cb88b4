"""A small HTTP listener for whoever watches a service: alive, ready, figures. It reads nothing and changes nothing.

Plain HTTP without a password, so it belongs on the loopback or behind something that guards it. It takes GET and HEAD
of three paths, a request of a few kilobytes, so many connections at once and each for so many seconds: a caller that
sends slowly, reads slowly or never ends costs a buffer and nobody else's time.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Protocol

from aimass.proto.errors import Unavailable
from aimass.proto.loopback import is_loopback
from aimass.proto.vitals import Vitals, beating
from aimass.proto.wire import split_address

__all__ = ["Reason", "Watch", "Watched", "listen", "watching"]

log = logging.getLogger("aimass.watch")
_REQUEST_BYTES: Final = 8_192
_CONNECTIONS: Final = 16
_PATIENCE_S: Final = 10.0
_JSON: Final = "application/json"
_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
_PHRASES: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Reason:
    """Why a service is not ready: a stable name and a sentence, neither with a path nor with anybody's data."""

    code: str
    what: str


class Watched(Protocol):
    """What a service tells of itself."""

    async def reasons(self) -> tuple[Reason, ...]:
        """Why it is not ready; none where it is."""
        ...

    async def figures(self) -> bytes:
        """Its meters as Prometheus reads them."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    kind: str = _JSON

    @staticmethod
    def of(status: int, value: object) -> _Answer:
        return _Answer(status, json.dumps(value).encode() + b"\n")

    def bytes(self, method: bytes) -> bytes:
        head = (
            f"HTTP/1.1 {self.status} {_PHRASES[self.status]}\r\nContent-Type: {self.kind}\r\n"
            f"Content-Length: {len(self.body)}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
            f"{'Allow: GET, HEAD' + chr(13) + chr(10) if self.status == 405 else ''}Connection: close\r\n\r\n"
        )
        return head.encode("ascii") + (b"" if method == b"HEAD" else self.body)


async def listen(address: str, watched: Watched) -> Watch:
    """Serve `watched` at HOST:PORT until `close`. Raises `Unavailable` where nobody can listen there."""
    host, port = split_address(address)
    watch = Watch(watched)
    try:
        await watch.open(host, port)
    except OSError as error:
        raise Unavailable(
            f"cannot listen: {error.strerror or type(error).__name__}",
            code="watch.port",
            value=address,
            cure="Choose an address of this machine and a free port for watch_listen.",
        ) from error
    if not is_loopback(host):
        log.warning("%s is open to others than this machine, over plain HTTP and without a password", address)
    return watch


@contextlib.asynccontextmanager
async def watching(address: str, watched: Watched, vitals: Vitals) -> AsyncIterator[Watch | None]:
    """Serve `watched` and feel the pulse until the block ends; None, and nothing to do, without an address."""
    if not address:
        yield None
        return
    async with beating(vitals):
        watch = await listen(address, watched)
        log.info("health and figures at http://%s:%d", split_address(address)[0], watch.port)
        try:
            yield watch
        finally:
            await watch.close()


class Watch:
    """The open listener."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def open(self, host: str, port: int) -> None:
        """Listen; raises `OSError`."""
        self._server = await asyncio.start_server(self._accept, host, port, limit=_REQUEST_BYTES, backlog=_CONNECTIONS)

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None  # noqa: S101  (asked of an open one)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Listen no more, and end what is open."""
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= _CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, one answer, and whatever the caller does, an end."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                method, answer = await self._answered(reader)
                writer.write(answer.bytes(method))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, EOFError):
            pass
        finally:
            with contextlib.suppress(RuntimeError):  # a loop that has been closed meanwhile
                writer.transport.abort()

    async def _answered(self, reader: asyncio.StreamReader) -> tuple[bytes, _Answer]:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return b"", _Answer.of(400, {"error": "the request is too long"})
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return b"", _Answer.of(400, {"error": "not a request of HTTP/1.1"})
        method, target, _ = words
        path = target.split(b"?", 1)[0].decode("latin-1")
        answer = self._routes.get(path)
        if answer is None:
            return method, _Answer.of(404, {"error": "no such path", "paths": list(self._routes)})
        if method not in (b"GET", b"HEAD"):
            return method, _Answer.of(405, {"error": "this listener is read"})
        try:
            return method, await answer()
        except Exception:
            log.exception("%s failed", path)
            return method, _Answer.of(500, {"error": "the service failed; its log says where"})

    @property
    def _routes(self) -> dict[str, Callable[[], Awaitable[_Answer]]]:
        return {"/healthz": self._alive, "/readyz": self._ready, "/metrics": self._figures}

    async def _alive(self) -> _Answer:
        """That this is answered is the answer: it needs the event loop that all work needs."""
        return _Answer.of(200, {"alive": True})

    async def _ready(self) -> _Answer:
        reasons = await self._watched.reasons()
        listed = [{"code": reason.code, "what": reason.what} for reason in reasons]
        return _Answer.of(503 if reasons else 200, {"ready": not reasons, "reasons": listed})

    async def _figures(self) -> _Answer:
        return _Answer(200, await self._watched.figures(), _TEXT)
