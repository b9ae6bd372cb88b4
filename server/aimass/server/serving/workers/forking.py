"""Where workers are born: a process that has loaded what they need, does nothing itself, and forks at a word.

Started as `python -I -m aimass.server.serving.workers.forking FD MODULES`. To import torch takes seconds and two
hundred megabytes; a fork takes milliseconds and shares them. It has one thread, so that a fork copies all of it, holds
no key, and ends with its front, as its workers end with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import signal
import socket
import sys
from typing import Final

from aimass.proto.errors import Unavailable
from aimass.proto.frames import receive, send
from aimass.proto.values import canonical_json
from aimass.server.serving.workers.protocol import Born
from aimass.server.serving.workers.work import work

__all__ = ["main"]

_PR_SET_PDEATHSIG: Final = 1
_LOADED: Final = ("aimass.proto.bases", "aimass.proto.rows_servable", "aimass.proto.storage", "aimass.proto.task")


def main() -> None:
    """Fork a worker for each link that comes, until the front closes its own."""
    front = socket.socket(fileno=int(sys.argv[1]))
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for name in (*_LOADED, *filter(None, sys.argv[2].split(","))):
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)
    for number in (signal.SIGINT, signal.SIGTERM):  # a terminal or systemd sends it to all: the front drains first
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, _reap)
    while True:
        try:
            _, (descriptor,) = receive(front)
        except Unavailable:
            return
        link = socket.socket(fileno=descriptor)
        pid, handle = _forked(front, link)
        link.close()
        send(front, canonical_json(Born(pid=pid)), (handle,))
        os.close(handle)


def _forked(front: socket.socket, link: socket.socket) -> tuple[int, int]:
    """A worker's number and handle; the worker itself does not come back from here."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # a child that is reaped has no handle any more
    try:
        pid = os.fork()
        if pid:
            return pid, os.pidfd_open(pid)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        front.close()
        os.dup2(sys.stdout.fileno(), sys.stderr.fileno())  # nowhere: what a task prints may be a request's values
        work(link)
        code = 0
    finally:
        os._exit(code)  # whatever happens, no second nursery


def _reap(*_: object) -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


if __name__ == "__main__":
    main()
