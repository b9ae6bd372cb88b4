"""The daemon's socket for its owner: one line of JSON in, one out, for whoever can read the folder's token."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from aimass.proto.durable import UNINTERRUPTED, write_file
from aimass.proto.errors import AimassError, Refused

__all__ = ["SOCKET", "TOKEN", "OwnerSocket"]

SOCKET: Final = "control.sock"
TOKEN: Final = "state/control.token"  # noqa: S105  (a file's name)
Command = Callable[[dict[str, str]], Awaitable[dict[str, Any]]]


def _bound(folder: Path) -> socket.socket:
    """The socket, for its owner alone. Nothing here waits: the mask of new files is the whole process's."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    old = os.umask(0o177)
    try:
        # Through the descriptor, because a socket's whole path may not be longer than 107 bytes.
        bound.bind(f"/proc/self/fd/{held}/{SOCKET}")
    except BaseException:
        bound.close()
        raise
    finally:
        os.umask(old)
        os.close(held)
    return bound


class OwnerSocket:
    """Open from `listen` to `close`; `command` answers, and what it raises is told."""

    def __init__(self, folder: Path, command: Command) -> None:
        self._folder, self._command = folder, command
        self._token = secrets.token_hex(32)
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        """Write a fresh token and open the socket, for the owner of the folder alone."""
        write_file(self._folder / TOKEN, self._token.encode(), UNINTERRUPTED, "client.token")
        (self._folder / SOCKET).unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._answer, sock=_bound(self._folder))

    def close(self) -> None:
        """Answer nothing more."""
        if self._server is not None:
            self._server.close()
        (self._folder / SOCKET).unlink(missing_ok=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(json.dumps(await self._reply(reader)).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def _reply(self, reader: asyncio.StreamReader) -> dict[str, Any]:
        try:
            request = json.loads(await reader.readline())
            # A training child has our user id and could reach the socket; it cannot read the token.
            if not hmac.compare_digest(str(request["token"]), self._token):
                raise Refused("not this daemon's owner", code="control.token", cure=f"See {TOKEN} of its folder.")
            return await self._command(request)
        except AimassError as error:
            return {"error": {"kind": error.kind, "code": error.code, "what": error.sentence()}}
        except (ValueError, KeyError, TypeError, RecursionError):
            return {"error": {"kind": "bad_input", "code": "control.request", "what": "not a request"}}
