"""The demo's end: requests without a pause while the next version takes over, each counted where it belongs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from scripts.demos.serving import swap_under_load


class _Model(ThreadingHTTPServer):
    """Answers as the version that it holds, and fails one request after the swap."""

    daemon_threads = True
    version = 1
    fails = False


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Model

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"model": "heart", "version": self.server.version}).encode()
        self.send_response(503 if self.server.fails else 200)
        self.server.fails = False
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (as the base class has it)
        pass


@pytest.fixture
def model() -> Iterator[_Model]:
    with _Model(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_swap_happens_once_under_load_and_every_answer_is_counted(model: _Model) -> None:
    swaps = []

    def swap() -> None:
        swaps.append(model.version)
        model.version, model.fails = 2, True

    counter = swap_under_load(model.server_port, swap, enough=20)
    assert swaps == [1]
    assert counter.by_version[1] >= 20
    assert counter.by_version[2] >= 20
    assert counter.failed == 1
