"""A front's handle on a worker: start it, hand it batches, see it end, end it. Nothing here waits for a worker.

What a worker wrote is checked before it is believed; what it is told by tokens is told without blocking, since one
batch is underway at a time and the link's buffer takes a thousand tokens.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from aimass.proto.bases import own_bases
from aimass.proto.errors import AimassError, DeadlinePassed, IntegrityError, Unavailable, from_wire
from aimass.proto.frames import receive, send
from aimass.proto.home import ChildLimits
from aimass.proto.servable import Array
from aimass.proto.task import locate
from aimass.proto.values import canonical_json, decode_json
from aimass.server.serving.dispatch.seam import Source
from aimass.server.serving.dispatch.working import Reply
from aimass.server.serving.workers.memory import Written, copied, read, shared_memory, write
from aimass.server.serving.workers.protocol import (
    ANSWER,
    BATCH,
    DIGEST,
    TOKEN_BYTES,
    Fault,
    Open,
    Opened,
    read_token,
    token,
)

__all__ = ["Starting", "Worker", "start_worker"]

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_NOTHING: Final = Written(0, 0)
_NO_LIMITS: Final = ChildLimits()


@dataclasses.dataclass(frozen=True, slots=True)
class Starting:
    """Where and how workers are started: `folder` is for their scratch folders, `forbidden` a file out of their reach.

    `batch_bytes` is the size of each of the two memories that a worker shares; `start_s` bounds loading and warm-up.
    """

    folder: Path
    forbidden: Path
    limits: ChildLimits = _NO_LIMITS
    batch_bytes: int = 64 << 20
    start_s: float = 120.0
    warm: tuple[int, ...] = (1, 4)
    python: str = sys.executable


class Worker:
    """A process that holds a version. It is asked one thing at a time and calls back from the event loop."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        link: socket.socket,
        opened: Opened,
        memories: tuple[memoryview, memoryview],
        scratch: Path,
    ) -> None:
        self.opened = opened
        self.alive = True
        self._process, self._link, self._scratch = process, link, scratch
        self._requests, self._replies = memories
        self._answered: Callable[[Reply], None] | None = None
        self._lost: Callable[[], None] = _nothing
        self._ended = asyncio.Event()
        link.setblocking(False)
        asyncio.get_running_loop().add_reader(link.fileno(), self._readable)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

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
        self._process.kill()

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
        self.alive = False
        asyncio.get_running_loop().remove_reader(self._link.fileno())
        self._link.close()
        self.kill()
        self._process.wait()  # it closed the link or was killed: there is nothing to wait for
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._ended.set()
        self._lost()


def _nothing() -> None:
    pass


async def start_worker(source: Source, starting: Starting) -> Worker:
    """A worker that has loaded a version and is warm.

    Raises what the task raised, `IntegrityError` for another task or other parameters than the version's,
    `DeadlinePassed` where it is not ready in time, `Unavailable` where it died.
    """
    task = locate(source.task)
    scratch = Path(tempfile.mkdtemp(dir=starting.folder))
    memories = [shared_memory(starting.batch_bytes) for _ in range(2)]
    held = [descriptor for descriptor, _ in memories]
    ours, theirs = socket.socketpair()
    try:
        held.append(os.open(source.parameters, os.O_RDONLY | os.O_CLOEXEC))
        if task.base is not None:
            held.append(os.open(own_bases().path(task.base), os.O_RDONLY | os.O_CLOEXEC))
        process = _launched(starting, scratch, theirs)
        theirs.close()
        try:
            send(ours, canonical_json(_order(source, starting, scratch)), tuple(held))
            data, _ = await asyncio.wait_for(asyncio.to_thread(receive, ours), starting.start_s)
            return Worker(process, ours, _opened(data), (memories[0][1], memories[1][1]), scratch)
        except (AimassError, OSError, TimeoutError, asyncio.CancelledError) as error:
            process.kill()
            process.wait()
            ours.close()
            raise _why(error, starting) from error
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    finally:
        theirs.close()
        for descriptor in held:
            os.close(descriptor)


def _launched(starting: Starting, scratch: Path, link: socket.socket) -> subprocess.Popen[bytes]:
    """In the thread of the event loop, on whose life the worker's depends (see `confine`)."""
    return subprocess.Popen(
        [starting.python, "-I", "-m", "aimass.server.serving.workers.main", str(link.fileno())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=(link.fileno(),),
        env=_environment(scratch),
        cwd="/",
    )


def _order(source: Source, starting: Starting, scratch: Path) -> Open:
    return Open(
        task=source.task,
        task_digest=source.task_digest,
        digest=source.digest,
        device=source.device,
        scratch=str(scratch),
        forbidden=str(starting.forbidden),
        parent=os.getpid(),
        limits=starting.limits,
        memory_bytes=starting.batch_bytes,
        warm=starting.warm,
    )


def _opened(data: bytes) -> Opened:
    if data[:1] == b"F":
        raise from_wire(decode_json(Fault, data[1:], "a worker's fault").error.encode())
    return decode_json(Opened, data[1:], "a worker's first answer")


def _why(error: BaseException, starting: Starting) -> BaseException:
    if isinstance(error, TimeoutError):
        return DeadlinePassed(
            "the model was not loaded in time",
            code="serving.start",
            limit=f"{starting.start_s:g} s",
            cure="Raise `start_s` in the settings of serving where loading takes longer.",
        )
    if isinstance(error, OSError) or (isinstance(error, Unavailable) and error.code == "child.gone"):
        return Unavailable(
            "the worker died while it loaded the model",
            code="serving.start_died",
            cure="It may need more memory than there is, or than `memory_bytes` allows it.",
        )
    return error


def _environment(scratch: Path) -> dict[str, str]:
    """All that a worker's environment holds: nothing of the front's. A worker is one core's; more cores have more."""
    return {
        "PATH": "/usr/bin:/bin",
        "OMP_NUM_THREADS": "1",
        "LC_ALL": "C.UTF-8",
        "TMPDIR": str(scratch),
        "HOME": str(scratch),
    }
