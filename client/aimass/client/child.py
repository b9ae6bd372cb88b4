"""The daemon's handle on its training child: start it warm, give it orders, end it. Never blocks the loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import Final, Protocol, TypeVar

from aimass.client.shards import resolve
from aimass.client.worker_protocol import ChildFault, Open, Opened, Order, Result, receive, sealed_view, send
from aimass.proto.errors import AimassError, InternalError
from aimass.proto.manifest import ShardManifest
from aimass.proto.task import TaskSource
from aimass.proto.values import Value, canonical_json, decode_json

__all__ = ["Child", "ChildFailed", "Worker", "start_child"]

log = logging.getLogger("aimass.client")
V = TypeVar("V", bound=Value)
_START_S: Final = 120.0


class ChildFailed(InternalError):
    """The child could not do it. The message holds a code and a place, never a row; the rest is in the local log."""

    kind = "internal"


class Worker(Protocol):
    """What a session needs of a child."""

    @property
    def opened(self) -> Opened:
        """Device and confinement in force."""
        ...

    async def work(self, order: Order, model: Path, max_bytes: int) -> memoryview:
        """Do an order on the model in this file; the encoded contribution."""
        ...

    async def stop(self) -> None:
        """End it."""
        ...


class Child:
    """A running child."""

    def __init__(self, process: asyncio.subprocess.Process, link: socket.socket, opened: Opened, scratch: Path) -> None:
        self._process, self._link, self._opened, self._scratch = process, link, opened, scratch
        self._busy = asyncio.Lock()

    @property
    def opened(self) -> Opened:
        """Device and confinement in force."""
        return self._opened

    async def work(self, order: Order, model: Path, max_bytes: int) -> memoryview:
        """One order at a time; raises `ChildFailed`, or `Unavailable` where the child has died."""
        async with self._busy:
            descriptor = os.open(model, os.O_RDONLY | os.O_CLOEXEC)
            try:
                await asyncio.to_thread(send, self._link, canonical_json(order), (descriptor,))
            finally:
                os.close(descriptor)
            data, descriptors = await asyncio.to_thread(receive, self._link)
            _expect(data, b"R", Result)
            return sealed_view(descriptors[0], max_bytes)

    async def stop(self) -> None:
        """Kill it: it holds nothing that could be lost."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        self._link.close()
        shutil.rmtree(self._scratch, ignore_errors=True)


def _expect(data: bytes, tag: bytes, kind: type[V]) -> V:
    if data[:1] == b"F":
        fault = decode_json(ChildFault, data[1:], "a fault of the training child")
        log.error("the training child failed:\n%s", fault.detail)
        raise ChildFailed(f"the training child failed at {fault.place}", code=fault.code)
    if data[:1] != tag:
        raise ChildFailed("the training child gave an answer out of order", code="child.protocol")
    return decode_json(kind, data[1:], "an answer of the training child")


async def start_child(
    source: TaskSource, manifest: ShardManifest, manifest_folder: Path, forbidden: Path, scratch_parent: Path
) -> Child:
    """Start a child on a task and a shard; `forbidden` is a file of the partner's that it must not reach;
    below `scratch_parent` it gets an empty folder of its own.

    Raises `ChildFailed` with the task's or the data's error, `NotFound` for a data file that is not there.
    """
    files = [path.open("rb") for path in resolve(manifest, manifest_folder)]
    scratch = Path(tempfile.mkdtemp(dir=scratch_parent))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-m",
            "aimass.client.worker",
            str(theirs.fileno()),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            env={
                "PATH": "/usr/bin:/bin",
                "OMP_NUM_THREADS": "1",
                "LC_ALL": "C.UTF-8",
                "TMPDIR": str(scratch),
                "HOME": str(scratch),
                "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
            },
            cwd="/",
        )
        theirs.close()
        wanted = Open(
            task=source.name,
            digest=source.digest,
            manifest=manifest,
            scratch=str(scratch),
            forbidden=str(forbidden),
            parent=os.getpid(),
        )
        try:
            await asyncio.to_thread(send, ours, canonical_json(wanted), tuple(file.fileno() for file in files))
            data, _ = await asyncio.wait_for(asyncio.to_thread(receive, ours), _START_S)
            return Child(process, ours, _expect(data, b"O", Opened), scratch)
        except (AimassError, TimeoutError, asyncio.CancelledError):
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            ours.close()
            shutil.rmtree(scratch, ignore_errors=True)
            raise
    finally:
        theirs.close()
        for file in files:
            file.close()
