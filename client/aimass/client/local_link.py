"""The owner's way to the running daemon: one request over the socket in the partner's folder."""

from __future__ import annotations

import argparse
import json
import os
import socket
from typing import Any

from aimass.client.owner_socket import SOCKET, TOKEN
from aimass.proto.errors import InternalError, Unavailable, from_parts

__all__ = ["ask_daemon"]


def ask_daemon(args: argparse.Namespace, **request: str) -> dict[str, Any]:
    """Its answer; raises `Unavailable` where it does not run, and what it refused."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            folder = os.open(args.dir, os.O_RDONLY | os.O_DIRECTORY)
            try:  # through the descriptor, because a socket's whole path may not be longer than 107 bytes
                link.connect(f"/proc/self/fd/{folder}/{SOCKET}")
            finally:
                os.close(folder)
            token = (args.dir / TOKEN).read_text("ascii")
            link.sendall(json.dumps(request | {"token": token}).encode() + b"\n")
            with link.makefile("rb") as answer:
                reply = json.loads(answer.readline())
    except (OSError, ValueError) as error:
        raise Unavailable(
            "the daemon is not running",
            code="client.not_running",
            value=args.dir,
            cure=f"aimass client start --dir {args.dir}",
        ) from error
    if not isinstance(reply, dict):
        raise InternalError("the daemon's answer cannot be read", code="client.answer")
    if "error" in reply:
        raise from_parts(reply["error"]["kind"], reply["error"]["what"], code=reply["error"]["code"])
    return reply
