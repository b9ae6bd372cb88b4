"""A worker process as the server holds it: started, spoken with, its output kept short, killed. No call blocks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from aimass.proto.durable import make_folder
from aimass.proto.errors import AimassError, InternalError
from aimass.proto.frames import receive, seal, send
from aimass.proto.values import canonical_json, decode_json
from aimass.server.flower.speech import Answer, Begin, Request

__all__ = ["LOG", "WorkerProcess", "start_worker"]

LOG: Final = "app.log"
_SCRATCH: Final = "scratch"
_HALF_LOG_BYTES: Final = 1 << 20
_BLOCK: Final = 1 << 16

Received = tuple[Request, tuple[int, ...]]


class WorkerProcess:
    """A running worker. Its requests come in order; answers may be sent in any."""

    def __init__(self, process: asyncio.subprocess.Process, link: socket.socket, folder: Path) -> None:
        self._process, self._link, self._scratch = process, link, folder / _SCRATCH
        self._loop = asyncio.get_running_loop()
        self._requests: asyncio.Queue[Received | None] = asyncio.Queue()
        self._sending = ThreadPoolExecutor(1, thread_name_prefix="aimass-flower")
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()
        self._writing = asyncio.create_task(_write_log(process.stdout, folder / LOG))

    def _listen(self) -> None:
        """In a thread of its own: a worker that says half a word holds up nobody else."""
        told: Received | None = None
        while True:
            try:
                data, descriptors = receive(self._link)
                told = decode_json(Request, data, "a request of a worker"), descriptors  # type: ignore[arg-type]
            except (AimassError, OSError):
                told = None
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
                self._loop.call_soon_threadsafe(self._requests.put_nowait, told)
            if told is None:
                return

    async def requests(self) -> AsyncIterator[Received]:
        """What the worker asks, until it is gone. Descriptors are the caller's to close."""
        while (told := await self._requests.get()) is not None:
            yield told

    async def answer(self, answer: Answer, descriptors: tuple[int, ...] = ()) -> None:
        """Say something; descriptors are closed. Where the worker is gone nothing happens: its requests end."""

        def say() -> None:
            try:
                with contextlib.suppress(OSError):
                    send(self._link, canonical_json(answer), descriptors)
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)

        await self._loop.run_in_executor(self._sending, say)

    async def end(self) -> int:
        """Kill it, and all that it started, and wait; its exit code."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)
        code = await self._process.wait()
        self._writing.cancel()
        await asyncio.gather(self._writing, return_exceptions=True)
        with contextlib.suppress(OSError):
            self._link.shutdown(socket.SHUT_RDWR)
        await asyncio.to_thread(self._listening.join)
        await asyncio.to_thread(self._sending.shutdown)
        while not self._requests.empty():
            if (told := self._requests.get_nowait()) is not None:
                for descriptor in told[1]:
                    os.close(descriptor)
        self._link.close()
        await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)
        return code

    async def ended(self, patience_s: float) -> int | None:
        """Its exit code, once its log is written; None where it still runs after so many seconds."""
        try:
            async with asyncio.timeout(patience_s):
                await asyncio.shield(self._writing)
                return await self._process.wait()
        except TimeoutError:
            return None


async def start_worker(begin: Begin, folder: Path) -> WorkerProcess:
    """Start a worker; in `folder` it has an empty folder of its own, which goes with it, and its output stands in
    `app.log`."""
    scratch = folder / _SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)
    make_folder(scratch)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-s",
            "-P",
            "-m",
            "aimass.server.flower.worker",
            str(theirs.fileno()),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            pass_fds=(theirs.fileno(),),
            cwd=scratch,
            start_new_session=True,
            env={
                "PATH": "/usr/bin:/bin",
                "LC_ALL": "C.UTF-8",
                "HOME": str(scratch),
                "TMPDIR": str(scratch),
                "OMP_NUM_THREADS": "1",
                "PYTHONHASHSEED": "0",  # an app that runs again iterates over its sets in the same order
                "PYTHONUNBUFFERED": "1",
                "PYTHONDONTWRITEBYTECODE": "1",  # an installed app stays as it was installed
                "FLWR_TELEMETRY_ENABLED": "0",
            },
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    worker = WorkerProcess(process, ours, folder)
    descriptor = seal([canonical_json(begin)])
    try:
        await asyncio.to_thread(send, ours, b"{}", (descriptor,))
    except OSError as error:
        await worker.end()
        raise InternalError("the worker of a Flower app could not be started", code="flower.start") from error
    except BaseException:
        await asyncio.shield(worker.end())
        raise
    finally:
        os.close(descriptor)
    return worker


async def _write_log(output: asyncio.StreamReader | None, log: Path) -> None:
    """Keep the last words of an app that may print without end: a file that is full becomes `app.log.old`."""
    assert output is not None  # noqa: S101  (the process has a pipe)
    make_folder(log.parent)
    while block := await output.read(_BLOCK):
        if log.is_file() and log.stat().st_size + len(block) > _HALF_LOG_BYTES:
            log.replace(log.with_name(f"{log.name}.old"))
        with log.open("ab") as file:
            file.write(block)
