"""A front's handle on a worker: hand it batches, see it end, end it. Nothing here waits for a worker.

What a worker wrote is checked before it is believed; what it is told by tokens is told without blocking, since one
batch is underway at a time and the link's buffer takes a thousand tokens.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from aimass.proto.errors import IntegrityError, from_wire
from aimass.proto.servable import Array
from aimass.server.serving.dispatch.working import Reply
from aimass.server.serving.workers.memory import Written, copied, read, write
from aimass.server.serving.workers.protocol import (
    ANSWER,
    BATCH,
    DIGEST,
    TOKEN_BYTES,
    Opened,
    read_token,
    token,
)

__all__ = ["Handle", "Worker"]

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_NOTHING: Final = Written(0, 0)


class Handle:
    """A process that can be killed at any time, and whose number cannot come to mean another."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid, self._descriptor = pid, descriptor

    def kill(self) -> None:
        """End it at once, whatever it does."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)


class Worker:
    """A process that holds a version. It is asked one thing at a time and calls back from the event loop."""

    def __init__(
        self,
        handle: Handle,
        link: socket.socket,
        opened: Opened,
        memories: tuple[memoryview, memoryview],
        scratch: Path,
    ) -> None:
        self.opened = opened
        self.alive = True
        self._handle, self._link, self._scratch = handle, link, scratch
        self._requests, self._replies = memories
        self._answered: Callable[[Reply], None] | None = None
        self._lost: Callable[[], None] = _nothing
        self._ended = asyncio.Event()
        link.setblocking(False)
        asyncio.get_running_loop().add_reader(link.fileno(), self._readable)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._handle.pid

    @property
    def idle(self) -> bool:
        """Whether it lives and is asked nothing."""
        return self.alive and self._answered is None

    @property
    def resident_bytes(self) -> int:
        """What of it is in memory now; 0 where it is gone."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE_BYTES
        return 0

    def when_lost(self, lost: Callable[[], None]) -> None:
        """Call this once when it has ended by itself or was killed, and not by `end`."""
        self._lost = lost

    def compute(self, tensors: Mapping[str, Sequence[Array]], answered: Callable[[Reply], None]) -> None:
        """Hand a batch to an idle worker, each tensor in parts; raises `LimitExceeded` where it does not fit."""
        self._tell(token(BATCH, write(self._requests, tensors)), answered)

    def digest(self, answered: Callable[[Reply], None]) -> None:
        """Ask an idle worker for the SHA-256 of its parameters as they are in its memory, see `DIGEST`."""
        self._tell(token(DIGEST, _NOTHING), answered)

    def kill(self) -> None:
        """End it at once, whatever it does."""
        if self.alive:
            self._handle.kill()

    async def end(self) -> None:
        """Kill it and wait; nobody is told that it was lost."""
        self._lost = _nothing
        self.kill()
        await self._ended.wait()

    def _tell(self, word: bytes, answered: Callable[[Reply], None]) -> None:
        self._answered = answered
        try:
            self._link.send(word)
        except OSError:
            return  # it has ended, and its end is being read

    def _readable(self) -> None:
        try:
            data = self._link.recv(TOKEN_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        answered, self._answered = self._answered, None
        if len(data) != TOKEN_BYTES or answered is None:
            self._gone()
            return
        answered(self._reply(data))

    def _reply(self, data: bytes) -> Reply:
        kind, place = read_token(data)
        try:
            memory = copied(self._replies, place)
            return read(memory, place) if kind == ANSWER else from_wire(bytes(memory[place.header :]))
        except IntegrityError as error:
            return error

    def _gone(self) -> None:
        self._handle.kill()
        self._handle.close()
        self.alive = False
        asyncio.get_running_loop().remove_reader(self._link.fileno())
        self._link.close()
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._ended.set()
        self._lost()


def _nothing() -> None:
    pass
