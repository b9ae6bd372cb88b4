"""One HTTP request to a listener of ours, as bytes and as parts."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request
from typing import Any
from urllib.error import HTTPError

__all__ = ["fetched", "get", "raw_request", "samples"]

_SAMPLE = re.compile(r"^([a-z_]+)(?:\{(.*)\})? (\S+)$")


async def raw_request(port: int, sent: bytes, seconds: float = 5.0) -> bytes:
    """What comes back until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        return await asyncio.wait_for(reader.read(), seconds)
    finally:
        writer.close()


async def get(port: int, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body."""
    answer = await raw_request(port, f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, body


def fetched(port: int, path: str) -> tuple[int, Any]:
    """Status and body from another process; JSON where it is JSON."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            status, body, kind = answer.status, answer.read(), answer.headers["Content-Type"]
    except HTTPError as error:
        status, body, kind = error.code, error.read(), error.headers["Content-Type"]
    return status, json.loads(body) if kind == "application/json" else body.decode()


def samples(text: str) -> dict[tuple[str, str], float]:
    """Every sample by name and labels as they are written."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            match = _SAMPLE.match(line)
            assert match is not None, line
            found[match[1], match[2] or ""] = float(match[3])
    return found
