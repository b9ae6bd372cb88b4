"""An S3 server (moto) as a process of its own, for tests and benches: its objects are in its memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import IO

__all__ = ["KEYS", "buckets", "make_bucket"]

KEYS = {"AWS_ACCESS_KEY_ID": "AKIATESTKEY", "AWS_SECRET_ACCESS_KEY": "geheim-TESTSECRET"}
"""Environment of who speaks to it; it lets anybody in."""


@contextmanager
def buckets() -> Iterator[str]:
    """The endpoint of a server that runs as long as the context."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    server = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1"}
    )
    assert server.stderr is not None
    # It writes a line for each request, and would wait for somebody to read them.
    reader = Thread(target=deque, args=(server.stderr, 0))
    try:
        endpoint = _endpoint(server.stderr)
        reader.start()
        yield endpoint
    finally:
        server.kill()
        server.wait()
        if reader.ident is not None:
            reader.join()
        server.stderr.close()


def make_bucket(endpoint: str, name: str) -> None:
    """An empty bucket."""
    with urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{name}", method="PUT"), timeout=30):
        pass


def _endpoint(said: IO[str]) -> str:
    for line in said:
        if found := re.search(r"Running on (http://127\.0\.0\.1:\d+)", line):
            return found[1]
    raise RuntimeError("the S3 server did not start")
