"""Name nodes and data nodes on the loopback, as WebHDFS.html of Hadoop 3 publishes their protocol.

A write and a read take two steps: the name node answers 307 with the address of a data node, which takes or gives the
bytes. Errors are JSON objects `RemoteException`. Of several name nodes one is active, and the others answer with
StandbyException. It is judged by Hadoop's own Java client, which passes the suite of object stores against it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.support.webhdfs.faults import Fault, Faults, Kind
from tests.support.webhdfs.namespace import Namespace, Remote
from tests.support.webhdfs.operations import PREFIX, Answer, Request, name_node

_BLOCK: Final = 1 << 16


class Cluster:
    """Some name nodes and one data node; `faults` go wrong, `requests` is what came."""

    def __init__(
        self,
        name_nodes: int = 1,
        namespace: Namespace | None = None,
        port: int = 0,
        data_nodes: int = 1,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.namespace, self.tls = namespace or Namespace(), tls
        self.active, self.faults = 0, Faults()
        self.requests: list[Request] = []
        self.token: str | None = None
        """If there is one, whoever does not show it is refused."""
        self.typed = True
        """Whether JSON says that it is: the client in Spark 4.3's jars lacks the class that would read that header."""
        self.options, self.sends_to = True, "https" if tls else "http"
        """Whether RENAME knows options, as HttpFS does not, and the scheme of the data node's address."""
        self.before: Callable[[Request], object] = lambda _: None
        """Called before each request is done: what somebody else does in that moment."""
        self.closing = threading.Event()
        self.late: list[Callable[[], object]] = []
        self._names = [
            _Server(self, number, data=False, port=port if not number else 0) for number in range(name_nodes)
        ]
        self._data = [_Server(self, number, data=True) for number in range(data_nodes)]

    def __enter__(self) -> Cluster:
        for one in (*self._names, *self._data):
            one.open()
        return self

    def __exit__(self, *raised: object) -> None:
        self.closing.set()
        for one in (*self._names, *self._data):
            one.close()

    @property
    def ports(self) -> list[int]:
        """Of the name nodes."""
        return [one.port for one in self._names]

    def data_node(self, excluded: str) -> str:
        """The address of the first one that is not excluded; the name node does not know which are gone."""
        found = [address for one in self._data if (address := f"127.0.0.1:{one.port}") not in excluded.split(",")]
        if not found:
            raise Remote("java.io.IOException", "Failed to find datanode, suggest to check cluster health.")
        return f"{self.sends_to}://{found[0]}"

    @property
    def url(self) -> str:
        """Of the root, over all name nodes."""
        return f"{'swebhdfs' if self.tls else 'webhdfs'}://{','.join(f'127.0.0.1:{port}' for port in self.ports)}/"

    def stop(self, name_node: int) -> None:
        """End a name node, as a machine that is gone."""
        self._names[name_node].close()

    def stop_data(self, data_node: int) -> None:
        """End a data node."""
        self._data[data_node].close()

    def asked(self, op: str) -> int:
        """How many requests for an operation came to name nodes."""
        return sum(one.op == op and not one.data for one in self.requests)


