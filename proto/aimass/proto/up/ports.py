"""Ports of this machine: which are free, and who holds one that is not."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from aimass.proto.errors import printable

__all__ = ["HOST", "choose", "holder", "is_free"]

HOST: Final = "127.0.0.1"
"""Nothing that `aimass up` starts is reached from another machine."""
_LISTENING: Final = "0A"


def is_free(port: int) -> bool:
    """Whether a service could listen there now; also against one that shares its port with whoever asks (gRPC does)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def choose(preferred: int, taken: Collection[int]) -> int:
    """`preferred` if it is free and none of `taken`, else, and for 0, a free one that the system chooses."""
    if preferred and preferred not in taken and is_free(preferred):
        return preferred
    while True:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = int(probe.getsockname()[1])
        if port not in taken:
            return port


def holder(port: int) -> str:
    """Who listens there, as `process 123 (python -m …)`; "" where that cannot be seen."""
    inodes = set(_listening(port))
    for process in Path("/proc").glob("[0-9]*") if inodes else ():
        with contextlib.suppress(OSError):  # of others, or gone
            if any(str(name.readlink()) in inodes for name in (process / "fd").iterdir()):
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                return f"process {process.name} ({printable(words.strip(), 60)})"
    return ""


def _listening(port: int) -> Iterator[str]:
    """Sockets that listen on a port, as /proc/PID/fd names them."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text("ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    yield f"socket:[{fields[9]}]"
