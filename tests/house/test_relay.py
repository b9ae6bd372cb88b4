"""A relay that takes a service away from who comes through it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest
from scripts.benches.relay import Way, relayed


@contextlib.contextmanager
def _echo() -> Iterator[int]:
    """The port of a service that sends back what comes."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                one, _ = listening.accept()
                with one:
                    while data := one.recv(100):
                        one.sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def _asked(port: int, timeout: float = 5.0) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as one:
        one.sendall(b"hello")
        return one.recv(100)


def test_bytes_pass_and_do_not_while_it_is_cut_or_silent() -> None:
    with _echo() as port, relayed(port) as relay:
        assert _asked(relay.port) == b"hello"
        relay.set(Way.CUT)
        with contextlib.suppress(ConnectionError):
            assert _asked(relay.port) == b""
        relay.set(Way.SILENT)
        with pytest.raises(TimeoutError):
            _asked(relay.port, timeout=0.1)
        relay.set(Way.OPEN)
        assert _asked(relay.port) == b"hello"


def test_a_connection_that_is_open_ends_when_it_is_cut() -> None:
    with _echo() as port, relayed(port) as relay, socket.create_connection(("127.0.0.1", relay.port), 5.0) as one:
        one.sendall(b"hello")
        assert one.recv(100) == b"hello"
        relay.set(Way.CUT)
        with contextlib.suppress(ConnectionError):
            assert one.recv(100) == b""