@contextlib.contextmanager
def started() -> Iterator[str]:
    """The URL of a cluster in a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.webhdfs"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, cluster: Cluster, number: int, *, data: bool, port: int = 0) -> None:
        self.cluster, self.number, self.data = cluster, number, data
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)
        if cluster.tls is not None:
            self.socket = cluster.tls.wrap_socket(self.socket, server_side=True)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def open(self) -> None:
        self._thread.start()

    def close(self) -> None:
        if self._thread.is_alive():
            self.shutdown()
            self.server_close()
            for one in list(self._open):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is nothing to tell."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing on stderr."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        arguments = {name.lower(): value for name, value in parse_qsl(url.query, keep_blank_values=True)}
        request = Request(
            self.command,
            arguments.pop("op", "").upper(),
            unquote(url.path).removeprefix(PREFIX) or "/",
            arguments if self.server.cluster.options else {**arguments, "renameoptions": ""},
            self.server.number,
            self.server.data,
        )
        cluster = self.server.cluster
        cluster.requests.append(request)
        fault = cluster.faults.take(request.op, data=request.data, node=request.node)
        try:
            if fault is None:
                self._say(self._done(request))
                self._catch_up()
            else:
                self._fail(fault, request)
        except ConnectionError:
            self.close_connection = True

    do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815  (the base class looks for these names)

    def _done(self, request: Request) -> Answer:
        self.server.cluster.before(request)
        if not self.path.startswith((f"{PREFIX}/", f"{PREFIX}?")):
            return Answer(b"<html>Not Found</html>", 404, (("Content-Type", "text/html"),))
        try:
            self._check(request)
            if request.data:
                return {"CREATE": self._create, "OPEN": self._open}[request.op](request)
            return name_node(self.server.cluster.namespace, request, self.server.cluster.data_node)
        except Remote as error:
            return Answer.error(error)

    def _check(self, request: Request) -> None:
        cluster = self.server.cluster
        if not request.data and cluster.active != request.node:
            raise Remote(
                "org.apache.hadoop.ipc.StandbyException",
                "Operation category READ is not supported in state standby. Visit https://s.apache.org/sbnn-error",
            )
        if cluster.token is not None and request.arguments.get("delegation") != cluster.token:
            raise _who_is_that(request)

    def _create(self, request: Request) -> Answer:
        namespace = self.server.cluster.namespace
        self.close_connection = True
        self.send_response_only(100)  # before anything is known, and whether it was asked for or not, as data nodes do
        self.end_headers()
        inode = namespace.create(request.path, secrets.token_hex(8), overwrite=request.true("overwrite"))
        body = self._body()
        try:
            for block in body:
                namespace.append(inode, block)
        except Remote:
            for _ in body:  # so that the answer is read: one who still sends would be cut off
                pass
            raise
        finally:
            namespace.complete(inode)  # a writer that is cut off leaves what came, as a data node does
        return Answer(status=201, headers=(("Location", f"hdfs://127.0.0.1:8020{request.path}"),))

    def _open(self, request: Request) -> Answer:
        namespace = self.server.cluster.namespace
        with namespace.lock:
            data = bytes(namespace.status(request.path).data)
        start = request.number("offset", 0)
        self.close_connection = True
        return Answer(data[start : start + request.number("length", len(data))])

    def _body(self) -> Iterator[bytes]:
        """What is sent up, by its length or in chunks; a link that ends before is an error."""
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            yield from self._exactly(int(self.headers.get("Content-Length", 0)))
            return
        while size := int(self.rfile.readline().partition(b";")[0] or b"x", 16):
            yield from self._exactly(size)
            self.rfile.readline()
        self.rfile.readline()

    def _exactly(self, size: int) -> Iterator[bytes]:
        while size:
            block = self.rfile.read1(min(size, _BLOCK))
            if not block:
                raise ConnectionResetError
            size -= len(block)
            yield block

    def _say(self, answer: Answer, *, length: bool = True) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers:
            if self.server.cluster.typed or name != "Content-Type":
                self.send_header(name, value)
        if length:
            self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection or not length:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)

    def _fail(self, fault: Fault, request: Request) -> None:
        self.close_connection = True
        if fault.kind is Kind.STATUS:
            self._say(Answer(b"<html>proxy</html>", fault.status, (("Content-Type", "text/html"),)))
        elif fault.kind is Kind.REMOTE and fault.remote is not None:
            self._say(Answer.error(fault.remote))
        elif fault.kind is Kind.HANG:
            self.server.cluster.closing.wait()
        elif fault.kind is Kind.LOST:
            self._done(request)
        elif fault.kind is Kind.LATE:
            self.server.cluster.late.append(lambda: self._done(request))
        elif fault.kind in {Kind.SHORT, Kind.UNFRAMED}:
            self._cut_short(fault, request)

    def _cut_short(self, fault: Fault, request: Request) -> None:
        if request.method == "PUT":
            self.rfile = _Short(self.rfile, fault.at_byte, whole=fault.kind is Kind.UNFRAMED)  # type: ignore[assignment]
            answer = self._done(request)
            if fault.kind is Kind.UNFRAMED:
                self._say(answer)
            return
        answer = self._done(request)
        body = answer.body[: fault.at_byte]
        framed = fault.kind is Kind.SHORT
        headers = (*answer.headers, ("Content-Length", str(len(answer.body)))) if framed else answer.headers
        self._say(dataclasses.replace(answer, body=body, headers=headers), length=False)

    def _catch_up(self) -> None:
        late = self.server.cluster.late
        while late:
            late.pop(0)()


class _Short:
    """A link that ends after some bytes of a body in chunks, or looks as if the body were over there (`whole`)."""

    def __init__(self, file: Any, left: int, *, whole: bool) -> None:
        self._file, self._left, self._whole = file, left, whole

    def readline(self) -> bytes:
        line = bytes(self._file.readline())
        if self._whole and self._left == 0:
            return b"0"
        if self._whole and line.strip():
            return b"%x" % min(int(line, 16), self._left)
        return line

    def read1(self, size: int) -> bytes:
        block = bytes(self._file.read1(min(size, self._left)))
        self._left -= len(block)
        return block


def _who_is_that(request: Request) -> Remote:
    if "delegation" in request.arguments:
        return Remote(
            "java.lang.SecurityException",
            "Failed to obtain user group information: org.apache.hadoop.security.token.SecretManager$InvalidToken: "
            "token (token for alice: HDFS_DELEGATION_TOKEN owner=alice) is expired",
        )
    return Remote("org.apache.hadoop.security.AccessControlException", "SIMPLE authentication is not enabled")
