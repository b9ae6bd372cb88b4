"""An HTTP proxy before an S3 server that fails as it is told: one fault for each of the next requests that match."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

__all__ = ["Asked", "Fault", "FaultyStore", "faulty"]


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Fault:
    """What happens to one request for which `when` holds.

    `status` is answered instead; a `cut` lets so many bytes of the answer's body through; `lost` lets the request
    through and nothing of the answer; `silent` never answers.
    """

    when: Callable[[Asked], bool] = lambda _: True
    status: int = 0
    code: str = "InternalError"
    cut: int | None = None
    lost: bool = False
    silent: bool = False


@dataclass
class FaultyStore:
    """The proxy: its endpoint, the faults to come, and what was asked."""

    endpoint: str
    faults: list[Fault] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    rewrite: Callable[[Asked], tuple[int, str] | None] = lambda _: None
    """An answer of status and code for requests that the store as a whole refuses."""
    change: Callable[[dict[str, str]], None] = lambda _: None
    """Changes the headers on their way to the server."""
    path: Callable[[str], str] = lambda path: path
    """Changes path and query on their way to the server."""
    body: Callable[[Asked, bytes], bytes] = lambda _, body: body
    """Changes the body on its way back."""
    statuses: dict[int, int] = field(default_factory=dict)
    """Changes the status on its way back."""


@contextmanager
def faulty(upstream: str) -> Iterator[FaultyStore]:
    """A proxy before the server at `upstream`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = False
    server.block_on_close = True
    store = FaultyStore(f"http://127.0.0.1:{server.server_port}")
    over = threading.Event()
    _Handler.told[server.server_port] = (store, urlsplit(upstream).netloc, over)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield store
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()
        del _Handler.told[server.server_port]


class _Handler(BaseHTTPRequestHandler):
    told: dict[int, tuple[FaultyStore, str, threading.Event]] = {}

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""

    def _serve(self) -> None:
        assert isinstance(self.server, ThreadingHTTPServer)
        store, upstream, over = self.told[self.server.server_port]
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        asked = Asked(self.command, self.path, headers)
        store.asked.append(asked)
        fault = next((one for one in store.faults if one.when(asked)), Fault())
        if fault in store.faults:
            store.faults.remove(fault)
        refused = store.rewrite(asked)
        if fault.silent:
            over.wait()
        elif fault.status or refused:
            self._refuse(*(refused or (fault.status, fault.code)))
        else:
            store.change(headers)
            self._forward(store, upstream, headers, body, fault)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve  # noqa: N815

    def _forward(self, store: FaultyStore, upstream: str, headers: dict[str, str], body: bytes, fault: Fault) -> None:
        link = http.client.HTTPConnection(upstream, timeout=30)
        try:
            link.request(self.command, store.path(self.path), body, {**headers, "connection": "close"})
            answer = link.getresponse()
            data = store.body(Asked(self.command, self.path, headers), read := answer.read())
            if fault.lost:
                return
            self.send_response(store.statuses.get(answer.status, answer.status))
            for name, value in answer.getheaders():
                if name.lower() not in {"connection", "transfer-encoding", "content-length", "server", "date"}:
                    self.send_header(name, value)
            length = answer.getheader("content-length") if data == read else None
            self.send_header("content-length", length or str(len(data)))
            self.end_headers()
            self.wfile.write(data if fault.cut is None else data[: fault.cut])
            self.wfile.flush()
        finally:
            link.close()

    def _refuse(self, status: int, code: str) -> None:
        body = (
            f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>for AIDKEY and its signature</Message>"
            f"<AWSAccessKeyId>{self.headers.get('authorization', '')}</AWSAccessKeyId></Error>"
        ).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle(self) -> None:
        try:
            super().handle()
        except (TimeoutError, ConnectionError):
            self.close_connection = True
