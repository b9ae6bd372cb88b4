"""A probe of a service's health: one plain HTTP request over the loopback, answered within seconds or not."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Final

from aimass.proto.errors import printable
from aimass.proto.up.ports import HOST

__all__ = ["probe", "reasons_of"]

_PATIENCE_S: Final = 5.0
_MOST_BYTES: Final = 65_536


async def probe(port: int, ready: str, alive: str) -> tuple[str, ...] | None:
    """Why the service is not ready, nothing where it is; None where nobody answers HTTP in time at either path.

    Whether it is ready may hang on a store that is away. Who still answers at `alive` is not to be ended for that.
    """
    reasons = await _get(port, ready)
    if reasons is None and alive != ready and await _get(port, alive) is not None:
        return ("it lives, and does not say in time whether it is ready",)
    return reasons


async def _get(port: int, path: str) -> tuple[str, ...] | None:
    writer = None
    try:
        async with asyncio.timeout(_PATIENCE_S):
            reader, writer = await asyncio.open_connection(HOST, port, limit=_MOST_BYTES)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n".encode("ascii"))
            return reasons_of(await reader.read(_MOST_BYTES))
    except (OSError, TimeoutError):
        return None
    finally:
        if writer is not None:
            with contextlib.suppress(RuntimeError):  # of a loop that has been closed meanwhile
                writer.transport.abort()


def reasons_of(answer: bytes) -> tuple[str, ...] | None:
    """What an HTTP answer says: as `probe`."""
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(b"\r\n", 1)[0].split(b" ")
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        return None
    if words[1] == b"200":
        return ()
    try:
        told = tuple(printable(str(reason["what"]), 200) for reason in json.loads(body)["reasons"])
    except (ValueError, KeyError, TypeError):
        told = ()
    return told or (f"it answers with status {int(words[1])}",)
