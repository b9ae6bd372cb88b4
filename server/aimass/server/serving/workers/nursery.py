"""A front's handle on its nursery: workers are started from it, and it again where it has ended."""

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
from pathlib import Path
from typing import Final

from aimass.proto.bases import own_bases
from aimass.proto.errors import DeadlinePassed, Unavailable, from_wire
from aimass.proto.frames import receive, received, send
from aimass.proto.home import ChildLimits
from aimass.proto.task import locate
from aimass.proto.values import canonical_json, decode_json
from aimass.server.serving.dispatch.seam import Source
from aimass.server.serving.workers.memory import shared_memory
from aimass.server.serving.workers.process import Handle, Worker
from aimass.server.serving.workers.protocol import Born, Fault, Open, Opened

__all__ = ["Nursery", "Starting"]

_NO_LIMITS: Final = ChildLimits()
_ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}
"""All that a worker's environment holds: nothing of the front's. A worker is one core's; more cores have more."""


@dataclasses.dataclass(frozen=True, slots=True)
class Starting:
    """How workers are started: `folder` is for their scratch folders, and for a file that must be out of their reach.

    `batch_bytes` is the size of each of the two memories that a worker shares with its front; `start_s` bounds loading
    and warm-up, which computes batches of `warm` rows. The nursery imports `preload` once for all workers: where no
    task needs torch, nothing saves two seconds and 200 MB.
    """

    folder: Path
    limits: ChildLimits = _NO_LIMITS
    batch_bytes: int = 64 << 20
    start_s: float = 120.0
    warm: tuple[int, ...] = (1, 4)
    preload: tuple[str, ...] = ("torch",)
    python: str = sys.executable


class Nursery:
    """Starts workers. Use it in one event loop."""

    def __init__(self, starting: Starting) -> None:
        self._starting = starting
        self._forbidden = starting.folder / "forbidden"
        self._forbidden.touch(mode=0o600)
        self._process: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None
        self._asking = asyncio.Lock()

    def begin(self) -> None:
        """Start its process now, so that it is ready when the first worker is asked for."""
        if self._process is None:
            self._launch()

    async def start(self, source: Source) -> Worker:
        """A worker that has loaded a version and is warm.

        Raises what the task raised, `IntegrityError` for another task or other parameters than the version's,
        `DeadlinePassed` where it is not ready in time, `Unavailable` where it died, `OSError` for a file that cannot be
        opened.
        """
        scratch = Path(tempfile.mkdtemp(dir=self._starting.folder))
        try:
            async with asyncio.timeout(self._starting.start_s):
                return await self._start(source, scratch)
        except BaseException as error:
            shutil.rmtree(scratch, ignore_errors=True)
            if isinstance(error, TimeoutError):
                raise _late(self._starting.start_s) from error
            raise

    async def _start(self, source: Source, scratch: Path) -> Worker:
        with contextlib.ExitStack() as lent, contextlib.ExitStack() as made:
            memories = [shared_memory(self._starting.batch_bytes) for _ in range(2)]
            descriptors = [descriptor for descriptor, _ in memories]
            for descriptor in descriptors:
                lent.callback(os.close, descriptor)
            files = await asyncio.to_thread(_files, source)  # a task is found by walking all that is installed
            descriptors += [lent.enter_context(path.open("rb")).fileno() for path in files]
            ours, theirs = socket.socketpair()
            made.callback(ours.close)
            born = asyncio.ensure_future(self._born(theirs))
            handle, parent = await asyncio.shield(
                born
            )  # who stops waiting leaves a worker that sees no front, and ends
            made.callback(handle.close)
            made.callback(handle.kill)
            order = canonical_json(self._order(source, scratch, parent))
            opened = _opened(await _exchange(ours, order, tuple(descriptors)))
            made.pop_all()
            return Worker(handle, ours, opened, (memories[0][1], memories[1][1]), scratch)

    async def _born(self, link: socket.socket) -> tuple[Handle, int]:
        """A process behind `link` that waits for its order, and the number of its parent."""
        with link:
            async with self._asking:
                if self._process is None or self._process.poll() is not None:
                    self._launch()
                try:
                    return await self._forked(link)
                except (Unavailable, OSError):  # it ended since
                    self._launch()
                try:
                    return await self._forked(link)
                except (Unavailable, OSError) as error:
                    raise _died("the process that starts workers cannot be started") from error

    async def _forked(self, link: socket.socket) -> tuple[Handle, int]:
        assert self._link is not None  # noqa: S101  (made by `_launch`)
        assert self._process is not None  # noqa: S101
        data, (handle,) = await asyncio.to_thread(_told, self._link, link)
        return Handle(decode_json(Born, data, "the nursery's answer").pid, handle), self._process.pid

    def _launch(self) -> None:
        """Start its process, another than the one that ended."""
        self.close()
        self._link, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [
                    self._starting.python,
                    "-I",
                    "-m",
                    "aimass.server.serving.workers.forking",
                    str(theirs.fileno()),
                    ",".join(self._starting.preload),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=_ENVIRONMENT,
                cwd="/",
            )

    def close(self) -> None:
        """End the nursery; its workers are ended by who holds them."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._link is not None:
            self._link.close()
        self._process = self._link = None

    def _order(self, source: Source, scratch: Path, parent: int) -> Open:
        return Open(
            task=source.task,
            task_digest=source.task_digest,
            digest=source.digest,
            device=source.device,
            scratch=str(scratch),
            forbidden=str(self._forbidden),
            parent=parent,
            limits=self._starting.limits,
            memory_bytes=self._starting.batch_bytes,
            warm=self._starting.warm,
        )


def _told(nursery: socket.socket, link: socket.socket) -> tuple[bytes, tuple[int, ...]]:
    send(nursery, b"{}", (link.fileno(),))
    return receive(nursery)


async def _exchange(link: socket.socket, order: bytes, descriptors: tuple[int, ...]) -> bytes:
    try:
        send(link, order, descriptors)  # a few hundred bytes, which do not block
        link.setblocking(False)
        return await received(link)
    except (OSError, Unavailable) as error:
        raise _died("the worker died while it loaded the model") from error


def _files(source: Source) -> list[Path]:
    """The parameters, and the task's base where it has one."""
    base = locate(source.task).base
    return [source.parameters, *(() if base is None else (own_bases().path(base),))]


def _opened(data: bytes) -> Opened:
    if data[:1] == b"F":
        raise from_wire(decode_json(Fault, data[1:], "a worker's fault").error.encode())
    return decode_json(Opened, data[1:], "a worker's first answer")


def _died(what: str) -> Unavailable:
    return Unavailable(
        what,
        code="serving.start_died",
        cure="It may need more memory than there is, or than `memory_bytes` allows it.",
    )


def _late(start_s: float) -> DeadlinePassed:
    return DeadlinePassed(
        "the model was not loaded in time",
        code="serving.start",
        limit=f"{start_s:g} s",
        cure="Raise `start_s` in the settings of serving where loading takes longer.",
    )
