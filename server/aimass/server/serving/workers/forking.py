"""Where workers are born: a process that has loaded what they need, does nothing itself, and forks at a word.

Started as `python -I -m aimass.server.serving.workers.forking FD MODULES`. To import torch takes seconds and two
hundred megabytes; a fork takes milliseconds and shares them. It has one thread, so that a fork copies all of it, and
holds no key. When its front ends it kills the workers, whatever they do, and ends; when it ends itself they go on, and
see that their front ends by themselves.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Final

from aimass.proto.errors import Unavailable
from aimass.proto.frames import receive, send
from aimass.proto.values import canonical_json
from aimass.server.serving.workers.protocol import Born
from aimass.server.serving.workers.work import work

__all__ = ["main"]

_LOADED: Final = ("aimass.proto.bases", "aimass.proto.rows_servable", "aimass.proto.storage", "aimass.proto.task")


def main() -> None:
    """Fork a worker for each link that comes, until the front closes its own."""
    front = socket.socket(fileno=int(sys.argv[1]))
    gc.disable()
    for name in (*_LOADED, *filter(None, sys.argv[2].split(","))):
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)
    for number in (signal.SIGINT, signal.SIGTERM):  # a terminal or systemd sends it to all: the front drains first
        signal.signal(number, signal.SIG_IGN)
    gc.freeze()  # a collection in a worker writes to none of the pages that it shares
    workers: set[int] = set()
    signal.signal(signal.SIGCHLD, lambda *_: workers.difference_update(_reaped()))
    while True:
        try:
            _, (descriptor,) = receive(front)
        except Unavailable:
            break
        link = socket.socket(fileno=descriptor)
        pid, handle = _forked(front, link)
        workers.add(pid)
        link.close()
        send(front, canonical_json(Born(pid=pid)), (handle,))
        os.close(handle)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # the numbers of those that are not reaped are theirs
    for pid in workers:
        os.kill(pid, signal.SIGKILL)


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
        gc.enable()
        os.dup2(sys.stdout.fileno(), sys.stderr.fileno())  # nowhere: what a task prints may be a request's values
        work(link)
        code = 0
    finally:
        os._exit(code)  # whatever happens, no second nursery


def _reaped() -> Iterator[int]:
    """The numbers of workers that ended, which may now come to mean others."""
    with contextlib.suppress(ChildProcessError):
        while pid := os.waitpid(-1, os.WNOHANG)[0]:
            yield pid


if __name__ == "__main__":
    main()
